package mlports

import (
	"context"
	"slices"
	"strings"

	"mlports/wire"
)

const version = 1

// receive does what a message says. An error is a violation.
func (s *server) receive(message wire.Message, size int) error {
	switch m := message.(type) {
	case wire.Request:
		return s.receiveRequest(m)
	case wire.Response:
		return s.receiveResponse(m)
	case wire.Notification:
		if !s.isReady() {
			return wire.Violated("HandshakeExpected", "the notification %q before the handshake was done", m.Method)
		}
		if strings.HasPrefix(m.Method, "$/") {
			return s.receiveControl(m, size)
		}
		s.receiveCast(m)
	}
	return nil
}

func (s *server) receiveRequest(r wire.Request) error {
	s.lock.Lock()
	_, taken := s.open[r.ID]
	phase, stopping := s.phase, s.stopping
	s.lock.Unlock()
	switch {
	case taken:
		return wire.Violated("DuplicateId", "the request id %d is in use by an earlier request", r.ID)
	case r.Method == "$/hello":
		return s.receiveHello(r, phase)
	case phase != ready:
		return wire.Violated("HandshakeExpected", "the request %q before the handshake was done", r.Method)
	case r.Method == "$/ping":
		_ = s.out.send(wire.Response{ID: r.ID})
	case strings.HasPrefix(r.Method, "$/"):
		s.refuse(r.ID, failf(Unimplemented, "%s is not known to this worker", r.Method))
	case stopping:
		s.refuse(r.ID, &Failure{Code: Unavailable, Message: "the worker " + s.worker.name + " is stopping", Retryable: true})
	case s.worker.methods[r.Method] == nil:
		s.refuse(r.ID, failf(Unimplemented, "the worker %s has no method %q; it has: %s", s.worker.name, r.Method, s.known()))
	default:
		if err := checkStreams(r.Meta); err != nil {
			return err
		}
		c, refused := s.newCall(r, s.worker.methods[r.Method])
		if refused != nil {
			s.refuse(r.ID, refused)
			return nil
		}
		s.enqueue(c)
	}
	return nil
}

func (s *server) receiveHello(r wire.Request, phase phase) error {
	if phase != fresh {
		return wire.Violated("HandshakeExpected", "a second $/hello")
	}
	hello, err := parseHello(r.Params)
	if err != nil {
		return err
	}
	s.agreed = map[string]bool{}
	for _, feature := range features() {
		s.agreed[feature] = slices.Contains(hello.features, feature)
	}
	s.decoder.NDArrays, s.decoder.Ordered = s.agreed["ndarray"], s.worker.ordered
	s.out.maxFrame.Store(int64(hello.maxFrame))
	s.frames.MaxFrame = hello.maxFrame
	if s.worker.maxFrame > 0 {
		s.frames.MaxFrame = s.worker.maxFrame
	}
	s.lock.Lock()
	s.phase = greeting
	s.lock.Unlock()
	go s.greet(r.ID, hello)
	return nil
}

func (s *server) enqueue(c *call) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if c.id != castID {
		s.open[c.id] = c
	}
	s.queue = append(s.queue, c)
	s.work.Signal()
}

func (s *server) receiveCast(n wire.Notification) {
	m := s.worker.methods[n.Method]
	switch {
	case m == nil:
		s.log("warning", "a cast to "+n.Method+", which this worker does not have, was dropped", nil)
	case m.input:
		s.log("error", "the cast to "+n.Method+", which takes a streamed argument, was dropped", nil)
	default:
		c := &call{id: castID, method: m, params: n.Params, meta: n.Meta, server: s}
		c.ctx, c.cancel = context.WithCancelCause(context.WithValue(s.base, callKey{}, c))
		s.enqueue(c)
	}
}

