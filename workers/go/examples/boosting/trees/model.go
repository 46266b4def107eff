package trees

import (
	"fmt"
	"math"
	"slices"
)

// Options of a training. Nothing in it is random: the same samples give the same model.
type Options struct {
	Rounds  int     // trees, for each class
	Rate    float64 // of learning: what part of its step each tree takes
	Depth   int     // most splits from a tree's root to a leaf
	MinLeaf int     // least samples in a leaf
}

// Model is a trained one. Classes is empty for a regression.
type Model struct {
	Classes  []int64
	Features int
	Trees    int
	Loss     float64 // of the training samples: half the mean squared error, or the mean log-loss

	start  []float64 // by output
	rounds [][]tree  // by round, then output
}

// Regression fits numbers, by least squares.
func Regression(rows [][]float64, targets []float64, options Options) (*Model, error) {
	if err := check(rows, len(targets), options); err != nil {
		return nil, err
	}
	mean := 0.0
	for _, target := range targets {
		mean += target / float64(len(targets))
	}
	model := &Model{Features: len(rows[0]), start: []float64{mean}}
	model.train(rows, options, func(scores, gradients, hessians [][]float64) float64 {
		loss := 0.0
		for i, target := range targets {
			off := scores[0][i] - target
			gradients[0][i], hessians[0][i] = off, 1
			loss += off * off / 2
		}
		return loss
	})
	return model, nil
}

// Classification fits classes, by their log-loss.
func Classification(rows [][]float64, labels []int64, options Options) (*Model, error) {
	if err := check(rows, len(labels), options); err != nil {
		return nil, err
	}
	classes := slices.Compact(slices.Sorted(slices.Values(labels)))
	if len(classes) < 2 {
		return nil, fmt.Errorf("all %d samples are of one class", len(labels))
	}
	model := &Model{Features: len(rows[0]), Classes: classes, start: make([]float64, len(classes))}
	places := make([]int, len(labels))
	for i, label := range labels {
		places[i], _ = slices.BinarySearch(classes, label)
		model.start[places[i]]++
	}
	for k, count := range model.start {
		model.start[k] = math.Log(count / float64(len(labels)))
	}
	odds := make([]float64, len(classes))
	model.train(rows, options, func(scores, gradients, hessians [][]float64) float64 {
		loss := 0.0
		for i, place := range places {
			softmax(odds, scores, i)
			for k, p := range odds {
				gradients[k][i], hessians[k][i] = p, p*(1-p)
			}
			gradients[place][i]--
			loss -= math.Log(odds[place])
		}
		return loss
	})
	return model, nil
}

func softmax(odds []float64, scores [][]float64, sample int) {
	most, total := math.Inf(-1), 0.0
	for k := range odds {
		most = math.Max(most, scores[k][sample])
	}
	for k := range odds {
		odds[k] = math.Exp(scores[k][sample] - most)
		total += odds[k]
	}
	for k := range odds {
		odds[k] /= total
	}
}

func check(rows [][]float64, targets int, options Options) error {
	if len(rows) == 0 || len(rows[0]) == 0 || len(rows) != targets {
		return fmt.Errorf("as many targets as rows are due, and at least one of each: there are %d for %d rows", targets, len(rows))
	}
	if options.Rounds < 1 || options.Depth < 1 || options.MinLeaf < 1 || !(options.Rate > 0) {
		return fmt.Errorf("rounds, depth and min_leaf are at least 1, and rate is above 0: %+v", options)
	}
	return checkRows(rows, len(rows[0]))
}

func checkRows(rows [][]float64, features int) error {
	for i, row := range rows {
		if len(row) != features {
			return fmt.Errorf("row %d has %d numbers, not %d", i, len(row), features)
		}
		if slices.ContainsFunc(row, math.IsNaN) {
			return fmt.Errorf("row %d holds a NaN", i)
		}
	}
	return nil
}

// train adds trees, round by round; slope fills in the loss's first and second derivatives, and gives its sum.
func (m *Model) train(rows [][]float64, options Options, slope func(scores, gradients, hessians [][]float64) float64) {
	table := binned(rows)
	scores, gradients, hessians := m.table(len(rows)), m.table(len(rows)), m.table(len(rows))
	for k, first := range m.start {
		for i := range scores[k] {
			scores[k][i] = first
		}
	}
	samples := make([]int, len(rows))
	outputs := make([]float64, len(rows))
	for range options.Rounds {
		slope(scores, gradients, hessians)
		round := make([]tree, len(m.start))
		for k := range round {
			for i := range samples {
				samples[i] = i
			}
			g := grower{bins: table, options: options, gradients: gradients[k], hessians: hessians[k], outputs: outputs}
			g.grow(samples, 0)
			round[k] = g.grown
			for i, output := range outputs {
				scores[k][i] += output
			}
		}
		m.rounds = append(m.rounds, round)
		m.Trees += len(round)
	}
	m.Loss = slope(scores, gradients, hessians) / float64(len(rows))
}

func (m *Model) table(samples int) [][]float64 {
	table := make([][]float64, len(m.start))
	for k := range table {
		table[k] = make([]float64, samples)
	}
	return table
}

// Predict gives a number for each row, or the number of its class in Classes.
func (m *Model) Predict(rows [][]float64) ([]float64, error) {
	if err := checkRows(rows, m.Features); err != nil {
		return nil, err
	}
	results := make([]float64, len(rows))
	for i, row := range rows {
		scores := slices.Clone(m.start)
		for _, round := range m.rounds {
			for k, t := range round {
				scores[k] += t.predict(row)
			}
		}
		if len(m.Classes) == 0 {
			results[i] = scores[0]
			continue
		}
		best := 0
		for k, score := range scores {
			if score > scores[best] {
				best = k
			}
		}
		results[i] = float64(best)
	}
	return results, nil
}
