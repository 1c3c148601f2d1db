package fsm

import (
	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/store"
)

// What each of the two generations of a [hotRecords] holds at most: so many records, and so many bytes of keys and records,
// but for the last one. Nodes of the tree are small, and a seal of a large state reads several of them for each new
// session, from anywhere on the disk.
const (
	hotRecordsMax     = 16 << 10
	hotTreeRecordsMax = 64 << 10
	hotBytesMax       = 16 << 20
)

// hot keeps the records that Apply read or wrote lately, as the store has them. It is exact, since whoever commits tells
// it what was written, so that no outcome depends on what it holds.
type hot struct {
	st    store.Getter
	state hotRecords // an agent, its conduct and its session are read again with each of its proofs
	tree  hotRecords // the commitment's upper nodes are read again at each seal
}

// hotRecords are two generations, which take the place of a list by age.
type hotRecords struct {
	young, old map[string][]byte
	bytes      int // of young
	max        int // records
}

func newHot(st store.Getter) *hot {
	h := &hot{st: st}
	h.clear()
	return h
}

// clear forgets everything.
func (h *hot) clear() {
	h.state, h.tree = newHotRecords(hotRecordsMax), newHotRecords(hotTreeRecordsMax)
}

func newHotRecords(most int) hotRecords {
	return hotRecords{max: most, young: map[string][]byte{}, old: map[string][]byte{}}
}

// records are those that a key belongs to; nil if its kind is not kept.
func (h *hot) records(key []byte) *hotRecords {
	switch key[0] {
	case keyState:
		return &h.state
	case prefixtree.KeyPrefix:
		return &h.tree
	}
	return nil
}

// Get implements [store.Getter].
func (h *hot) Get(key []byte) ([]byte, error) {
	r := h.records(key)
	if r == nil {
		return h.st.Get(key)
	}
	b, ok := r.young[string(key)]
	if !ok {
		if b, ok = r.old[string(key)]; !ok {
			var err error
			if b, err = h.st.Get(key); err != nil {
				return nil, err
			}
		}
		r.put(key, b)
	}
	return append(make([]byte, 0, len(b)), b...), nil
}

func (r *hotRecords) put(key, value []byte) {
	if len(r.young) >= r.max || r.bytes >= hotBytesMax {
		r.old, r.young, r.bytes = r.young, make(map[string][]byte, len(r.young)), 0
	}
	was, again := r.young[string(key)]
	if r.bytes += len(value) - len(was); !again {
		r.bytes += len(key)
	}
	r.young[string(key)] = value
}

// remove forgets a record.
func (r *hotRecords) remove(key []byte) {
	delete(r.old, string(key))
	if was, ok := r.young[string(key)]; ok {
		r.bytes -= len(key) + len(was)
		delete(r.young, string(key))
	}
}

// committed takes up what was just written to the store.
func (h *hot) committed(writes []store.Write) {
	for i := range writes {
		w := &writes[i]
		r := h.records(w.Key)
		switch {
		case r == nil:
		case w.Delete:
			r.remove(w.Key)
		default:
			delete(r.old, string(w.Key))
			r.put(w.Key, append(make([]byte, 0, len(w.Value)), w.Value...))
		}
	}
}
