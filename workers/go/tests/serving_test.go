package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"mlports"
	"mlports/wire"
)

// patience is for what should be there at once.
const patience = 5 * time.Second

// host is an orchestrator at the other end of a worker.
type host struct {
	t       *testing.T
	into    *io.PipeWriter
	frames  *wire.FrameReader
	decoder *wire.Decoder
	encoder *wire.Encoder
	ended   chan error
}

func serve(t *testing.T, w *mlports.Worker) *host {
	in, into := io.Pipe()
	from, out := io.Pipe()
	h := &host{t: t, into: into, frames: wire.NewFrameReader(from), decoder: wire.NewDecoder(), encoder: wire.NewEncoder(), ended: make(chan error, 1)}
	h.decoder.NDArrays, h.encoder.NDArrays = true, true
	go func() {
		err := w.Serve(in, out)
		h.ended <- err
		out.Close()
		in.CloseWithError(err)
	}()
	t.Cleanup(func() { into.Close() })
	return h
}

func (h *host) send(messages ...wire.Message) {
	h.t.Helper()
	for _, message := range messages {
		frame, err := h.encoder.Frame(message)
		must(h.t, err)
		if _, err := h.into.Write(frame); err != nil && !errors.As(err, new(*wire.Violation)) {
			h.t.Fatal(err)
		}
	}
}

func (h *host) receive() wire.Message {
	h.t.Helper()
	message, err := next(h.frames, h.decoder)
	must(h.t, err)
	return message
}

func (h *host) greet(features ...any) {
	h.t.Helper()
	h.send(wire.Request{Method: "$/hello", Params: []any{wire.Map{
		{Key: "protocol", Value: wire.Map{{Key: "min", Value: 1}, {Key: "max", Value: 1}}}, {Key: "features", Value: features},
	}}})
	if answer := h.receive().(wire.Response); answer.Error != nil {
		h.t.Fatal(answer)
	}
}

func (h *host) call(method string, params []any, meta wire.Map) wire.Response {
	h.t.Helper()
	h.send(wire.Request{ID: 1, Method: method, Params: params, Meta: meta})
	return h.receive().(wire.Response)
}

func (h *host) end() error {
	h.t.Helper()
	select {
	case err := <-h.ended:
		return err
	case <-time.After(patience):
		h.t.Fatal("the worker went on")
		return nil
	}
}

func code(r wire.Response) string {
	code, _ := r.Error.Get("code")
	return fmt.Sprint(code)
}

func TestPanicIsAnAnswerAndTheWorkerGoesOn(t *testing.T) {
	w := mlports.NewWorker("w")
	w.Method("panic", func(context.Context, []any) (any, error) { panic(fmt.Errorf("a\nb")) })
	w.Method("index", func(_ context.Context, args []any) (any, error) { return args[3], nil })
	h := serve(t, w)
	h.greet()
	answer := h.call("panic", []any{}, nil)
	message, _ := answer.Error.Get("message")
	data, _ := answer.Error.Get("data")
	trace := fmt.Sprint(data.(map[string]any)["traceback"])
	if code(answer) != "unknown" || message != "*fmt.wrapError: a b" && message != "*errors.errorString: a b" {
		t.Error(answer)
	}
	if !strings.HasPrefix(trace, "panic(") || !strings.Contains(trace, "TestPanicIsAnAnswer") {
		t.Error(trace)
	}
	if answer := h.call("index", []any{}, nil); code(answer) != "unknown" || !strings.Contains(shown(answer.Error), "out of range") {
		t.Error(answer)
	}
}

func TestWhatCannotBeSentIsInternal(t *testing.T) {
	circle := map[string]any{}
	circle["self"] = circle
	type knot struct{ Next any }
	tied := &knot{}
	tied.Next = tied
	results := []any{circle, tied, "\xff", []string{"\xff"}, map[float64]int{1: 1}, make(chan int), func() {},
		&mlports.NDArray{DType: "<f8", Shape: []int{3}, Data: []byte{1}}, mlports.Map{{Key: 1.5, Value: 1}}, complex(1, 2)}
	w := mlports.NewWorker("w")
	w.Method("give", func(_ context.Context, args []any) (any, error) { return results[args[0].(int64)], nil })
	h := serve(t, w)
	h.greet("batch", "ndarray")
	var all []any
	for i := range results {
		if answer := h.call("give", []any{i}, nil); code(answer) != "internal" {
			t.Errorf("%T: %v", results[i], answer)
		}
		all = append(all, []any{i})
	}
	results = append(results, "well")
	all = append(all, []any{len(all)})
	answer := h.call("give", all, wire.Map{{Key: "batch", Value: len(all)}})
	pairs := answer.Result.([]any)
	if last := shown(pairs[len(pairs)-1]); last != `[<nil> <nil>, string well]` {
		t.Error(last)
	}
	if first := shown(pairs[0]); !strings.Contains(first, "internal") {
		t.Error(first)
	}
}

