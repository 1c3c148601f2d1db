package client

// Roles of a node in its region.
const (
	RoleVoter  = "voter"
	RoleMember = "member"
)

// Status is how a node stands. It is the node's own view and may be behind.
type Status struct {
	Program    string         `json:"program"` // version of the program
	Federation string         `json:"federation"`
	Region     string         `json:"region"`
	Node       string         `json:"node"`
	NodeKey    string         `json:"node_key"`
	PeerID     string         `json:"peer_id"`
	Role       string         `json:"role"`
	Addresses  []string       `json:"addresses"` // multiaddrs with /p2p
	HTTP       string         `json:"http,omitempty"`
	Ready      bool           `json:"ready"`
	Reason     string         `json:"reason,omitempty"` // why it is not ready
	Started    string         `json:"started"`          // RFC 3339
	Document   DocumentStatus `json:"document"`
	Raft       RaftStatus     `json:"raft"`
	Voters     []VoterStatus  `json:"voters"`
	Ledger     LedgerStatus   `json:"ledger"`
	Breakers   BreakerCounts  `json:"breakers"`          // agents that the region holds back
	Regions    []RegionStatus `json:"regions,omitempty"` // the others, on a voter
	Disk       *DiskStatus    `json:"disk,omitempty"`    // of a voter

	Attestation AttestationStatus `json:"attestation"`
	Local       *LocalEvent       `json:"local,omitempty"` // nil in a federation of one region
}

// DiskStatus is how much room a voter's home has.
type DiskStatus struct {
	FreeBytes int64 `json:"free_bytes"`
	MinBytes  int64 `json:"min_bytes"` // below which it takes no proofs when it leads; negative: never
	Low       bool  `json:"low"`       // it takes none now
}

// DocumentStatus names the federation document in force.
type DocumentStatus struct {
	Version int64  `json:"version"`
	Digest  string `json:"digest"`

	PolicyHash string `json:"policy_hash"` // of its constitution
}

// RaftStatus is the node's part in its region's Raft.
type RaftStatus struct {
	State        string `json:"state"` // leader, follower, candidate, shutdown; none for a member
	Term         uint64 `json:"term"`
	Leader       string `json:"leader,omitempty"` // node key of the leader, "" while there is none
	LastIndex    uint64 `json:"last_index"`
	CommitIndex  uint64 `json:"commit_index"`
	AppliedIndex uint64 `json:"applied_index"`
}

// VoterStatus is one server of the region's Raft configuration.
type VoterStatus struct {
	Name      string   `json:"name"`
	NodeKey   string   `json:"node_key"`
	PeerID    string   `json:"peer_id,omitempty"`
	Suffrage  string   `json:"suffrage"` // voter, or nonvoter while it is being promoted
	Leader    bool     `json:"leader"`
	Addresses []string `json:"addresses"`
}

// LedgerStatus is how far the node's copy of the region's ledger goes.
type LedgerStatus struct {
	Size    int64       `json:"size"`
	Root    string      `json:"root"`
	LogTime string      `json:"log_time,omitempty"` // of the last entry, RFC 3339
	Seal    *SealStatus `json:"seal,omitempty"`     // the newest
}

// SealStatus is a seal in short.
type SealStatus struct {
	Number int64  `json:"number"`
	Size   int64  `json:"size"`
	Root   string `json:"root"`
	State  string `json:"state"`
	Time   string `json:"time"`
}

// AttestationStatus is how far the region's ledger is certified.
type AttestationStatus struct {
	Certified int64  `json:"certified"`      // entries that the newest certificate covers
	Time      string `json:"time,omitempty"` // log time that it states, RFC 3339
	Waiting   int64  `json:"waiting"`        // seals that wait for a certificate
	Needed    int    `json:"needed"`         // cosignatures of other regions that a certificate needs
	// Missing lists, on a voter, the regions that have not cosigned every seal that waits.
	Missing []string `json:"missing,omitempty"`
	// Evidence is true where this region is shown to have lied: no other votes for it.
	Evidence bool `json:"evidence,omitempty"`
}

// RegionStatus is how far a voter has re-executed the ledger of another region.
type RegionStatus struct {
	Region     string      `json:"region"`
	Following  bool        `json:"following"`
	Size       int64       `json:"size"`        // entries re-executed
	LagEntries int64       `json:"lag_entries"` // that the other region was ahead when it was last heard
	LagMillis  int64       `json:"lag_ms"`      // of log time
	AgeMillis  int64       `json:"age_ms"`      // how long ago, at most, the copy held all that the region had committed
	Seal       *SealStatus `json:"seal,omitempty"`
	EarlyUntil string      `json:"early_until,omitempty"` // RFC 3339: until when its next entry is too far ahead of this node's clock
	Refused    string      `json:"refused,omitempty"`     // what one of its nodes sent last and re-execution refuses
	Blamed     string      `json:"blamed,omitempty"`      // what most of its nodes send and re-execution refuses
	Rebuilt    int         `json:"rebuilt,omitempty"`     // how often the copy was begun anew since the node started
	Reason     string      `json:"reason,omitempty"`      // why it is not followed

	Voted     int64  `json:"voted"`               // entries of it that this region voted for
	Certified int64  `json:"certified"`           // entries of it that the newest certificate covers that this node has seen
	Waiting   int    `json:"waiting,omitempty"`   // checkpoints of it that wait for this region's vote
	Missing   int    `json:"missing,omitempty"`   // seals of this region that it has not cosigned
	Refuses   string `json:"refuses,omitempty"`   // why it does not cosign what this region sealed
	Refusal   string `json:"refusal,omitempty"`   // why this region does not cosign what it sealed
	Diverged  string `json:"diverged,omitempty"`  // why its ledger could not be re-executed, as attestation holds it
	Evidence  bool   `json:"evidence,omitempty"`  // it signed two things that cannot both be true
	Heard     string `json:"heard,omitempty"`     // when anything of it was heard last, RFC 3339
	Connected int    `json:"connected,omitempty"` // its nodes that this node is connected to
}

// Peer is a node that this one is connected to, or knows how to reach.
type Peer struct {
	PeerID    string   `json:"peer_id"`
	NodeKey   string   `json:"node_key,omitempty"`
	Name      string   `json:"name,omitempty"`
	Region    string   `json:"region,omitempty"`
	Role      string   `json:"role,omitempty"`
	Connected bool     `json:"connected"`
	Addresses []string `json:"addresses"`
	RTTMillis float64  `json:"rtt_ms,omitempty"`

	State     string   `json:"state,omitempty"`   // alive, suspect, left or unknown, by its heartbeats or its region's digest
	Seen      string   `json:"seen,omitempty"`    // when that was heard last, RFC 3339
	Version   string   `json:"version,omitempty"` // its program's, by its own word
	Entries   uint64   `json:"entries,omitempty"` // of its ledger, by its own word
	Score     float64  `json:"score"`             // what gossip makes of it; below 0 something is held against it
	Muted     bool     `json:"muted,omitempty"`
	Probation bool     `json:"probation,omitempty"`
	Why       []string `json:"why,omitempty"` // what is held against it, worst first
}

// RegionPeers is what a node heard of a region's nodes.
type RegionPeers struct {
	Region  string `json:"region"`
	Alive   int    `json:"alive"`
	Suspect int    `json:"suspect"`
	Left    int    `json:"left"`
	Seen    string `json:"seen,omitempty"` // when its digest was heard last, RFC 3339; "" for the own region
}

// Peers is the list of peers, sorted by region, name and peer id.
type Peers struct {
	Peers   []Peer        `json:"peers"`
	Regions []RegionPeers `json:"regions"`
}
