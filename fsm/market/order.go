package market

// nodeWidth is how many entries a node of the tree holds at most: few levels, and an entry's neighbours in the cache.
const nodeWidth = 64

// order holds a multiset of values so that the differences between all pairs follow each change in O(log n): a B+ tree
// whose inner nodes know how many values lie under each child, and their sum. It is a cache: everything it answers is a
// function of the multiset, whatever the shape of the tree.
type order struct {
	root        *node
	differences uint128 // Σ|xi−xj| over pairs
	count       int64
	sum         int64
}

type node struct {
	entries int
	value   [nodeWidth]int64 // in a leaf: the values, ascending; above: the largest value under each child
	inner   *inner           // nil in a leaf
}

type inner struct {
	count [nodeWidth]int64
	sum   [nodeWidth]int64
	child [nodeWidth]*node
}

// orderOf builds the tree over ascending values.
func orderOf(sorted []int64) order {
	const fill = nodeWidth * 3 / 4 // room for what comes
	o := order{root: &node{}}
	var level []*node
	for i, x := range sorted {
		o.differences = o.differences.plus(product(unsigned(x), unsigned(int64(i)))).minus(uint128{lo: unsigned(o.sum)})
		o.sum += x
		if i%fill == 0 {
			level = append(level, &node{})
		}
		leaf := level[len(level)-1]
		leaf.value[leaf.entries] = x
		leaf.entries++
	}
	o.count = int64(len(sorted))
	for len(level) > 1 {
		var above []*node
		for i, child := range level {
			if i%fill == 0 {
				above = append(above, &node{inner: &inner{}})
			}
			parent := above[len(above)-1]
			parent.entries++
			parent.adopt(parent.entries-1, child)
		}
		level = above
	}
	if len(level) == 1 {
		o.root = level[0]
	}
	return o
}

func (o *order) gini() Gini {
	return Gini{differences: o.differences, holders: o.count, total: o.sum}
}

// distance is Σ|v−x| over the values, given how many are below v and their sum.
func (o *order) distance(v, below, belowSum int64) uint128 {
	plus := product(unsigned(v), unsigned(below)).plus(uint128{lo: unsigned(o.sum - belowSum)})
	return plus.minus(product(unsigned(v), unsigned(o.count-below)).plus(uint128{lo: unsigned(belowSum)}))
}

func (o *order) insert(v int64) {
	var below, belowSum int64
	if split := o.root.insert(v, &below, &belowSum); split != nil {
		root := &node{entries: 2, inner: &inner{}}
		root.adopt(0, o.root)
		root.adopt(1, split)
		o.root = root
	}
	o.differences = o.differences.plus(o.distance(v, below, belowSum))
	o.count++
	o.sum += v
}

// remove takes one v out, and reports whether there was one.
func (o *order) remove(v int64) bool {
	var below, belowSum int64
	if !o.root.remove(v, &below, &belowSum) {
		return false
	}
	for o.root.inner != nil && o.root.entries == 1 {
		o.root = o.root.inner.child[0]
	}
	o.count--
	o.sum -= v
	o.differences = o.differences.minus(o.distance(v, below, belowSum))
	return true
}

// adopt makes child the entry at i.
func (n *node) adopt(i int, child *node) {
	n.inner.child[i] = child
	n.value[i], n.inner.count[i], n.inner.sum[i] = child.total()
}

// total is the largest value of a node that is not empty, and how many there are and their sum.
func (n *node) total() (largest, count, sum int64) {
	if n.inner == nil {
		for _, x := range n.value[:n.entries] {
			sum += x
		}
		return n.value[n.entries-1], int64(n.entries), sum
	}
	for i := range n.entries {
		count += n.inner.count[i]
		sum += n.inner.sum[i]
	}
	return n.value[n.entries-1], count, sum
}