func (s *server) receiveResponse(r wire.Response) error {
	s.lock.Lock()
	answered, asked := s.asked[r.ID]
	delete(s.asked, r.ID)
	next := s.nextID
	s.lock.Unlock()
	switch {
	case asked && r.Error != nil:
		answered <- answer{nil, failureFrom(r.Error)}
	case asked:
		answered <- answer{r.Result, nil}
	case r.ID < next:
		return wire.Violated("AnsweredTwice", "an answer to request %d, which was answered already", r.ID)
	default:
		return wire.Violated("UnknownId", "an answer to request %d, which was never made", r.ID)
	}
	return nil
}

// receiveControl does what a notification of the protocol's own says; those not known are ignored.
func (s *server) receiveControl(n wire.Notification, size int) error {
	switch n.Method {
	case "$/stop":
		return s.receiveStop(n)
	case "$/cancel":
		c, err := s.named(n, 1)
		if c != nil {
			s.cancelCall(c)
		}
		return err
	case "$/credit":
		c, err := s.named(n, 2)
		if err != nil {
			return err
		}
		count, err := granted(n)
		if c != nil && c.items != nil && err == nil {
			c.items.allow(count)
		}
		return err
	case "$/input":
		c, err := s.named(n, 2)
		if c != nil && (c.input == nil || !c.input.add(n.Params[1], size)) && s.isOpen(c) {
			return wire.Violated("CreditExceeded", "an item of the streamed argument of request %d beyond its credit", c.id)
		}
		return err
	case "$/input_end":
		c, err := s.named(n, 1)
		if c != nil && c.input != nil {
			c.input.end(nil)
		}
		return err
	case "$/input_credit":
		_, err := granted(n)
		return err
	case "$/item":
		return s.receiveItem(n)
	}
	return nil
}

// named gives the open call whose id comes first in the params, of which there are so many at least; nil for none.
func (s *server) named(n wire.Notification, least int) (*call, error) {
	if len(n.Params) < least {
		return nil, wire.Violated("InvalidMessage", "%s has at least %d params, not %d", n.Method, least, len(n.Params))
	}
	id, err := wire.ParseID(n.Params[0])
	if err != nil {
		return nil, err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.open[id], nil
}

func (s *server) isOpen(c *call) bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return !c.answered
}

func granted(n wire.Notification) (int, error) {
	if len(n.Params) < 2 {
		return 0, wire.Violated("InvalidMessage", "%s has at least 2 params, not %d", n.Method, len(n.Params))
	}
	count, err := wire.ParseID(n.Params[1])
	if err != nil || count == 0 {
		return 0, wire.Violated("InvalidMessage", "the count in %s is an integer from 1, not %s", n.Method, wire.Shown(n.Params[1]))
	}
	return int(count), nil
}

// receiveItem is for items of own requests, which never ask for any.
func (s *server) receiveItem(n wire.Notification) error {
	if _, err := s.named(n, 2); err != nil {
		return err
	}
	id := n.Params[0].(int64)
	s.lock.Lock()
	defer s.lock.Unlock()
	switch _, asked := s.asked[id]; {
	case asked:
		return wire.Violated("CreditExceeded", "an item for request %d, which asked for none", id)
	case id < s.nextID:
		return wire.Violated("AnsweredTwice", "an item for request %d, which was answered already", id)
	}
	return wire.Violated("UnknownId", "an item for request %d, which was never made", id)
}

func (s *server) receiveStop(n wire.Notification) error {
	if len(n.Params) > 0 && n.Params[0] != nil {
		if _, ok := wire.Text(n.Params[0]); !ok {
			return wire.Violated("InvalidMessage", "the reason in $/stop is a string, not %s", wire.Shown(n.Params[0]))
		}
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.stopping = true
	s.checkIdle()
	return nil
}

// cancelCall ends a call's context. One that waits behind others is answered at once and never begun.
func (s *server) cancelCall(c *call) {
	c.cancel(failf(Cancelled, "the caller cancelled the call"))
	s.lock.Lock()
	at := slices.Index(s.queue, c)
	if at >= 0 {
		s.queue = slices.Delete(s.queue, at, at+1)
		s.checkIdle()
	}
	s.lock.Unlock()
	if at >= 0 {
		s.answer(c, nil, c.cause())
	}
}
