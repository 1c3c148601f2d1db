package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
)

// The replay window: every nonce that an entry consumed stays for the constitution's
// nonce_window_ms of log time. Nonces expire in the order they came, so a queue
// numbered by sequence is enough. The state commitment binds them through one
// record a second of log time, a hash chain, rather than through a leaf each.

const secondMillis = 1000

func nonceKey(nonce [32]byte) []byte { return append([]byte{keyNonce}, nonce[:]...) }

func windowKey(second int64) []byte { return stateKeyOf(stateWindow, strconv.FormatInt(second, 10)) }

// remember notes a nonce at the log time of the head and forgets those that have expired.
func (m *Machine) remember(nonce [32]byte) error {
	t := m.head.TimeMillis
	seq := m.head.NonceNext
	m.head.NonceNext++
	var at [16]byte
	binary.BigEndian.PutUint64(at[:8], seq)
	binary.BigEndian.PutUint64(at[8:], uint64(t)) //nolint:gosec // log time is never negative
	m.txn.Set(nonceKey(nonce), at[:])
	m.txn.Set(numbered(keyExpiry, seq), append(append(make([]byte, 0, expiryBytes), nonce[:]...), at[8:]...))
	var w window
	key := windowKey(t / secondMillis)
	if _, err := load(m.enc, m.txn, key, &w); err != nil {
		return err
	}
	w.add(seq, t, nonce)
	if err := save(m.enc, m.txn, key, &w); err != nil {
		return err
	}
	return m.forget(t - m.doc.Constitution.NonceWindowMillis)
}

// add takes one more nonce into the window's record.
func (w *window) add(seq uint64, timeMillis int64, nonce [32]byte) {
	var b [80]byte
	copy(b[:], w.Chain[:])
	binary.BigEndian.PutUint64(b[32:], seq)
	binary.BigEndian.PutUint64(b[40:], uint64(timeMillis)) //nolint:gosec // log time is never negative
	copy(b[48:], nonce[:])
	w.Count++
	w.Chain = sha256.Sum256(b[:])
}

// forget drops the nonces of every second of log time that lies wholly at or before
// a log time. By whole seconds, so that a window's record always covers all the
// nonces that are there.
func (m *Machine) forget(until int64) error {
	for m.head.NonceFirst < m.head.NonceNext {
		key := numbered(keyExpiry, m.head.NonceFirst)
		b, err := m.txn.Get(key)
		if err != nil || len(b) != expiryBytes {
			return fmt.Errorf("read nonce number %d of the replay window: %d bytes: %w", m.head.NonceFirst, len(b), err)
		}
		nonce, t := splitExpiry(b)
		if t/secondMillis >= (until+1)/secondMillis {
			return nil
		}
		m.txn.Delete(key)
		at, err := m.txn.Get(nonceKey(nonce))
		if err == nil && binary.BigEndian.Uint64(at) == m.head.NonceFirst {
			m.txn.Delete(nonceKey(nonce)) // unless it was used again after it had expired
		}
		m.txn.Delete(windowKey(t / secondMillis))
		m.head.NonceFirst++
	}
	return nil
}

const expiryBytes = 40

// splitExpiry reads a record under keyExpiry: the nonce and its log time.
func splitExpiry(b []byte) (nonce [32]byte, timeMillis int64) {
	return [32]byte(b[:32]), int64(binary.BigEndian.Uint64(b[32:])) //nolint:gosec // written from an int64
}