// find is the first entry whose value is at least v, or the number of entries. It adds what lies before.
func (n *node) find(v int64, below, belowSum *int64) int {
	i := 0
	if n.inner == nil {
		for i < n.entries && n.value[i] < v {
			*belowSum += n.value[i]
			i++
		}
		*below += int64(i)
		return i
	}
	for i < n.entries && n.value[i] < v {
		*below += n.inner.count[i]
		*belowSum += n.inner.sum[i]
		i++
	}
	return i
}

// insert puts v in, and returns the upper half of the node if it had to be split.
func (n *node) insert(v int64, below, belowSum *int64) *node {
	i := n.find(v, below, belowSum)
	if n.inner == nil {
		n.open(i)
		n.value[i] = v
		return n.splitIfFull()
	}
	if i == n.entries { // above all: into the last child, which find has counted
		i--
		*below -= n.inner.count[i]
		*belowSum -= n.inner.sum[i]
	}
	child := n.inner.child[i]
	if split := child.insert(v, below, belowSum); split != nil {
		n.open(i + 1)
		n.adopt(i, child)
		n.adopt(i+1, split)
		return n.splitIfFull()
	}
	n.value[i] = max(n.value[i], v)
	n.inner.count[i]++
	n.inner.sum[i] += v
	return nil
}

// open makes room for an entry at i. A node is never full between two operations.
func (n *node) open(i int) {
	n.shift(i+1, i)
	n.entries++
}

// shift moves the entries that begin at from, so that they begin at to.
func (n *node) shift(to, from int) {
	copy(n.value[to:], n.value[from:n.entries])
	if n.inner != nil {
		copy(n.inner.count[to:], n.inner.count[from:n.entries])
		copy(n.inner.sum[to:], n.inner.sum[from:n.entries])
		copy(n.inner.child[to:], n.inner.child[from:n.entries])
	}
}

func (n *node) splitIfFull() *node {
	if n.entries < nodeWidth {
		return nil
	}
	upper := &node{}
	if n.inner != nil {
		upper.inner = &inner{}
	}
	const half = nodeWidth / 2
	upper.take(n, half)
	n.cut(half)
	return upper
}

// take appends those entries of another node that begin at from.
func (n *node) take(other *node, from int) {
	at := n.entries
	n.entries += copy(n.value[at:], other.value[from:other.entries])
	if n.inner != nil {
		copy(n.inner.count[at:], other.inner.count[from:other.entries])
		copy(n.inner.sum[at:], other.inner.sum[from:other.entries])
		copy(n.inner.child[at:], other.inner.child[from:other.entries])
	}
}

// cut leaves the first entries, and lets go of the children beyond.
func (n *node) cut(entries int) {
	if n.inner != nil {
		clear(n.inner.child[entries:n.entries])
	}
	n.entries = entries
}

func (n *node) remove(v int64, below, belowSum *int64) bool {
	i := n.find(v, below, belowSum)
	if i == n.entries {
		return false
	}
	if n.inner == nil {
		if n.value[i] != v {
			return false
		}
		n.close(i)
		return true
	}
	child := n.inner.child[i]
	if !child.remove(v, below, belowSum) {
		return false
	}
	if child.entries == 0 {
		n.close(i)
		return true
	}
	n.value[i] = child.value[child.entries-1]
	n.inner.count[i]--
	n.inner.sum[i] -= v
	if i+1 < n.entries {
		n.join(i)
	}
	if i > 0 {
		n.join(i - 1)
	}
	return true
}

func (n *node) close(i int) {
	n.shift(i, i+1)
	n.cut(n.entries - 1)
}

// join makes the children at i and i+1 one, if that leaves room. So the tree stays low when most of it is gone.
func (n *node) join(i int) {
	left, right := n.inner.child[i], n.inner.child[i+1]
	if left.entries+right.entries > nodeWidth*3/4 {
		return
	}
	left.take(right, 0)
	n.adopt(i, left)
	n.close(i + 1)
}
