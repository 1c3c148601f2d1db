package attest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/ledger"
)

// heardCheckpoint takes in a signed checkpoint of another region, or of the own one by whoever
// else has its key.
func (m *Machine) heardCheckpoint(s *Statement) (bool, error) {
	r := m.regions[s.Origin]
	if r.evidence != nil && r.recorded {
		if s.Checkpoint.Size > r.bound() {
			return true, m.refuse(r, s.Checkpoint, certificate.RefusedEvidence, "there is evidence that the region lied")
		}
		return false, nil
	}
	n := signed{s.Note, *s.Checkpoint}
	if r.has(n) || r.self && m.made(n) {
		return false, nil
	}
	if r.self || n.Size <= max(r.bound(), r.certified.Size) {
		// It needs no vote; what it can do is to contradict.
		lied, err := m.doubt(r, n)
		return lied, err
	}
	r.keep(n)
	return true, m.examine(r)
}

// made reports whether a checkpoint of the own region is one that this node made too.
func (m *Machine) made(n signed) bool {
	for _, s := range m.own.seals {
		if bytes.Equal(s.note, n.note) {
			return true
		}
	}
	return false
}

// bound is how many entries the region is bound to.
func (r *region) bound() int64 {
	if len(r.votes) == 0 {
		return 0
	}
	return r.votes[len(r.votes)-1].Size
}

// has reports whether the note is known already: kept, or voted for.
func (r *region) has(n signed) bool {
	same := func(o signed) bool { return o.Checkpoint == n.Checkpoint }
	return slices.ContainsFunc(r.votes, same) || slices.ContainsFunc(r.notes, same)
}

// keep puts a note in its place. Beyond the limit the largest goes: it is offered again
// when its turn has come.
func (r *region) keep(n signed) {
	at, _ := slices.BinarySearchFunc(r.notes, n.Size, func(o signed, size int64) int { return int(min(1, max(-1, o.Size-size))) })
	r.notes = slices.Insert(r.notes, at, n)
	if len(r.notes) > NotesMax+1 { // one more, until it was looked at
		r.notes = r.notes[:NotesMax+1]
	}
}

// settle forgets the notes that need no vote any more.
func (r *region) settle() {
	floor := max(r.bound(), r.certified.Size)
	r.notes = slices.DeleteFunc(r.notes, func(n signed) bool { return n.Size <= floor })
	r.notes = r.notes[:min(len(r.notes), NotesMax)]
	for size := range r.lines {
		if size <= r.certified.Size || size < r.votes[0].Size {
			delete(r.lines, size)
		}
	}
}

// examine looks at what was signed for contradictions, and then for what can be voted for.
func (m *Machine) examine(r *region) error {
	if r.evidence == nil {
		if lied, err := m.doubt(r); err != nil || lied {
			return err
		}
	}
	r.settle()
	return m.consider(r)
}

// consider proposes the next vote for a region, if this node leads and there is one to give.
func (m *Machine) consider(r *region) error {
	if !m.leading {
		return nil
	}
	if r.evidence != nil {
		m.accuse(r)
		return nil
	}
	if r.self {
		return nil
	}
	return m.readCopy(r, func(v *fsm.View) error { return m.considerCopy(r, v) })
}

// readCopy reads the ledger of a region, the own one's too.
func (m *Machine) readCopy(r *region, f func(v *fsm.View) error) error {
	if r.self {
		return m.read(f)
	}
	if err := m.cfg.Views.Copy(r.name, f); err != nil {
		return fmt.Errorf("read the ledger of region %q: %w", r.name, err)
	}
	return nil
}

// accuse has evidence fixed in the own Raft.
func (m *Machine) accuse(r *region) {
	if r.recorded || r.accused.pending(1, m.now) {
		return
	}
	r.accused = proposal{1, m.now}
	m.emit(Propose{Command: fsm.EncodeEvidence(r.name, r.evidence), Statement: fsm.StatedEvidence, Origin: r.name})
}

// considerCopy finds the first seal of the copy above what is voted for or certified, and the
// checkpoint of it. Votes go in order, so that each seal can be certified.
func (m *Machine) considerCopy(r *region, v *fsm.View) error {
	executed, err := v.Ledger().Size()
	if err != nil {
		return err
	}
	number, err := v.SealFrom(max(r.bound(), r.certified.Size) + 1)
	if err != nil {
		return err
	}
	var seal *fsm.Seal
	if number < v.Seals() {
		if seal, err = v.SealAt(number); err != nil {
			return err
		}
	}
	r.wants = seal != nil
	for len(r.notes) > 0 {
		n := r.notes[0]
		switch {
		case seal != nil && n.Size == seal.Size:
			r.wants = false
			if n.Checkpoint != *seal.Checkpoint() {
				return m.refuse(r, &n.Checkpoint, certificate.RefusedDiverged, "re-executing the entries gives another root, state or time")
			}
			return m.proposeVote(r, v, n)
		case seal != nil && n.Size < seal.Size, seal == nil && n.Size < executed:
			// The copy has passed this size without a seal: it was left out, or there is none. What the
			// state was there is not known any more; the next one covers it.
			if err := m.refuse(r, &n.Checkpoint, RefusedUnsealed, "the ledger as it was served here has no seal of this size"); err != nil {
				return err
			}
			r.notes = r.notes[1:]
		case seal == nil && r.diverged != nil && n.Size > executed:
			return m.refuse(r, &n.Checkpoint, r.diverged.Code, r.diverged.Detail)
		default:
			return nil
		}
	}
	return nil
}

