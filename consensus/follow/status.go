package follow

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const statusErrorMax = 512

// Status is how a follower is doing.
type Status struct {
	Peer        peer.ID // followed now, "" between two
	Following   bool    // it has answered
	Size        int64   // entries of the replica
	Seals       int64
	LagEntries  int64         // entries that the peer had more when it was last heard
	LagMillis   int64         // log time by which it was ahead then
	Age         time.Duration // [Follower.Age]
	LastAdvance time.Time     // zero before the first
	LastError   string        // why the last peer was left; its peer's text is in quotes
	Refused     string        // what a peer was put aside for since the replica moved last
	EarlyUntil  time.Time     // until when the next entry of a foreign ledger is too far ahead of this node's clock; zero unless it is waited for
	Diverged    string        // why the follower stopped, "" unless the replica diverged
}

// Status reports how the follower is doing. Any goroutine may call it.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	s.Age = f.age()
	return s
}

// Age is how long ago, at most, this replica held all that its region had committed, but
// for the time that a frame was under way; a year where it never did since New. Any goroutine may call it. The servers of members
// pass it on ([ServerConfig.Age]).
func (f *Follower) Age() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.age()
}

// age is called under mu.
func (f *Follower) age() time.Duration {
	if !f.everTip {
		return ageUnknown
	}
	return clampAge(time.Since(f.tipAt) + f.tipAge)
}

func (f *Follower) set(change func(*Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.status)
}

// heard notes what a frame said of its sender, and where the replica is after it.
func (f *Follower) heard(fr *frame, received time.Time, advanced bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Following = true
	f.status.Size, f.status.Seals = f.at.size, f.at.seals
	f.status.LagEntries = max(0, fr.Size-f.at.size)
	f.status.LagMillis = 0
	if f.status.LagEntries > 0 {
		f.status.LagMillis = max(0, fr.TimeMillis-f.at.timeMillis)
	}
	f.status.EarlyUntil = time.Time{}
	if advanced {
		f.status.LastAdvance, f.status.Refused = received, ""
	}
	if f.status.LagEntries > 0 || !f.cfg.Foreign && fr.Seals != f.at.seals {
		return
	}
	// A peer that is older than what was heard before cannot make the replica older.
	age := time.Duration(fr.AgeMillis) * time.Millisecond
	if now := time.Since(received); !f.everTip || age+now < time.Since(f.tipAt)+f.tipAge {
		f.everTip, f.tipAt, f.tipAge = true, received, age
	}
}
