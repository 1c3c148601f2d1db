package attest

import (
	"bytes"
	"fmt"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
)

// loadCertified reads how far the own ledger is certified, and forgets what that covers.
func (m *Machine) loadCertified(v *fsm.View) error {
	certified, err := v.Certified()
	if err != nil || certified <= m.own.certified {
		return err
	}
	s, err := v.SealAt(certified - 1)
	if err != nil {
		return err
	}
	if m.own.certificate, err = v.Certificate(certified - 1); err != nil {
		return err
	}
	m.own.certified, m.own.size = certified, s.Size
	for len(m.own.seals) > 0 && m.own.seals[0].number < certified {
		m.own.seals = m.own.seals[1:]
	}
	return nil
}

// refreshOwn signs the seals that a majority of the voters agrees on and no certificate
// covers, and tells the others.
func (m *Machine) refreshOwn() error {
	known := len(m.own.seals)
	err := m.read(func(v *fsm.View) error {
		if err := m.load(v); err != nil {
			return err
		}
		known = len(m.own.seals)
		return m.signUpTo(v, min(m.own.agreed, v.Seals()))
	})
	if err != nil || len(m.own.seals) == known {
		return err
	}
	if m.leading {
		for _, s := range m.own.seals[known:] {
			m.publish(TopicCheckpoints, "", m.encode(KindCheckpoint, s.note))
		}
		for _, name := range m.names {
			m.soon(m.regions[name])
		}
	}
	return m.certify()
}

// signUpTo signs own seals below a number, the oldest first, at most as many as may wait.
func (m *Machine) signUpTo(v *fsm.View, end int64) error {
	next := m.own.certified
	if k := len(m.own.seals); k > 0 {
		next = m.own.seals[k-1].number + 1
	}
	for n := next; n < end && len(m.own.seals) < fsm.UncertifiedSealsMax; n++ {
		s, err := m.sign(v, n)
		if err != nil {
			return err
		}
		if s != nil {
			m.own.seals = append(m.own.seals, s)
		}
	}
	return nil
}

// sign makes the checkpoint of an own seal; nil where the seal was made under another document
// than the one whose keys are at hand.
func (m *Machine) sign(v *fsm.View, number int64) (*sealed, error) {
	s, err := v.SealAt(number)
	if err != nil {
		return nil, err
	}
	c := s.Checkpoint()
	if !m.goesBy(c) {
		return nil, nil
	}
	note, err := m.cfg.Signer.Checkpoint(c)
	if err != nil {
		return nil, fmt.Errorf("sign the checkpoint of seal %d: %w", number, err)
	}
	return &sealed{number: number, body: s.Body(), size: s.Size, note: note, lines: map[string][]byte{}, refusedBy: map[string]bool{}}, nil
}

// heardCosignature notes another region's cosignature of an own checkpoint.
func (m *Machine) heardCosignature(s *Statement) (bool, error) {
	if s.Origin != m.cfg.Region {
		return false, nil
	}
	body := s.Checkpoint.Body()
	for _, own := range m.own.seals {
		if _, has := own.lines[s.Region]; !has && bytes.Equal(own.body, body) {
			own.lines[s.Region] = s.Line
			m.regions[s.Region].refuses = refusedBody{}
			return true, m.certify()
		}
	}
	return false, nil
}

// certify makes a certificate of the newest own checkpoint that has a quorum. It covers those
// before it.
func (m *Machine) certify() error {
	if !m.leading {
		return nil
	}
	for i := len(m.own.seals) - 1; i >= 0; i-- {
		s := m.own.seals[i]
		if len(s.lines) < m.needed {
			continue
		}
		if m.own.proposed.pending(s.size, m.now) {
			return nil
		}
		made, err := certificate.Assemble(s.note, s.lines, m.cfg.Document)
		if err != nil {
			return err
		}
		m.publish(TopicCertificates, "", m.encode(KindCertificate, made))
		m.proposeCertificate(s, made)
		return nil
	}
	return nil
}

func (m *Machine) proposeCertificate(s *sealed, made []byte) {
	m.own.proposed = proposal{s.size, m.now}
	m.emit(Propose{Command: fsm.EncodeCertify(s.number, made), Statement: fsm.StatedCertificate, Origin: m.cfg.Region, Size: s.size})
}

func (m *Machine) appliedCertificate(res *fsm.Attested) error {
	before := m.own.certified
	if err := m.read(m.loadCertified); err != nil {
		return err
	}
	if m.own.certified > before {
		m.emit(Learned{Origin: m.cfg.Region, Size: m.own.size, Note: m.own.certificate})
	}
	if !res.Accepted() {
		// Not again at once: the applied state is not what this leader made the certificate of.
		m.own.proposed.atMillis = m.now
	}
	return m.refreshOwn()
}

// heardOwnCertificate takes up a certificate that an earlier leader of this region published.
func (m *Machine) heardOwnCertificate(s *Statement) (bool, error) {
	for _, own := range m.own.seals {
		if own.size != s.Checkpoint.Size {
			continue
		}
		if !bytes.Equal(own.body, s.Checkpoint.Body()) {
			return true, m.contradicted(m.regions[m.cfg.Region], s, AlarmForked, "a quorum certified another ledger than this region's own")
		}
		if m.leading && !m.own.proposed.pending(own.size, m.now) {
			m.proposeCertificate(own, s.Note)
			return true, nil
		}
		if m.leading || own.size <= m.own.heard {
			return false, nil
		}
		// Raft tells a voter that does not lead some heartbeats later.
		m.own.heard = own.size
		m.emit(Learned{Origin: m.cfg.Region, Size: own.size, Note: s.Note})
		return true, nil
	}
	var other bool
	err := m.read(func(v *fsm.View) error {
		number, err := v.SealFrom(s.Checkpoint.Size)
		if err != nil || number == v.Seals() {
			return err // not applied here yet: Raft brings it
		}
		seal, err := v.SealAt(number)
		other = err == nil && !bytes.Equal(seal.Body(), s.Checkpoint.Body())
		return err
	})
	if err == nil && other {
		err = m.contradicted(m.regions[m.cfg.Region], s, AlarmForked, "a quorum certified another ledger than this region's own")
	}
	return other, err
}
