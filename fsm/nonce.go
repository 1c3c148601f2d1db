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
	m.txn.Set(numbered(keyExpiry, seq), append(append(make([]byte, 0, 40), nonce[:]...), at[8:]...))
	var w window
	key := windowKey(t / secondMillis)
	if _, err := load(m.enc, m.txn, key, &w); err != nil {
		return err
	}
	w.Count++
	w.Chain = chain(w.Chain, at, nonce)
	if err := save(m.enc, m.txn, key, &w); err != nil {
		return err
	}
	return m.forget(t - m.doc.Constitution.NonceWindowMillis)
}

func chain(prev [32]byte, at [16]byte, nonce [32]byte) [32]byte {
	var b [80]byte
	copy(b[:], prev[:])
	copy(b[32:], at[:])
	copy(b[48:], nonce[:])
	return sha256.Sum256(b[:])
}

// forget drops the nonces noted at or before a log time, and the window's records
// of the seconds that are empty then.
func (m *Machine) forget(until int64) error {
	for m.head.NonceFirst < m.head.NonceNext {
		key := numbered(keyExpiry, m.head.NonceFirst)
		b, err := m.txn.Get(key)
		if err != nil || len(b) != 40 {
			return fmt.Errorf("read nonce number %d of the replay window: %d bytes: %w", m.head.NonceFirst, len(b), err)
		}
		t := int64(binary.BigEndian.Uint64(b[32:])) //nolint:gosec // written from an int64
		if t > until {
			return nil
		}
		m.txn.Delete(key)
		nonce := [32]byte(b[:32])
		at, err := m.txn.Get(nonceKey(nonce))
		if err == nil && binary.BigEndian.Uint64(at) == m.head.NonceFirst {
			m.txn.Delete(nonceKey(nonce)) // unless it was used again after it had expired
		}
		m.head.NonceFirst++
		if err := m.dropWindow(t / secondMillis); err != nil {
			return err
		}
	}
	return nil
}

// dropWindow removes a second's record once its last nonce is forgotten.
func (m *Machine) dropWindow(second int64) error {
	var w window
	key := windowKey(second)
	found, err := load(m.enc, m.txn, key, &w)
	if err != nil || !found {
		return err
	}
	if w.Count--; w.Count == 0 {
		m.txn.Delete(key)
		return nil
	}
	return save(m.enc, m.txn, key, &w)
}
