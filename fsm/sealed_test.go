package fsm_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

func TestStateProofOfATip(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	if _, err := r.m.ProveState(fsm.SessionKey("s")); !errors.Is(err, fsm.ErrNoSeal) {
		t.Fatalf("before a seal: %v", err)
	}
	a := r.registered("alice")
	head := r.want(pci.Success, a.Sign("session.open", open("s"), "")).Head
	seal := r.apply(fsm.EncodeSeal()).Seal
	r.want(pci.Success, a.Sign("session.transition", to("s", "active"), head)) // the state moves on
	p, err := r.m.ProveState(fsm.SessionKey("s"))
	if err != nil || p.Verify(fsm.SessionKey("s")) != nil || p.Seal.State != seal.State || p.Value == nil {
		t.Fatalf("proof of the tip: %+v, %v", p, err)
	}
	if p.Verify(fsm.SessionKey("t")) == nil {
		t.Fatal("the proof also proves another session")
	}
	absent, err := r.m.ProveState(fsm.SessionKey("t"))
	if err != nil || absent.Value != nil || absent.Verify(fsm.SessionKey("t")) != nil {
		t.Fatalf("proof of absence: %+v, %v", absent, err)
	}
	if again := r.apply(fsm.EncodeSeal()).Seal; again == nil || again.State == seal.State || again.Number != 1 {
		t.Fatalf("the next seal: %+v", again)
	}
	if idle := r.apply(fsm.EncodeSeal()).Seal; idle != nil {
		t.Fatalf("a seal of nothing: %+v", idle)
	}
}

// snapshotStore counts the snapshots that are open.
type snapshotStore struct {
	store.Store
	open atomic.Int64
}

type countedSnapshot struct {
	store.Snapshot
	of *snapshotStore
}

func (s *snapshotStore) Snapshot() (store.Snapshot, error) {
	snap, err := s.Store.Snapshot()
	s.open.Add(1)
	return &countedSnapshot{snap, s}, err
}

func (s *countedSnapshot) Close() error {
	s.of.open.Add(-1)
	return s.Snapshot.Close()
}

// step moves session s and seals; it gives the seal and the head that it sealed.
func (r *rig) step(a *testfed.Signer, head string, state string) (*fsm.Seal, string) {
	r.t.Helper()
	head = r.want(pci.Success, a.Sign("session.transition", to("s", state), head)).Head
	return r.apply(fsm.EncodeSeal()).Seal, head
}

// wantTip demands that the certified state is provable, and that it is the one of a seal.
func (r *rig) wantTip(seal *fsm.Seal, head string) {
	r.t.Helper()
	p, err := r.m.ProveCertified(fsm.SessionKey("s"))
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := fsm.ParseSession(p.Value)
	if err != nil || p.Verify(fsm.SessionKey("s")) != nil || p.Seal != *seal || s.Tips[0].Hash.String() != head {
		r.t.Fatalf("proof against seal %+v of %+v (%v), want seal %+v and tip %s", p.Seal, s, err, seal, head)
	}
	if _, err := r.view().Certificate(p.Seal.Number); err != nil {
		r.t.Fatalf("the state of seal %d is told to be certified: %v", p.Seal.Number, err)
	}
}

func TestCertifiedStateIsProvable(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	head := r.want(pci.Success, a.Sign("session.open", open("s"), "")).Head
	var seals []*fsm.Seal
	var heads []string
	for _, state := range []string{"active", "computing", "validated", "committed"} {
		seal, next := r.step(a, head, state)
		seals, heads, head = append(seals, seal), append(heads, next), next
	}
	if _, err := r.m.ProveCertified(fsm.SessionKey("s")); !errors.Is(err, fsm.ErrNoSeal) {
		t.Fatalf("before a certificate: %v", err)
	}
	r.apply(r.fed.Certify(seals[1])) // passes over the first
	r.wantTip(seals[1], heads[1])
	r.apply(r.fed.Certify(seals[0])) // too late
	r.wantTip(seals[1], heads[1])
	r.apply(r.fed.Certify(seals[3]))
	r.wantTip(seals[3], heads[3])
	seal, next := r.step(a, head, "active")
	r.wantTip(seals[3], heads[3]) // the new one waits
	r.apply(r.fed.Certify(seal))
	r.wantTip(seal, next)
}

// TestCertifiedStateAfterARestart: it is at hand as long as the state stands where it was sealed.
func TestCertifiedStateAfterARestart(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	opened := r.want(pci.Success, a.Sign("session.open", open("s"), "")).Head
	seal, head := r.step(a, opened, "active")
	again := func() {
		t.Helper()
		if err := r.m.Close(); err != nil {
			t.Fatal(err)
		}
		r.open()
	}
	again()
	if _, err := r.m.ProveCertified(fsm.SessionKey("s")); !errors.Is(err, fsm.ErrNoSeal) {
		t.Fatalf("an uncertified seal was taken: %v", err)
	}
	r.apply(r.fed.Certify(seal))
	r.wantTip(seal, head)
	again()
	r.wantTip(seal, head)
	head = r.want(pci.Success, a.Sign("session.transition", to("s", "computing"), head)).Head
	r.wantTip(seal, r.sealedHead(seal))
	again()
	if _, err := r.m.ProveCertified(fsm.SessionKey("s")); !errors.Is(err, fsm.ErrNoSeal) {
		t.Fatalf("the state has moved on since: %v", err)
	}
	seal, head = r.step(a, head, "validated")
	r.apply(r.fed.Certify(seal))
	r.wantTip(seal, head)
}

