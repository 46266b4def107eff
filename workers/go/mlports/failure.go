package mlports

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"mlports/wire"
)

// The codes that an error can have.
const (
	Cancelled          = "cancelled"
	Unknown            = "unknown"
	InvalidArgument    = "invalid_argument"
	DeadlineExceeded   = "deadline_exceeded"
	NotFound           = "not_found"
	PermissionDenied   = "permission_denied"
	ResourceExhausted  = "resource_exhausted"
	FailedPrecondition = "failed_precondition"
	Unimplemented      = "unimplemented"
	Internal           = "internal"
	Unavailable        = "unavailable"
	DataLoss           = "data_loss"
	Unauthenticated    = "unauthenticated"
)

const mostText = 16 << 10 // bytes

// Failure is an error with a code of its own. A handler that returns one, wrapped or not, chooses what its caller
// sees; a call of another service that fails returns one.
type Failure struct {
	Code    string
	Message string
	Data    any // anything that can be sent
	// Retryable promises that the call had no effect, so that it may be made again.
	Retryable bool
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// Failf is a *Failure with this code and a formatted message.
func Failf(code, format string, values ...any) error {
	return failf(code, format, values...)
}

func failf(code, format string, values ...any) *Failure {
	return &Failure{Code: code, Message: fmt.Sprintf(format, values...)}
}

// panicked is what a handler's panic becomes.
type panicked struct {
	value any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprint(p.value) }

// caught turns a panic of this function's caller into an error. To be deferred.
func caught(err *error) {
	if value := recover(); value != nil {
		*err = &panicked{value, handlerStack()}
	}
}

// handlerStack is the stack from the panic on, without the recovery above it.
func handlerStack() string {
	stack := string(debug.Stack())
	if at := strings.Index(stack, "\npanic("); at >= 0 {
		return stack[at+1:]
	}
	return stack
}

// failureOf is a handler's error as its caller is told. What a handler returns because its call ended is told as that.
func failureOf(ctx context.Context, err error) (failure *Failure) {
	defer func() { // the methods of errors are the handlers' own, too
		if value := recover(); value != nil {
			failure = unknown(fmt.Sprintf("%T", err), fmt.Sprintf("the error itself panicked: %v", value), handlerStack())
		}
	}()
	if errors.As(err, &failure) {
		if failure == nil {
			return failf(Internal, "the handler returned a nil *Failure for its error")
		}
		return failure
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		if errors.As(context.Cause(ctx), &failure) {
			return failure
		}
	}
	var caught *panicked
	if errors.As(err, &caught) {
		return unknown(fmt.Sprintf("%T", caught.value), fmt.Sprint(caught.value), caught.stack)
	}
	return unknown(fmt.Sprintf("%T", err), err.Error(), chain(err))
}

func unknown(kind, text, trace string) *Failure {
	data := map[string]any{"type": kind, "traceback": sendable(trace)}
	return &Failure{Code: Unknown, Message: kind + ": " + text, Data: data}
}

// chain names what an error wraps, one a line: an error that was returned has no stack.
func chain(err error) string {
	var lines []string
	for ; err != nil; err = errors.Unwrap(err) {
		lines = append(lines, fmt.Sprintf("%T: %s", err, err))
	}
	return strings.Join(lines, "\n")
}

func (f *Failure) entries(withData bool) wire.Map {
	message := strings.ReplaceAll(sendable(f.Message), "\n", " ")
	entries := wire.Map{{Key: "code", Value: sendable(f.Code)}, {Key: "message", Value: message}}
	if withData && f.Data != nil {
		entries = append(entries, wire.Pair{Key: "data", Value: f.Data})
	}
	if f.Retryable {
		entries = append(entries, wire.Pair{Key: "retryable", Value: true})
	}
	return entries
}

func failureFrom(entries wire.Map) *Failure {
	failure := &Failure{}
	code, _ := entries.Get("code")
	message, _ := entries.Get("message")
	retryable, _ := entries.Get("retryable")
	failure.Code, _ = code.(string)
	failure.Message, _ = message.(string)
	failure.Retryable, _ = retryable.(bool)
	failure.Data, _ = entries.Get("data")
	return failure
}

// sendable is text without what is no UTF-8, and without its middle where it is too long.
func sendable(text string) string {
	if len(text) > mostText {
		text = text[:mostText/2] + "\n … \n" + text[len(text)-mostText/2:]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
