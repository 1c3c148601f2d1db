package region

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func writeFiles(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, fileMode); err != nil {
			t.Fatal(err)
		}
	}
}

func packed(t testing.TB, applied uint64, files map[string][]byte) []byte {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, files)
	p, err := newPacker(dir, applied)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(p)
	if err = errors.Join(err, p.Close()); err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != p.size {
		t.Fatalf("%d bytes, announced %d", len(b), p.size)
	}
	return b
}

func TestStreamCarriesADirectory(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		files := rapid.MapOfN(rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9._-]{0,20}`), rapid.SliceOfN(rapid.Byte(), 0, 4000), 1, 8)
		dirs := files.Draw(r, "files")
		applied := rapid.Uint64().Draw(r, "applied")
		stream := packed(t, applied, dirs)
		to := t.TempDir()
		u := newUnpacker(to, &disk{}, 1<<20)
		for rest := stream; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(r, "chunk")
			if _, err := u.Write(rest[:n]); err != nil {
				r.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := u.finish(); err != nil {
			r.Fatal(err)
		}
		if u.applied != applied {
			r.Fatalf("applied %d, want %d", u.applied, applied)
		}
		for name, content := range dirs {
			if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, content) {
				r.Fatalf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	})
}

func TestPackerRefusesWhatItCannotCarry(t *testing.T) {
	empty, nested, odd := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(nested, "dir"), dirMode); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, odd, map[string][]byte{"a b": nil})
	for _, dir := range []string{empty, nested, odd, filepath.Join(empty, "absent")} {
		if _, err := newPacker(dir, 0); err == nil {
			t.Errorf("%s was packed", dir)
		}
	}
	// A file that shrinks on the way must not go unnoticed.
	dir := t.TempDir()
	writeFiles(t, dir, map[string][]byte{"a": make([]byte, 1000)})
	p, err := newPacker(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "a"), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(p); err == nil {
		t.Error("a file that shrank was sent")
	}
	_ = p.Close()
}

func TestUnpackerBounds(t *testing.T) {
	file := func(name string, size uint64) []byte {
		b := append([]byte{byte(len(name))}, name...)
		for i := 7; i >= 0; i-- {
			b = append(b, byte(size>>(8*i)))
		}
		return b
	}
	start := append([]byte(streamMagic), make([]byte, streamIndexBytes)...)
	for name, b := range map[string][]byte{
		"a path":           file("../evil", 0),
		"an absolute path": file("/etc/passwd", 0),
		"a parent":         file("..", 0),
		"a hidden file":    file(".x", 0),
		"a zero byte":      file("a\x00b", 0),
		"a long name":      file(strings.Repeat("a", 129), 0),
		"twice":            append(file("a", 0), file("a", 0)...),
		"out of order":     append(file("b", 0), file("a", 0)...),
		"larger than free": file("a", 1001),
		"huge":             file("a", 1<<63),
		"together too big": append(append(file("a", 600), make([]byte, 600)...), file("b", 600)...),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			u := newUnpacker(dir, &disk{}, 1000)
			defer u.close()
			if _, err := u.Write(append(bytes.Clone(start), b...)); !errors.Is(err, ErrSnapshotStream) {
				t.Errorf("%v", err)
			}
			if _, err := u.Write([]byte{0}); err == nil {
				t.Error("it goes on after an error")
			}
		})
	}
}

func FuzzUnpacker(f *testing.F) {
	good := packed(f, 7, map[string][]byte{"MANIFEST-000001": []byte("abc"), "000002.sst": bytes.Repeat([]byte{7}, 300)})
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte(streamMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		u := newUnpacker(dir, &disk{}, 1<<16)
		defer u.close()
		if _, err := u.Write(b); err != nil || u.finish() != nil {
			return
		}
		// What was taken packs to the same bytes.
		p, err := newPacker(dir, u.applied)
		if err != nil {
			t.Fatal(err)
		}
		again, err := io.ReadAll(p)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%d bytes became %d (%v)", len(b), len(again), err)
		}
	})
}

func somePointer() *pointer {
	return &pointer{Index: 9, Term: 2, ConfigurationIndex: 3, Applied: 8, StateBytes: 77, Configuration: raft.Configuration{
		Servers: []raft.Server{{ID: "a", Address: "a"}, {ID: "b", Address: "b", Suffrage: raft.Nonvoter}}}}
}

func FuzzPointer(f *testing.F) {
	good, err := somePointer().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePointer(b)
		if err != nil {
			return
		}
		again, err := p.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x became %x (%v)", b, again, err)
		}
	})
}

func TestPointerIsChecked(t *testing.T) {
	good, err := somePointer().encode()
	if err != nil {
		t.Fatal(err)
	}
	p, err := decodePointer(good)
	if err != nil || p.Index != 9 || p.Applied != 8 || len(p.Configuration.Servers) != 2 || p.Configuration.Servers[1].Suffrage != raft.Nonvoter {
		t.Errorf("%+v, %v", p, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := decodePointer(bad); err == nil {
			t.Errorf("a pointer with byte %d changed was taken", i)
		}
	}
	for name, change := range map[string]func(*pointer){
		"no index":                func(p *pointer) { p.Index = 0 },
		"state beyond it":         func(p *pointer) { p.Applied = 10 },
		"no servers":              func(p *pointer) { p.Configuration.Servers = nil },
		"a later configuration":   func(p *pointer) { p.ConfigurationIndex = 10 },
		"a server without a name": func(p *pointer) { p.Configuration.Servers[0].ID = "" },
	} {
		p := somePointer()
		change(p)
		b, err := p.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodePointer(b); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}
