package follow

import (
	"errors"
	"fmt"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/pci"
)

var (
	errSilent    = errors.New("no frame came in time")
	errSignature = errors.New("the signature of its envelope does not hold")
)

// arrival is one frame, with what could be found out about it while those before it were
// taken up.
type arrival struct {
	frame    *frame
	received time.Time
	err      error // why there is no frame and no other follows

	parsed []*fsm.Entry // the entries, up to the first that is none
	good   int          // how many of them are signed, or may be for all that was looked at
	flaw   error        // what is the matter with the next, nil where there is none
}

// rest is what is left of a frame of entries once the replica has so many.
func (a *arrival) rest(size int64) *arrival {
	k := size - a.frame.First
	left, fr := *a, *a.frame
	fr.Entries, fr.First, fr.Root = a.frame.Entries[k:], size, nil
	left.frame, left.parsed, left.good = &fr, a.parsed[k:], a.good-int(k)
	return &left
}

// inflow reads a peer's frames, parses entries and verifies signatures.
type inflow struct {
	stream     Stream
	silenceMax time.Duration
	verify     bool
	open       OpenEntries
}

// next waits for a frame. A peer may be silent only while one is waited for.
func (in *inflow) next() *arrival {
	watchdog := time.AfterFunc(in.silenceMax, func() { _ = in.stream.Reset() })
	fr, err := readFrame(in.stream)
	a := &arrival{frame: fr, received: time.Now()}
	switch inTime := watchdog.Stop(); {
	case !inTime:
		a.err = &fault{reason: leftSilent, err: fmt.Errorf("%w: none within %v", errSilent, in.silenceMax)}
	case err != nil:
		a.err = &fault{reason: reasonOf(err), err: streamError(err)}
	case fr.Kind == frameEntries:
		a.parsed, a.good, a.flaw = in.open(fr.Entries, in.verify)
	}
	return a
}

// OpenEntries parses entries, each what [fsm.ParseEntry] gives, up to the first that is none, and
// says how many of them are good and what is the matter with the next: with verify, each is signed
// that has an envelope. What is given is not changed, and neither is what is returned.
type OpenEntries func(entries [][]byte, verify bool) (parsed []*fsm.Entry, good int, flaw error)

// ParseEntries is [OpenEntries] as it is worked out.
func ParseEntries(entries [][]byte, verify bool) (parsed []*fsm.Entry, good int, flaw error) {
	parsed = make([]*fsm.Entry, 0, len(entries))
	for _, b := range entries {
		e, err := fsm.ParseEntry(b)
		if err != nil {
			flaw = err
			break
		}
		parsed = append(parsed, e)
	}
	if verify {
		if at, err := checkSignatures(parsed); err != nil {
			return parsed, at, err
		}
	}
	return parsed, len(parsed), flaw
}

// checkSignatures gives the first entry whose signature does not hold.
func checkSignatures(parsed []*fsm.Entry) (at int, err error) {
	envelopes := make([]*pci.Envelope, 0, len(parsed))
	index := make([]int, 0, len(parsed))
	for i, e := range parsed {
		if e.Envelope != nil {
			envelopes, index = append(envelopes, e.Envelope), append(index, i)
		}
	}
	for i, err := range pci.VerifyBatch(envelopes) {
		if err != nil {
			return index[i], fmt.Errorf("%w: %w", errSignature, err)
		}
	}
	return 0, nil
}
