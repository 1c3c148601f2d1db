package p2p

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

type sample struct {
	Text  string   `cbor:"1,keyasint"`
	Bytes []byte   `cbor:"2,keyasint,omitempty"`
	List  []uint64 `cbor:"3,keyasint,omitempty"`
	Inner *sample  `cbor:"4,keyasint,omitempty"`
}

func frame(body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := sample{Text: rapid.String().Draw(t, "text"), Bytes: rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"), List: rapid.SliceOf(rapid.Uint64()).Draw(t, "list")}
		var wire bytes.Buffer
		if err := WriteMessage(&wire, 1<<20, &in); err != nil {
			t.Fatal(err)
		}
		first := bytes.Clone(wire.Bytes())
		var out sample
		if err := ReadMessage(iotest.OneByteReader(&wire), 1<<20, &out); err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if err := WriteMessage(&again, 1<<20, &out); err != nil || !bytes.Equal(again.Bytes(), first) {
			t.Fatalf("not the same bytes again: %v", err)
		}
	})
}

func TestFrameAtItsLimit(t *testing.T) {
	in := sample{Text: strings.Repeat("x", 1000)}
	body, err := Marshal(&in)
	if err != nil {
		t.Fatal(err)
	}
	exact := 1 + len(body)
	var wire bytes.Buffer
	if err := WriteMessage(&wire, exact-1, &in); !errors.Is(err, ErrFrameTooLong) || wire.Len() != 0 {
		t.Errorf("one byte too long was written: %v, %d bytes", err, wire.Len())
	}
	if err := WriteMessage(&wire, exact, &in); err != nil {
		t.Fatal(err)
	}
	var out sample
	if err := ReadMessage(bytes.NewReader(wire.Bytes()), exact-1, &out); !errors.Is(err, ErrFrameTooLong) {
		t.Errorf("one byte too long was read: %v", err)
	}
	if err := ReadMessage(&wire, exact, &out); err != nil || out.Text != in.Text {
		t.Errorf("at the limit: %v", err)
	}
}

func TestFrameBroken(t *testing.T) {
	deep := bytes.Repeat([]byte{0x81}, messageNestedMax+1)
	cases := []struct {
		name string
		wire []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a header", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"header only", frame(1, 0xa0)[:4], io.ErrUnexpectedEOF},
		{"one byte short", frame(1, 0xa1, 0x01, 0x61, 'x')[:8], io.ErrUnexpectedEOF},
		{"no bytes", frame(), ErrFrameMalformed},
		{"version 0", frame(0, 0xa0), ErrFrameVersion},
		{"version 2", frame(2, 0xa0), ErrFrameVersion},
		{"version and nothing", frame(1), ErrFrameMalformed},
		{"huge length", []byte{0xff, 0xff, 0xff, 0xff, 1}, ErrFrameTooLong},
		{"not CBOR", frame(1, 0xff, 0xfe), ErrFrameMalformed},
		{"an array", frame(1, 0x80), ErrFrameMalformed},
		{"trailing byte", frame(1, 0xa0, 0x00), ErrFrameMalformed},
		{"unknown field", frame(1, 0xa1, 0x09, 0x00), ErrFrameMalformed},
		{"key twice", frame(1, 0xa2, 0x01, 0x61, 'x', 0x01, 0x61, 'y'), ErrFrameMalformed},
		{"indefinite map", frame(1, 0xbf, 0x01, 0x61, 'x', 0xff), ErrFrameMalformed},
		{"indefinite text", frame(1, 0xa1, 0x01, 0x7f, 0x61, 'x', 0xff), ErrFrameMalformed},
		{"a tag", frame(1, 0xa1, 0x01, 0xc0, 0x61, 'x'), ErrFrameMalformed},
		{"text that is not UTF-8", frame(1, 0xa1, 0x01, 0x61, 0xff), ErrFrameMalformed},
		{"array longer than any", frame(1, 0xa1, 0x03, 0x9a, 0xff, 0xff, 0xff, 0xff), ErrFrameMalformed},
		{"nested too deep", frame(append([]byte{1, 0xa1, 0x03}, append(deep, 0x00)...)...), ErrFrameMalformed},
	}
	for _, c := range cases {
		var out sample
		if err := ReadMessage(bytes.NewReader(c.wire), 1<<16, &out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestFrameLengthReservesNothing(t *testing.T) {
	const claimed = 256 << 20
	wire := binary.BigEndian.AppendUint32(nil, claimed)
	wire = append(wire, 1, 0xa1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var out sample
	err := ReadMessage(bytes.NewReader(wire), claimed, &out)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("a frame that never came: %v", err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
		t.Errorf("%d bytes allocated for a length of %d and two bytes", took, claimed)
	}
}

func FuzzReadMessage(f *testing.F) {
	for _, s := range []sample{{}, {Text: "x", Bytes: []byte{1}, List: []uint64{1, 1 << 40}}, {Inner: &sample{Text: "y"}}} {
		var wire bytes.Buffer
		if err := WriteMessage(&wire, 1<<16, &s); err != nil {
			f.Fatal(err)
		}
		f.Add(wire.Bytes())
	}
	f.Add(frame(1, 0xbf, 0xff))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, wire []byte) {
		var out sample
		if ReadMessage(bytes.NewReader(wire), 1<<16, &out) != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteMessage(&again, 1<<17, &out); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		var back sample
		if err := ReadMessage(&again, 1<<17, &back); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

func FuzzJoinMessages(f *testing.F) {
	for _, m := range []any{joinRequest{Region: "a", Addresses: []string{"/ip4/1.2.3.4/tcp/1"}},
		joinResponse{Region: "a", Role: "voter", Peers: []PeerRecord{{ID: []byte("x"), Addresses: []string{"y"}}}}, reply{Code: "busy"}} {
		b, err := Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []any{&joinRequest{}, &joinResponse{}, &reply{}} {
			if Unmarshal(b, m) != nil {
				continue
			}
			if _, err := Marshal(m); err != nil {
				t.Fatalf("%T read from %x cannot be written: %v", m, b, err)
			}
		}
	})
}