// sealedHead is the head of session s that the last entry below a seal made.
func (r *rig) sealedHead(s *fsm.Seal) string {
	r.t.Helper()
	e, err := r.view().Entry(s.Size - 1)
	if err != nil {
		r.t.Fatal(err)
	}
	return e.Outcome.Head
}

// TestSealedStatesAreBounded: a replica that hears of no certificate keeps as many as any other.
func TestSealedStatesAreBounded(t *testing.T) {
	fed := testfed.New(1, 3)
	r := newRig(t, fed)
	a := r.registered("alice")
	counted := &snapshotStore{Store: store.NewMemory()}
	m, err := fsm.Open(counted, fsm.Config{Region: "a", Own: fed.Document})
	if err != nil {
		t.Fatal(err)
	}
	head := r.want(pci.Success, a.Sign("session.open", open("s"), "")).Head
	next := func(action string, data map[string]any) *fsm.Seal {
		t.Helper()
		head = r.want(pci.Success, a.Sign(action, data, head)).Head
		seal := r.apply(fsm.EncodeSeal()).Seal
		r.apply(r.fed.Certify(seal))
		entries, err := r.view().Ledger().Entries(m.Size(), seal.Size, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.ApplyEntries(entries), m.ApplySeal(seal)); err != nil {
			t.Fatal(err)
		}
		return seal
	}
	var seal *fsm.Seal
	for n := range 4 * fsm.UncertifiedSealsMax {
		seal = next("session.branch", map[string]any{"session": "s", "name": "b"})
		if want := int64(min(n+1, fsm.UncertifiedSealsMax+1)); counted.open.Load() != want {
			t.Fatalf("after %d seals %d states are kept, want %d", n+1, counted.open.Load(), want)
		}
	}
	_, signed, err := r.view().CertificateCovering(seal.Size - 1)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := m.ApplyCertificate(signed); err != nil || !res.Accepted() || counted.open.Load() != 1 {
		t.Fatalf("%+v, %v: %d states are kept once the last is certified", res, err, counted.open.Load())
	}
	certified, err := m.ProveCertified(fsm.SessionKey("s"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * fsm.UncertifiedSealsMax {
		next("session.branch", map[string]any{"session": "s", "name": "b"})
	}
	p, err := m.ProveCertified(fsm.SessionKey("s"))
	if err != nil || p.Seal != certified.Seal || counted.open.Load() != fsm.UncertifiedSealsMax+1 {
		t.Fatalf("the certified state is %+v (%v), with %d kept", p, err, counted.open.Load())
	}
	if err := errors.Join(m.Close(), counted.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestProofsWhileSealing: readers prove while the state is sealed and certified under them, and
// closing waits for them.
func TestProofsWhileSealing(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	head := r.want(pci.Success, a.Sign("session.open", open("s"), "")).Head
	seal, head := r.step(a, head, "active")
	r.apply(r.fed.Certify(seal))
	var readers sync.WaitGroup
	var proofs atomic.Int64
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				p, err := r.m.ProveCertified(fsm.SessionKey("s"))
				if errors.Is(err, fsm.ErrNoSeal) {
					return // closed
				}
				if err == nil {
					err = p.Verify(fsm.SessionKey("s"))
				}
				if err != nil {
					t.Error(err)
					return
				}
				proofs.Add(1)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for n := range 60 {
		seal, head = r.step(a, head, []string{"suspended", "resumed", "active"}[n%3])
		r.apply(r.fed.Certify(seal))
	}
	if err := r.m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.m.ProveState(fsm.SessionKey("s")); !errors.Is(err, fsm.ErrNoSeal) {
		t.Errorf("after Close: %v", err)
	}
	close(stop)
	readers.Wait()
	if proofs.Load() < 60 {
		t.Errorf("%d proofs were made meanwhile", proofs.Load())
	}
}

func TestFinality(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	rec := r.want(pci.Success, a.Sign("session.open", open("s"), ""))
	refused := r.want(pci.RejectTimestampStale, a.Sign("session.open", open("t"), "", func(d *pci.Draft) { d.Timestamp = d.Timestamp.Add(-121_000_000_000) }))
	finality := func(rec fsm.Receipt) string {
		t.Helper()
		size, err := r.view().CertifiedSize()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(rec.Finality(size))
	}
	seal := r.apply(fsm.EncodeSeal()).Seal
	if got := finality(rec) + " " + finality(refused); got != "committed refused" {
		t.Errorf("before a certificate: %s", got)
	}
	r.apply(r.fed.Certify(seal))
	after := r.want(pci.Success, a.Sign("session.open", open("u"), ""))
	if got := finality(rec) + " " + finality(after) + " " + finality(refused); got != "attested committed refused" {
		t.Errorf("after a certificate of %d entries: %s", seal.Size, got)
	}
	for size, want := range map[int64]string{rec.Index: `"finality":"committed"`, rec.Index + 1: `"finality":"attested"`} {
		text, err := fsm.Told{Receipt: rec, CertifiedSize: size}.MarshalJSON()
		if err != nil || !containsText(text, want) {
			t.Errorf("certified %d, entry %d: %s, %v", size, rec.Index, text, err)
		}
	}
}
