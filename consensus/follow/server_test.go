package follow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
)

func openFed() *testfed.Federation { return testfed.New(2, 3, testfed.Open) }

// TestFramesComeInOrder walks a ledger with seals frame by frame.
func TestFramesComeInOrder(t *testing.T) {
	o := newOrigin(t, openFed(), "a").grow(9).seal().grow(600).seal().grow(5)
	v, err := o.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	all := o.entries()
	pos := position{left: 1 << 30}
	var seals []int64
	frames := 0
	for {
		before := pos.next
		f, err := nextFrame(v, 3*time.Second, &pos)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.check(); err != nil {
			t.Fatal(err)
		}
		if f.Size != 615 || f.Seals != 2 || f.AgeMillis != 3000 || f.TimeMillis != v.LogTimeMillis() {
			t.Fatalf("the server says of itself %+v", f)
		}
		if f.Kind == frameHeartbeat {
			break
		}
		if f.Kind == frameDocument {
			continue
		}
		frames++
		if f.Kind == frameSeal {
			seals = append(seals, before)
			continue
		}
		if entryBytes(f.Entries) > frameEntriesBytes {
			t.Fatalf("a frame of %d bytes", entryBytes(f.Entries))
		}
		if f.First != before || !slices.EqualFunc(f.Entries, all[before:pos.next], bytes.Equal) {
			t.Fatalf("frame from %d, want %d", f.First, before)
		}
	}
	if pos.next != 615 || !slices.Equal(seals, []int64{10, 610}) || frames < 6 {
		t.Fatalf("ended at %d after %d frames, seals at %v", pos.next, frames, seals)
	}
}

func TestAStreamContinuesWhereItIsAsked(t *testing.T) {
	o := newOrigin(t, openFed(), "a").grow(9).seal().grow(5)
	held, other := o.fed.Document.Digest(), [32]byte{1}
	for _, c := range []struct {
		name  string
		pos   position
		kind  uint8
		first int64
		count int
		code  string
	}{
		{"from the start up to the seal", position{left: 100, document: 1 << 20}, frameEntries, 0, 10, ""},
		{"the document of the first entry", position{left: 100}, frameDocument, 0, 0, ""},
		{"a document that the follower has", position{left: 100, holds: held[:]}, frameEntries, 0, 10, ""},
		{"another document than the follower has", position{left: 100, holds: other[:]}, frameDocument, 0, 0, ""},
		{"no more than asked", position{left: 4, document: 1 << 20}, frameEntries, 0, 4, ""},
		{"nothing left", position{document: 1 << 20}, frameHeartbeat, 0, 0, ""},
		{"the seal that is due", position{next: 10, left: 100}, frameSeal, 0, 0, ""},
		{"the seal that is due after the last entry wanted", position{next: 10}, frameSeal, 0, 0, ""},
		{"after the seal", position{next: 10, seal: 1, left: 100}, frameEntries, 10, 5, ""},
		{"at the end", position{next: 15, seal: 1, left: 100}, frameHeartbeat, 0, 0, ""},
		{"beyond the end", position{next: 16, seal: 1, left: 100}, frameHeartbeat, 0, 0, refusedBeyond},
		{"a seal beyond the end", position{next: 15, seal: 2, left: 100}, frameHeartbeat, 0, 0, refusedBeyond},
		{"a seal that was passed", position{next: 11, left: 100}, frameHeartbeat, 0, 0, refusedSealPassed},
		{"by size, from the start", position{left: 100, sealsFrom: 1, document: 1 << 20}, frameEntries, 0, 10, ""},
		{"by size, the seal that is due", position{next: 10, left: 100, sealsFrom: 10}, frameSeal, 0, 0, ""},
		{"by size, after the seal", position{next: 10, left: 100, sealsFrom: 11}, frameEntries, 10, 5, ""},
		{"by size, a seal that was passed", position{next: 11, left: 100, sealsFrom: 11}, frameEntries, 11, 4, ""},
		{"by size, beyond the end", position{next: 16, left: 100, sealsFrom: 16}, frameHeartbeat, 0, 0, refusedBeyond},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := o.m.View()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = v.Close() }()
			f, err := nextFrame(v, 0, &c.pos)
			var no *refusal
			if errors.As(err, &no); (no != nil) != (c.code != "") || no != nil && no.code != c.code || no == nil && err != nil {
				t.Fatalf("got %v, want code %q", err, c.code)
			}
			if f.Kind != c.kind || f.First != c.first || len(f.Entries) != c.count || f.Size != 15 || f.Seals != 1 {
				t.Fatalf("got %d entries from %d in a frame of kind %d, of %d and %d", len(f.Entries), f.First, f.Kind, f.Size, f.Seals)
			}
			if root := len(f.Root) == 32; root != (strings.HasPrefix(c.name, "by size") && c.code == "") {
				t.Fatalf("with a root: %v", root)
			}
		})
	}
}

