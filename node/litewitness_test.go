package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh/agent"

	"github.com/bizra/bizra/internal/proc"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// TestLitewitnessCosigns: a witness that is not ours, torchwood's litewitness as its authors built it, cosigns what a
// region certifies, and goes on cosigning as the ledger grows.
//
// testdata/litewitness.db is its database with one log in it: origin test/a, no entries yet, the log key of testfed.
func TestLitewitnessCosigns(t *testing.T) {
	dir, err := os.MkdirTemp("", "litewitness") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "litewitness")
	build := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", program, "filippo.io/torchwood/cmd/litewitness")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build litewitness: %v\n%s", err, out)
	}
	db, err := os.ReadFile(filepath.Join("testdata", "litewitness.db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "witness.db"), db, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	seed := testfed.Key("litewitness").Seed()
	key := ed25519.NewKeyFromSeed(seed[:])
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		t.Fatal("no Ed25519 key")
	}
	socket := serveAgent(t, dir, key)
	address := freeAddress(t)
	hash := sha256.Sum256(public)
	var log bytes.Buffer
	run := exec.CommandContext(t.Context(), program, "-name=witness.example/lite", "-db="+filepath.Join(dir, "witness.db"),
		"-ssh-agent="+socket, "-key="+hex.EncodeToString(hash[:]), "-listen="+address)
	run.Stderr, run.Stdout = &log, &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			t.Logf("litewitness says\n%s", log.String())
		}
	})
	signer, err := torchwood.NewCosignatureSigner("witness.example/lite", key)
	if err != nil {
		t.Fatal(err)
	}
	r := testregion.New(t, testfed.New(4, 1), "a")
	w, err := newWitnesses([]Witness{{Key: signer.Verifier().String(), URL: "http://" + address}}, r.Machine.View, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range 3 {
		r.Session(fmt.Sprint("alice", i), fmt.Sprint("s", i))
		seal := certified(t, r)
		if err := proc.Poll(ctx, "for a cosignature", func(ctx context.Context) error {
			if err := w.ask(ctx, w.all[0]); err != nil {
				return err
			}
			if len(w.lines(seal.Body())) != 1 {
				return errors.New("there is no line")
			}
			return nil
		}); err != nil {
			t.Fatalf("certificate %d: %v", i, err)
		}
	}
}

// serveAgent is an ssh-agent with one key, at a socket.
func serveAgent(t *testing.T, dir string, key ed25519.PrivateKey) (socket string) {
	t.Helper()
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: &key}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept() // the witness keeps one connection
		if err != nil {
			return
		}
		_ = agent.ServeAgent(ring, c) // until the witness ends
		_ = c.Close()
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-served
	})
	return socket
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
