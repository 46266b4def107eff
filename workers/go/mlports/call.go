package mlports

import (
	"context"
	"iter"
	"math"
	"time"

	"mlports/wire"
)

const castID = -1

// call is one request, or cast, on its way through the worker.
type call struct {
	id     int64
	method *method
	params []any
	meta   wire.Map
	batch  int // how many calls in one; 0 for a plain one
	server *server
	ctx    context.Context
	cancel context.CancelCauseFunc
	late   context.CancelFunc // nil without a deadline
	items  *itemStream        // nil where no stream was asked for
	input  *inputStream       // nil without a streamed argument

	answered bool // under the server's lock
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// Config gives the service's own settings, in a handler as in Setup. They may only be read.
func Config(ctx context.Context) map[string]any {
	config, _ := ctx.Value(configKey{}).(map[string]any)
	return config
}

type configKey struct{}

// Progress tells the caller how far the work has come, in any unit; a total of 0 is one that is not known.
func Progress(ctx context.Context, done, total float64, text string) {
	c := callOf(ctx)
	if c == nil || c.id == castID {
		return
	}
	params := []any{c.id, whole(done), nil, sendable(text)}
	if total != 0 {
		params[2] = whole(total)
	}
	_ = c.server.out.send(wire.Notification{Method: "$/progress", Params: params})
}

// whole is a number as an integer, where it is one: so it is shown as one.
func whole(number float64) any {
	if number == math.Trunc(number) && math.Abs(number) < 1<<53 {
		return int64(number)
	}
	return number
}

// Input gives the streamed argument of a method that was added with TakesInput. An error in an item's place is the
// last thing that comes: the call was given up, or the orchestrator is gone. It can be gone through once.
func Input(ctx context.Context) iter.Seq2[any, error] {
	c := callOf(ctx)
	return func(yield func(any, error) bool) {
		if c == nil || c.input == nil {
			yield(nil, Failf(InvalidArgument, "there is no streamed argument here: the method is to be added with TakesInput"))
			return
		}
		for {
			item, more, err := c.nextInput()
			if err != nil {
				yield(nil, err)
				return
			}
			if !more || !yield(item, nil) {
				return
			}
		}
	}
}

// newCall prepares a request's call; a *Failure says why it cannot be begun.
func (s *server) newCall(request wire.Request, m *method) (*call, *Failure) {
	c := &call{id: request.ID, method: m, params: request.Params, meta: request.Meta, server: s}
	_, batched := c.meta.Get("batch")
	credit, _ := c.meta.Get("credit")
	streamed := credit != nil
	input, _ := c.meta.Get("input")
	switch {
	case batched && (streamed || input == true):
		return nil, failf(InvalidArgument, "%s: a batch has no streams", m.name)
	case input == true && !m.input:
		return nil, failf(InvalidArgument, "%s takes no streamed argument", m.name)
	case input != true && m.input:
		return nil, failf(InvalidArgument, "%s takes a streamed argument, and this call has none", m.name)
	}
	if batched {
		count, _ := wholeNumber(c.meta, "batch")
		if count < 1 || count != len(c.params) {
			return nil, failf(InvalidArgument, "meta batch says %d, and there are %d argument lists", count, len(c.params))
		}
		c.batch = count
	}
	if streamed && m.stream != nil {
		allowed, _ := wholeNumber(c.meta, "credit")
		c.items = newItemStream(allowed)
	}
	if m.input {
		c.input = newInputStream()
	}
	if refused := s.setContext(c); refused != nil {
		c.release()
		return nil, refused
	}
	return c, nil
}

// checkStreams finds whether meta that says something of streams is what it may be; what is not is a violation.
func checkStreams(meta wire.Map) error {
	if credit, _ := meta.Get("credit"); credit != nil {
		if _, err := wire.ParseID(credit); err != nil {
			return wire.Violated("InvalidMessage", "meta credit is an integer from 0, not %s", wire.Shown(credit))
		}
	}
	if input, _ := meta.Get("input"); input != nil && input != true && input != false {
		return wire.Violated("InvalidMessage", "meta input is a boolean, not %s", wire.Shown(input))
	}
	return nil
}

func (s *server) setContext(c *call) *Failure {
	ctx, cancel := context.WithCancelCause(context.WithValue(s.base, callKey{}, c))
	c.ctx, c.cancel = ctx, cancel
	limit, limited := c.meta.Get("deadline_ms")
	if !limited {
		return nil
	}
	milliseconds, ok := float(limit)
	if !ok || !(milliseconds >= 0) {
		return failf(InvalidArgument, "meta deadline_ms is a number from 0, not %s", wire.Shown(limit))
	}
	if milliseconds < math.MaxInt64/float64(time.Millisecond)/2 {
		left := time.Duration(milliseconds * float64(time.Millisecond))
		c.ctx, c.late = context.WithTimeoutCause(ctx, left, failf(DeadlineExceeded, "the deadline of %s passed", c.method.name))
	}
	return nil
}

// release lets go of what the context holds.
func (c *call) release() {
	c.cancel(nil)
	if c.late != nil {
		c.late()
	}
}

// cause is the reason why the call ended before its answer.
func (c *call) cause() *Failure { return failureOf(c.ctx, c.ctx.Err()) }

func wholeNumber(meta wire.Map, key string) (int, bool) {
	value, _ := meta.Get(key)
	number, ok := value.(int64)
	return int(number), ok
}

func float(value any) (float64, bool) {
	switch number := value.(type) {
	case int64:
		return float64(number), true
	case uint64:
		return float64(number), true
	case float64:
		return number, true
	}
	return 0, false
}
