package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/pci"
)

// The replay window: every nonce that an entry consumed stays for the constitution's
// nonce_window_ms of log time. Nonces expire in the order they came, so a queue
// numbered by sequence is enough. The state commitment binds them through one
// record a second of log time, a hash chain, rather than through a leaf each.

const secondMillis = 1000

func nonceKey(nonce [32]byte) []byte { return append([]byte{keyNonce}, nonce[:]...) }

func windowKey(second int64) []byte { return stateKeyOf(stateWindow, strconv.FormatInt(second, 10)) }

// unseen says for certain, without looking in the store, that neither the proof nor its nonce is known.
//
// That it is about the nonce is clear. And a proof that became an entry left its nonce, which is still there: its entry's
// log time and the present one both lie within timestamp_window_ms of the proof's timestamp, so they are no further apart than
// twice that, and a constitution's nonce_window_ms must be longer. Where another constitution was in force lately, the store is asked.
func (m *Machine) unseen(env *pci.Envelope, t int64) bool {
	if m.lawSince > 0 && t-m.lawSince <= constitution.TimestampWindowMillisMax+m.law.Thresholds.TimestampWindowMillis {
		return false
	}
	return env.CheckTime(t, m.limits) == nil && m.recent.unknown(&env.Nonce, m.head.NonceFirst)
}

// remember notes a nonce at the log time of the head and forgets those that have expired.
func (m *Machine) remember(nonce [32]byte) error {
	t := m.head.TimeMillis
	seq := m.head.NonceNext
	m.head.NonceNext++
	var at [nonceBytes]byte
	binary.BigEndian.PutUint64(at[:8], seq)
	binary.BigEndian.PutUint64(at[8:], uint64(t)) //nolint:gosec // log time is never negative
	m.txn.Set(nonceKey(nonce), at[:])
	m.txn.Set(numbered(keyExpiry, seq), append(append(make([]byte, 0, expiryBytes), nonce[:]...), at[8:]...))
	m.recent.add(&nonce, seq, m.head.NonceFirst)
	if number := t / secondMillis; !m.second.moved || m.second.number != number {
		if err := m.writeSecond(); err != nil {
			return err
		}
		m.second = second{number: number, moved: true}
		if _, err := load(m.enc, m.txn, windowKey(number), &m.second.record); err != nil {
			return err
		}
	}
	m.second.record.add(seq, t, nonce)
	return m.forget(t - m.law.Thresholds.NonceWindowMillis)
}

// second is the record of the second of log time that nonces come in now. Every entry changes
// it, so it is written down once for all entries of a call.
type second struct {
	number int64
	record window
	moved  bool // since it was written down
}

func (m *Machine) writeSecond() error {
	if !m.second.moved {
		return nil
	}
	m.second.moved = false
	return save(m.enc, m.txn, windowKey(m.second.number), &m.second.record)
}

// writeMoved writes down what every entry moves: the head, and the second of the replay window.
func (m *Machine) writeMoved() error {
	if m.head == m.headWritten {
		return nil
	}
	m.headWritten = m.head
	return errors.Join(m.writeSecond(), save(m.enc, m.txn, stateKeyOf(stateHead, ""), &m.head))
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

// forgetMax is how many nonces one entry makes the region forget. More than one, so that
// a crowd is worked off; and few, so that the first entry after a quiet time does not
// pay for all of it, with every voter waiting.
const forgetMax = 8

// forget drops up to forgetMax nonces of the seconds of log time that lie wholly at or before
// a log time. With the first nonce of a second goes the second's record: what it still
// covers has expired, so that it means nothing any more.
func (m *Machine) forget(until int64) error {
	for range forgetMax {
		if m.head.NonceFirst >= m.head.NonceNext {
			return nil
		}
		if m.oldest.known && m.oldest.seq == m.head.NonceFirst && !expired(m.oldest.timeMillis, until) {
			return nil
		}
		b, err := m.txn.Get(numbered(keyExpiry, m.head.NonceFirst))
		if err != nil || len(b) != expiryBytes {
			return fmt.Errorf("read nonce number %d of the replay window: %d bytes: %w", m.head.NonceFirst, len(b), err)
		}
		if _, t := splitExpiry(b); !expired(t, until) {
			m.oldest = oldest{seq: m.head.NonceFirst, timeMillis: t, known: true}
			return nil
		}
		if err := m.forgetFirst(b); err != nil {
			return err
		}
	}
	return nil
}

// forgetFirst drops the oldest nonce, which the record under keyExpiry tells.
func (m *Machine) forgetFirst(record []byte) error {
	nonce, t := splitExpiry(record)
	m.txn.Delete(numbered(keyExpiry, m.head.NonceFirst))
	seq, _, found, err := m.remembered(nonce)
	if err != nil {
		return err
	}
	if found && seq == m.head.NonceFirst {
		m.txn.Delete(nonceKey(nonce)) // unless it was used again after it had expired
	}
	m.txn.Delete(windowKey(t / secondMillis))
	m.head.NonceFirst++
	return nil
}

// remembered finds when a nonce came last, if it did within the window or is not forgotten yet.
func (m *Machine) remembered(nonce [32]byte) (seq uint64, timeMillis int64, found bool, err error) {
	b, err := m.txn.Get(nonceKey(nonce))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, 0, false, nil
	case err == nil && len(b) != nonceBytes:
		err = fmt.Errorf("its record has %d bytes", len(b))
		fallthrough
	case err != nil:
		return 0, 0, false, fmt.Errorf("look up a nonce: %w", err)
	}
	return binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:])), true, nil //nolint:gosec // written from an int64
}

// oldest is the log time of the oldest nonce that is remembered, so that most entries need not look.
type oldest struct {
	seq        uint64
	timeMillis int64
	known      bool
}

// expired says whether the second of a log time lies wholly at or before until.
func expired(timeMillis, until int64) bool { return timeMillis/secondMillis < (until+1)/secondMillis }

// Sizes of the records under keyNonce and keyExpiry.
const (
	nonceBytes  = 16
	expiryBytes = 32 + 8
)

// splitExpiry reads a record under keyExpiry: the nonce and its log time.
func splitExpiry(b []byte) (nonce [32]byte, timeMillis int64) {
	return [32]byte(b[:32]), int64(binary.BigEndian.Uint64(b[32:])) //nolint:gosec // written from an int64
}
