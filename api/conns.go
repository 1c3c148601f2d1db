package api

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// conns are the connections that are open. There are at most max; where there would be more, one on which no request is being
// answered gives way, the one that has been so for longest: so clients that connect and ask nothing, or send a request
// without end, keep nobody out. One that is being answered is never closed for another.
type conns struct {
	max     int
	evicted prometheus.Counter

	mu     sync.Mutex
	idle   *list.List // of *conn, those that may give way, the longest so in front
	count  int
	silent bool          // those on which nothing has come are closed
	freed  chan struct{} // has room for one: a place, or one that may give way, has come up
}

func newConns(limit int, evicted prometheus.Counter) *conns {
	return &conns{max: limit, evicted: evicted, idle: list.New(), freed: make(chan struct{}, 1)}
}

// conn is one of them.
type conn struct {
	net.Conn
	all  *conns
	once sync.Once

	at    *list.Element // in idle, nil while a request is being answered; under all.mu
	spoke bool          // something has come; under all.mu
	gone  bool          // under all.mu
}

// listen accepts connections and makes room for them.
func (s *conns) listen(l net.Listener) net.Listener {
	return &boundListener{Listener: l, conns: s, closed: make(chan struct{})}
}

type boundListener struct {
	net.Listener
	conns  *conns
	once   sync.Once
	closed chan struct{}
}

func (l *boundListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		if taken := l.conns.take(c); taken != nil {
			return taken, nil
		}
		select {
		case <-l.conns.freed:
		case <-l.closed:
			_ = c.Close()
			return nil, net.ErrClosed
		}
	}
}

func (l *boundListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// take gives a connection a place, if there is one or one that may be had.
func (s *conns) take(c net.Conn) *conn {
	s.mu.Lock()
	var evicted *conn
	if s.count >= s.max {
		if front := s.idle.Front(); front != nil {
			evicted, _ = front.Value.(*conn)
			s.forget(evicted)
		}
	}
	var taken *conn
	if s.count < s.max {
		taken = &conn{Conn: c, all: s}
		taken.at = s.idle.PushBack(taken)
		s.count++
	}
	s.mu.Unlock()
	if evicted != nil {
		s.evicted.Inc()
		_ = evicted.Close()
	}
	return taken
}

// forget takes a connection's place away. Under mu.
func (s *conns) forget(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	s.count--
	if c.at != nil {
		s.idle.Remove(c.at)
		c.at = nil
	}
	s.wake()
}

func (s *conns) wake() {
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.all.mu.Lock()
		defer c.all.mu.Unlock()
		c.all.forget(c)
	})
	return c.Conn.Close()
}

// work says whether a request on the connection is being answered, so that it gives way to nobody.
func (c *conn) work(busy bool) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	switch {
	case c.gone:
	case busy && c.at != nil:
		c.all.idle.Remove(c.at)
		c.at = nil
	case !busy && c.at == nil:
		c.at = c.all.idle.PushBack(c)
		c.all.wake()
	}
}

// note is told every change of a connection's state.
func (s *conns) note(of net.Conn, state http.ConnState) {
	c, ok := of.(*conn)
	if !ok {
		return
	}
	s.mu.Lock()
	c.spoke = c.spoke || state != http.StateNew
	silent := s.silent && !c.spoke
	s.mu.Unlock()
	if silent {
		_ = c.Close()
	}
}

// closeSilent closes those on which nothing has come yet, and those that are still to come. Clients open some in
// advance, and net/http waits for them, for five seconds, when it shuts down.
func (s *conns) closeSilent() {
	s.mu.Lock()
	s.silent = true
	var silent []*conn
	for e := s.idle.Front(); e != nil; e = e.Next() {
		if c, ok := e.Value.(*conn); ok && !c.spoke {
			silent = append(silent, c)
		}
	}
	s.mu.Unlock()
	for _, c := range silent {
		_ = c.Close()
	}
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// busy keeps a request's connection from giving way until the function returned is called.
func busy(r *http.Request) (done func()) { return work(r, true) }

// receiving lets it give way again, while its client sends, until the function returned is called.
func receiving(r *http.Request) (done func()) { return work(r, false) }

func work(r *http.Request, busy bool) (done func()) {
	c := connOf(r)
	if c == nil {
		return func() {} // a server without a listener of ours
	}
	c.work(busy)
	return func() { c.work(!busy) }
}
