package node

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

// TestHomesThatAreRefused damages one thing in a home at a time.
func TestHomesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		says   string
	}{
		"no home":             {func(dir string) error { return os.Remove(filepath.Join(dir, FileNode)) }, "federation new"},
		"newer home":          {func(dir string) error { return write(dir, FileNode, `{"v":2}`) }, "a newer bizra may read it"},
		"no node key":         {func(dir string) error { return os.Remove(filepath.Join(dir, FileNodeKey)) }, FileNodeKey},
		"key others can read": {func(dir string) error { return os.Chmod(filepath.Join(dir, FileNodeKey), 0o644) }, "chmod 600"},
		"no document":         {func(dir string) error { return os.Remove(filepath.Join(dir, FileDocument)) }, "copy it from another node"},
		"broken document":     {func(dir string) error { return write(dir, FileDocument, `{`) }, FileDocument},
		"another region":      {func(dir string) error { return write(dir, FileNode, `{"v":1,"name":"x","region":"zz","role":"voter"}`) }, `no region "zz"`},
		"another log key": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, FileLogKey)), testfed.Key("other").Save(filepath.Join(dir, FileLogKey)))
		}, "is not the key that the federation document names"},
		"no cosign key": {func(dir string) error { return os.Remove(filepath.Join(dir, FileCosignKey)) }, "a voter needs"},
		"no keys where a member was made a voter": {func(dir string) error {
			return errors.Join(write(dir, FileNode, `{"v":1,"name":"x","region":"a","role":"member"}`), os.Mkdir(filepath.Join(dir, folderRaft), 0o700),
				os.Remove(filepath.Join(dir, FileLogKey)), os.Remove(filepath.Join(dir, FileCosignKey)))
		}, "a voter needs"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := newHome(t)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Start(t.Context(), Config{Home: dir})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error that says %q", err, c.says)
			}
		})
	}
}

func write(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
}

func TestPinAndBusyAddress(t *testing.T) {
	dir, fed := newHome(t)
	if _, err := Start(t.Context(), Config{Home: dir, Pin: &[32]byte{1}}); err == nil || !strings.Contains(err.Error(), "another federation") {
		t.Errorf("a document that is not the pinned one: %v", err)
	}
	pin := fed.Document.Digest()
	n, err := Start(t.Context(), Config{Home: dir, Pin: &pin, HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	other, _ := newHome(t)
	if _, err := Start(t.Context(), Config{Home: other, HTTP: n.listen.Addr().String()}); err == nil || !strings.Contains(err.Error(), "--http") {
		t.Errorf("an address that is taken: %v", err)
	}
	if err := n.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestMetricsOfTheRunbook asks a running node for each metric that docs/operations.md names.
func TestMetricsOfTheRunbook(t *testing.T) {
	doc, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`(bizra_\\w+)").FindAllStringSubmatch(string(doc), -1)
	if len(names) < 8 {
		t.Fatalf("only %d metrics are named", len(names))
	}
	n, err := Start(t.Context(), Config{Home: newHomeIn(t, testfed.New(2, 1, testfed.Market), "a"), HTTP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	awaitReady(t, n)
	n.metrics.snapshots.With("failed") // a label shows once it was met
	missing := func() (list []string) {
		res, err := http.Get(n.HTTPAddress() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.Contains(string(text), "\n"+name[1]) {
				list = append(list, name[1])
			}
		}
		return list
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); len(missing()) > 0; <-tick.C { // copies are opened behind the node's back
		if time.Now().After(deadline) {
			t.Fatalf("the node has no metrics %v", missing())
		}
	}
}

// A home keeps the documents that came before the one in force, and knows them by their digests.
func TestHomeKeepsPastDocuments(t *testing.T) {
	dir, fed := newHome(t)
	h, err := OpenHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	first := fed.Document.Digest()
	second := fed.Next(testfed.Stricter)
	third := second.Next(func(*federation.Document) {})
	for _, d := range []*federation.Document{second.Document, third.Document, third.Document} {
		if err := h.SaveDocument(d); err != nil {
			t.Fatal(err)
		}
	}
	if h, err = OpenHome(dir); err != nil || h.Document.Version != 3 {
		t.Fatalf("the home holds %+v, %v", h, err)
	}
	secondDigest := second.Document.Digest()
	for name, c := range map[string]struct {
		digest *[32]byte
		want   bool
	}{"any": {nil, true}, "the first": {&first, true}, "the second": {&secondDigest, true}, "none": {&[32]byte{1}, false}} {
		if got, err := h.hasDocument(c.digest); got != c.want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"federation-1.json", "federation-2.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
