// A worker that trains gradient-boosted trees, and predicts with them.
package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"mlports"
	"mlports.examples/boosting/trees"
)

var (
	worker = mlports.NewWorker("boosting")
	model  atomic.Pointer[trees.Model]
)

func main() {
	worker.Setup(load)
	worker.Method("fit", fit)
	worker.Method("predict", predict, mlports.Idempotent())
	worker.Method("vote", vote, mlports.Idempotent())
	worker.Run()
}

// options are fit's third argument, all of them optional.
type options struct {
	Task    string  `msgpack:"task"` // "classification" (labels are integers) or "regression"
	Rounds  int     `msgpack:"rounds"`
	Rate    float64 `msgpack:"rate"`
	Depth   int     `msgpack:"depth"`
	MinLeaf int     `msgpack:"min_leaf"`
}

type summary struct {
	Task     string  `msgpack:"task"`
	Samples  int     `msgpack:"samples"`
	Features int     `msgpack:"features"`
	Classes  []int64 `msgpack:"classes"`
	Trees    int     `msgpack:"trees"`
	Loss     float64 `msgpack:"loss"`
}

func defaults() options {
	return options{Task: "classification", Rounds: 50, Rate: 0.1, Depth: 4, MinLeaf: 20}
}

// load trains on the file that the config names as data: numbers without a header, the label last.
func load(_ context.Context, config map[string]any) error {
	path, ok := config["data"].(string)
	if !ok {
		return nil
	}
	rows, targets, err := read(path)
	if err != nil {
		return fmt.Errorf("config data: %w", err)
	}
	_, err = train(rows, targets, defaults())
	return err
}

func read(path string) (rows [][]float64, targets []float64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	for line, record := range records {
		numbers := make([]float64, len(record))
		for i, field := range record {
			if numbers[i], err = strconv.ParseFloat(field, 64); err != nil {
				return nil, nil, fmt.Errorf("%s, line %d: %w", path, line+1, err)
			}
		}
		last := len(numbers) - 1
		rows, targets = append(rows, numbers[:last]), append(targets, numbers[last])
	}
	return rows, targets, nil
}

// fit(x, y, options) trains a model in place of the one there is.
func fit(_ context.Context, args []any) (any, error) {
	rows, err := mlports.Arg[[][]float64](args, 0)
	if err != nil {
		return nil, err
	}
	targets, err := mlports.Arg[[]float64](args, 1)
	if err != nil {
		return nil, err
	}
	chosen := defaults()
	if len(args) > 2 {
		given, err := mlports.Arg[options](args, 2)
		if err != nil {
			return nil, err
		}
		chosen = given.over(chosen)
	}
	result, err := train(rows, targets, chosen)
	if err != nil {
		return nil, mlports.Failf(mlports.InvalidArgument, "%v", err)
	}
	return result, nil
}

func (given options) over(base options) options {
	if given.Task != "" {
		base.Task = given.Task
	}
	if given.Rounds != 0 {
		base.Rounds = given.Rounds
	}
	if given.Rate != 0 {
		base.Rate = given.Rate
	}
	if given.Depth != 0 {
		base.Depth = given.Depth
	}
	if given.MinLeaf != 0 {
		base.MinLeaf = given.MinLeaf
	}
	return base
}

func train(rows [][]float64, targets []float64, chosen options) (summary, error) {
	trained, err := trainTask(rows, targets, chosen)
	if err != nil {
		return summary{}, err
	}
	model.Store(trained)
	return summary{chosen.Task, len(rows), trained.Features, trained.Classes, trained.Trees, trained.Loss}, nil
}

func trainTask(rows [][]float64, targets []float64, chosen options) (*trees.Model, error) {
	how := trees.Options{Rounds: chosen.Rounds, Rate: chosen.Rate, Depth: chosen.Depth, MinLeaf: chosen.MinLeaf}
	switch chosen.Task {
	case "regression":
		return trees.Regression(rows, targets, how)
	case "classification":
		labels := make([]int64, len(targets))
		for i, target := range targets {
			labels[i] = int64(target)
			if float64(labels[i]) != target {
				return nil, fmt.Errorf("label %d is %v: classes are integers", i, target)
			}
		}
		return trees.Classification(rows, labels, how)
	}
	return nil, fmt.Errorf("the task %q: it is classification or regression", chosen.Task)
}

// predict(x) gives a label, or a number, for each row.
func predict(_ context.Context, args []any) (any, error) {
	if len(args) == 0 {
		return nil, mlports.Failf(mlports.InvalidArgument, "predict takes rows of numbers")
	}
	return predictions(args[0])
}

func predictions(x any) (any, error) {
	rows, err := mlports.As[[][]float64](x)
	if err != nil {
		return nil, mlports.Failf(mlports.InvalidArgument, "the rows: %v", err)
	}
	trained := model.Load()
	if trained == nil {
		return nil, mlports.Failf(mlports.FailedPrecondition, "there is no model yet: call fit, or configure data")
	}
	numbers, err := trained.Predict(rows)
	if err != nil {
		return nil, mlports.Failf(mlports.InvalidArgument, "%v", err)
	}
	if len(trained.Classes) == 0 {
		return numbers, nil
	}
	labels := make([]int64, len(numbers))
	for i, place := range numbers {
		labels[i] = trained.Classes[int(place)]
	}
	return labels, nil
}

// vote(record) adds votes["go"], the predictions for record["x"], and gives the record on.
func vote(_ context.Context, args []any) (any, error) {
	record, err := mlports.Arg[map[string]any](args, 0)
	if err != nil {
		return nil, err
	}
	labels, err := predictions(record["x"])
	if err != nil {
		return nil, err
	}
	votes, ok := record["votes"].(map[string]any)
	if !ok {
		votes = map[string]any{}
		record["votes"] = votes
	}
	votes["go"] = labels
	return record, nil
}
