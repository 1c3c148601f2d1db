package attest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/ledger"
)

// goesBy reports whether a checkpoint was made under the document in force.
func (m *Machine) goesBy(c *checkpoint.Checkpoint) bool {
	return c.Document == m.cfg.Document.Version && c.DocumentDigest == m.digest
}

// statements are all checkpoints that the region signed, as far as this node still has them.
func (m *Machine) statements(r *region, more ...signed) ([]signed, error) {
	var notes [][]byte
	if r.certificate != nil {
		notes = append(notes, checkpointOf(r.certificate))
	}
	if r.self {
		for _, s := range m.own.seals {
			notes = append(notes, s.note)
		}
		if m.own.certificate != nil {
			notes = append(notes, checkpointOf(m.own.certificate))
		}
	}
	all, err := parse(notes)
	if err != nil {
		return nil, err
	}
	all = slices.Concat(all, r.votes, r.notes, more)
	// What was signed under a retired key only informs.
	return slices.DeleteFunc(all, func(n signed) bool { return !m.goesBy(&n.Checkpoint) }), nil
}

// checkpointOf is the checkpoint note in a certificate: its body and its first signature, which
// is the origin's.
func checkpointOf(certificate []byte) []byte {
	body, lines, _ := bytes.Cut(certificate, []byte("\n\n"))
	line, _, _ := bytes.Cut(lines, []byte("\n"))
	return slices.Concat(body, []byte("\n\n"), line, []byte("\n"))
}

// doubt looks for two checkpoints, signed by the region, that cannot both be true: more beside
// those that are kept. It reports whether it found evidence, which then is on its way.
func (m *Machine) doubt(r *region, more ...signed) (bool, error) {
	if r.evidence != nil {
		return false, nil
	}
	all, err := m.statements(r, more...)
	if err != nil || len(all) < 2 {
		return false, err
	}
	e := contradiction(all)
	if e == nil {
		if e, err = m.rewritten(r, all); err != nil || e == nil {
			return false, err
		}
	}
	if r.evidence, err = e.Marshal(); err != nil {
		return false, err
	}
	// Whoever finds it tells all at once: it proves itself.
	m.publish(TopicEvidence, "", m.encodeEvidence(r))
	for _, name := range m.names {
		m.soon(m.regions[name])
	}
	return true, m.consider(r)
}

// contradiction finds two bodies of equal size.
func contradiction(all []signed) *checkpoint.Evidence {
	slices.SortStableFunc(all, func(a, b signed) int { return int(min(1, max(-1, a.Size-b.Size))) })
	for i := 1; i < len(all); i++ {
		if all[i-1].Size == all[i].Size && all[i-1].Checkpoint != all[i].Checkpoint {
			return checkpoint.Contradiction(all[i-1].note, all[i].note)
		}
	}
	return nil
}

// rewritten finds a checkpoint that the executed ledger does not have, and a larger one that it
// has: the ledger proves that the first is no prefix of the second.
func (m *Machine) rewritten(r *region, sorted []signed) (e *checkpoint.Evidence, err error) {
	err = m.readCopy(r, func(v *fsm.View) error {
		size, err := v.Ledger().Size()
		if err != nil {
			return err
		}
		sound := int64(0) // what was voted for up to here the ledger has: each vote extends the one before
		if last := r.bound(); last > 0 && last <= size {
			same, err := sameRoot(v, &r.votes[len(r.votes)-1].Checkpoint)
			if err != nil {
				return err
			}
			if same {
				sound = last
			}
		}
		var first *signed
		for i := range sorted {
			n := &sorted[i]
			if n.Size > size {
				return nil
			}
			same := n.Size <= sound && slices.ContainsFunc(r.votes, func(o signed) bool { return o.Checkpoint == n.Checkpoint })
			if !same {
				same, err = sameRoot(v, &n.Checkpoint)
			}
			switch {
			case err != nil:
				return err
			case !same && first == nil:
				first = n
			case same && first != nil:
				e, err = rewriting(v, first, n)
				return err
			}
		}
		return nil
	})
	return e, err
}

func rewriting(v *fsm.View, first, second *signed) (*checkpoint.Evidence, error) {
	root, err1 := v.Ledger().Root(first.Size)
	proof, err2 := v.Ledger().ConsistencyProof(first.Size, second.Size)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &checkpoint.Evidence{First: first.note, Second: second.note, Root: root, Proof: proof}, nil
}

// heardCertificate remembers the newest certificate of another region. A quorum vouches for it,
// whatever this region was shown, voted for or executed.
func (m *Machine) heardCertificate(s *Statement) (bool, error) {
	if s.Origin == m.cfg.Region {
		return m.heardOwnCertificate(s)
	}
	r := m.regions[s.Origin]
	if bytes.Equal(r.certificate, s.Note) {
		return false, nil
	}
	c := s.Checkpoint
	known, err := m.verdict(r, &r.certified)
	if err != nil {
		return false, err
	}
	now, err := m.verdict(r, c)
	if err != nil {
		return false, err
	}
	voted := func(n signed) bool { return n.Size == c.Size && n.Checkpoint != *c }
	switch {
	// A ledger that has the larger one's root says what every prefix of it is; one that has the
	// smaller one's root may go on otherwise.
	case c.Size == r.certified.Size && *c != r.certified,
		c.Size > r.certified.Size && now == agrees && known == differs, c.Size < r.certified.Size && now == differs && known == agrees:
		return true, m.contradicted(r, s, AlarmCertificate, "two quorums certified what cannot both be true")
	case now == differs, slices.ContainsFunc(r.votes, voted):
		if err := m.contradicted(r, s, AlarmForked, "a quorum certified another ledger than this region was shown"); err != nil {
			return false, err
		}
	}
	if c.Size <= r.certified.Size {
		return false, nil
	}
	r.certificate, r.certified = s.Note, *c
	m.emit(Learned{Origin: r.name, Size: c.Size, Note: s.Note})
	return true, m.examine(r)
}

// verdict is what the copy of a region's ledger says of a checkpoint.
type verdict uint8

const (
	unknown verdict = iota
	agrees
	differs
)

func (m *Machine) verdict(r *region, c *checkpoint.Checkpoint) (is verdict, err error) {
	if c.Size == 0 {
		return unknown, nil
	}
	err = m.readCopy(r, func(v *fsm.View) error {
		same, err := sameRoot(v, c)
		switch {
		case errors.Is(err, ledger.ErrOutOfRange):
			return nil
		case same:
			is = agrees
		default:
			is = differs
		}
		return err
	})
	return is, err
}

// contradicted tells, once, of a certificate that does not agree with what is known, and looks
// whether it is evidence.
func (m *Machine) contradicted(r *region, s *Statement, kind AlarmKind, detail string) error {
	if bytes.Equal(r.conflicting, s.Note) {
		return nil
	}
	r.conflicting = s.Note
	m.emit(Alarm{kind, r.name, fmt.Sprintf("size %d: %s", s.Checkpoint.Size, detail)})
	_, err := m.doubt(r, signed{checkpointOf(s.Note), *s.Checkpoint})
	return err
}
