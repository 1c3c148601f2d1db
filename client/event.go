package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kinds of events.
const (
	EventReceipt     = "receipt"     // a proof became an entry
	EventCertificate = "certificate" // a certificate of some region covers more than those before
	EventLocal       = "local"       // the rest of the federation is not heard any more, or again
	EventAlarm       = "alarm"       // what an operator must see about a region, or that it is over
)

// MediaEvents is the media type of a stream of events.
const MediaEvents = "text/event-stream"

const (
	// EventBeat is how often a node sends something at least.
	EventBeat = 15 * time.Second
	// eventSilence is after how long without a beat a stream counts as broken.
	eventSilence      = 3 * EventBeat
	eventLineBytesMax = 256 << 10
	eventBytesMax     = eventLineBytesMax // of an event in all its lines
)

// CertificateEvent says that a certificate covers so many entries of a region.
type CertificateEvent struct {
	Region string `json:"region"`
	Size   int64  `json:"size"`
}

// LocalEvent says whether the rest of the federation is heard.
type LocalEvent struct {
	Local bool   `json:"local"`           // true: no other region is heard, what is committed is attested later
	Since string `json:"since,omitempty"` // RFC 3339
}

// Kinds of alarms.
const (
	AlarmEvidence    = "evidence"    // the region signed two things that cannot both be true
	AlarmRefused     = "refused"     // the region does not cosign what this one sealed
	AlarmRefuses     = "refuses"     // this region does not cosign what that one sealed
	AlarmDiverged    = "diverged"    // the region's ledger cannot be re-executed
	AlarmCertificate = "certificate" // two certificates of the region contradict
	AlarmForked      = "forked"      // what was certified of the region is not what this node was shown
)

// AlarmEvent is what an operator must see about a region.
type AlarmEvent struct {
	Kind   string `json:"kind"`
	Region string `json:"region"`
	Detail string `json:"detail,omitempty"`
	Over   bool   `json:"over,omitempty"` // it does not hold any more
}

// Outlook is what a node knows, at one moment, of what events tell beside receipts.
type Outlook struct {
	Certified []CertificateEvent // by region
	Local     LocalEvent
	Alarms    []AlarmEvent // that hold now
}

// Event is one event of a node's stream. Which of the last members is set, Kind says.
type Event struct {
	Kind        string            `json:"kind"`
	Index       int64             `json:"index,omitempty"` // of the entry, of a receipt
	Receipt     *Receipt          `json:"receipt,omitempty"`
	Certificate *CertificateEvent `json:"certificate,omitempty"`
	Local       *LocalEvent       `json:"local,omitempty"`
	Alarm       *AlarmEvent       `json:"alarm,omitempty"`
}

// EventsFrom says which events [Client.Events] gives.
type EventsFrom struct {
	// Index is the entry with which receipts begin; nil: with what comes now.
	Index *int64
	// Kinds are those asked for; none: all.
	Kinds []string
}

// errEvents ends one stream; the next node is asked.
var errEvents = errors.New("the stream of events ended")

// Events gives events as they come, until the context ends or the loop is left; each receipt
// exactly once, in the order of the ledger. A stream that breaks is taken up where it ended, at the same node
// or the next. An error is the last that is given; no node answering is one after as many attempts
// as [Config] allows.
func (c *Client) Events(ctx context.Context, from EventsFrom) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		left := false
		backoff, failures := c.cfg.BackoffMin, 0
		for {
			moved, err := c.stream(ctx, &from, func(e Event) bool {
				left = !yield(e, nil)
				return !left
			})
			if left {
				return
			}
			if ctx.Err() != nil {
				yield(Event{}, fmt.Errorf("events: %w", context.Cause(ctx)))
				return
			}
			var p *Problem
			final := errors.As(err, &p) && !p.Temporary()
			if moved {
				backoff, failures = c.cfg.BackoffMin, 0
			}
			if failures++; final || failures > c.cfg.RetriesMax {
				yield(Event{}, fmt.Errorf("events of %s: %w", strings.Join(c.urls, ", "), err))
				return
			}
			at := c.at.Load()
			c.at.CompareAndSwap(at, (at+1)%uint32(len(c.urls))) //nolint:gosec // nobody lists 2^32 nodes
			_ = wait(ctx, backoff/2+rand.N(backoff/2+1))        //nolint:gosec // jitter is no secret; what ends it ends the next round
			backoff = min(2*backoff, c.cfg.BackoffMax)
		}
	}
}

