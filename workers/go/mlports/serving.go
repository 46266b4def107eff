package mlports

import (
	"fmt"

	"mlports/wire"
)

// run works on a call until it is answered.
func (s *server) run(c *call) {
	if c.id == castID {
		s.runCast(c)
		return
	}
	if c.ctx.Err() != nil {
		failure := *c.cause()
		failure.Message += " before it began"
		s.answer(c, nil, &failure)
		return
	}
	result, err := s.invoke(c)
	s.answer(c, result, err)
}

func (s *server) runCast(c *call) {
	if _, err := s.invoke(c); err != nil {
		failure := failureOf(c.ctx, err)
		s.log("error", fmt.Sprintf("the cast to %s failed: %s", c.method.name, failure.Message), nil)
	}
	c.release()
}

// invoke gives what the method's handler does with a call; the outcome of each for a batch.
func (s *server) invoke(c *call) (any, error) {
	switch {
	case c.batch > 0:
		return s.invokeBatch(c)
	case c.method.batch != nil:
		results, err := c.together([][]any{c.params})
		if err != nil {
			return nil, err
		}
		if failed, ok := results[0].(error); ok {
			return nil, failed
		}
		return results[0], nil
	}
	return c.one(c.params)
}

func (s *server) invokeBatch(c *call) (any, error) {
	if c.method.batch != nil {
		return c.batchTogether()
	}
	outcomes := make([]wire.Outcome, len(c.params))
	for i := range c.params {
		if c.ctx.Err() != nil {
			return nil, c.cause()
		}
		var result any
		args, err := c.arguments(i)
		if err == nil {
			result, err = c.one(args)
		}
		outcomes[i] = c.outcome(result, err)
	}
	return outcomes, nil
}

// batchTogether is a batch by a handler that takes all of it. One item may spoil it for all: doing it again one by one
// tells which, where that is allowed.
func (c *call) batchTogether() (any, error) {
	outcomes := make([]wire.Outcome, len(c.params))
	var items [][]any
	var places []int
	for i := range c.params {
		args, err := c.arguments(i)
		if err != nil {
			outcomes[i] = c.outcome(nil, err)
			continue
		}
		items, places = append(items, args), append(places, i)
	}
	if len(items) == 0 {
		return outcomes, nil
	}
	results, err := c.together(items)
	if err != nil && (len(items) == 1 || !c.method.idempotent || c.ctx.Err() != nil) {
		return nil, err
	}
	for i, place := range places {
		result, failed := any(nil), err
		if err == nil {
			result = results[i]
			failed, _ = result.(error)
		} else if alone, err := c.together(items[i : i+1]); err == nil {
			result = alone[0]
			failed, _ = result.(error)
		} else {
			failed = err
		}
		outcomes[place] = c.outcome(result, failed)
	}
	return outcomes, nil
}

func (c *call) arguments(item int) ([]any, error) {
	args, ok := c.params[item].([]any)
	if !ok {
		return nil, Failf(InvalidArgument, "an item of a batch is a list of arguments, not %s", wire.Shown(c.params[item]))
	}
	return args, nil
}

func (c *call) outcome(result any, err error) wire.Outcome {
	if err != nil {
		return wire.Outcome{Error: failureOf(c.ctx, err).entries(true)}
	}
	return wire.Outcome{Result: result}
}

// one calls a handler that takes one call at a time.
func (c *call) one(args []any) (result any, err error) {
	defer caught(&err)
	if c.method.stream == nil {
		return c.method.single(c.ctx, args)
	}
	if c.items != nil {
		return c.method.stream(c.ctx, args, c.send)
	}
	items := []any{}
	_, err = c.method.stream(c.ctx, args, func(item any) error {
		if c.ctx.Err() != nil {
			return c.cause()
		}
		items = append(items, item)
		return nil
	})
	return items, err
}

// together calls a handler that takes many calls at once.
func (c *call) together(items [][]any) (results []any, err error) {
	defer caught(&err)
	results, err = c.method.batch(c.ctx, items)
	if err == nil && len(results) != len(items) {
		err = Failf(Internal, "the batch method %s returned %d results for %d items", c.method.name, len(results), len(items))
	}
	return results, err
}

// answer answers a call, once; with an error that says why where its result cannot be sent.
func (s *server) answer(c *call, result any, err error) {
	if !s.close(c) {
		return
	}
	if err != nil {
		s.refuse(c.id, failureOf(c.ctx, err))
	} else if unsent := s.out.queue(wire.Response{ID: c.id, Result: result}); unsent != nil {
		s.answerUnsent(c, result, unsent)
	}
	c.release()
	// If the next call is the worker's death, this answer could not be had again, unless the call can.
	if c.method.idempotent && s.isBusy() {
		s.out.flushSoon()
	} else {
		s.out.flush()
	}
}

// close takes a call out of those that are open, unless that was done.
func (s *server) close(c *call) bool {
	if c.items != nil {
		c.items.close()
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if c.answered {
		return false
	}
	c.answered = true
	delete(s.open, c.id)
	return true
}

// refuse answers with an error; without its data where those cannot be sent.
func (s *server) refuse(id int64, failure *Failure) {
	if s.out.queue(wire.Response{ID: id, Error: failure.entries(true)}) != nil {
		_ = s.out.queue(wire.Response{ID: id, Error: failure.entries(false)})
	}
}

// answerUnsent answers what could not be sent: of a batch, each outcome that cannot fails alone.
func (s *server) answerUnsent(c *call, result any, err error) {
	if outcomes, ok := result.([]wire.Outcome); ok {
		encoder := s.out.encoder()
		for i := range outcomes {
			if _, err := encoder.Frame(wire.Response{Result: outcomes[i : i+1]}); err != nil {
				outcomes[i] = c.outcome(nil, c.unsent(err))
			}
		}
		if err = s.out.queue(wire.Response{ID: c.id, Result: outcomes}); err == nil {
			return
		}
	}
	s.refuse(c.id, c.unsent(err))
}

func (c *call) unsent(err error) *Failure {
	return failf(codeOf(err), "the result of %s cannot be sent: %v", c.method.name, err)
}
