// Package trees trains gradient-boosted decision trees over binned features, as scikit-learn's HistGradientBoosting
// estimators do: the same splits, the same leaves, grown to a depth.
package trees

import (
	"slices"
	"sort"
)

const mostBins = 255

// bins is a table of samples by features, each value replaced by the number of the interval that it lies in.
type bins struct {
	columns    [][]uint8   // by feature, then sample
	thresholds [][]float64 // by feature: the upper bounds of all intervals but the last
}

func binned(rows [][]float64) bins {
	features := len(rows[0])
	b := bins{columns: make([][]uint8, features), thresholds: make([][]float64, features)}
	values := make([]float64, len(rows))
	for f := range features {
		for i, row := range rows {
			values[i] = row[f]
		}
		bounds := thresholds(values)
		column := make([]uint8, len(rows))
		for i, value := range values {
			column[i] = uint8(sort.SearchFloat64s(bounds, value))
		}
		b.columns[f], b.thresholds[f] = column, bounds
	}
	return b
}

// thresholds lie in the middle between neighbouring values; between quantiles where there are too many values.
func thresholds(values []float64) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	distinct := slices.Compact(slices.Clone(sorted))
	var bounds []float64
	if len(distinct) <= mostBins {
		for i := 1; i < len(distinct); i++ {
			bounds = append(bounds, distinct[i-1]+(distinct[i]-distinct[i-1])/2)
		}
		return bounds
	}
	for i := 1; i < mostBins; i++ {
		at := i * (len(sorted) - 1) / mostBins
		bounds = append(bounds, sorted[at]+(sorted[at+1]-sorted[at])/2)
	}
	return slices.Compact(bounds)
}
