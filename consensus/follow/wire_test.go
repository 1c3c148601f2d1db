package follow

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/p2p"
)

func encoded(t testing.TB, message any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p2p.WriteMessage(&b, 4*FrameBytesMax, message); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func someSeal() *wireSeal {
	h := bytes.Repeat([]byte{7}, 32)
	return &wireSeal{Number: 1, Origin: "f/a", Size: 5, Root: h, State: h, TimeMillis: 9, Document: 1, DocumentDigest: h}
}

// goodFrames is one of each kind.
func goodFrames() []frame {
	return []frame{
		{Kind: frameEntries, Size: 9, Seals: 2, TimeMillis: logStart, AgeMillis: 5, First: 7, Entries: [][]byte{{1}, {2, 3}}},
		{Kind: frameSeal, Size: 9, Seals: 2, TimeMillis: logStart, Seal: someSeal()},
		{Kind: frameHeartbeat},
		{Kind: frameHeartbeat, Root: bytes.Repeat([]byte{9}, 32)},
		{Kind: frameRefusal, Size: 9, Code: refusedBeyond, Detail: "behind"},
		{Kind: frameDocument, Size: 9, Document: []byte("ab"), DocumentFrom: 3, DocumentSize: 5},
	}
}

func TestFramesArriveAsTheyWereSent(t *testing.T) {
	for _, f := range goodFrames() {
		got, err := readFrame(bytes.NewReader(encoded(t, &f)))
		if err != nil || !reflect.DeepEqual(*got, f) {
			t.Errorf("sent %+v, got %+v, %v", f, got, err)
		}
	}
	s := someSeal().seal()
	if got := newWireSeal(s); !reflect.DeepEqual(got, someSeal()) {
		t.Errorf("a seal became %+v", got)
	}
}

func TestFramesAtTheLimits(t *testing.T) {
	longest := bytes.Repeat([]byte{'x'}, ledger.EntryBytesMax)
	for _, c := range []struct {
		name string
		f    frame
		ok   bool
	}{
		{"longest entry", frame{Kind: frameEntries, Size: 1, Entries: [][]byte{longest}}, true},
		{"entry too long", frame{Kind: frameEntries, Size: 1, Entries: [][]byte{append(longest, 'x')}}, false},
		{"most entries", frame{Kind: frameEntries, Size: FrameEntriesMax, Entries: repeat(FrameEntriesMax)}, true},
		{"too many entries", frame{Kind: frameEntries, Size: FrameEntriesMax + 1, Entries: repeat(FrameEntriesMax + 1)}, false},
		{"last entry there can be", frame{Kind: frameEntries, Size: ledger.SizeMax, First: ledger.SizeMax - 1, Entries: repeat(1)}, true},
		{"beyond it", frame{Kind: frameEntries, Size: ledger.SizeMax + 1, First: ledger.SizeMax, Entries: repeat(1)}, false},
		{"negative first", frame{Kind: frameEntries, Size: 1, First: -1, Entries: repeat(1)}, false},
		{"negative size", frame{Kind: frameHeartbeat, Size: -1}, false},
		{"more seals than entries", frame{Kind: frameHeartbeat, Size: 3, Seals: 4}, false},
		{"oldest", frame{Kind: frameHeartbeat, AgeMillis: ageMillisMax}, true},
		{"too old", frame{Kind: frameHeartbeat, AgeMillis: ageMillisMax + 1}, false},
		{"negative age", frame{Kind: frameHeartbeat, AgeMillis: -1}, false},
		{"latest time", frame{Kind: frameHeartbeat, TimeMillis: logTimeMillisMax}, true},
		{"too late", frame{Kind: frameHeartbeat, TimeMillis: logTimeMillisMax + 1}, false},
		{"negative time", frame{Kind: frameHeartbeat, TimeMillis: -1}, false},
		{"longest refusal", frame{Kind: frameRefusal, Code: strings.Repeat("c", refusalCodeMax), Detail: strings.Repeat("d", refusalDetailMax)}, true},
		{"code too long", frame{Kind: frameRefusal, Code: strings.Repeat("c", refusalCodeMax+1)}, false},
		{"detail too long", frame{Kind: frameRefusal, Code: "c", Detail: strings.Repeat("d", refusalDetailMax+1)}, false},
		{"refusal without a code", frame{Kind: frameRefusal}, false},
		{"short root", frame{Kind: frameHeartbeat, Root: make([]byte, 31)}, false},
		{"long root", frame{Kind: frameHeartbeat, Root: make([]byte, 33)}, false},
		{"root of a refusal", frame{Kind: frameRefusal, Code: "c", Root: make([]byte, 32)}, false},
		{"no kind", frame{}, false},
		{"the longest document", frame{Kind: frameDocument, Document: longest, DocumentSize: federation.DocumentBytesMax}, true},
		{"longer than any", frame{Kind: frameDocument, Document: longest, DocumentSize: federation.DocumentBytesMax + 1}, false},
		{"a part beyond the end", frame{Kind: frameDocument, Document: []byte("ab"), DocumentFrom: 4, DocumentSize: 5}, false},
		{"a part from before the beginning", frame{Kind: frameDocument, Document: []byte("ab"), DocumentFrom: -1, DocumentSize: 5}, false},
		{"no part", frame{Kind: frameDocument, DocumentSize: 5}, false},
		{"a document in a heartbeat", frame{Kind: frameHeartbeat, Document: []byte("ab"), DocumentSize: 5}, false},
		{"the size of a document in a heartbeat", frame{Kind: frameHeartbeat, DocumentSize: 5}, false},
		{"first of no entries", frame{Kind: frameHeartbeat, First: 1}, false},
		{"seal of more than there is", frame{Kind: frameSeal, Size: 4, Seals: 2, Seal: someSeal()}, false},
		{"seal beyond the last", frame{Kind: frameSeal, Size: 9, Seals: 1, Seal: someSeal()}, false},
	} {
		if _, err := readFrame(bytes.NewReader(encoded(t, &c.f))); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := readFrame(bytes.NewReader([]byte{0, 0x10, 0, 1})); !errors.Is(err, p2p.ErrFrameTooLong) {
		t.Errorf("a frame of one byte too many: %v", err)
	}
}

func repeat(n int) [][]byte {
	entries := make([][]byte, n)
	for i := range entries {
		entries[i] = []byte{'x'}
	}
	return entries
}

func TestSealsAtTheLimits(t *testing.T) {
	for name, change := range map[string]func(*wireSeal){
		"number":      func(w *wireSeal) { w.Number = -1 },
		"size":        func(w *wireSeal) { w.Size = 0 },
		"large size":  func(w *wireSeal) { w.Size = ledger.SizeMax + 1 },
		"time":        func(w *wireSeal) { w.TimeMillis = -1 },
		"document":    func(w *wireSeal) { w.Document = -1 },
		"root":        func(w *wireSeal) { w.Root = nil },
		"state":       func(w *wireSeal) { w.State = make([]byte, 33) },
		"digest":      func(w *wireSeal) { w.DocumentDigest = make([]byte, 31) },
		"origin":      func(w *wireSeal) { w.Origin = "" },
		"long origin": func(w *wireSeal) { w.Origin = strings.Repeat("a", originBytesMax+1) },
	} {
		w := someSeal()
		change(w)
		if err := w.check(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := someSeal().check(); err != nil {
		t.Error(err)
	}
}

// FuzzReadFrame: whatever arrives, reading it ends without a panic, and what is taken for
// a frame keeps the limits and survives being sent on.
func FuzzReadFrame(f *testing.F) {
	for _, good := range goodFrames() {
		b := encoded(f, &good)
		f.Add(b)
		f.Add(b[:len(b)-1])
		f.Add(append(bytes.Clone(b), b...))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add(framed(1, 0xbf, 0xff))
	f.Add(append(framed(1), '0')) // a version and nothing else
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			got, err := readFrame(r)
			if err != nil {
				if errors.Is(err, io.EOF) && !errors.Is(err, p2p.ErrFrameMalformed) && r.Len() > 0 {
					t.Fatalf("%d bytes were left at the end", r.Len())
				}
				return
			}
			if got.Kind == frameEntries && (len(got.Entries) == 0 || len(got.Entries) > FrameEntriesMax || got.First+int64(len(got.Entries)) > got.Size) {
				t.Fatalf("taken: %d entries from %d of %d", len(got.Entries), got.First, got.Size)
			}
			if got.Kind == frameSeal {
				_ = got.Seal.seal().Body()
			}
			again, err := readFrame(bytes.NewReader(encoded(t, got)))
			if err != nil || !reflect.DeepEqual(again, got) {
				t.Fatalf("%+v was sent on as %+v: %v", got, again, err)
			}
		}
	})
}

// FuzzReadRequest: whatever is asked, the answer is a request within the limits, a
// refusal, or an error of the frame.
func FuzzReadRequest(f *testing.F) {
	var good bytes.Buffer
	if err := writeRequest(&good, &requestBody{Region: "a", From: 5, FromSeal: 2, EntriesMax: 7}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(encoded(f, &request{1, []byte{0xa5, 1, 0x61, 'a', 2, 5, 3, 0, 4, 0, 5, 6}}))
	f.Add(encoded(f, &request{1, append([]byte{0xa5, 1, 0x61, 'a', 2, 5, 3, 0, 4, 0, 6, 0x58, 32}, make([]byte, 32)...)}))
	f.Add(encoded(f, &request{2, []byte{0xa0}}))
	f.Add(encoded(f, &request{1, []byte{0xa1, 1, 1}}))
	f.Add(framed(1, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := readRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := errors.Join(body.check(), writeRequest(&again, body)); err != nil {
			t.Fatalf("%+v: %v", body, err)
		}
		if second, err := readRequest(&again); err != nil || !reflect.DeepEqual(second, body) {
			t.Fatalf("%+v was asked on as %+v: %v", body, second, err)
		}
	})
}
