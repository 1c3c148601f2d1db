package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bizra/bizra/client"
)

const (
	// eventsPage is how many entries are looked at for one write.
	eventsPage = 100
	// outlookEvery is how often a stream looks for what the ledger does not tell.
	outlookEvery = time.Second
	// eventRetryMillis is how long a browser waits before it comes back.
	eventRetryMillis = 2000
	lastEventID      = "Last-Event-ID"
	kindsParam       = "kinds"
)

func eventKinds() []string {
	return []string{client.EventReceipt, client.EventCertificate, client.EventLocal, client.EventAlarm}
}

// events streams what happens until the client goes or the server stops.
//
// A stream holds nothing that grows: it remembers the next entry and what it told last, and
// looks. So a slow reader misses no receipt and costs no memory; one that takes
// longer than EventTimeout for what it is sent at once is cut off, and comes back with its last id.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	st, err := s.openStream(w, r)
	if err != nil {
		f := failed(err)
		f.reply(w.Header().Get(client.HeaderRequestID)).write(w, r.Method == http.MethodHead)
		return
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return
	}
	release, err := s.streams.take()
	if err != nil {
		h := w.Header()
		h.Del("Content-Type")
		failed(err).reply(h.Get(client.HeaderRequestID)).write(w, false)
		return
	}
	defer release()
	if err := st.run(r.Context()); err != nil {
		s.cfg.Log.Debug("a stream of events ended", "from", r.RemoteAddr, "cause", err)
	}
}

// stream is one client's.
type stream struct {
	server *Server
	to     *http.ResponseController
	w      http.ResponseWriter
	kinds  []string
	next   int64 // entry
	told   client.Outlook
	buf    bytes.Buffer
}

var errSlow = errors.New("the client has gone or reads too slowly")

func (s *Server) openStream(w http.ResponseWriter, r *http.Request) (*stream, error) {
	q, err := params(r, "from", kindsParam)
	if err != nil {
		return nil, err
	}
	st := &stream{server: s, to: http.NewResponseController(w), w: w, kinds: eventKinds()}
	if q.Has(kindsParam) {
		st.kinds = strings.Split(q.Get(kindsParam), ",")
		for _, kind := range st.kinds {
			if !slices.Contains(eventKinds(), kind) {
				return nil, failf(http.StatusBadRequest, "Query parameter kinds names %q: known are %s.", clip(kind, 40), strings.Join(eventKinds(), ","))
			}
		}
	}
	if st.next, err = number(q, "from", -1, 0, math.MaxInt64); err != nil {
		return nil, err
	}
	if id := r.Header.Get(lastEventID); id != "" {
		last, err := strconv.ParseInt(id, 10, 64)
		if err != nil || last < 0 || last == math.MaxInt64 {
			return nil, failf(http.StatusBadRequest, "%s is %q: it must be the id of a receipt, which is the index of its entry.", lastEventID, clip(id, 40))
		}
		st.next = last + 1
	}
	// Whoever cannot be served is told before the stream begins.
	if _, err = s.workStale(r, func(_ context.Context, v View) (*reply, error) {
		if st.next < 0 {
			st.next = v.Entries()
		}
		return &reply{}, nil
	}); err != nil {
		return nil, err
	}
	h := w.Header()
	h.Set("Content-Type", client.MediaEvents)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // a proxy that buffers would keep events back
	return st, nil
}