func TestResultsOfEveryKindAreSent(t *testing.T) {
	type point struct {
		X     int      `msgpack:"x"`
		Names []string `msgpack:"names"`
	}
	kinds := []struct{ result, want any }{
		{point{1, []string{"a"}}, map[string]any{"x": 1, "names": []any{"a"}}},
		{[]int32{1, -2}, []any{1, -2}},
		{map[string]uint8{"a": 200}, map[string]any{"a": 200}},
		{float32(0.5), 0.5},
		{[]byte(nil), []byte{}},
		{uint64(1<<64 - 1), uint64(1<<64 - 1)},
		{1.0, 1.0},
		{map[int]bool{3: true}, mlports.Map{{Key: 3, Value: true}}},
		{mlports.Float32Array([]float32{1, 2}, 2, 1), mlports.Float32Array([]float32{1, 2}, 2, 1)},
		{mlports.Ext{Code: 70, Data: []byte{1}}, mlports.Ext{Code: 70, Data: []byte{1}}},
	}
	w := mlports.NewWorker("w")
	w.Method("give", func(_ context.Context, args []any) (any, error) { return kinds[args[0].(int64)].result, nil })
	h := serve(t, w)
	h.greet("ndarray")
	for i, kind := range kinds {
		encoder := wire.NewEncoder()
		encoder.NDArrays = true
		frame, err := encoder.Frame(wire.Response{ID: 1, Result: kind.want})
		must(t, err)
		want, err := next(wire.NewFrameReader(bytes.NewReader(frame)), h.decoder)
		must(t, err)
		if answer := h.call("give", []any{i}, nil); shown(answer.Result) != shown(want.(wire.Response).Result) {
			t.Errorf("%T: %v", kind.result, shown(answer.Result))
		}
	}
}

func TestWithoutTheFeatureArraysAreNested(t *testing.T) {
	w := mlports.NewWorker("w")
	w.Method("give", func(context.Context, []any) (any, error) { return mlports.Int64Array([]int64{1, 2, 3, 4}, 2, 2), nil })
	h := serve(t, w)
	h.greet()
	if answer := h.call("give", []any{}, nil); shown(answer.Result) != "[[int64 1, int64 2], [int64 3, int64 4]]" {
		t.Error(shown(answer.Result))
	}
}

func TestItemThatSpoilsABatchFailsAlone(t *testing.T) {
	w := mlports.NewWorker("w")
	invert := func(_ context.Context, items [][]any) ([]any, error) {
		results := make([]any, len(items))
		for i, args := range items {
			results[i] = 60 / args[0].(int64)
		}
		return results, nil
	}
	w.Batch("invert", invert, mlports.Idempotent())
	w.Batch("once", invert)
	h := serve(t, w)
	h.greet("batch")
	three := wire.Map{{Key: "batch", Value: 3}}
	items := []any{[]any{2}, []any{0}, []any{3}}
	answer := shown(h.call("invert", items, three).Result)
	if !strings.HasPrefix(answer, "[[<nil> <nil>, int64 30], [{") || !strings.HasSuffix(answer, "[<nil> <nil>, int64 20]]") {
		t.Error(answer)
	}
	if answer := h.call("once", items, three); code(answer) != "unknown" {
		t.Error(answer)
	}
	if answer := h.call("invert", items[:2], three); code(answer) != "invalid_argument" {
		t.Error(answer)
	}
}

func TestDeadlineEndsTheContext(t *testing.T) {
	w := mlports.NewWorker("w")
	w.Method("wait", func(ctx context.Context, _ []any) (any, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("waiting: %w", ctx.Err())
	})
	h := serve(t, w)
	h.greet()
	if answer := h.call("wait", []any{}, wire.Map{{Key: "deadline_ms", Value: 5}}); code(answer) != "deadline_exceeded" {
		t.Error(answer)
	}
	for _, wrong := range []any{-1, "soon", nil} {
		if answer := h.call("wait", []any{}, wire.Map{{Key: "deadline_ms", Value: wrong}}); code(answer) != "invalid_argument" {
			t.Error(answer)
		}
	}
}

