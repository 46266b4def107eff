// The worker that the conformance kit asks for: one method for each thing that a worker can do.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"mlports"
)

var worker = mlports.NewWorker("conformance", mlports.OrderedMaps())

func main() {
	worker.Method("echo", echo)
	worker.Method("add", add, mlports.Idempotent())
	worker.Method("fail", fail)
	worker.Method("refuse", refuse)
	worker.Method("sleep", sleep)
	worker.Method("print", printed)
	worker.Batch("root", root)
	worker.Stream("count", count)
	worker.Method("total", total, mlports.TakesInput())
	worker.Method("relay", relay)
	worker.Method("note", note)
	worker.Method("advance", advance)
	worker.Method("mark", mark)
	worker.Method("marks", allMarks)
	worker.Run()
}

func echo(_ context.Context, args []any) (any, error) { return mlports.Arg[any](args, 0) }

func add(_ context.Context, args []any) (any, error) {
	a, err := mlports.Arg[any](args, 0)
	if err != nil {
		return nil, err
	}
	b, err := mlports.Arg[any](args, 1)
	if err != nil {
		return nil, err
	}
	if i, ok := a.(int64); ok {
		if j, ok := b.(int64); ok {
			return i + j, nil
		}
	}
	x, err := mlports.Arg[float64](args, 0)
	if err != nil {
		return nil, err
	}
	y, err := mlports.Arg[float64](args, 1)
	return x + y, err
}

func fail(_ context.Context, args []any) (any, error) {
	message, err := mlports.Arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	return nil, errors.New(message)
}

func refuse(_ context.Context, args []any) (any, error) {
	code, err := mlports.Arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	message, err := mlports.Arg[string](args, 1)
	if err != nil {
		return nil, err
	}
	return nil, &mlports.Failure{Code: code, Message: message}
}

func sleep(ctx context.Context, args []any) (any, error) {
	seconds, err := mlports.Arg[float64](args, 0)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return args[0], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func printed(_ context.Context, args []any) (any, error) {
	text, err := mlports.Arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	fmt.Println(text)
	return nil, nil
}

func root(_ context.Context, items [][]any) ([]any, error) {
	results := make([]any, len(items))
	for i, args := range items {
		x, err := mlports.Arg[float64](args, 0)
		switch {
		case err != nil:
			results[i] = err
		case x < 0:
			results[i] = mlports.Failf(mlports.InvalidArgument, "%v is negative and has no root", x)
		default:
			results[i] = math.Sqrt(x)
		}
	}
	return results, nil
}

func count(_ context.Context, args []any, send func(any) error) (any, error) {
	n, err := mlports.Arg[int](args, 0)
	if err != nil {
		return nil, err
	}
	for i := range n {
		if err := send(i); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func total(ctx context.Context, _ []any) (any, error) {
	whole, sum, allWhole := int64(0), 0.0, true
	for item, err := range mlports.Input(ctx) {
		if err != nil {
			return nil, err
		}
		number, err := mlports.As[float64](item)
		if err != nil {
			return nil, mlports.Failf(mlports.InvalidArgument, "%v", err)
		}
		i, ok := item.(int64)
		whole, sum, allWhole = whole+i, sum+number, allWhole && ok
	}
	if allWhole {
		return whole, nil
	}
	return sum, nil
}

func relay(ctx context.Context, args []any) (any, error) {
	target, err := mlports.Arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	params, err := mlports.Arg[[]any](args, 1)
	if err != nil {
		return nil, err
	}
	return worker.Call(ctx, target, params...)
}

func note(_ context.Context, args []any) (any, error) {
	level, err := mlports.Arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	text, err := mlports.Arg[string](args, 1)
	if err != nil {
		return nil, err
	}
	worker.Log(level, text, nil)
	return nil, nil
}

func advance(ctx context.Context, args []any) (any, error) {
	n, err := mlports.Arg[int](args, 0)
	if err != nil {
		return nil, err
	}
	for i := range n {
		mlports.Progress(ctx, float64(i+1), float64(n), "")
	}
	return n, nil
}

var (
	marksLock sync.Mutex
	marks     = []any{}
)

func mark(_ context.Context, args []any) (any, error) {
	value, err := mlports.Arg[any](args, 0)
	if err != nil {
		return nil, err
	}
	marksLock.Lock()
	defer marksLock.Unlock()
	marks = append(marks, value)
	return nil, nil
}

func allMarks(context.Context, []any) (any, error) {
	marksLock.Lock()
	defer marksLock.Unlock()
	return append([]any{}, marks...), nil
}
