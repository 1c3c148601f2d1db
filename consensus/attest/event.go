package attest

import (
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
)

// Views lends what a machine reads, for the time of a call.
type Views interface {
	// Own lends the state that the own region has applied here. An error of fn is returned as it is.
	Own(fn func(*fsm.View) error) error
	// Copy lends the copy of another region's ledger, re-executed on this node. Where there is
	// none now, fn is not called. An error of fn is a fault of the copy, of no account for the
	// other regions: whoever lends it should look after the copy, and return nil.
	Copy(origin string, fn func(*fsm.View) error) error
}

// Signer signs for the region. It is asked only for what the region's Raft has fixed.
type Signer interface {
	// Checkpoint signs an own checkpoint with the region's log key: [checkpoint.Sign].
	Checkpoint(c *checkpoint.Checkpoint) ([]byte, error)
	// Cosign signs another region's body with the region's cosign key: certificate.Cosign.
	Cosign(body []byte, unixSeconds int64) ([]byte, error)
	// Refuse signs a refusal with the region's cosign key: certificate.Refusal.Sign.
	Refuse(r Refusal) ([]byte, error)
}

// Refusal is why the region does not cosign a checkpoint, before it is signed.
type Refusal struct {
	Checkpoint *checkpoint.Checkpoint
	Code       string // one of package certificate's
	Detail     string
}

// Event is something that happened.
type Event interface{ event() }

// The events.
type (
	// Tick is time passing.
	Tick struct{}
	// Leading says whether this node leads its region's Raft.
	Leading struct{ Leading bool }
	// Agreed says that a majority of the voters, this one among them, reported the same body
	// of an own seal, and of all before it.
	Agreed struct{ Number int64 }
	// Applied is what became of a command of attestation in the own Raft, whoever proposed it.
	Applied struct{ Result fsm.Attested }
	// Executed says that the copy of a region's ledger has grown.
	Executed struct{ Origin string }
	// Diverged says that the copy of a region's ledger refuses what the region serves.
	Diverged struct {
		Origin string
		Code   string // of a refusal: one of package certificate's
		Detail string
	}
	// Received is a message that came, by whatever way.
	Received struct{ Data []byte }
	// Exchanged is what a node of another region said in an exchange, as request or as response.
	Exchanged struct {
		Region   string // that the node belongs to, as the stream authenticates it
		Exchange *Exchange
	}
)

func (Tick) event()      {}
func (Leading) event()   {}
func (Agreed) event()    {}
func (Applied) event()   {}
func (Executed) event()  {}
func (Diverged) event()  {}
func (Received) event()  {}
func (Exchanged) event() {}

// Output is something to be done.
type Output interface{ output() }

// Topic says where a message is published.
type Topic struct {
	Name   string // one of the names below
	Region string // for [TopicVotes]: whose checkpoints are voted for
}

// The topics: docs/network.md has who may publish on each.
const (
	TopicCheckpoints  = "checkpoints"
	TopicVotes        = "votes" // of one region: cosignatures and refusals
	TopicCertificates = "certificates"
	TopicEvidence     = "evidence"
)

// The outputs.
type (
	// Publish is a message for everybody on a topic.
	Publish struct {
		Topic Topic
		Data  []byte
	}
	// Offer asks for an exchange with a region: there is something for it, or to be had from it.
	Offer struct{ Region string }
	// Propose is a command for the own Raft.
	Propose struct {
		Command   []byte
		Statement fsm.Statement
		Origin    string
		Size      int64 // entries voted for or certified
	}
	// Learned is a certificate that was not known here, verified. One of the own region may be
	// learned twice: when it is heard and when it is in the state.
	Learned struct {
		Origin string
		Size   int64
		Note   []byte
	}
	// Alarm is for an operator.
	Alarm struct {
		Kind   AlarmKind
		Region string // whom it is about
		Detail string
	}
)

func (Publish) output() {}
func (Offer) output()   {}
func (Propose) output() {}
func (Learned) output() {}
func (Alarm) output()   {}

// AlarmKind says what an alarm is about.
type AlarmKind string

// The alarms.
const (
	// AlarmEvidence: there is evidence that a region lied. If it is the own one, its keys are not
	// in its voters' hands alone.
	AlarmEvidence AlarmKind = "evidence"
	// AlarmCertificate: two certificates of a region contradict. Fewer than a third of the regions
	// cannot bring it about.
	AlarmCertificate AlarmKind = "certificate"
	// AlarmForked: what a quorum certified of a region is not what this region was shown, or is:
	// the origin lied, or this region is cut off by liars.
	AlarmForked AlarmKind = "forked"
	// AlarmRefused: a region refuses a checkpoint of this one.
	AlarmRefused AlarmKind = "refused"
	// AlarmRefuses: this region refuses a checkpoint of another.
	AlarmRefuses AlarmKind = "refuses"
)
