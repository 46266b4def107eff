package mlports

import (
	"context"
	"strings"
	"time"

	"mlports/wire"
)

type answer struct {
	result any
	err    error
}

// Call calls "service.method" on another service, through the orchestrator, and waits for its result. In a handler,
// pass the handler's context, or one made from it: the call ends with it, and has no more time than it. The error is a
// *Failure with the other side's code.
func (w *Worker) Call(ctx context.Context, target string, args ...any) (any, error) {
	s := w.serving.Load()
	if s == nil {
		return nil, Failf(FailedPrecondition, "the worker %s is not running: calls can be made in its handlers", w.name)
	}
	answered := make(chan answer, 1)
	id, err := s.ask(ctx, target, args, answered)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-answered:
		return a.result, a.err
	case <-ctx.Done():
		s.giveUp(id)
		failure := failureOf(ctx, ctx.Err())
		if failure.Code == Unknown { // the context is the handler's own work
			failure = failf(Cancelled, "%v", context.Cause(ctx))
			if ctx.Err() == context.DeadlineExceeded {
				failure.Code = DeadlineExceeded
			}
		}
		return nil, Failf(failure.Code, "%s was not waited for: %s", target, failure.Message)
	}
}

// Cast sends a message to "service.method": nobody answers it, and what happens to it is not told.
func (w *Worker) Cast(target string, args ...any) error {
	s := w.serving.Load()
	if s == nil || !s.isReady() {
		return Failf(FailedPrecondition, "the worker %s is not serving yet", w.name)
	}
	if target == "" || strings.HasPrefix(target, "$/") {
		return Failf(InvalidArgument, "%q is no service.method", target)
	}
	if err := s.out.send(wire.Notification{Method: target, Params: listed(args)}); err != nil {
		return Failf(codeOf(err), "the cast to %s cannot be sent: %v", target, err)
	}
	return nil
}

// ask sends a request, whose answer goes to the channel.
func (s *server) ask(ctx context.Context, target string, args []any, answered chan answer) (int64, error) {
	id, err := s.newRequest(target, answered)
	if err != nil {
		return 0, err
	}
	request := wire.Request{ID: id, Method: target, Params: listed(args), Meta: passedOn(ctx)}
	if err := s.out.send(request); err != nil {
		s.lock.Lock()
		delete(s.asked, id)
		s.lock.Unlock()
		return 0, Failf(codeOf(err), "the arguments for %s cannot be sent: %v", target, err)
	}
	return id, nil
}

func (s *server) newRequest(target string, answered chan answer) (int64, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	switch {
	case s.phase != ready:
		return 0, Failf(FailedPrecondition, "%s cannot be called before setup is done", target)
	case s.ended:
		return 0, Failf(Unavailable, "%s cannot be called: the orchestrator is gone", target)
	case target == "" || strings.HasPrefix(target, "$/"):
		return 0, Failf(InvalidArgument, "%q is no service.method", target)
	}
	id := s.nextID
	s.nextID++
	s.asked[id] = answered
	return id, nil
}

func (s *server) giveUp(id int64) {
	if s.agreed["cancel"] {
		_ = s.out.send(wire.Notification{Method: "$/cancel", Params: []any{id}})
	}
}

// passedOn is the meta of a call that is made for another.
func passedOn(ctx context.Context) wire.Map {
	var meta wire.Map
	if deadline, limited := ctx.Deadline(); limited {
		meta = append(meta, wire.Pair{Key: "deadline_ms", Value: max(0, time.Until(deadline).Milliseconds())})
	}
	c := callOf(ctx)
	if c == nil {
		return meta
	}
	if parent, there := c.meta.Get("traceparent"); there {
		meta = append(meta, wire.Pair{Key: "traceparent", Value: parent})
	}
	if c.id != castID {
		meta = append(meta, wire.Pair{Key: "parent", Value: c.id})
	}
	return meta
}

func listed(args []any) []any {
	if args == nil {
		return []any{}
	}
	return args
}