// run sends events until the context ends, the server stops or the client does not take them.
func (st *stream) run(ctx context.Context) error {
	look, beat := time.NewTicker(outlookEvery), time.NewTicker(client.EventBeat)
	defer look.Stop()
	defer beat.Stop()
	fmt.Fprintf(&st.buf, "retry: %d\n\n", eventRetryMillis)
	for {
		changed := st.server.backend.Changed()
		more, err := st.look(ctx)
		if err != nil {
			return err
		}
		if err := st.send(); err != nil {
			return err
		}
		if more {
			if ctx.Err() != nil || st.server.draining.Load() {
				return nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-st.server.stopping:
			return nil
		case <-changed:
			st.server.pause(ctx, changed)
		case <-look.C:
		case <-beat.C:
			st.buf.WriteString(": beat\n\n")
		}
	}
}

// look writes down what there is to send; more says that it is not all.
func (st *stream) look(ctx context.Context) (more bool, err error) {
	if st.wants(client.EventReceipt) {
		more, err = st.receipts(ctx)
	}
	if more || err != nil {
		return more, err
	}
	now, err := st.server.backend.Outlook(ctx)
	if err != nil {
		return false, temporary(err)
	}
	st.certificates(now.Certified)
	st.local(now.Local)
	st.alarms(now.Alarms)
	st.told.Alarms = now.Alarms
	return false, nil
}

// temporary is nil for what another look may mend: a state that is being replaced.
func temporary(err error) error {
	if _, ok := errors.AsType[*Unavailable](err); ok {
		return nil
	}
	return fmt.Errorf("look for events: %w", err)
}

func (st *stream) wants(kind string) bool { return slices.Contains(st.kinds, kind) }

// receipts writes down those of the next entries. The view is not kept while a client reads.
func (st *stream) receipts(ctx context.Context) (more bool, err error) {
	v, err := st.server.backend.View(ctx, Stale)
	if err != nil {
		return false, temporary(err)
	}
	to := min(v.Entries(), st.next+eventsPage)
	for ; st.next < to && err == nil; st.next++ {
		var rec json.Marshaler
		if rec, err = v.ReceiptAt(st.next); rec != nil && err == nil {
			err = st.event(client.EventReceipt, strconv.FormatInt(st.next, 10), rec)
		}
	}
	more = st.next < v.Entries()
	if err := errors.Join(err, v.Close()); err != nil {
		return false, fmt.Errorf("read receipts: %w", err)
	}
	return more, nil
}

func (st *stream) certificates(now []client.CertificateEvent) {
	for _, c := range now {
		at := slices.IndexFunc(st.told.Certified, func(t client.CertificateEvent) bool { return t.Region == c.Region })
		switch {
		case at < 0:
			st.told.Certified = append(st.told.Certified, c)
		case st.told.Certified[at].Size >= c.Size:
			continue
		default:
			st.told.Certified[at].Size = c.Size
		}
		st.tell(client.EventCertificate, c)
	}
}

// local tells when the rest of the federation is not heard any more, or again.
func (st *stream) local(now client.LocalEvent) {
	if now.Local != st.told.Local.Local {
		st.told.Local = now
		st.tell(client.EventLocal, now)
	}
}

// alarms tells those that are new, and those that are over.
func (st *stream) alarms(now []client.AlarmEvent) {
	for _, a := range now {
		if !slices.Contains(st.told.Alarms, a) {
			st.tell(client.EventAlarm, a)
		}
	}
	for _, a := range st.told.Alarms {
		if !slices.ContainsFunc(now, func(n client.AlarmEvent) bool { return n.Kind == a.Kind && n.Region == a.Region }) {
			a.Over = true
			st.tell(client.EventAlarm, a)
		}
	}
}

// tell writes down an event if its kind was asked for.
func (st *stream) tell(kind string, data any) {
	if st.wants(kind) {
		if err := st.event(kind, "", data); err != nil {
			panic(err) // strings and numbers only
		}
	}
}

// event writes one down (WHATWG HTML §9.2). JSON has no line breaks of its own.
func (st *stream) event(kind, id string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	if id != "" {
		st.buf.WriteString("id: " + id + "\n")
	}
	fmt.Fprintf(&st.buf, "event: %s\ndata: %s\n\n", kind, text)
	st.server.metrics.events.WithLabelValues(kind).Inc()
	return nil
}

// send hands over what was written down, within EventTimeout.
func (st *stream) send() error {
	if st.buf.Len() == 0 {
		return nil
	}
	_ = st.to.SetWriteDeadline(time.Now().Add(st.server.cfg.EventTimeout)) // a writer without a connection has no such limit
	_, err := st.w.Write(st.buf.Bytes())                                   //nolint:gosec // of a type that says what it is and may not be sniffed
	if err == nil {
		err = st.to.Flush()
	}
	st.buf.Reset()
	if err != nil {
		st.server.metrics.cut.Inc()
		return fmt.Errorf("%w: %w", errSlow, err)
	}
	return nil
}
