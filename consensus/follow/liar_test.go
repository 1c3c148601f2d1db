package follow

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/p2p"
)

// lie is one way in which a peer does not tell the truth: told says whether it did.
type lie struct {
	name   string
	reason string
	tell   func(t *testing.T, o *origin, f *frame, out io.Writer) (forward, told bool)
}

// rewrite replaces text in the entry with an index, which the frame must hold.
func rewrite(t *testing.T, f *frame, index int64, text, instead string) bool {
	if f.Kind != frameEntries || index < f.First || index >= f.First+int64(len(f.Entries)) {
		return false
	}
	e := &f.Entries[index-f.First]
	forged := bytes.Replace(*e, []byte(text), []byte(instead), 1)
	if bytes.Equal(forged, *e) {
		t.Errorf("nothing to forge in %s", *e)
	}
	*e = forged
	return true
}

// onEntries lies in frames of entries.
func onEntries(change func(f *frame)) func(*testing.T, *origin, *frame, io.Writer) (bool, bool) {
	return func(_ *testing.T, _ *origin, f *frame, _ io.Writer) (bool, bool) {
		if f.Kind != frameEntries {
			return true, false
		}
		change(f)
		return true, true
	}
}

func onSeal(change func(f *frame)) func(*testing.T, *origin, *frame, io.Writer) (bool, bool) {
	return func(_ *testing.T, _ *origin, f *frame, _ io.Writer) (bool, bool) {
		if f.Kind != frameSeal {
			return true, false
		}
		change(f)
		return true, true
	}
}

// raw sends bytes in place of the first frame.
func raw(b []byte) func(*testing.T, *origin, *frame, io.Writer) (bool, bool) {
	return func(_ *testing.T, _ *origin, _ *frame, out io.Writer) (bool, bool) {
		_, _ = out.Write(b)
		return false, true
	}
}

func forge(index int64, text, instead string) func(*testing.T, *origin, *frame, io.Writer) (bool, bool) {
	return func(t *testing.T, _ *origin, f *frame, _ io.Writer) (bool, bool) {
		return true, rewrite(t, f, index, text, instead)
	}
}

