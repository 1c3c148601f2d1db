package p2p

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/internal/testfed"
)

func addr(n int) ma.Multiaddr {
	return ma.StringCast(fmt.Sprintf("/ip4/10.0.%d.%d/tcp/4001", n/250, n%250+1))
}

func TestBookRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers.json")
	b := OpenBook(path, quiet())
	p, q := idOf(t, testfed.Key("p")), idOf(t, testfed.Key("q"))
	if !b.Told(p, []ma.Multiaddr{addr(1), addr(2)}) || b.Told(p, []ma.Multiaddr{addr(2)}) || b.Learn(p, []ma.Multiaddr{addr(1)}) {
		t.Error("news are not told from what is known")
	}
	if !b.Learn(p, []ma.Multiaddr{addr(3), ma.StringCast("/ip4/0.0.0.0/tcp/1"), ma.StringCast("/ip4/1.2.3.4/udp/1")}) {
		t.Error("hearsay was not taken")
	}
	b.Invited(q, []byte(`{"x":"ü"}`))
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	again := OpenBook(path, quiet())
	if got := fmt.Sprint(again.Addresses(p)); got != fmt.Sprint([]ma.Multiaddr{addr(2), addr(1), addr(3)}) {
		t.Errorf("addresses %s: want what the peer told last, what it told before, hearsay", got)
	}
	if got := again.Invitations(); len(got) != 1 || string(got[q]) != `{"x":"ü"}` {
		t.Errorf("invitations %q", got)
	}
	if !bytes.Equal(again.encode(), b.encode()) {
		t.Error("it is written otherwise after it was read")
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	again.Forget(p)
	if got := again.Peers(); len(got) != 1 || got[0] != q {
		t.Errorf("after forgetting: %v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}

func TestBookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "peers.json")
		b := OpenBook(path, quiet())
		long := func(i, j int) ma.Multiaddr {
			const tail = "/udp/65535/quic-v1"
			host := fmt.Sprintf("n%d-%d.", i, j)
			return ma.StringCast("/dns4/" + host + strings.Repeat("x", AddressBytesMax-len("/dns4/")-len(host)-len(tail)) + tail)
		}
		first, second := idOf(t, testfed.Key("0")), idOf(t, testfed.Key("1"))
		for i := range BookPeersMax + 1 {
			id := idOf(t, testfed.Key(fmt.Sprint(i)))
			addrs := make([]ma.Multiaddr, 0, AddressesMax+1)
			for j := range AddressesMax + 1 {
				addrs = append(addrs, long(i, j))
			}
			if i == BookPeersMax {
				b.Told(first, nil) // heard of again, so that the second is the oldest
			}
			b.Told(id, addrs)
			b.Invited(id, bytes.Repeat([]byte("i"), 1024))
			elapse(time.Millisecond)
		}
		if n := len(b.Peers()); n != BookPeersMax {
			t.Errorf("%d peers, want %d", n, BookPeersMax)
		}
		if len(b.Addresses(second)) != 0 || len(b.Addresses(first)) != AddressesMax {
			t.Errorf("not the oldest went: second has %d addresses, first %d", len(b.Addresses(second)), len(b.Addresses(first)))
		}
		if n := len(b.encode()); n > BookBytesMax {
			t.Errorf("a full book has %d bytes, more than the %d that are read", n, BookBytesMax)
		}
		b.Told(first, []ma.Multiaddr{addr(1)})
		if err := b.Save(); err != nil {
			t.Fatal(err)
		}
		if n := len(OpenBook(path, quiet()).Peers()); n != BookPeersMax {
			t.Errorf("%d of a full book's peers were read", n)
		}
		b.Learn(first, []ma.Multiaddr{addr(9)})
		if got := b.Addresses(first); len(got) != AddressesMax || !got[AddressesMax-1].Equal(addr(9)) || !got[0].Equal(addr(1)) {
			t.Errorf("hearsay in a full entry: %v", got)
		}
	})
}

