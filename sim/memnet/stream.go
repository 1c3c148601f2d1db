package memnet

import (
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// stream is one end of a stream.
type stream struct {
	conn    *conn
	proto   protocol.ID
	dir     network.Direction
	opened  time.Time
	id      string
	in, out *pipe
}

var _ network.Stream = (*stream)(nil)

func newStreams(c *conn, p protocol.ID) (near, far *stream) {
	there, back := newPipe(c, p), newPipe(c.far, p)
	id, now := strconv.FormatUint(c.host.net.ids.Add(1), 10), time.Now()
	near = &stream{conn: c, proto: p, dir: network.DirOutbound, opened: now, id: id, in: back, out: there}
	far = &stream{conn: c.far, proto: p, dir: network.DirInbound, opened: now, id: id, in: there, out: back}
	return near, far
}

func (s *stream) Read(b []byte) (int, error)  { return s.in.read(b) }
func (s *stream) Write(b []byte) (int, error) { return s.out.write(b) }

func (s *stream) CloseWrite() error { s.out.finish(); return nil }

func (s *stream) CloseRead() error {
	if s.in.fail(network.ErrReset) {
		s.conn.host.net.post.call(s.conn.latency, func() { s.in.abandon() })
	}
	return nil
}

func (s *stream) Close() error {
	s.out.finish()
	s.conn.remove(s)
	return s.CloseRead()
}

func (s *stream) Reset() error { return s.ResetWithError(network.StreamNoError) }

// ResetWithError ends both directions here at once, and at the other end a latency later.
func (s *stream) ResetWithError(code network.StreamErrorCode) error {
	s.end(&network.StreamError{ErrorCode: code})
	return nil
}

// end makes this end's reads and writes fail now, and those of the other end when it hears of it.
func (s *stream) end(err error) {
	ended := s.in.fail(err)
	s.conn.remove(s)
	if !s.out.abandon() && !ended {
		return
	}
	in, out := s.in, s.out
	s.conn.host.net.post.call(s.conn.latency, func() {
		out.fail(network.ErrReset)
		in.abandon()
	})
}

func (s *stream) SetDeadline(t time.Time) error {
	s.in.setReadDeadline(t)
	s.out.setWriteDeadline(t)
	return nil
}

func (s *stream) SetReadDeadline(t time.Time) error  { s.in.setReadDeadline(t); return nil }
func (s *stream) SetWriteDeadline(t time.Time) error { s.out.setWriteDeadline(t); return nil }

func (s *stream) ID() string                      { return s.id }
func (s *stream) Protocol() protocol.ID           { return s.proto }
func (s *stream) SetProtocol(p protocol.ID) error { s.proto = p; return nil }
func (s *stream) Conn() network.Conn              { return s.conn }
func (s *stream) Scope() network.StreamScope      { return &network.NullScope{} }
func (s *stream) Stat() network.Stats             { return network.Stats{Direction: s.dir, Opened: s.opened} }

// pipe is one direction of a stream: what was written and not yet read.
type pipe struct {
	conn  *conn // the writer's end
	proto protocol.ID

	mu            sync.Mutex
	look          sync.Cond // readers wait for it; its lock is mu
	segments      []segment
	unread        int       // bytes
	waiting       int       // readers
	posted        time.Time // the first instant at which the post wakes the readers; zero: it will not
	finished      bool      // nothing more will be written; what was, still arrives
	abandoned     bool      // writing is over and fails
	failed        error     // reading is over
	eofAt         time.Time
	readDeadline  time.Time
	writeDeadline time.Time
	room          chan struct{} // closed and replaced when a waiting writer should look again; nil while none waits
}

type segment struct {
	at    time.Time
	data  []byte
	begun bool // to be read
}

func newPipe(writer *conn, proto protocol.ID) *pipe {
	p := &pipe{conn: writer, proto: proto}
	p.look.L = &p.mu
	return p
}

func (p *pipe) cut() bool { return p.conn.host.net.isCut(p.conn.host.id, p.conn.far.host.id) }

func (p *pipe) read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		n, at, err := p.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		p.postLocked(at)
		p.waiting++
		p.look.Wait()
		p.waiting--
	}
}

// postLocked has the readers woken at an instant, zero: at none. Under mu.
func (p *pipe) postLocked(at time.Time) {
	if at.IsZero() || !p.posted.IsZero() && !at.Before(p.posted) {
		return
	}
	p.posted = at
	p.conn.host.net.post.wake(at, p)
}

// due wakes the readers; what they wait for may have come.
func (p *pipe) due() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !time.Now().Before(p.posted) {
		p.posted = time.Time{}
	}
	p.look.Broadcast()
}

