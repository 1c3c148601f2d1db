package attest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

// Limits and times of a machine.
const (
	// NotesMax is how many checkpoints of one region are kept that wait for a vote or are in
	// doubt; beyond it the largest are forgotten, since votes go in order.
	NotesMax = 16
	// RetryMillis is after how long a proposal of which nothing was heard is made again.
	RetryMillis = 5_000
	// OfferMillisMin is how long gossip has before a stream is opened; OfferMillisMax is the
	// longest pause between exchanges while a region does not answer.
	OfferMillisMin = 1_000
	OfferMillisMax = 8_000
	// RefuseMillis is the shortest time between two refusals of one region's checkpoints.
	RefuseMillis = 1_000
	// VoteMillis is how long, in the long run, lies between two votes for one region, of which
	// VotesAtOnce may come at once. An honest region seals once a second, so that only one
	// pays that seals as fast as it can and would have others' Rafts and gossip carry it.
	VoteMillis  = 50
	VotesAtOnce = 64
)

// Config is what a machine must be told.
type Config struct {
	Region   string               // the own one
	Document *federation.Document // in force before the region has a ledger; then the ledger says which one is
	Views    Views
	Signer   Signer
	// Open reads and checks a message; [Open].
	Open func(data []byte, doc *federation.Document) (*Statement, error)
}

func (c Config) validate() error {
	if c.Document == nil || c.Views == nil || c.Signer == nil {
		return errors.New("attest: Document, Views or Signer is missing")
	}
	if _, ok := c.Document.Region(c.Region); !ok {
		return fmt.Errorf("attest: the federation document has no region %q", c.Region)
	}
	return nil
}

// Machine decides what one voter signs, proposes and sends. Its methods are called from
// one goroutine at a time.
type Machine struct {
	cfg     Config
	digest  [32]byte
	needed  int // cosignatures of other regions in a certificate: the quorum less one
	now     int64
	leading bool
	own     own
	regions map[string]*region // the own one among them, for evidence against it
	names   []string           // of the regions, sorted
	counts  Counts
	out     []Output
	failed  error // signing, while a copy was read
}

// Counts counts messages that came.
type Counts struct {
	Received int // in all
	Invalid  int // that no document and no clock makes good
	Other    int // under another federation document, or of a newer version: they only inform
	Useless  int // that changed nothing: known, old, or not for this region
}

// own is what the machine knows of the own region's statements.
type own struct {
	agreed      int64 // seals below this number may be signed
	certified   int64 // seals below this number are certified or covered
	size        int64 // entries that the newest certificate covers
	certificate []byte
	heard       int64     // entries that the newest certificate covers that was heard before Raft brought it
	seals       []*sealed // signed and not certified, oldest first, at most fsm.UncertifiedSealsMax
	proposed    proposal  // of a certificate
}

// sealed is an own checkpoint on its way to a certificate.
type sealed struct {
	number int64
	body   []byte
	size   int64
	note   []byte
	lines  map[string][]byte // cosignatures by region

	refusedBy map[string]bool // regions
}

// proposal is a command on its way through Raft.
type proposal struct {
	size     int64 // what it is about; 0: none is on its way
	atMillis int64
}

// pending reports whether a proposal about so much need not be made now.
func (p proposal) pending(size, now int64) bool {
	return p.size >= size && now-p.atMillis < RetryMillis
}