func TestBookOfNoUse(t *testing.T) {
	id := idOf(t, testfed.Key("p"))
	entry := func(members string) string { return `{"peers":[{` + members + `}],"v":1}` }
	good := fmt.Sprintf(`"id":%q,"addresses":["/ip4/1.2.3.4/tcp/1"],"seen_ms":1`, id.String())
	for name, text := range map[string]string{
		"empty": "", "cut off": entry(good)[:40], "another version": `{"peers":[],"v":2}`, "unknown member": entry(good + `,"x":1`),
		"no identity": entry(`"id":"x","addresses":[],"seen_ms":1`), "twice the member": entry(good + `,"seen_ms":1`),
		"too many addresses": entry(fmt.Sprintf(`"id":%q,"seen_ms":1,"addresses":[%s"/"]`, id.String(), strings.Repeat(`"/",`, AddressesMax))),
		"too long":           entry(good) + strings.Repeat(" ", BookBytesMax),
	} {
		path := filepath.Join(t.TempDir(), "peers.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		b := OpenBook(path, slog.New(slog.NewTextHandler(&log, nil)))
		if len(b.Peers()) != 0 || !strings.Contains(log.String(), "address book not used") {
			t.Errorf("%s: %d peers, logged %q", name, len(b.Peers()), log.String())
		}
		b.Told(id, []ma.Multiaddr{addr(1)})
		if err := b.Save(); err != nil {
			t.Errorf("%s: it could not be written anew: %v", name, err)
		}
		if len(OpenBook(path, quiet()).Peers()) != 1 {
			t.Errorf("%s: what was written anew does not read", name)
		}
	}
	b := OpenBook(filepath.Join(t.TempDir(), "missing", "peers.json"), quiet())
	b.Told(id, []ma.Multiaddr{addr(1)})
	if err := b.Save(); err == nil {
		t.Error("written into a directory that is not there")
	}
	if !b.dirty {
		t.Error("what could not be written counts as written")
	}
	if err := OpenBook("", quiet()).Save(); err != nil {
		t.Errorf("a book without a file: %v", err)
	}
}

// An interrupted write leaves the old book whole.
func TestBookSurvivesAnInterruptedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers.json")
	b := OpenBook(path, quiet())
	id := idOf(t, testfed.Key("p"))
	b.Told(id, []ma.Multiaddr{addr(1)})
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(`{"peers":[{"addr`), 0o600); err != nil {
		t.Fatal(err)
	}
	b = OpenBook(path, quiet())
	if len(b.Peers()) != 1 {
		t.Fatal("the old book is gone")
	}
	b.Told(id, []ma.Multiaddr{addr(2)})
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	if got := OpenBook(path, quiet()).Addresses(id); len(got) != 2 {
		t.Errorf("after the next write: %v", got)
	}
}

func TestBookProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := OpenBook("", quiet())
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			p := peer.ID(fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "peer")))
			var addrs []ma.Multiaddr
			for _, n := range rapid.SliceOfN(rapid.IntRange(0, 12), 0, 10).Draw(t, "addresses") {
				addrs = append(addrs, addr(n))
			}
			before := b.Addresses(p)
			told := rapid.Bool().Draw(t, "told")
			var news bool
			if told {
				news = b.Told(p, addrs)
			} else {
				news = b.Learn(p, addrs)
			}
			after := b.Addresses(p)
			if len(after) > AddressesMax {
				t.Fatalf("%d addresses", len(after))
			}
			grew := false
			for i, a := range after {
				grew = grew || !ma.Contains(before, a)
				if ma.Contains(after[:i], a) {
					t.Fatalf("%v twice", a)
				}
				if !ma.Contains(before, a) && !ma.Contains(addrs, a) {
					t.Fatalf("%v from nowhere", a)
				}
			}
			if news != grew {
				t.Fatalf("news %v, grew %v: %v to %v", news, grew, before, after)
			}
			if told && len(addrs) > 0 && !after[0].Equal(addrs[0]) {
				t.Fatalf("told %v, first is %v", addrs, after[0])
			}
		}
	})
}

func FuzzBook(f *testing.F) {
	b := OpenBook("", quiet())
	id, err := PeerID(testfed.Key("p").Public())
	if err != nil {
		f.Fatal(err)
	}
	b.Told(id, []ma.Multiaddr{addr(1)})
	b.Invited(id, []byte("{}"))
	f.Add(b.encode())
	f.Add([]byte(`{"peers":[],"v":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := OpenBook("", quiet())
		if b.parse(text) != nil {
			return
		}
		again := OpenBook("", quiet())
		if err := again.parse(b.encode()); err != nil || !bytes.Equal(again.encode(), b.encode()) {
			t.Fatalf("what was read does not read back: %v", err)
		}
	})
}