func TestSoManyCallsAtATimeAsItSays(t *testing.T) {
	const calls = 3
	arrived := make(chan bool, calls)
	all := make(chan bool)
	go func() {
		for range calls {
			<-arrived
		}
		close(all)
	}()
	w := mlports.NewWorker("w", mlports.Concurrency(calls))
	w.Method("meet", func(ctx context.Context, args []any) (any, error) {
		arrived <- true
		select {
		case <-all:
			return args[0], nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	h := serve(t, w)
	h.greet()
	for i := range int64(calls) {
		h.send(wire.Request{ID: i, Method: "meet", Params: []any{i}, Meta: wire.Map{{Key: "deadline_ms", Value: 5000}}})
	}
	met := map[int64]any{}
	for range calls {
		answer := h.receive().(wire.Response)
		met[answer.ID] = answer.Result
	}
	if fmt.Sprint(met) != "map[0:0 1:1 2:2]" {
		t.Error(met)
	}
}

func TestNothingFollowsTheAnswer(t *testing.T) {
	kept := make(chan func(any) error, 1)
	w := mlports.NewWorker("w")
	w.Stream("count", func(_ context.Context, _ []any, send func(any) error) (any, error) {
		kept <- send
		return "last", nil
	})
	h := serve(t, w)
	h.greet("stream")
	if answer := h.call("count", []any{}, wire.Map{{Key: "credit", Value: 3}}); answer.Result != "last" {
		t.Error(answer)
	}
	if err := (<-kept)(1); err == nil {
		t.Error("an item was sent behind the answer")
	}
}

func TestCallThatIsNotWaitedForMayStillBeAnswered(t *testing.T) {
	w := mlports.NewWorker("w")
	w.Method("ask", func(ctx context.Context, _ []any) (any, error) {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		return w.Call(short, "other.thing", 1)
	})
	h := serve(t, w)
	h.greet("cancel")
	h.send(wire.Request{ID: 7, Method: "ask", Params: []any{}})
	asked := h.receive().(wire.Request)
	if parent, _ := asked.Meta.Get("parent"); parent != int64(7) || asked.Method != "other.thing" {
		t.Error(asked)
	}
	if cancel := h.receive().(wire.Notification); cancel.Method != "$/cancel" || cancel.Params[0] != asked.ID {
		t.Error(cancel)
	}
	if answer := h.receive().(wire.Response); code(answer) != "deadline_exceeded" {
		t.Error(answer)
	}
	h.send(wire.Response{ID: asked.ID, Result: 1}, wire.Request{ID: 8, Method: "$/ping", Params: []any{}})
	if pong := h.receive().(wire.Response); pong.ID != 8 || pong.Error != nil {
		t.Error(pong)
	}
	h.send(wire.Response{ID: asked.ID, Result: 1})
	if err := h.end(); err == nil || !strings.HasPrefix(err.Error(), "AnsweredTwice") {
		t.Error(err)
	}
}

func TestEndOfInput(t *testing.T) {
	began := make(chan bool)
	w := mlports.NewWorker("w")
	w.Method("hang", func(context.Context, []any) (any, error) {
		began <- true
		select {}
	})
	w.Method("total", func(ctx context.Context, _ []any) (any, error) {
		for _, err := range mlports.Input(ctx) {
			return nil, err
		}
		return nil, nil
	}, mlports.TakesInput())
	h := serve(t, w)
	h.greet("input")
	h.send(wire.Request{ID: 1, Method: "total", Params: []any{}, Meta: wire.Map{{Key: "input", Value: true}}})
	if credit := h.receive().(wire.Notification); credit.Method != "$/input_credit" {
		t.Error(credit)
	}
	h.send(wire.Request{ID: 2, Method: "hang", Params: []any{}})
	h.into.Close()
	if answer := h.receive().(wire.Response); answer.ID != 1 || code(answer) != "unavailable" {
		t.Error(answer)
	}
	<-began
	if err := h.end(); err != nil {
		t.Error(err)
	}
}

func TestSetupThatFailsIsToldInItsWords(t *testing.T) {
	w := mlports.NewWorker("w")
	w.Setup(func(context.Context, map[string]any) error { return mlports.Failf("not_found", "no model in x") })
	h := serve(t, w)
	h.send(wire.Request{Method: "$/hello", Params: []any{wire.Map{{Key: "protocol", Value: wire.Map{{Key: "min", Value: 1}, {Key: "max", Value: 1}}}}}})
	if err := h.end(); err == nil || err.Error() != "no model in x" {
		t.Error(err)
	}
}

type rude struct{}

func (*rude) Error() string { panic("no words") }

func (rude) EncodeMsgpack(*msgpack.Encoder) error { panic("no bytes") }

func TestValuesThatPanicAreErrors(t *testing.T) {
	var none *mlports.Failure
	w := mlports.NewWorker("w")
	w.Method("nothing", func(context.Context, []any) (any, error) { return nil, none })
	w.Method("error", func(context.Context, []any) (any, error) { return nil, &rude{} })
	w.Method("result", func(context.Context, []any) (any, error) { return rude{}, nil })
	h := serve(t, w)
	h.greet()
	for method, want := range map[string]string{"nothing": "internal", "error": "unknown", "result": "internal"} {
		if answer := h.call(method, []any{}, nil); code(answer) != want {
			t.Errorf("%s: %v", method, answer)
		}
	}
}

func TestArguments(t *testing.T) {
	rows := mlports.Float32Array([]float32{1, 2, 3, 4}, 2, 2)
	type point struct {
		X int `msgpack:"x"`
	}
	same(t, "7")(mlports.As[int](int64(7)))
	same(t, "7")(mlports.As[int](7.0))
	same(t, "7")(mlports.As[float64](int64(7)))
	same(t, "18446744073709551615")(mlports.As[uint64](uint64(1<<64 - 1)))
	same(t, "a")(mlports.As[string]([]byte("a")))
	same(t, "[1 2]")(mlports.As[[]float64]([]any{int64(1), 2.0}))
	same(t, "[[1 2] [3 4]]")(mlports.As[[][]float64](rows))
	same(t, "{3}")(mlports.As[point](map[string]any{"x": int64(3)}))
	same(t, "map[x:3]")(mlports.As[map[string]any](mlports.Map{{Key: "x", Value: int64(3)}}))
	same(t, "[1 2]")(mlports.As[[]int16]([]any{int64(1), int64(2)}))
	wrong(t)(mlports.As[int](7.5))
	wrong(t)(mlports.As[int](uint64(1<<64 - 1)))
	wrong(t)(mlports.As[uint64](int64(-1)))
	wrong(t)(mlports.As[float64]("7"))
	wrong(t)(mlports.As[string]([]byte{0xff}))
	wrong(t)(mlports.As[[]float64](rows))
	wrong(t)(mlports.Arg[int]([]any{}, 0))
}

func same(t *testing.T, want string) func(any, error) {
	return func(value any, err error) {
		t.Helper()
		if err != nil || fmt.Sprint(value) != want {
			t.Errorf("got %v, %v, want %s", value, err, want)
		}
	}
}

func wrong(t *testing.T) func(any, error) {
	return func(value any, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("got %v, want an error", value)
		}
	}
}

type conversation struct {
	Name, Side, Outcome string
	Steps               []struct {
		From    string
		Message message
	}
}

// Those in which the worker has to answer $/hello at most: what else it says is for its handlers to say.
func TestConversationsThatBreakTheRules(t *testing.T) {
	var file struct{ Conversations []conversation }
	load(t, "sessions.json", &file)
	count := 0
	for _, c := range file.Conversations {
		if c.Side == "orchestrator" || c.Outcome == "ok" || said(c) > 1 {
			continue
		}
		count++
		t.Run(c.Name, func(t *testing.T) { breaks(t, c) })
	}
	if count < 30 {
		t.Errorf("only %d conversations", count)
	}
}

func said(c conversation) (messages int) {
	for _, step := range c.Steps {
		if step.From == "worker" {
			messages++
		}
	}
	return messages
}

func breaks(t *testing.T, c conversation) {
	w := mlports.NewWorker("w")
	release := make(chan bool)
	defer close(release)
	if !strings.HasPrefix(c.Name, "input-where") {
		w.Method("f", func(context.Context, []any) (any, error) { <-release; return nil, nil }, takesInput(c)...)
	} else {
		w.Method("f", func(context.Context, []any) (any, error) { <-release; return nil, nil })
	}
	w.Setup(func(context.Context, map[string]any) error {
		if said(c) == 0 {
			<-release
		}
		return nil
	})
	h := serve(t, w)
	for _, step := range c.Steps {
		if step.From == "worker" {
			h.receive()
			continue
		}
		h.send(step.Message.decoded(t))
	}
	if err := h.end(); err == nil || !strings.HasPrefix(err.Error(), c.Outcome+": ") {
		t.Errorf("ended with %v, want %s", err, c.Outcome)
	}
}

func takesInput(c conversation) []mlports.MethodOption {
	if strings.HasPrefix(c.Name, "input-") {
		return []mlports.MethodOption{mlports.TakesInput()}
	}
	return nil
}
