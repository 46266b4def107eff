package mlports

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"mlports/wire"
)

// grace is how long, at the end of its input, a worker goes on with what it has read.
const grace = 200 * time.Millisecond

type phase int

const (
	fresh    phase = iota // before $/hello
	greeting              // it is being answered
	ready
)

// server serves one orchestrator. Its reader sorts what comes; workers, as many as the worker's concurrency, take calls
// from the queue in their order.
type server struct {
	worker  *Worker
	out     *output
	frames  *wire.FrameReader
	decoder *wire.Decoder
	base    context.Context // of every call
	leave   context.CancelCauseFunc
	agreed  map[string]bool // features

	lock     sync.Mutex
	work     sync.Cond // there is something in the queue, or nothing will be any more
	phase    phase
	queue    []*call
	running  int
	open     map[int64]*call
	asked    map[int64]chan answer // own requests that were not answered
	nextID   int64
	stopping bool
	ended    bool

	idle chan struct{} // closed when all is done that will be
	over chan error    // why it cannot go on
}

func newServer(w *Worker, in io.Reader, out io.Writer) *server {
	s := &server{
		worker:  w,
		frames:  wire.NewFrameReader(in),
		decoder: wire.NewDecoder(),
		open:    map[int64]*call{},
		asked:   map[int64]chan answer{},
		idle:    make(chan struct{}),
		over:    make(chan error, 1),
	}
	s.base, s.leave = context.WithCancelCause(context.Background())
	s.out = newOutput(out, s.fail)
	s.work.L = &s.lock
	return s
}

// fail ends the connection for a reason of this side's.
func (s *server) fail(err error) {
	select {
	case s.over <- err:
	default:
	}
}

// serve works until the orchestrator is done; the error says why otherwise.
func (s *server) serve() error {
	defer s.out.close()
	defer s.leave(failf(Unavailable, "the orchestrator is gone"))
	read := make(chan error, 1)
	go func() { read <- s.read() }()
	var reason error
	select {
	case reason = <-read:
	case err := <-s.over:
		return err
	case <-s.idle:
		s.out.flush()
		return nil
	}
	var patience <-chan time.Time
	if s.endInput() {
		patience = time.After(grace)
	}
	select {
	case <-s.idle:
		s.out.flush()
	case <-patience:
	case err := <-s.over:
		if reason == nil {
			reason = err
		}
	}
	return reason
}

// read takes what comes, until it ends: nil for a clean end.
func (s *server) read() error {
	for {
		payload, lasting, err := s.frames.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		value, err := s.decoder.Decode(payload, lasting)
		if err != nil {
			return err
		}
		message, err := wire.Parse(value)
		if err != nil {
			return err
		}
		if err := s.receive(message, len(payload)); err != nil {
			return err
		}
		if !s.frames.Buffered() {
			s.out.flush()
		}
	}
}

// endInput says that nothing more is read. Whether the work there is has to be done soon, because nobody asked to wait.
func (s *server) endInput() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.ended = true
	for id, answered := range s.asked {
		answered <- answer{nil, Failf(Unavailable, "the orchestrator went away before the call was answered")}
		delete(s.asked, id)
	}
	for _, c := range s.open {
		if c.input != nil {
			c.input.end(Failf(Unavailable, "the orchestrator went away within the streamed argument of %s", c.method.name))
		}
	}
	s.checkIdle()
	return !s.stopping
}

// next waits for the next call; nil when there will be none.
func (s *server) next() *call {
	s.lock.Lock()
	defer s.lock.Unlock()
	for len(s.queue) == 0 {
		if s.stopping || s.ended {
			return nil
		}
		s.work.Wait()
	}
	c := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.running++
	return c
}

func (s *server) workOff() {
	for c := s.next(); c != nil; c = s.next() {
		s.run(c)
		s.lock.Lock()
		s.running--
		s.checkIdle()
		s.lock.Unlock()
	}
}

// checkIdle sees whether all is done. Under the lock.
func (s *server) checkIdle() {
	if !s.stopping && !s.ended {
		return
	}
	s.work.Broadcast()
	if len(s.queue) == 0 && s.running == 0 {
		select {
		case <-s.idle:
		default:
			close(s.idle)
		}
	}
}

func (s *server) isBusy() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.queue) > 0
}

func (s *server) isReady() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.phase == ready
}

// greet sets the worker up and answers $/hello.
func (s *server) greet(id int64, hello *hello) {
	s.base = context.WithValue(s.base, configKey{}, hello.config)
	if err := s.setUp(hello.config); err != nil {
		s.fail(err)
		return
	}
	s.out.ndarrays.Store(s.agreed["ndarray"])
	s.lock.Lock()
	s.phase = ready
	s.lock.Unlock()
	if err := s.out.send(wire.Response{ID: id, Result: s.introduction()}); err != nil {
		s.fail(fmt.Errorf("the answer to $/hello cannot be sent: %w", err))
		return
	}
	for range s.worker.concurrency {
		go s.workOff()
	}
}

func (s *server) setUp(config map[string]any) (err error) {
	if s.worker.setup == nil {
		return nil
	}
	defer func() {
		var failure *Failure
		var panicked *panicked
		switch {
		case errors.As(err, &panicked):
			err = fmt.Errorf("setup panicked: %w\n%s", panicked, panicked.stack)
		case errors.As(err, &failure): // setup chose its words
			err = errors.New(failure.Message)
		case err != nil:
			err = fmt.Errorf("setup failed: %w", err)
		}
	}()
	defer caught(&err)
	return s.worker.setup(s.base, config)
}

func (s *server) introduction() wire.Map {
	methods := wire.Map{}
	for _, name := range s.methodNames() {
		m := s.worker.methods[name]
		flags := wire.Map{{Key: "batch", Value: m.batch != nil}, {Key: "stream", Value: m.stream != nil}, {Key: "idempotent", Value: m.idempotent}}
		if m.input {
			flags = append(flags, wire.Pair{Key: "input", Value: true})
		}
		methods = append(methods, wire.Pair{Key: name, Value: flags})
	}
	return wire.Map{
		{Key: "protocol", Value: version},
		{Key: "max_frame", Value: s.frames.MaxFrame},
		{Key: "name", Value: s.worker.name},
		{Key: "language", Value: "go"},
		{Key: "sdk", Value: "mlports-go " + Version},
		{Key: "methods", Value: methods},
		{Key: "features", Value: boxed(features())},
		{Key: "concurrency", Value: s.worker.concurrency},
	}
}

func (s *server) methodNames() []string {
	names := make([]string, 0, len(s.worker.methods))
	for name := range s.worker.methods {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (s *server) known() string {
	if len(s.worker.methods) == 0 {
		return "none"
	}
	return strings.Join(s.methodNames(), ", ")
}

func (s *server) log(level, text string, fields map[string]any) {
	params := []any{sendable(level), sendable(text), wire.Map{}}
	if len(fields) > 0 {
		params[2] = fields
	}
	if s.out.send(wire.Notification{Method: "$/log", Params: params}) != nil {
		params[2] = map[string]any{"fields": sendable(fmt.Sprint(fields))}
		_ = s.out.send(wire.Notification{Method: "$/log", Params: params})
	}
}

func boxed[T any](values []T) []any {
	list := make([]any, len(values))
	for i, value := range values {
		list[i] = value
	}
	return list
}