// region is what the machine knows of one region.
type region struct {
	name string
	self bool

	votes       []signed // on record, oldest first; the last binds
	notes       []signed // checkpoints above what was voted for, or in doubt; by size, at most NotesMax
	certificate []byte   // the newest that was verified
	certified   checkpoint.Checkpoint
	evidence    []byte // encoded; a region that has it gets no votes
	recorded    bool   // the evidence stands in the own Raft
	accused     proposal
	voted       proposal
	votedUntil  int64 // time that its votes have used up, see [VoteMillis]
	diverged    *Diverged
	refusal     []byte // message: the newest refusal that this region made of its checkpoints
	refused     refusedBody
	refusedAt   int64
	lines       map[int64][]byte // cosignature messages by size, as they were sent first
	wants       bool             // a seal was executed whose checkpoint never came

	refuses       refusedBody // what this region refused of the own checkpoints last
	refusesDetail string
	conflicting   []byte   // certificate of which an alarm was raised
	knowsSize     int64    // entries that the newest own certificate covers that it has
	knowsEvidence []string // regions against which it has evidence
	offerAt       int64    // when an exchange is due, if anything is; 0: not scheduled
	pause         int64    // until the next exchange after that
}

// signed is a checkpoint note with what it says.
type signed struct {
	note []byte
	checkpoint.Checkpoint
}

// parse reads notes that were verified before.
func parse(notes [][]byte) ([]signed, error) {
	var all []signed
	for _, note := range notes {
		c, err := bodyOf(note)
		if err != nil {
			return nil, fmt.Errorf("read a checkpoint on record: %w", err)
		}
		all = append(all, signed{note, *c})
	}
	return all, nil
}

// refusedBody is a checkpoint that was refused, and why.
type refusedBody struct {
	digest [32]byte
	size   int64
	code   string
}

// New makes the machine of a voter from what the region has applied. now is in Unix milliseconds.
func New(cfg Config, nowMillis int64) (*Machine, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Open == nil {
		cfg.Open = Open
	}
	m := &Machine{cfg: cfg, now: nowMillis}
	m.begin()
	if err := m.read(m.load); err != nil {
		return nil, err
	}
	return m, nil
}

// begin forgets all that was said under another document than the configured one.
func (m *Machine) begin() {
	doc := m.cfg.Document
	m.digest, m.needed = doc.Digest(), federation.Quorum(len(doc.Regions))-1
	m.own.seals, m.own.proposed = nil, proposal{}
	m.regions, m.names = map[string]*region{}, nil
	for i := range doc.Regions {
		name := doc.Regions[i].Name
		m.names = append(m.names, name)
		m.regions[name] = &region{name: name, self: name == m.cfg.Region, lines: map[int64][]byte{}}
	}
}

// load reads all records of attestation, and which document is in force.
func (m *Machine) load(v *fsm.View) error {
	doc, err := v.Document()
	switch {
	case err == nil && doc.Version != m.cfg.Document.Version:
		m.cfg.Document = doc
		if err := m.cfg.validate(); err != nil {
			return err
		}
		m.begin()
	case err != nil && !errors.Is(err, fsm.ErrNotFound):
		return err
	}
	for _, name := range m.names {
		if err := m.regions[name].load(v); err != nil {
			return err
		}
	}
	return m.loadCertified(v)
}

// read reads the own region's applied state.
func (m *Machine) read(f func(v *fsm.View) error) error {
	if err := m.cfg.Views.Own(f); err != nil {
		return fmt.Errorf("read the region's state: %w", err)
	}
	return nil
}