// take reads what has arrived, or says when there will be something to look for; zero: nothing is under way. Under mu.
func (p *pipe) take(b []byte) (n int, at time.Time, err error) {
	now := time.Now()
	if p.failed != nil {
		return 0, at, p.failed
	}
	if !p.readDeadline.IsZero() && !now.Before(p.readDeadline) {
		return 0, at, os.ErrDeadlineExceeded
	}
	switch {
	case p.cut():
	case len(p.segments) > 0:
		if at = p.segments[0].at; !now.Before(at) {
			return p.copyOut(b, now), at, nil
		}
	case p.finished:
		if at = p.eofAt; !now.Before(at) {
			return 0, at, io.EOF
		}
	}
	if !p.readDeadline.IsZero() && (at.IsZero() || p.readDeadline.Before(at)) {
		at = p.readDeadline
	}
	return 0, at, nil
}

// copyOut takes from the segments that have arrived as much as fits. Under mu.
func (p *pipe) copyOut(b []byte, now time.Time) (n int) {
	for len(p.segments) > 0 && n < len(b) && !now.Before(p.segments[0].at) {
		s := &p.segments[0]
		k := copy(b[n:], s.data)
		n += k
		s.begun = true
		if s.data = s.data[k:]; len(s.data) == 0 {
			*s = segment{}
			p.segments = p.segments[1:]
		}
	}
	if len(p.segments) == 0 {
		p.segments = nil
	}
	p.unread -= n
	p.makeRoom()
	return n
}

// makeRoom makes a waiting writer look again. Under mu.
func (p *pipe) makeRoom() {
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
}

func (p *pipe) write(b []byte) (int, error) {
	for {
		p.mu.Lock()
		switch {
		case p.abandoned || p.finished:
			p.mu.Unlock()
			return 0, network.ErrReset
		case !p.writeDeadline.IsZero() && !time.Now().Before(p.writeDeadline):
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case p.unread > 0 && p.unread+len(b) > p.conn.host.net.cfg.WindowBytes:
			p.awaitRoom()
			continue
		}
		p.conn.host.net.cfg.Tap(p.conn.host.id, p.conn.far.host.id, p.proto, b)
		if p.failed != nil {
			p.mu.Unlock()
			return len(b), nil //nolint:nilerr // the writer has not heard of it yet, as over a real network
		}
		p.send(b)
		p.mu.Unlock()
		return len(b), nil
	}
}

// send puts a write under way. Under mu.
func (p *pipe) send(b []byte) {
	fate := p.conn.host.net.fate(p)
	at := p.arrival(fate.Late)
	if k := len(p.segments); k > 0 && at.Before(p.segments[k-1].at) {
		at = p.segments[k-1].at
	}
	p.segments = append(p.segments, segment{at: at, data: append([]byte(nil), b...)})
	p.unread += len(b)
	if k := len(p.segments); fate.Swap && k > 1 && !p.segments[k-2].begun {
		p.segments[k-1].data, p.segments[k-2].data = p.segments[k-2].data, p.segments[k-1].data
	}
	if fate.Twice {
		p.segments = append(p.segments, segment{at: at, data: append([]byte(nil), b...)})
		p.unread += len(b)
	}
	if p.waiting > 0 { // else whoever comes to read sees it
		p.postLocked(p.segments[0].at)
	}
}

// arrival is when what is written now arrives.
func (p *pipe) arrival(late time.Duration) time.Time {
	return p.conn.host.net.post.round(time.Now().Add(p.conn.latency+late), grain)
}

// awaitRoom gives up mu and waits until a write may be tried again.
func (p *pipe) awaitRoom() {
	if p.room == nil {
		p.room = make(chan struct{})
	}
	room, deadline := p.room, p.writeDeadline
	p.mu.Unlock()
	if deadline.IsZero() {
		<-room
		return
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-room:
	case <-timer.C:
	}
}

// finish ends writing; what was written arrives before the end does.
func (p *pipe) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished || p.failed != nil {
		return
	}
	p.finished, p.eofAt = true, p.arrival(0)
	p.makeRoom()
	if p.waiting > 0 && len(p.segments) == 0 {
		p.postLocked(p.eofAt)
	}
}

// abandon ends writing with an error and says whether it had not ended before.
func (p *pipe) abandon() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.abandoned
	p.abandoned = true
	p.makeRoom()
	return !was
}

// fail ends reading, drops what was not read, and says whether reading had not ended before.
func (p *pipe) fail(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return false
	}
	p.failed = err
	p.segments, p.unread = nil, 0
	p.look.Broadcast()
	p.makeRoom()
	return true
}

func (p *pipe) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unread
}

// stir makes the reader look again.
func (p *pipe) stir() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look.Broadcast()
}

func (p *pipe) setReadDeadline(t time.Time) {
	if !t.IsZero() {
		t = p.conn.host.net.post.round(t, deadlineGrain)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readDeadline = t
	p.look.Broadcast()
}

func (p *pipe) setWriteDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeDeadline = t
	p.makeRoom()
}
