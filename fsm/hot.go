package fsm

import "github.com/bizra/bizra/fsm/store"

// What each of the two generations of [hot] holds at most: so many records, and so many bytes of keys and records, but for
// the last one.
const (
	hotRecordsMax = 16 << 10
	hotBytesMax   = 16 << 20
)

// hot keeps the state records that Apply read or wrote lately, as the store has them: an agent, its
// conduct and its session are read again with each of its proofs. It is exact, since whoever commits tells it what
// was written, so that no outcome depends on what it holds. Two generations take the place of a list by age.
type hot struct {
	st         store.Getter
	young, old map[string][]byte
	bytes      int // of young
}

func newHot(st store.Getter) *hot {
	h := &hot{st: st}
	h.clear()
	return h
}

// clear forgets everything.
func (h *hot) clear() { h.young, h.old, h.bytes = map[string][]byte{}, map[string][]byte{}, 0 }

// Get implements [store.Getter].
func (h *hot) Get(key []byte) ([]byte, error) {
	if key[0] != keyState {
		return h.st.Get(key)
	}
	b, ok := h.young[string(key)]
	if !ok {
		if b, ok = h.old[string(key)]; !ok {
			var err error
			if b, err = h.st.Get(key); err != nil {
				return nil, err
			}
		}
		h.put(key, b)
	}
	return append(make([]byte, 0, len(b)), b...), nil
}

func (h *hot) put(key, value []byte) {
	if len(h.young) >= hotRecordsMax || h.bytes >= hotBytesMax {
		h.old, h.young, h.bytes = h.young, make(map[string][]byte, len(h.young)), 0
	}
	was, again := h.young[string(key)]
	if h.bytes += len(value) - len(was); !again {
		h.bytes += len(key)
	}
	h.young[string(key)] = value
}

// committed takes up what was just written to the store.
func (h *hot) committed(writes []store.Write) {
	for i := range writes {
		w := &writes[i]
		if w.Key[0] != keyState {
			continue
		}
		delete(h.old, string(w.Key))
		if w.Delete {
			if was, ok := h.young[string(w.Key)]; ok {
				h.bytes -= len(w.Key) + len(was)
				delete(h.young, string(w.Key))
			}
			continue
		}
		h.put(w.Key, append(make([]byte, 0, len(w.Value)), w.Value...))
	}
}
