package follow

import (
	"fmt"
	"time"

	"github.com/bizra/bizra/fsm"
)

// position is how far a stream has come.
type position struct {
	next int64 // index of the entry that comes next
	seal int64 // number of the seal that comes next
	left int64 // entries that may still be sent

	document  int64  // bytes sent of the document that the entry needs
	holds     []byte // digest of the document that the follower has
	sealsFrom int64  // of a follower that does not count this region's seals; 0 once seal is set
}

// begin finds the first seal for a follower that asked by size, and gives the root of
// what it has.
func (pos *position) begin(v *fsm.View) (root []byte, err error) {
	if pos.seal, err = v.SealFrom(pos.sealsFrom); err != nil {
		return nil, err
	}
	pos.sealsFrom = 0
	h, err := v.Ledger().Root(pos.next)
	return h[:], err
}

// nextFrame makes the frame that comes next for a stream at pos and moves pos behind it.
// Where everything was sent it is a heartbeat. The error is a *refusal where the view
// cannot continue the stream.
func nextFrame(v *fsm.View, age time.Duration, pos *position) (*frame, error) {
	size, err := v.Ledger().Size()
	if err != nil {
		return nil, err
	}
	f := &frame{Kind: frameHeartbeat, Size: size, Seals: v.Seals(), TimeMillis: v.LogTimeMillis(), AgeMillis: clampAge(age).Milliseconds()}
	if pos.next > f.Size || pos.seal > f.Seals {
		return f, &refusal{refusedBeyond, fmt.Sprintf("this node has %d entries and %d seals, and was asked from entry %d and seal %d on: it is behind, ask another",
			f.Size, f.Seals, pos.next, pos.seal)}
	}
	if pos.sealsFrom > 0 {
		if f.Root, err = pos.begin(v); err != nil {
			return nil, err
		}
	}
	to := f.Size
	if pos.seal < f.Seals {
		s, err := v.SealAt(pos.seal)
		if err != nil {
			return nil, err
		}
		switch {
		case s.Size < pos.next:
			return f, &refusal{refusedSealPassed, fmt.Sprintf("seal %d was made at %d entries, and it was asked for with entry %d", s.Number, s.Size, pos.next)}
		case s.Size == pos.next:
			f.Kind, f.Seal = frameSeal, newWireSeal(s)
			pos.seal++
			return f, nil
		}
		to = s.Size
	}
	to = min(to, pos.next+FrameEntriesMax, pos.next+pos.left)
	if to <= pos.next {
		return f, nil
	}
	if due, err := documentDue(v, f, pos, &to); due || err != nil {
		return f, err
	}
	entries, err := v.Ledger().Entries(pos.next, to, frameEntriesBytes)
	if err != nil {
		return nil, err
	}
	f.Kind, f.First, f.Entries = frameEntries, pos.next, entries
	pos.next += int64(len(entries))
	pos.document = 0
	pos.left -= int64(len(entries))
	return f, nil
}

func clampAge(age time.Duration) time.Duration { return min(max(age, 0), ageUnknown) }
