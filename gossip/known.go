package gossip

import "time"

// knownMax and knownFor bound each of two generations of payloads that are remembered.
const (
	knownMax = 8192
	knownFor = 10 * time.Minute
)

// known remembers what was made of payloads, so that one that is announced again, or
// replayed under another attempt, is neither judged nor passed on again. Two
// generations; the older is dropped when the newer is full or old.
type known struct {
	now, before map[knownKey]bool // true: accepted, false: rejected
	began       time.Time
}

type knownKey [16]byte

func newKnown() *known { return &known{now: make(map[knownKey]bool), before: make(map[knownKey]bool)} }

func keyOf(topic string, payload []byte) knownKey {
	sum := contentHash(topic, payload)
	return knownKey(sum[:16])
}

func (k *known) get(key knownKey) (accepted, ok bool) {
	if accepted, ok = k.now[key]; ok {
		return accepted, true
	}
	accepted, ok = k.before[key]
	return accepted, ok
}

func (k *known) put(key knownKey, accepted bool, at time.Time) {
	if len(k.now) >= knownMax || at.Sub(k.began) >= knownFor {
		k.now, k.before, k.began = make(map[knownKey]bool), k.now, at
	}
	k.now[key] = accepted
}