// RefusedUnsealed is the code of a refusal where the copy has executed more than a checkpoint
// covers and was sent no seal of its size.
const RefusedUnsealed = "unsealed"

// proposeVote proposes the vote for a checkpoint that the copy gives too, unless Apply would
// refuse it.
func (m *Machine) proposeVote(r *region, v *fsm.View, n signed) error {
	var proof []ledger.Hash
	if r.certified.Size > 0 {
		if same, err := sameRoot(v, &r.certified); err != nil {
			return err
		} else if !same {
			return m.refuse(r, &n.Checkpoint, certificate.RefusedNotExtending, "it does not extend what is certified")
		}
	}
	if r.bound() > 0 {
		last := &r.votes[len(r.votes)-1].Checkpoint
		same, err := sameRoot(v, last)
		if err != nil {
			return err
		}
		if !same {
			return m.refuse(r, &n.Checkpoint, certificate.RefusedNotExtending, "it does not extend what this region voted for")
		}
		if n.TimeMillis < last.TimeMillis {
			return m.refuse(r, &n.Checkpoint, certificate.RefusedTime, "log time goes back behind what this region voted for")
		}
		if proof, err = v.Ledger().ConsistencyProof(last.Size, n.Size); err != nil {
			return err
		}
	}
	if r.voted.pending(n.Size, m.now) || r.votedUntil > m.now+(VotesAtOnce-1)*VoteMillis {
		return nil
	}
	r.votedUntil = max(r.votedUntil, m.now) + VoteMillis
	r.voted = proposal{n.Size, m.now}
	m.emit(Propose{Command: fsm.EncodeVote(r.name, m.cfg.Document.Version, n.note, proof), Statement: fsm.StatedVote, Origin: r.name, Size: n.Size})
	return nil
}

// sameRoot reports whether the ledger has the checkpoint's root at its size.
func sameRoot(v *fsm.View, c *checkpoint.Checkpoint) (bool, error) {
	root, err := v.Ledger().Root(c.Size)
	return root == ledger.Hash(c.Root), err
}

// refuse says why this region does not cosign a checkpoint: once for each, and not for each that
// a liar can sign in a row.
func (m *Machine) refuse(r *region, c *checkpoint.Checkpoint, code, detail string) error {
	what := refusedBody{certificate.BodyDigest(c.Body()), c.Size, code}
	if !m.leading || r.self || r.refused == what || r.refusal != nil && m.now-r.refusedAt < RefuseMillis {
		return nil
	}
	data, err := m.cfg.Signer.Refuse(Refusal{Checkpoint: c, Code: code, Detail: detail})
	if err != nil {
		m.failed = fmt.Errorf("sign a refusal: %w", err) // the copy is not at fault, see [Views]
		return nil
	}
	r.refused, r.refusedAt, r.refusal = what, m.now, m.encode(KindRefusal, data)
	m.emit(Alarm{AlarmRefuses, r.name, fmt.Sprintf("size %d: %s: %s", c.Size, code, detail)})
	m.publish(TopicVotes, r.name, r.refusal)
	return nil
}

// appliedVote cosigns what the own Raft has fixed.
func (m *Machine) appliedVote(r *region, res *fsm.Attested) error {
	if !res.Accepted() {
		// Not again before a while: this leader's view may be behind its own Raft.
		r.voted = proposal{max(res.Size, r.voted.size), m.now}
	}
	if err := m.read(r.load); err != nil {
		return err
	}
	r.settle()
	if !m.leading {
		return nil
	}
	for _, n := range r.votes {
		if n.Size != res.Size || !res.Accepted() || r.evidence != nil || n.Size <= r.certified.Size {
			continue
		}
		line, err := m.cosign(r, n.Checkpoint)
		if err != nil {
			return err
		}
		m.publish(TopicVotes, r.name, line)
		m.soon(r)
	}
	return m.consider(r)
}

// cosign makes the cosignature of a body that the region's records bind it to; the same message
// each time, while this node runs.
func (m *Machine) cosign(r *region, c checkpoint.Checkpoint) ([]byte, error) {
	if line, ok := r.lines[c.Size]; ok {
		return line, nil
	}
	body := c.Body()
	line, err := m.cfg.Signer.Cosign(body, m.now/1000)
	if err != nil {
		return nil, fmt.Errorf("cosign a checkpoint of region %q: %w", r.name, err)
	}
	r.lines[c.Size] = EncodeCosignature(m.cfg.Document.Version, m.cfg.Region, body, line)
	return r.lines[c.Size], nil
}
