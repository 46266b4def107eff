package trees

const (
	leastHessian = 1e-3
	tiny         = 1e-15
)

// node is a leaf where left is 0; all indexes are into the tree.
type node struct {
	feature     int
	threshold   float64
	left, right int
	value       float64
}

type tree []node

func (t tree) predict(row []float64) float64 {
	at := 0
	for t[at].left != 0 {
		if row[t[at].feature] <= t[at].threshold {
			at = t[at].left
		} else {
			at = t[at].right
		}
	}
	return t[at].value
}

// sums of gradients and hessians over some samples, and how many they are.
type sums struct {
	gradient, hessian float64
	count             int
}

func (s *sums) add(other sums) {
	s.gradient += other.gradient
	s.hessian += other.hessian
	s.count += other.count
}

func (s sums) less(other sums) sums {
	return sums{s.gradient - other.gradient, s.hessian - other.hessian, s.count - other.count}
}

// worth is how much these samples' loss falls when they get a leaf's value of their own, times two.
func (s sums) worth() float64 { return s.gradient * s.gradient / (s.hessian + tiny) }

type grower struct {
	bins
	options             Options
	gradients, hessians []float64
	grown               tree
	outputs             []float64 // of each sample, by the leaf it ended in
}

// grow makes a tree that takes a step against the gradients. It reorders samples.
func (g *grower) grow(samples []int, depth int) int {
	total := sums{count: len(samples)}
	for _, i := range samples {
		total.gradient += g.gradients[i]
		total.hessian += g.hessians[i]
	}
	at := len(g.grown)
	g.grown = append(g.grown, node{})
	feature, bin, found := g.bestSplit(samples, total, depth)
	if !found {
		value := -g.options.Rate * total.gradient / (total.hessian + tiny)
		g.grown[at].value = value
		for _, i := range samples {
			g.outputs[i] = value
		}
		return at
	}
	middle := partition(samples, g.columns[feature], bin)
	left := g.grow(samples[:middle], depth+1)
	right := g.grow(samples[middle:], depth+1)
	g.grown[at] = node{feature: feature, threshold: g.thresholds[feature][bin], left: left, right: right}
	return at
}

// bestSplit finds the feature, and the last bin that goes left, by which the loss falls most.
func (g *grower) bestSplit(samples []int, total sums, depth int) (feature, bin int, found bool) {
	if depth == g.options.Depth || total.count < 2*g.options.MinLeaf || total.hessian < leastHessian {
		return 0, 0, false
	}
	best := 0.0
	var histogram [mostBins + 1]sums
	for f, column := range g.columns {
		count := len(g.thresholds[f])
		clear(histogram[:count+1])
		for _, i := range samples {
			histogram[column[i]].add(sums{g.gradients[i], g.hessians[i], 1})
		}
		left := sums{}
		for b := range count {
			left.add(histogram[b])
			right := total.less(left)
			if left.count < g.options.MinLeaf || left.hessian < leastHessian {
				continue
			}
			if right.count < g.options.MinLeaf || right.hessian < leastHessian {
				break
			}
			if gain := left.worth() + right.worth() - total.worth(); gain > best {
				best, feature, bin, found = gain, f, b, true
			}
		}
	}
	return feature, bin, found
}

// partition puts the samples that go left first, and says how many they are.
func partition(samples []int, column []uint8, bin int) int {
	middle := 0
	for at, i := range samples {
		if int(column[i]) <= bin {
			samples[middle], samples[at] = samples[at], samples[middle]
			middle++
		}
	}
	return middle
}
