package prefixtree

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzProofUnmarshal(f *testing.F) {
	kv := newMemory()
	set := numbered(30)
	set[[32]byte{0: 0x55, 31: 1}] = [32]byte{1}
	set[[32]byte{0: 0x55, 31: 3}] = [32]byte{3}
	for _, batch := range [][]Change{nil, set.changes()} {
		if _, err := Update(kv, batch); err != nil {
			f.Fatal(err)
		}
		for _, key := range [][32]byte{{}, {0: 0x55, 31: 1}, {0: 0x55, 31: 2}, {0: 0x55, 30: 2}} {
			p, err := Prove(kv, key)
			if err != nil {
				f.Fatal(err)
			}
			b, err := p.MarshalBinary()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	root, err := Root(kv)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Proof
		if err := p.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrProofFormat) {
				t.Fatalf("UnmarshalBinary: %v", err)
			}
			return
		}
		again, err := p.MarshalBinary()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
		text, err := p.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := new(Proof).UnmarshalText(text); err != nil {
			t.Fatalf("text form: %v", err)
		}
		// Whatever the bytes, they do not show what is false.
		for key, value := range set {
			if p.Verify(root, key, nil) == nil {
				t.Fatalf("%x shows that %x is absent", b, key)
			}
			value[0] ^= 1
			if p.Verify(root, key, &value) == nil {
				t.Fatalf("%x shows a false value of %x", b, key)
			}
		}
	})
}

func FuzzProofText(f *testing.F) {
	f.Add([]byte("AQEAAA=="))
	f.Add([]byte("AQEA\nAA=="))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Proof
		if p.UnmarshalText(text) != nil {
			return
		}
		again, err := p.MarshalText()
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q became %q, %v", text, again, err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	kv := newMemory()
	for _, set := range []pairs{{{7}: {8}}, numbered(5), {{}: {}, {31: 1}: {}}} {
		if _, err := Update(kv, set.changes()); err != nil {
			f.Fatal(err)
		}
		for key, record := range kv.records {
			f.Add([]byte(key), record)
		}
	}
	f.Fuzz(func(t *testing.T, key, record []byte) {
		if top, err := decodeTop(record); err == nil {
			if again := encodeTop(&top); !bytes.Equal(again, record) {
				t.Fatalf("top: %x became %x", record, again)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("decodeTop: %v", err)
		}
		if len(key) < 2 || len(key) > 34 {
			return
		}
		var bits [32]byte
		copy(bits[:], key[1:len(key)-1])
		l := prefixOf(bits, uint16(key[len(key)-1]))
		var n inner
		if err := n.decode(&l, record); err == nil {
			if again := n.encode(); !bytes.Equal(again, record) || len(record) > NodeBytesMax {
				t.Fatalf("inner: %x became %x", record, again)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("decode: %v", err)
		}
		// Hostile records in place of a tree: errors, never a panic or an endless way.
		kv := newMemory()
		kv.records[string(topKey())] = record
		kv.records[string(key)] = record
		_, _ = Prove(kv, bits)
		_ = Walk(kv, func(_, _ [32]byte) error { return nil })
		_, _ = Update(kv, []Change{{bits, &bits}, {Key: [32]byte{1}}})
	})
}