// asked opens a stream to a server and gives the client's end and what handle returned.
func asked(srv *Server, from, seal, entriesMax int64) (*pipe, chan error) {
	near, far := newPipe()
	done := make(chan error, 1)
	go func() {
		err := srv.handle(context.Background(), "follower", far)
		_ = far.Close()
		done <- err
	}()
	if entriesMax >= 0 {
		_ = writeRequest(near, &requestBody{Region: "a", From: from, FromSeal: seal, EntriesMax: entriesMax})
	}
	return near, done
}

func want(t *testing.T, r io.Reader, kind uint8) *frame {
	t.Helper()
	f, err := readFrame(r)
	for err == nil && f.Kind == frameDocument && kind != frameDocument {
		f, err = readFrame(r)
	}
	if err != nil || f.Kind != kind {
		t.Fatalf("got %+v, %v; want a frame of kind %d", f, err, kind)
	}
	return f
}

func TestServerPushesAtOnceAndBeatsWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, openFed(), "a").grow(3)
		s, done := asked(o.server(), 0, 0, 0)
		if f := want(t, s, frameEntries); len(f.Entries) != 4 {
			t.Fatalf("%d entries", len(f.Entries))
		}
		if f := want(t, s, frameHeartbeat); f.Size != 4 {
			t.Fatalf("a heartbeat with size %d", f.Size)
		}
		began := time.Now()
		for range 3 {
			want(t, s, frameHeartbeat)
		}
		if d := time.Since(began); d != 15*time.Second {
			t.Fatalf("three heartbeats took %v", d)
		}
		synctest.Wait()
		began = time.Now()
		o.grow(1)
		want(t, s, frameEntries)
		o.seal()
		want(t, s, frameSeal)
		if d := time.Since(began); d != 0 {
			t.Fatalf("an entry and a seal were pushed after %v, that is not at once", d)
		}
		want(t, s, frameHeartbeat)
		if d := time.Since(began); d != 5*time.Second {
			t.Fatalf("the heartbeat after them came after %v", d)
		}
		_ = s.Reset()
		if err := <-done; !errors.Is(err, errGone) {
			t.Fatalf("the stream of a follower that left ended with %v", err)
		}
		if d := time.Since(began); d != 5*time.Second {
			t.Fatalf("that the follower left was seen after %v", d)
		}
	})
}

func TestServerEndsAStreamWithAMaximum(t *testing.T) {
	o := newOrigin(t, openFed(), "a").grow(9).seal().grow(5)
	for _, c := range []struct{ max, entries, seals int64 }{{4, 4, 0}, {10, 10, 1}, {12, 12, 1}, {500, 15, 1}} {
		s, done := asked(o.server(), 0, 0, c.max)
		var entries, seals int64
		for {
			f, err := readFrame(s)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			entries += int64(len(f.Entries))
			if f.Kind == frameSeal {
				seals++
			}
		}
		if err := <-done; err != nil || entries != c.entries || seals != c.seals {
			t.Fatalf("at most %d: got %d entries and %d seals, %v", c.max, entries, seals, err)
		}
	}
}

