package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// order sorts writes by key in memory that it uses again.
type order struct {
	ranks  []rank
	writes []Write
}

// rank is a write by its place, and eight bytes of its key as a number: numbers are quicker to compare and to move than keys are.
type rank struct {
	head uint64
	at   int32
}

// spare is how many writes may be appended to so many that sorted returns before they are copied.
func spare(writes int) int { return 16 + writes/8 }

// sorted lists writes by key. First they are dealt out by the first byte of their keys: what has the same one was often written in
// order.
func (o *order) sorted(writes []Write) []Write {
	o.ranks = slices.Grow(o.ranks[:0], len(writes))[:len(writes)]
	var ends [257]int // of the keys that begin with a lower byte, an empty one before all
	for i := range writes {
		ends[first(writes[i].Key)]++
	}
	sum := 0
	for b := range ends {
		ends[b], sum = sum, sum+ends[b]
	}
	starts := ends
	for i := range writes {
		b := first(writes[i].Key)
		o.ranks[ends[b]].at = int32(i) // #nosec G115 -- see index
		ends[b]++
	}
	for b := range starts {
		sortFrom(writes, o.ranks[starts[b]:ends[b]], 1)
	}
	o.writes = slices.Grow(o.writes[:0], len(writes)+spare(len(writes)))
	for _, r := range o.ranks {
		o.writes = append(o.writes, writes[r.at])
	}
	return o.writes
}

func first(key []byte) int {
	if len(key) == 0 {
		return 0
	}
	return 1 + int(key[0])
}

// sortFrom sorts by what keys have from a byte on; before it they agree. Where eight bytes do not decide, the next ones do, and so
// it ends: keys differ.
func sortFrom(writes []Write, ranks []rank, from int) {
	if len(ranks) < 2 {
		return
	}
	for i := range ranks {
		ranks[i].head = headOf(writes[ranks[i].at].Key, from)
	}
	byHead := func(a, b rank) int { return cmp.Compare(a.head, b.head) }
	if !slices.IsSortedFunc(ranks, byHead) {
		slices.SortFunc(ranks, byHead)
	}
	for len(ranks) > 0 {
		n, ended := 1, len(writes[ranks[0].at].Key) < from+8
		for ; n < len(ranks) && ranks[n].head == ranks[0].head; n++ {
			ended = ended || len(writes[ranks[n].at].Key) < from+8
		}
		switch {
		case n == 1:
		case ended: // zeros that stand for no byte were compared with such as do
			slices.SortFunc(ranks[:n], func(a, b rank) int { return bytes.Compare(writes[a.at].Key, writes[b.at].Key) })
		default:
			sortFrom(writes, ranks[:n], from+8)
		}
		ranks = ranks[n:]
	}
}

// headOf is eight bytes of a key as a number that orders as they do; what the key lacks is zero.
func headOf(key []byte, from int) uint64 {
	if len(key) >= from+8 {
		return binary.BigEndian.Uint64(key[from:])
	}
	var b [8]byte
	copy(b[:], key[min(from, len(key)):])
	return binary.BigEndian.Uint64(b[:])
}

// reset lets go of the writes, and of memory that is far more than was used.
func (o *order) reset(used int) {
	clear(o.writes)
	o.writes = o.writes[:0]
	if cap(o.writes) > keep(used)+spare(keep(used)) {
		o.writes, o.ranks = nil, nil
	}
}
