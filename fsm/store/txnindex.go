package store

import (
	"bytes"
	"hash/maphash"
	"math/bits"
)

// index finds writes by key: a table of places by hash, which grows before it is half full. It is quicker than a map of texts, and
// its table can be used again at little cost. Its order shows nowhere.
type index struct {
	seed  maphash.Seed
	slots []slot // as many as a power of two
	used  int
}

// slot is a hash's upper half and then, from 1 on, a place; 0 where it is free.
type slot uint64

const (
	indexSlotsMin = 64
	// A Txn has far fewer writes than 2³²: a Commit holds at most half a gigabyte.
	slotPlaceBits = 32
	slotPlaceMask = 1<<slotPlaceBits - 1
)

func (x *index) hash(key []byte) uint64 {
	return maphash.Bytes(x.seed, key) //detlint:allow rand where a key stands in the table shows nowhere
}

// find is the place of a key in writes, -1 if it is not among them.
func (x *index) find(writes []Write, key []byte) int {
	h := x.hash(key)
	for at := h; ; at++ {
		s := x.slots[at&uint64(len(x.slots)-1)] // #nosec G115 -- there are some
		if s == 0 {
			return -1
		}
		if place := int(s & slotPlaceMask); uint64(s)>>slotPlaceBits == h>>slotPlaceBits && bytes.Equal(writes[place-1].Key, key) {
			return place - 1
		}
	}
}

// add takes in the last of writes, whose key is new.
func (x *index) add(writes []Write) {
	if 2*(x.used+1) > len(x.slots) {
		x.grow(writes)
		return
	}
	x.put(writes[len(writes)-1].Key, len(writes))
}

func (x *index) put(key []byte, place int) {
	h, mask := x.hash(key), uint64(len(x.slots)-1) // #nosec G115 -- there are some
	at := h & mask
	for x.slots[at] != 0 {
		at = (at + 1) & mask
	}
	x.slots[at] = slot(h>>slotPlaceBits<<slotPlaceBits | uint64(place)) // #nosec G115 -- from 1 on
	x.used++
}

// grow makes a larger table of all writes.
func (x *index) grow(writes []Write) {
	if len(x.slots) == 0 {
		x.seed = maphash.MakeSeed() //detlint:allow rand see hash
	}
	x.slots, x.used = make([]slot, max(indexSlotsMin, 4<<bits.Len(uint(len(writes))))), 0
	for i := range writes {
		x.put(writes[i].Key, i+1)
	}
}

// reset empties the table, or gives it back where much less was used of it than it has.
func (x *index) reset() {
	if len(x.slots) > 4*keep(x.used) {
		x.slots = nil
	}
	clear(x.slots)
	x.used = 0
}

// arena hands out small copies from larger pieces, to spare the heap. What it handed out stays as it is until reset.
type arena struct {
	pieces [][]byte // the last of those used is being filled
	used   int      // pieces
	free   []byte   // of the last one used
}

const (
	// An arena takes from the heap arenaFirstBytes, and then twice as much each time, up to arenaPieceBytes.
	arenaFirstBytes = 2 << 10
	arenaPieceBytes = 32 << 10
	// arenaKeepMin is how many pieces are kept in any case.
	arenaKeepMin = 1
)

func (a *arena) copy(value []byte) []byte {
	if len(value) > arenaPieceBytes/8 {
		return append(make([]byte, 0, len(value)), value...)
	}
	for len(value) > len(a.free) {
		a.next()
	}
	n := copy(a.free, value)
	out := a.free[:n:n]
	a.free = a.free[n:]
	return out
}

// next begins another piece.
func (a *arena) next() {
	if a.used == len(a.pieces) {
		a.pieces = append(a.pieces, make([]byte, min(arenaFirstBytes<<min(a.used, 16), arenaPieceBytes)))
	}
	a.free = a.pieces[a.used]
	a.used++
}

// reset makes everything that was handed out be used again.
func (a *arena) reset() {
	if most := max(arenaKeepMin, 2*a.used); len(a.pieces) > most {
		clear(a.pieces[most:])
		a.pieces = a.pieces[:most]
	}
	a.used, a.free = 0, nil
}