// load reads what the own region has on record about another.
func (r *region) load(v *fsm.View) error {
	lock, err := v.Lock(r.name)
	if err == nil {
		r.votes, err = parse(lock.Notes)
	}
	if err != nil && !errors.Is(err, fsm.ErrNotFound) {
		return err
	}
	e, err := v.Evidence(r.name)
	switch {
	case errors.Is(err, fsm.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	r.evidence, err = e.Marshal()
	r.recorded = true
	return err
}

// Step takes one event and says what is to be done. now is in Unix milliseconds. An error is a
// fault of the own storage or keys; the machine must not be used after it.
func (m *Machine) Step(nowMillis int64, ev Event) ([]Output, error) {
	if nowMillis < m.now {
		m.setBack(m.now - nowMillis)
	}
	m.now, m.out = nowMillis, nil
	err := errors.Join(m.step(ev), m.failed)
	out := m.out
	m.out = nil
	return out, err
}

// setBack follows a clock that was set back: what is waited for is due as much later from now as
// before, and not only when the clock has come again to where it was.
func (m *Machine) setBack(millis int64) {
	m.own.proposed.atMillis -= millis
	for _, name := range m.names {
		r := m.regions[name]
		r.voted.atMillis -= millis
		r.votedUntil -= millis
		r.accused.atMillis -= millis
		r.refusedAt -= millis
		if r.offerAt != 0 {
			r.offerAt = max(1, r.offerAt-millis) // 0: not scheduled
		}
	}
}

func (m *Machine) step(ev Event) error {
	switch ev := ev.(type) {
	case Tick:
		return m.tick()
	case Leading:
		return m.lead(ev.Leading)
	case Agreed:
		m.own.agreed = max(m.own.agreed, ev.Number+1)
		return m.refreshOwn()
	case Applied:
		return m.applied(&ev.Result)
	case Executed:
		r, ok := m.regions[ev.Origin]
		if !ok || r.self {
			return nil
		}
		r.diverged = nil
		return m.examine(r)
	case Diverged:
		r, ok := m.regions[ev.Origin]
		if !ok || r.self {
			return nil
		}
		if !slices.Contains(refusals(), ev.Code) {
			ev.Code = certificate.RefusedDiverged
		}
		r.diverged = &ev
		return m.consider(r)
	case Received:
		return m.receive(ev.Data)
	case Exchanged:
		return m.exchanged(ev.Region, ev.Exchange)
	default:
		return fmt.Errorf("attest: event %T is not known", ev)
	}
}

// refusals are the codes of refusals that a copy's divergence may have.
func refusals() []string {
	return []string{certificate.RefusedDiverged, certificate.RefusedEntry, certificate.RefusedTime}
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

// publish puts a message on a topic.
func (m *Machine) publish(topic, region string, data []byte) {
	m.emit(Publish{Topic{topic, region}, data})
}

func (m *Machine) encode(kind Kind, payload []byte) []byte {
	return (&Message{Kind: kind, Document: m.cfg.Document.Version, Payload: payload}).Encode()
}

// tick makes again what was lost, and opens streams where gossip did not do.
func (m *Machine) tick() error {
	if !m.leading {
		return nil
	}
	if err := m.certify(); err != nil {
		return err
	}
	for _, name := range m.names {
		r := m.regions[name]
		if len(r.notes) > 0 || r.evidence != nil && !r.recorded {
			if err := m.consider(r); err != nil {
				return err
			}
		}
		m.offer(r)
	}
	return nil
}

// offer asks for an exchange with a region if one is due.
func (m *Machine) offer(r *region) {
	if r.self || !m.outstanding(r) {
		r.offerAt, r.pause = 0, 0
		return
	}
	if r.offerAt == 0 {
		r.offerAt = m.now + OfferMillisMin
	}
	if m.now < r.offerAt {
		return
	}
	r.pause = min(max(2*r.pause, OfferMillisMin), OfferMillisMax)
	r.offerAt = m.now + r.pause
	m.emit(Offer{r.name})
}

// soon has the next exchange with a region come as soon as gossip has had its chance.
func (m *Machine) soon(r *region) {
	r.pause = 0
	r.offerAt = m.now + OfferMillisMin
}

// lead starts or ends to speak for the region. Proposals of a former leader may still be
// applied, or not: a new leader makes its own, and Apply takes repeats.
func (m *Machine) lead(leading bool) error {
	if m.leading == leading {
		return nil
	}
	m.leading = false
	m.own.proposed = proposal{}
	for _, name := range m.names {
		r := m.regions[name]
		r.voted, r.accused, r.offerAt, r.pause = proposal{}, proposal{}, 0, 0
	}
	if !leading {
		return nil
	}
	// A snapshot may have moved the records on without a word of what it covers.
	if err := m.read(m.load); err != nil {
		return err
	}
	if err := m.refreshOwn(); err != nil {
		return err
	}
	m.leading = true
	for _, s := range m.own.seals {
		m.publish(TopicCheckpoints, "", m.encode(KindCheckpoint, s.note))
	}
	if err := m.certify(); err != nil {
		return err
	}
	for _, name := range m.names {
		if err := m.examine(m.regions[name]); err != nil {
			return err
		}
	}
	return nil
}

// applied takes up what the own Raft has fixed.
func (m *Machine) applied(res *fsm.Attested) error {
	r, ok := m.regions[res.Origin]
	if !ok {
		return nil
	}
	switch res.Statement {
	case fsm.StatedVote:
		return m.appliedVote(r, res)
	case fsm.StatedCertificate:
		return m.appliedCertificate(res)
	default:
		return m.appliedEvidence(r, res)
	}
}

func (m *Machine) appliedEvidence(r *region, res *fsm.Attested) error {
	if !res.Accepted() {
		r.evidence = nil // ours does not hold, which only a fault of this program explains
		return nil
	}
	if r.recorded {
		return nil
	}
	if err := m.read(r.load); err != nil {
		return err
	}
	r.notes, r.wants, r.lines = nil, false, map[int64][]byte{}
	m.emit(Alarm{AlarmEvidence, r.name, "it signed two checkpoints that cannot both be true; it gets no votes any more"})
	if m.leading {
		m.publish(TopicEvidence, "", m.encodeEvidence(r))
	}
	return nil
}

func (m *Machine) encodeEvidence(r *region) []byte {
	return EncodeEvidence(m.cfg.Document.Version, r.name, r.evidence)
}

// inEvidence lists the regions against which there is evidence.
func (m *Machine) inEvidence() []string {
	var names []string
	for _, name := range m.names {
		if m.regions[name].evidence != nil {
			names = append(names, name)
		}
	}
	return names
}

// receive takes in one message.
func (m *Machine) receive(data []byte) error {
	m.counts.Received++
	s, err := m.cfg.Open(data, m.cfg.Document)
	switch {
	case errors.Is(err, ErrOtherDocument):
		m.counts.Other++
		return nil
	case err != nil:
		m.counts.Invalid++
		return nil //nolint:nilerr // a bad message is counted; it is no fault of this node
	}
	var useful bool
	switch s.Kind {
	case KindCheckpoint:
		useful, err = m.heardCheckpoint(s)
	case KindCosignature:
		useful, err = m.heardCosignature(s)
	case KindCertificate:
		useful, err = m.heardCertificate(s)
	case KindRefusal:
		useful = m.heardRefusal(s)
	default:
		useful, err = m.heardEvidence(s)
	}
	if !useful {
		m.counts.Useless++
	}
	return err
}

// heardEvidence stops votes for a region at once, and has it fixed for good.
func (m *Machine) heardEvidence(s *Statement) (bool, error) {
	r := m.regions[s.Origin]
	if r.evidence != nil {
		return false, nil
	}
	r.evidence = slices.Clone(s.Note)
	return true, m.consider(r)
}

func (m *Machine) heardRefusal(s *Statement) bool {
	r := m.regions[s.Region]
	if s.Origin != m.cfg.Region {
		return false
	}
	for _, own := range m.own.seals {
		_, cosigned := own.lines[r.name]
		if cosigned || own.refusedBy[r.name] || certificate.BodyDigest(own.body) != s.Refusal.BodyDigest {
			continue
		}
		own.refusedBy[r.name] = true // once for each: who refuses may do so as often as it likes
		r.refuses, r.refusesDetail = refusedBody{s.Refusal.BodyDigest, own.size, s.Refusal.Code}, s.Refusal.Detail
		m.emit(Alarm{AlarmRefused, r.name, fmt.Sprintf("size %d: %s: %s", own.size, s.Refusal.Code, s.Refusal.Detail)})
		return true
	}
	return false
}
