// Package mlports makes a program a worker: a program of methods that an orchestrator starts, calls and supervises.
//
//	worker := mlports.NewWorker("digits")
//	worker.Method("double", func(ctx context.Context, args []any) (any, error) {
//		x, err := mlports.Arg[float64](args, 0)
//		return 2 * x, err
//	}, mlports.Idempotent())
//	worker.Run()
//
// Arguments come as nil, bool, int64 (uint64 above it), float64, string, []byte, []any, map[string]any (Map where a
// key is no string), time.Time, *NDArray and Ext; Arg and As make other types of them. Results may be all of these,
// and whatever the msgpack library takes: numbers of every width, typed slices and maps, structs.
package mlports

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"mlports/wire"
)

// Version is this SDK's.
const Version = "0.1.0"

type (
	// NDArray is an n-dimensional array, as numpy has it.
	NDArray = wire.NDArray
	// Map is a map that keeps its order and whose keys need not be strings.
	Map = wire.Map
	// Pair is an entry of a Map.
	Pair = wire.Pair
	// Ext is an application's extension value.
	Ext = wire.Ext
)

// Float64Array is an array of dtype <f8. Without a shape it has one dimension.
func Float64Array(values []float64, shape ...int) *NDArray {
	return wire.Float64Array(values, shape...)
}

// Float32Array is an array of dtype <f4. Without a shape it has one dimension.
func Float32Array(values []float32, shape ...int) *NDArray {
	return wire.Float32Array(values, shape...)
}

// Int64Array is an array of dtype <i8. Without a shape it has one dimension.
func Int64Array(values []int64, shape ...int) *NDArray { return wire.Int64Array(values, shape...) }

// Handler answers one call. Its context ends when the caller cancels or the deadline passes.
type Handler = func(ctx context.Context, args []any) (any, error)

// BatchHandler answers many calls at once: items has the arguments of each, and the results are as many, in order. An
// error in a result's place is that item's alone.
type BatchHandler = func(ctx context.Context, items [][]any) ([]any, error)

// StreamHandler answers with a stream: send passes on one item, as soon as the caller has room for it, and fails when
// nobody wants more. What the handler returns, mostly nil, ends the stream.
type StreamHandler = func(ctx context.Context, args []any, send func(item any) error) (any, error)

// Worker is a program of methods. Add them before Run.
type Worker struct {
	name        string
	concurrency int
	maxFrame    int
	ordered     bool
	setup       func(ctx context.Context, config map[string]any) error
	methods     map[string]*method
	serving     atomic.Pointer[server]
}

// Option changes what NewWorker makes.
type Option func(*Worker)

// Concurrency is how many calls are worked on at the same time, each in a goroutine of its own: 1 unless given.
func Concurrency(calls int) Option {
	return func(w *Worker) { w.concurrency = max(1, calls) }
}

// MaxFrame is the longest frame that the worker accepts, in bytes: as long as its orchestrator accepts unless given.
func MaxFrame(bytes int) Option {
	return func(w *Worker) { w.maxFrame = min(max(1, bytes), wire.MaxFrameLimit) }
}

// OrderedMaps has every map in arguments and results come as a Map, which keeps the order that it was sent in; left out,
// those whose keys are all strings come as map[string]any.
func OrderedMaps() Option {
	return func(w *Worker) { w.ordered = true }
}

// NewWorker makes a worker that has no methods yet. The name is what it calls itself.
func NewWorker(name string, options ...Option) *Worker {
	w := &Worker{name: name, concurrency: 1, methods: map[string]*method{}}
	for _, option := range options {
		option(w)
	}
	return w
}

// Setup is called once, with the service's config, before the first call. If it fails the worker ends with status 1.
func (w *Worker) Setup(setup func(ctx context.Context, config map[string]any) error) { w.setup = setup }

type method struct {
	name       string
	single     Handler
	batch      BatchHandler
	stream     StreamHandler
	idempotent bool
	input      bool
}

// MethodOption says more about a method.
type MethodOption func(*method)

// Idempotent says that a call may be repeated after a crash: that doing it twice does the same as once.
func Idempotent() MethodOption { return func(m *method) { m.idempotent = true } }

// TakesInput says that the caller streams an argument, which the handler gets from Input.
func TakesInput() MethodOption { return func(m *method) { m.input = true } }

// Method makes a handler callable as SERVICE.name. It panics, as Batch and Stream do, for a name that is taken, empty
// or the protocol's own.
func (w *Worker) Method(name string, handler Handler, options ...MethodOption) {
	w.add(&method{name: name, single: handler}, options)
}

// Batch makes a method of a handler that takes many calls at once.
func (w *Worker) Batch(name string, handler BatchHandler, options ...MethodOption) {
	w.add(&method{name: name, batch: handler}, options)
}

// Stream makes a method of a handler that answers with a stream.
func (w *Worker) Stream(name string, handler StreamHandler, options ...MethodOption) {
	w.add(&method{name: name, stream: handler}, options)
}

func (w *Worker) add(m *method, options []MethodOption) {
	for _, option := range options {
		option(m)
	}
	switch {
	case m.name == "" || len(m.name) > 1 && m.name[:2] == "$/":
		panic(fmt.Sprintf("%q cannot be a method's name: names that begin with $/ are the protocol's", m.name))
	case w.methods[m.name] != nil:
		panic(fmt.Sprintf("the worker %s already has a method %q", w.name, m.name))
	case m.batch != nil && m.input:
		panic(fmt.Sprintf("the batch method %q cannot take a streamed argument", m.name))
	}
	w.methods[m.name] = m
}

// Run serves the orchestrator that started this program, and returns when that is done with it. It ends the program
// itself with status 1 when Setup fails or the orchestrator breaks the protocol or is gone, 2 at a terminal.
func (w *Worker) Run() {
	if atTerminal() {
		fmt.Fprintf(os.Stderr, "%s is a worker: it speaks frames with an orchestrator, not with a person at a terminal.\n"+
			"Name this program as a service's command in mlports.toml and start that with \"mlports run\".\n", w.name)
		os.Exit(2)
	}
	in, out, err := takeChannel()
	if err == nil {
		err = w.Serve(in, out)
		out.Close() // should this program go on, the orchestrator is to see that nobody serves any more
	}
	switch {
	case err == nil:
	case errors.Is(err, errGone):
		os.Exit(1)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", w.name, err)
		os.Exit(1)
	}
}

// Serve is Run over any two streams. The error says why the connection ended, nil for a normal end; handlers may still
// be running then. The protocol's violations are errors that begin with their name.
func (w *Worker) Serve(in io.Reader, out io.Writer) error {
	s := newServer(w, in, out)
	w.serving.Store(s)
	defer w.serving.Store(nil)
	return s.serve()
}

// Log is a line for the orchestrator's log, with fields that may be nil. The level is "debug", "info", "warning" or
// "error". Outside of Run it goes to standard error.
func (w *Worker) Log(level, text string, fields map[string]any) {
	if s := w.serving.Load(); s != nil {
		s.log(level, text, fields)
		return
	}
	fmt.Fprintln(os.Stderr, level, text, fields)
}
