package fsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
)

// Lock is what this region has bound itself to about another, or [ErrNotFound].
func (v *View) Lock(origin string) (*Lock, error) { return lockOf(v.enc, v.snap, origin) }

func lockOf(e encoding, g store.Getter, origin string) (*Lock, error) {
	var r lockRecord
	found, err := loadVersioned(e, g, lockKey(origin), &r)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("votes for region %q: %w", origin, ErrNotFound)
	}
	if len(r.Notes) == 0 {
		return nil, fmt.Errorf("%w: the record of votes for region %q is empty", ErrStop, origin)
	}
	body, err := CertificateBody(r.Notes[len(r.Notes)-1])
	if err != nil {
		return nil, fmt.Errorf("votes for region %q: %w", origin, err)
	}
	last, err := checkpoint.ParseBody(body)
	if err != nil {
		return nil, fmt.Errorf("votes for region %q: %w", origin, err)
	}
	return &Lock{Notes: r.Notes, Last: *last}, nil
}

// Certified is how many seals are certified, or covered by a later seal's certificate: the seals
// below this number. The certificate of the last of them is on record.
func (v *View) Certified() (int64, error) {
	var at attestRecord
	_, err := loadVersioned(v.enc, v.snap, []byte{keyAttest}, &at)
	return at.Next, err
}

// CertifiedSize is how many entries the newest certificate covers, 0 before the first: those are attested.
func (v *View) CertifiedSize() (int64, error) {
	next, err := v.Certified()
	if err != nil || next == 0 {
		return 0, err
	}
	s, err := v.SealAt(next - 1)
	if err != nil {
		return 0, err
	}
	return s.Size, nil
}

// Certificate is the certificate of an own seal, or [ErrNotFound] where it has none: a later
// seal's may cover it ([View.CertificateCovering]).
func (v *View) Certificate(number int64) ([]byte, error) {
	if number < 0 {
		return nil, fmt.Errorf("certificate of seal %d: %w", number, ErrNotFound)
	}
	b, err := v.snap.Get(certificateKey(number))
	if err != nil {
		return nil, fmt.Errorf("certificate of seal %d: %w", number, err)
	}
	return b, nil
}

// CertificateCovering is the certificate of least size that covers the entry at an index, with the
// number of its seal, or [ErrNotFound] if there is none yet.
func (v *View) CertificateCovering(index int64) (number int64, signed []byte, err error) {
	first, err := v.SealFrom(index + 1)
	if err != nil {
		return 0, nil, err
	}
	it, err := v.snap.Iter(certificateKey(first), []byte{keyCertificate + 1})
	if err != nil {
		return 0, nil, fmt.Errorf("certificate of entry %d: %w", index, err)
	}
	if !it.First() {
		return 0, nil, errors.Join(fmt.Errorf("certificate of entry %d: %w", index, ErrNotFound), it.Err(), it.Close())
	}
	number, signed, err = splitCertificate(it.Key(), it.Value())
	return number, signed, errors.Join(err, it.Close())
}

func splitCertificate(key, value []byte) (number int64, signed []byte, err error) {
	if len(key) != 1+8 {
		return 0, nil, fmt.Errorf("%w: record %q of a certificate is malformed", ErrDiverged, key)
	}
	number = int64(binary.BigEndian.Uint64(key[1:])) //nolint:gosec // written from an int64
	return number, append([]byte(nil), value...), nil
}

// Evidence is the evidence on record that a region lied, or [ErrNotFound].
func (v *View) Evidence(origin string) (*checkpoint.Evidence, error) {
	b, err := v.snap.Get(evidenceKey(origin))
	if err != nil {
		return nil, fmt.Errorf("evidence against region %q: %w", origin, err)
	}
	return parseEvidence(origin, b)
}

func parseEvidence(origin string, record []byte) (*checkpoint.Evidence, error) {
	if len(record) == 0 || record[0] != recordVersion {
		return nil, fmt.Errorf("%w: the record of evidence against region %q is of a version that this program does not know", ErrStop, origin)
	}
	return checkpoint.ParseEvidence(record[1:])
}

// InEvidence lists the regions against which there is evidence, sorted by name.
func (v *View) InEvidence() ([]string, error) {
	var origins []string
	err := scan(context.Background(), v.snap, keyEvidence, func(key, _ []byte) error {
		origins = append(origins, string(key[1:]))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list evidence: %w", err)
	}
	return origins, nil
}

// checkAttest tests the records of attestation: none follows from the entries, but each must be
// what Apply would have written.
func (m *Machine) checkAttest(ctx context.Context, v *View) error {
	if err := m.checkCertificates(ctx, v); err != nil {
		return err
	}
	if err := scan(ctx, v.snap, keyLock, func(key, _ []byte) error { return m.checkLock(v, string(key[1:])) }); err != nil {
		return err
	}
	return scan(ctx, v.snap, keyEvidence, func(key, value []byte) error {
		origin, err := m.recorded(string(key[1:]))
		if err != nil {
			return err
		}
		e, err := parseEvidence(origin.Name, value)
		if err != nil {
			return err
		}
		return e.Check(checkpoint.Origin(m.doc.Name, origin.Name), origin.LogKey)
	})
}

func (m *Machine) checkCertificates(ctx context.Context, v *View) error {
	next := int64(0)
	if err := scan(ctx, v.snap, keyCertificate, func(key, value []byte) error {
		number, signed, err := splitCertificate(key, value)
		if err != nil {
			return err
		}
		s, err := v.SealAt(number)
		if err != nil {
			return err
		}
		if body, err := CertificateBody(signed); err != nil || string(body) != string(s.Body()) {
			return fmt.Errorf("%w: the certificate of seal %d is about another body: %w", ErrDiverged, number, err)
		}
		next = number + 1
		return nil
	}); err != nil {
		return err
	}
	certified, err := v.Certified()
	if err == nil && certified != next {
		err = fmt.Errorf("%w: %d seals are recorded as certified, the certificates give %d", ErrDiverged, certified, next)
	}
	return err
}

// recorded is the region that a record is about.
func (m *Machine) recorded(name string) (*federation.Region, error) {
	if m.doc != nil {
		if r, ok := m.doc.Region(name); ok {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%w: there is a record about region %q, which the document in force does not have", ErrDiverged, name)
}

func (m *Machine) checkLock(v *View, name string) error {
	origin, err := m.recorded(name)
	if err != nil {
		return err
	}
	lock, err := v.Lock(name)
	if err != nil {
		return err
	}
	if name == m.cfg.Region || len(lock.Notes) > LockNotesMax {
		return fmt.Errorf("%w: %d votes are recorded for region %q: at most %d, and none for the own one", ErrDiverged, len(lock.Notes), name, LockNotesMax)
	}
	size, millis := int64(0), int64(0)
	for _, signed := range lock.Notes {
		c, err := checkpoint.Open(signed, checkpoint.Origin(m.doc.Name, name), origin.LogKey)
		if err != nil {
			return fmt.Errorf("votes for region %q: %w", name, err)
		}
		if c.Size <= size || c.TimeMillis < millis {
			return fmt.Errorf("%w: a vote for region %q is for %d entries until %d, the one before it for %d until %d", ErrDiverged, name, c.Size, c.TimeMillis, size, millis)
		}
		size, millis = c.Size, c.TimeMillis
	}
	return nil
}
