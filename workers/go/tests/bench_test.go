package tests

import (
	"bytes"
	"context"
	"io"
	"testing"

	"mlports"
	"mlports/wire"
)

// BenchmarkEcho is what a worker does with one of 128 calls that came in one frame.
func BenchmarkEcho(b *testing.B) {
	encoder := wire.NewEncoder()
	hello, err := encoder.Frame(wire.Request{Method: "$/hello", Params: []any{wire.Map{
		{Key: "protocol", Value: wire.Map{{Key: "min", Value: 1}, {Key: "max", Value: 1}}}, {Key: "features", Value: []any{"batch"}},
	}}})
	if err != nil {
		b.Fatal(err)
	}
	hello = bytes.Clone(hello)
	items := make([]any, 128)
	for i := range items {
		items[i] = []any{make([]byte, 64)}
	}
	batch, err := encoder.Frame(wire.Request{ID: 1, Method: "echo", Params: items, Meta: wire.Map{{Key: "batch", Value: 128}}})
	if err != nil {
		b.Fatal(err)
	}
	w := mlports.NewWorker("w")
	w.Method("echo", func(_ context.Context, args []any) (any, error) { return args[0], nil })
	in, into := io.Pipe()
	from, out := io.Pipe()
	go w.Serve(in, out)
	answers := wire.NewFrameReader(from)
	ask := func(frame []byte) {
		if _, err := into.Write(frame); err != nil {
			b.Fatal(err)
		}
		if _, _, err := answers.Next(); err != nil {
			b.Fatal(err)
		}
	}
	ask(hello)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += len(items) {
		ask(batch)
	}
	b.StopTimer()
	into.Close()
}