// stream takes one stream until it ends, moving from on; moved says that anything came.
func (c *Client) stream(ctx context.Context, from *EventsFrom, take func(Event) bool) (moved bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	silent := time.AfterFunc(eventSilence, func() { cancel(fmt.Errorf("%w: nothing came for %v", errEvents, eventSilence)) })
	defer cancel(nil)
	defer silent.Stop()
	q := url.Values{}
	if from.Index != nil {
		q.Set("from", strconv.FormatInt(*from.Index, 10))
	}
	if len(from.Kinds) > 0 {
		q.Set("kinds", strings.Join(from.Kinds, ","))
	}
	target := c.urls[int(c.at.Load())%len(c.urls)] + "/v1/events"
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	req.Header.Set("Accept", MediaEvents)
	res, err := c.http.Do(req)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if ans := (&answer{status: res.StatusCode, header: res.Header}); ans.media() != MediaEvents || ans.problem() != nil {
		if ans.body, err = io.ReadAll(io.LimitReader(res.Body, problemBytesMax)); err != nil {
			return false, err
		}
		if p := ans.problem(); p != nil {
			return false, p
		}
		return false, fmt.Errorf("the answer is %q, not %s: is this the address of a bizra node?", res.Header.Get("Content-Type"), MediaEvents)
	}
	sc := bufio.NewScanner(res.Body)
	sc.Buffer(nil, eventLineBytesMax)
	var e rawEvent
	for sc.Scan() {
		silent.Reset(eventSilence)
		if !e.line(sc.Bytes()) {
			if len(e.data) > eventBytesMax {
				return moved, fmt.Errorf("an event has more than %d bytes", eventBytesMax)
			}
			continue
		}
		event, known, err := e.event()
		e = rawEvent{}
		if err != nil {
			return moved, err
		}
		if !known {
			moved = true
			continue
		}
		if event.Receipt != nil {
			if from.Index != nil && event.Index < *from.Index {
				return moved, fmt.Errorf("the node sent the receipt of entry %d where entry %d or a later one comes next", event.Index, *from.Index)
			}
			next := event.Index + 1
			from.Index = &next
		}
		moved = true
		if !take(event) {
			return true, nil
		}
	}
	return moved, errors.Join(errEvents, sc.Err(), context.Cause(ctx))
}

// rawEvent is an event of a stream as its lines have it (WHATWG HTML §9.2).
type rawEvent struct {
	id, kind string
	data     []byte
}

// line takes a line and says whether it ends an event that holds something.
func (e *rawEvent) line(text []byte) (done bool) {
	if len(text) == 0 {
		return len(e.data) > 0
	}
	name, value, _ := bytes.Cut(text, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "id":
		e.id = string(value)
	case "event":
		e.kind = string(value)
	case "data":
		e.data = append(e.data, value...)
	}
	return false
}

// event reads it; known is false for a kind of a later version.
func (e *rawEvent) event() (event Event, known bool, err error) {
	event.Kind = e.kind
	into := map[string]func() any{
		EventReceipt:     func() any { event.Receipt = &Receipt{}; return event.Receipt },
		EventCertificate: func() any { event.Certificate = &CertificateEvent{}; return event.Certificate },
		EventLocal:       func() any { event.Local = &LocalEvent{}; return event.Local },
		EventAlarm:       func() any { event.Alarm = &AlarmEvent{}; return event.Alarm },
	}[e.kind]
	if into == nil {
		return event, false, nil
	}
	if err := json.Unmarshal(e.data, into()); err != nil {
		return event, false, fmt.Errorf("decode an event of kind %s: %w", e.kind, err)
	}
	if e.kind == EventReceipt {
		if event.Index, err = strconv.ParseInt(e.id, 10, 64); err != nil || event.Index < 0 {
			return event, false, fmt.Errorf("decode a receipt: its id %.40q is no index of an entry", e.id)
		}
	}
	return event, true, nil
}
