package attest

import (
	"slices"

	"github.com/bizra/bizra/fsm"
)

// outstanding reports whether an exchange with the region is worth a stream: it has not cosigned
// an own checkpoint, has not certified what was cosigned for it, does not know of evidence, or
// has not sent a checkpoint that is wanted.
func (m *Machine) outstanding(r *region) bool {
	if r.wants {
		return true
	}
	if r.evidence == nil && r.bound() > r.certified.Size {
		return true
	}
	for _, s := range m.own.seals {
		if _, has := s.lines[r.name]; !has {
			return true
		}
	}
	for _, name := range m.names {
		if name != r.name && m.regions[name].recorded && !slices.Contains(r.knowsEvidence, name) {
			return true
		}
	}
	return false
}

// exchanged takes in what a node of another region said on a stream.
func (m *Machine) exchanged(name string, x *Exchange) error {
	r, ok := m.regions[name]
	if good := x != nil && x.Check() == nil && x.Document == m.cfg.Document.Version; !good || !ok || r.self {
		m.counts.Other++
		return nil
	}
	r.knowsSize = x.Certified
	r.knowsEvidence = slices.Clone(x.Evidence)
	left := map[Kind]int{KindCheckpoint: fsm.UncertifiedSealsMax, KindCosignature: fsm.LockNotesMax, KindCertificate: 1, KindRefusal: 1,
		KindEvidence: ExchangeMessagesMax}
	for _, data := range x.Messages {
		if s, err := DecodeMessage(data); err == nil {
			if left[s.Kind] == 0 {
				m.counts.Useless++ // an honest node has no more to say of that kind
				continue
			}
			left[s.Kind]--
		}
		if err := m.receive(data); err != nil {
			return err
		}
	}
	return nil
}

// Exchange says what this node has that a region may lack. It is the request of an exchange, and
// the response, after what the other sent was stepped. An error is as one of [Machine.Step].
func (m *Machine) Exchange(name string) (*Exchange, error) {
	x := &Exchange{Version: exchangeVersion, Document: m.cfg.Document.Version, Evidence: m.inEvidence()}
	r, ok := m.regions[name]
	if !ok || r.self {
		return x, nil
	}
	x.Certified = r.certified.Size
	total := 0
	add := func(data []byte) {
		if len(x.Messages) < ExchangeMessagesMax && total+len(data) <= ExchangeBytesMax {
			x.Messages = append(x.Messages, data)
			total += len(data)
		}
	}
	if m.own.certificate != nil && r.knowsSize < m.own.size {
		add(m.encode(KindCertificate, m.own.certificate))
	}
	for _, s := range m.own.seals {
		if _, has := s.lines[name]; !has {
			add(m.encode(KindCheckpoint, s.note))
		}
	}
	lines, err := m.cosignatures(r)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		add(line)
	}
	if r.refusal != nil && r.refused.size > r.certified.Size {
		add(r.refusal)
	}
	for _, origin := range x.Evidence {
		if !slices.Contains(r.knowsEvidence, origin) {
			add(m.encodeEvidence(m.regions[origin]))
		}
	}
	return x, nil
}

// cosignatures are those of the region's checkpoints that no certificate known here covers.
func (m *Machine) cosignatures(r *region) ([][]byte, error) {
	if r.evidence != nil {
		return nil, nil
	}
	var lines [][]byte
	for _, n := range r.votes {
		if n.Size <= r.certified.Size || !m.goesBy(&n.Checkpoint) {
			continue
		}
		line, err := m.cosign(r, n.Checkpoint)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// Status is what the machine knows, for people and metrics.
type Status struct {
	Leading    bool
	Certified  int64 // own seals certified or covered
	Size       int64 // own entries certified
	Waiting    int   // own checkpoints signed and not certified
	Regions    []RegionStatus
	Counts     Counts
	NeededEach int // cosignatures that a certificate needs
}

// RegionStatus is what the machine knows of another region.
type RegionStatus struct {
	Region    string
	Evidence  bool   // it lied
	Voted     int64  // entries of it that this region voted for
	Certified int64  // entries of it that the newest certificate covers that this node has seen
	Waiting   int    // checkpoints of it that wait for a vote
	Missing   int    // own checkpoints that it has not cosigned yet
	Refuses   string // why it refused an own checkpoint; ""
	Refused   string // why this region refused a checkpoint of it; ""
	Diverged  string // why its ledger could not be re-executed; ""
}

// Status says what the machine knows now; the own region stands in no entry of Regions unless
// there is evidence against it.
func (m *Machine) Status() Status {
	st := Status{Leading: m.leading, Certified: m.own.certified, Size: m.own.size, Waiting: len(m.own.seals), Counts: m.counts, NeededEach: m.needed}
	if others := len(m.names) - 1; others > 0 {
		st.Regions = make([]RegionStatus, 0, others)
	}
	for _, name := range m.names {
		r := m.regions[name]
		if r.self && r.evidence == nil {
			continue
		}
		rs := RegionStatus{Region: name, Evidence: r.evidence != nil, Voted: r.bound(), Certified: r.certified.Size, Waiting: len(r.notes)}
		for _, s := range m.own.seals {
			if _, has := s.lines[name]; !has && !r.self {
				rs.Missing++
			}
		}
		if r.refuses.size > m.own.size {
			rs.Refuses = r.refuses.code + ": " + r.refusesDetail
		}
		if r.refused.size > max(r.certified.Size, r.bound()) {
			rs.Refused = r.refused.code
		}
		if r.diverged != nil {
			rs.Diverged = r.diverged.Code + ": " + r.diverged.Detail
		}
		st.Regions = append(st.Regions, rs)
	}
	return st
}