func TestServerRefusesRequests(t *testing.T) {
	o := newOrigin(t, openFed(), "a").grow(3)
	body := func(b requestBody) []byte {
		out, err := p2p.Marshal(&b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := body(requestBody{Region: "a"})
	for _, c := range []struct {
		name   string
		req    request
		code   string
		detail string
	}{
		{"unknown version", request{2, []byte{0xa1, 0x18, 0x63, 0x01}}, refusedVersion, "knows version 1 of the request, not 2"},
		{"other region", request{1, body(requestBody{Region: "b"})}, refusedRegion, `region "a", and was asked for "b"`},
		{"beyond", request{1, body(requestBody{Region: "a", From: 5})}, refusedBeyond, "has 4 entries and 0 seals"},
		{"negative", request{1, body(requestBody{Region: "a", From: -1})}, refusedMalformed, "no index"},
		{"huge", request{1, body(requestBody{Region: "a", FromSeal: 1 << 60})}, refusedMalformed, "no index"},
		{"seals before the entries", request{1, body(requestBody{Region: "a", From: 3, SealsFrom: 2})}, refusedMalformed, "seals of at least 2"},
		{"seals by size and number", request{1, body(requestBody{Region: "a", FromSeal: 1, SealsFrom: 2})}, refusedMalformed, "seals of at least 2"},
		{"huge seals", request{1, body(requestBody{Region: "a", SealsFrom: 1 << 60})}, refusedMalformed, "no index"},
		{"beyond, by size", request{1, body(requestBody{Region: "a", From: 5, SealsFrom: 5})}, refusedBeyond, "has 4 entries and 0 seals"},
		{"a digest that is none", request{1, body(requestBody{Region: "a", Holds: make([]byte, 31)})}, refusedMalformed, "digest of 31 bytes"},
		{"no region", request{1, body(requestBody{})}, refusedMalformed, "region's name"},
		{"long region", request{1, body(requestBody{Region: strings.Repeat("a", 64)})}, refusedMalformed, "region's name"},
		{"not the body", request{1, []byte{0x01}}, refusedMalformed, "body"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, done := asked(o.server(), 0, 0, -1)
			if err := p2p.WriteMessage(s, requestBytesMax, &c.req); err != nil {
				t.Fatal(err)
			}
			f := want(t, s, frameRefusal)
			if f.Code != c.code || !strings.Contains(f.Detail, c.detail) {
				t.Fatalf("refused with %q: %q", f.Code, f.Detail)
			}
			if c.code == refusedBeyond && f.Size != 4 {
				t.Fatalf("the refusal says size %d", f.Size)
			}
			if _, err := readFrame(s); !errors.Is(err, io.EOF) {
				t.Fatalf("after the refusal: %v", err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
	s, done := asked(o.server(), 0, 0, -1)
	if err := p2p.WriteMessage(s, requestBytesMax, &request{1, good}); err != nil {
		t.Fatal(err)
	}
	want(t, s, frameEntries)
	_ = s.Reset()
	<-done
}

func TestServerCutsOffWhoAbusesIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		abuse func(t *testing.T, s *pipe)
		want  error
		after time.Duration
	}{
		{"reads nothing", func(t *testing.T, s *pipe) {
			_ = writeRequest(s, &requestBody{Region: "a"})
		}, errSlowReader, 10 * time.Second},
		{"reads slowly", func(t *testing.T, s *pipe) { // a byte each second is no way to take a frame
			_ = writeRequest(s, &requestBody{Region: "a"})
			for {
				if _, err := s.Read(make([]byte, 1)); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}, errSlowReader, 10 * time.Second},
		{"asks nothing", func(*testing.T, *pipe) {}, errSlowAsker, 5 * time.Second},
		{"asks slowly", func(t *testing.T, s *pipe) {
			for _, b := range []byte{0, 0, 0, 90, 1, 0xa2} {
				_, _ = s.Write([]byte{b})
				<-time.After(2 * time.Second)
			}
		}, errSlowAsker, 5 * time.Second},
		{"asks too much", func(t *testing.T, s *pipe) {
			_, _ = s.Write([]byte{0, 0, 4, 1})
		}, p2p.ErrFrameTooLong, 0},
		{"asks nonsense", func(t *testing.T, s *pipe) {
			_, _ = s.Write([]byte{0, 0, 0, 3, 1, 0xff, 0xff})
		}, p2p.ErrFrameMalformed, 0},
		{"keeps talking", func(t *testing.T, s *pipe) {
			_ = writeRequest(s, &requestBody{Region: "a"})
			_, _ = s.Write([]byte{1})
		}, errChatter, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newOrigin(t, openFed(), "a").grow(100).server()
				s, done := asked(srv, 0, 0, -1)
				began := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					c.abuse(t, s)
				}()
				if err := <-done; !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				if d := time.Since(began); d != c.after {
					t.Fatalf("cut off after %v, want %v", d, c.after)
				}
				_ = s.Reset()
				<-ended
				reason := map[error]string{errSlowReader: "slow"}[c.want]
				if reason == "" {
					reason = refusedMalformed
				}
				if n := srv.metrics.ended.With(reason).Value(); n != 1 {
					t.Fatalf("%v streams were counted as %s", n, reason)
				}
			})
		})
	}
}

func TestServerGoesOnWithAnotherMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, openFed(), "a").grow(3)
		cfg := o.serverConfig()
		ahead := newOrigin(t, openFed(), "a").grow(3).grow(2)
		behind := newOrigin(t, openFed(), "a")
		view := o.m.View
		cfg.View = func() (*fsm.View, error) { return view() }
		srv, err := newServer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s, done := asked(srv, 0, 0, 0)
		want(t, s, frameEntries)
		want(t, s, frameHeartbeat)
		synctest.Wait()
		view = ahead.m.View
		o.feed.Advance(6)
		if f := want(t, s, frameEntries); f.First != 4 || len(f.Entries) != 2 || o.feed.Size() != 6 {
			t.Fatalf("%d entries from %d", len(f.Entries), f.First)
		}
		synctest.Wait()
		view = behind.m.View // a restored backup
		o.feed.Advance(1)
		if f := want(t, s, frameRefusal); f.Code != refusedBeyond || f.Size != 1 {
			t.Fatalf("refused with %q and size %d", f.Code, f.Size)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestFeedWakesEveryone(t *testing.T) {
	f := NewFeed(3)
	a, b := f.Changed(), f.Changed()
	select {
	case <-a:
		t.Fatal("woken by nothing")
	default:
	}
	f.Advance(3) // a seal
	<-a
	<-b
	if f.Size() != 3 || f.Changed() == a {
		t.Fatal("the feed did not move on")
	}
}

func TestServerConfig(t *testing.T) {
	o := newOrigin(t, openFed(), "a")
	for name, change := range map[string]func(*ServerConfig){
		"Region":         func(c *ServerConfig) { c.Region = "" },
		"View":           func(c *ServerConfig) { c.View = nil },
		"Feed":           func(c *ServerConfig) { c.Feed = nil },
		"StreamsMax":     func(c *ServerConfig) { c.StreamsMax = -1 },
		"PerPeerMax":     func(c *ServerConfig) { c.PerPeerMax = -1 },
		"WriteTimeout":   func(c *ServerConfig) { c.WriteTimeout = -1 },
		"RequestTimeout": func(c *ServerConfig) { c.RequestTimeout = -1 },
		"HeartbeatEvery": func(c *ServerConfig) { c.HeartbeatEvery = -1 },
	} {
		cfg := o.serverConfig()
		change(&cfg)
		if _, err := newServer(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Serve(o.serverConfig()); err == nil || !strings.Contains(err.Error(), "Host") {
		t.Errorf("without a host: %v", err)
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	m := newServerMetrics("a")
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	if err := newServerMetrics("a").Register(r); err == nil {
		t.Fatal("registered twice")
	}
	if err := newServerMetrics("b").Register(r); err != nil {
		t.Fatalf("another region: %v", err)
	}
	m.Unregister(r)
	if err := newServerMetrics("a").Register(r); err != nil {
		t.Fatalf("after it was taken out: %v", err)
	}
}

// TestStirChangesNoSize: who waits looks again, and a size that has grown meanwhile stays.
func TestStirChangesNoSize(t *testing.T) {
	f := NewFeed(3)
	changed := f.Changed()
	f.Stir()
	select {
	case <-changed:
	default:
		t.Error("nobody was woken")
	}
	if f.Size() != 3 {
		t.Errorf("the size is %d", f.Size())
	}
}