func framed(body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func lies() []lie {
	return []lie{
		{"an outcome that the gates do not give", leftEntry, forge(40, `"code":0`, `"code":6`)},
		{"another head", leftEntry, forge(40, `"head":"`, `"head":"0`)},
		{"another envelope", leftEntry, forge(40, `"session":"s40"`, `"session":"x40"`)},
		{"another log time", leftEntry, forge(40, `"time":1772452800010`, `"time":1772452799999`)},
		{"another index", leftEntry, forge(40, `"index":40`, `"index":41`)},
		{"another region in the entry", leftEntry, forge(40, `"region":"a","time"`, `"region":"b","time"`)},
		{"another founding document", leftEntry, forge(0, `"document_digest":"`, `"document_digest":"0`)},
		{"an unknown state version", leftEntry, forge(0, `"state_version":`, `"state_version":9`)},
		{"an entry of a later program", leftEntry, forge(40, `"v":1}`, `"v":2}`)},
		{"white space in an entry", leftEntry, forge(40, `"v":1}`, `"v":1 }`)},
		{"no JSON", leftEntry, onEntries(func(f *frame) { f.Entries[len(f.Entries)-1] = []byte("\x00\xff") })},
		{"a gap in a frame", leftEntry, onEntries(func(f *frame) { f.Entries = slices.Delete(f.Entries, 5, 6) })},
		{"a gap between frames", leftOrder, onEntries(func(f *frame) { f.First, f.Entries = f.First+1, f.Entries[1:] })},
		{"two entries in the wrong order", leftEntry, onEntries(func(f *frame) { f.Entries[7], f.Entries[8] = f.Entries[8], f.Entries[7] })},
		{"an entry twice", leftEntry, onEntries(func(f *frame) { f.Entries[8] = f.Entries[7] })},
		{"an entry of no bytes", leftMalformed, onEntries(func(f *frame) { f.Entries[3] = nil })},
		{"an entry of too many bytes", leftMalformed, onEntries(func(f *frame) { f.Entries[3] = make([]byte, 65536) })},
		{"a frame without entries", leftMalformed, onEntries(func(f *frame) { f.Entries = nil })},
		{"a frame of too many entries", leftMalformed, onEntries(func(f *frame) {
			f.Size, f.Entries = 1<<20, slices.Repeat([][]byte{{'x'}}, FrameEntriesMax+1)
		})},
		{"more entries than it says it has", leftMalformed, onEntries(func(f *frame) { f.Size = f.First })},
		{"an unknown kind of frame", leftMalformed, onEntries(func(f *frame) { f.Kind = 9 })},
		{"entries in a heartbeat", leftMalformed, onEntries(func(f *frame) { f.Kind = frameHeartbeat })},
		{"nothing, saying that there is something", leftOrder, onEntries(func(f *frame) { f.Kind, f.First, f.Entries = frameHeartbeat, 0, nil })},
		{"a frame that is too long", leftMalformed, raw([]byte{0, 0x10, 0, 1, 1})},
		{"the longest length there is", leftMalformed, raw([]byte{0xff, 0xff, 0xff, 0xff, 1})},
		{"a frame of no bytes", leftMalformed, raw([]byte{0, 0, 0, 0})},
		{"another frame version", leftMalformed, raw(framed(2, 0xa0))},
		{"garbage", leftMalformed, raw(framed(1, 0xff, 0x13, 0x37))},
		{"a map without end", leftMalformed, raw(framed(1, 0xbf, 0x01, 0x01, 0xff))},
		{"an array of a billion", leftMalformed, raw(framed(1, 0xa1, 0x07, 0x9a, 0x3b, 0x9a, 0xca, 0x00))},
		{"a seal of another state", leftEntry, onSeal(func(f *frame) { f.Seal.State[5] ^= 1 })},
		{"a seal of another root", leftEntry, onSeal(func(f *frame) { f.Seal.Root[5] ^= 1 })},
		{"a seal of another origin", leftEntry, onSeal(func(f *frame) { f.Seal.Origin = "test/b" })},
		{"a seal of another time", leftEntry, onSeal(func(f *frame) { f.Seal.TimeMillis++ })},
		{"a seal with a short hash", leftMalformed, onSeal(func(f *frame) { f.Seal.State = f.Seal.State[:31] })},
		{"a seal of another number", leftOrder, onSeal(func(f *frame) { f.Seal.Number, f.Seals = 1<<30, 1<<31; f.Size = 1 << 31 })},
		{"a seal of another size", leftOrder, onSeal(func(f *frame) { f.Seal.Size-- })},
		{"entries of another region", leftEntry, func(t *testing.T, o *origin, f *frame, _ io.Writer) (bool, bool) {
			if f.Kind != frameEntries {
				return true, false
			}
			f.Entries = newOrigin(t, o.fed, "b").grow(20).entries()
			return true, true
		}},
		{"a seal twice under two numbers", leftOrder, func(_ *testing.T, _ *origin, f *frame, out io.Writer) (bool, bool) {
			if f.Kind != frameSeal {
				return true, false
			}
			_ = p2p.WriteMessage(out, FrameBytesMax, f)
			f.Seal.Number++
			f.Seals++
			return true, true
		}},
		{"a seal before its place", leftOrder, func(_ *testing.T, _ *origin, f *frame, out io.Writer) (bool, bool) {
			if f.Kind != frameEntries {
				return true, false
			}
			seal := &wireSeal{Origin: "test/a", Size: 61, Root: make([]byte, 32), State: make([]byte, 32), DocumentDigest: make([]byte, 32)}
			_ = p2p.WriteMessage(out, FrameBytesMax, &frame{Kind: frameSeal, Size: f.Size, Seals: f.Seals, TimeMillis: f.TimeMillis, Seal: seal})
			return true, true
		}},
	}
}

func TestPeersThatLieAreLeftAndNothingFalseIsTaken(t *testing.T) {
	for _, c := range lies() {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				fed := openFed()
				o := newOrigin(t, fed, "a").grow(60).seal().grow(10)
				told := 0
				n.add("liar", relay(serves(o.server()), func(f *frame, out io.Writer) bool {
					forward, lied := c.tell(t, o, f, out)
					if lied {
						told++
					}
					return forward
				}))
				n.add("honest", nil) // at first the liar is alone
				r := start(t, fed, n)
				pass(time.Second)
				if told == 0 {
					t.Fatal("no lie was told")
				}
				prefixOf(t, o, r.replica)
				if r.replica.Size() == o.m.Size() && c.reason != leftOrder {
					t.Fatal("all was taken from the liar: the lie changed nothing")
				}
				if got := r.f.metrics.left.With(c.reason).Value(); got != 1 {
					t.Fatalf("the liar was left %v times for %q; refused: %s", got, c.reason, r.f.Status().Refused)
				}
				if r.f.Status().Refused == "" || strings.Contains(r.f.Status().Refused, "no route") {
					t.Fatalf("the status does not say what was refused: %+v", r.f.Status())
				}
				if r.diverged.Load() != nil {
					t.Fatal("one liar of two peers made the replica doubt itself")
				}
				n.add("honest", serves(o.server()))
				pass(time.Minute)
				sameAs(t, o, r.replica)
				o.grow(2).seal()
				synctest.Wait()
				sameAs(t, o, r.replica)
				if n.opened("liar") != 1 || r.f.Status().Peer != "honest" || r.f.Status().Refused != "" {
					t.Fatalf("the liar was asked %d times; now followed: %+v", n.opened("liar"), r.f.Status())
				}
				_ = r.stop()
			})
		})
	}
}

// TestALiarIsAskedAgainOnlyMuchLater has nobody else to ask.
func TestALiarIsAskedAgainOnlyMuchLater(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed := openFed()
		o := newOrigin(t, fed, "a").grow(10)
		garbage := raw(framed(1, 0xff))
		n.add("liar", relay(serves(o.server()), func(f *frame, out io.Writer) bool {
			forward, _ := garbage(t, o, f, out)
			return forward
		}))
		n.add("gone", nil)
		r := start(t, fed, n)
		pass(2 * time.Minute)
		if n.opened("liar") != 1 {
			t.Fatalf("asked %d times within two minutes", n.opened("liar"))
		}
		pass(time.Hour)
		if got := n.opened("liar"); got < 12 || got > 26 {
			t.Fatalf("asked %d times within an hour", got)
		}
		_ = r.stop()
	})
}

// TestALongFrameIsRefusedBeforeItIsRead has a peer announce a frame and then send as
// much as it is let.
func TestALongFrameIsRefusedBeforeItIsRead(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed := openFed()
		sent := 0
		n.add("liar", func(_ context.Context, s Stream) error {
			if _, err := readRequest(s); err != nil {
				return err
			}
			b := binary.BigEndian.AppendUint32(nil, 1<<31)
			for {
				k, err := s.Write(b)
				sent += k
				if err != nil {
					return err
				}
				b = make([]byte, 1<<16)
			}
		})
		n.add("gone", nil)
		r := start(t, fed, n)
		pass(time.Second)
		if r.f.metrics.left.With(leftMalformed).Value() != 1 || sent == 0 || sent > 1<<17 {
			t.Fatalf("left after %d bytes: %+v", sent, r.f.Status())
		}
		_ = r.stop()
	})
}
