package audit_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/client/audit"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
	"github.com/bizra/bizra/pci"
)

// served is a region whose ledger a node serves, as a test says: honest, but for what it changes.
type served struct {
	region *testregion.Region
	ledger ledger.View
	certs  []client.Certificate
	newest []byte
	docs   map[string][]byte

	tile    func(t tlog.Tile, data []byte) []byte // nil: as it is
	entries int                                   // bundles of entries given
	failAt  int                                   // after so many bundles; 0: never
}

var errInterrupted = errors.New("interrupted")

func (s *served) Federation(context.Context) (*client.Federation, error) {
	return &client.Federation{Federation: s.region.Document().Name, Region: s.region.Name}, nil
}

func (s *served) DocumentText(_ context.Context, digest string) ([]byte, error) {
	if text, ok := s.docs[digest]; ok {
		return text, nil
	}
	return nil, client.ErrNotFound
}

func (s *served) Checkpoint(context.Context) ([]byte, error) {
	if s.newest == nil {
		return nil, client.ErrNotFound
	}
	return s.newest, nil
}

func (s *served) Certificates(_ context.Context, after int64, limit int) (*client.Certificates, error) {
	page := &client.Certificates{}
	for i, c := range s.certs {
		if c.Size > after && len(page.Certificates) == limit {
			page.Next = &s.certs[i-1].Size
			break
		}
		if c.Size > after {
			page.Certificates = append(page.Certificates, c)
		}
	}
	return page, nil
}

func (s *served) Tile(ctx context.Context, t tlog.Tile, token string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t.L == -1 {
		if token != "token" {
			return nil, &client.Problem{Status: 401}
		}
		if s.entries++; s.entries == s.failAt {
			return nil, errInterrupted
		}
	}
	data, err := s.ledger.Tile(t)
	if err == nil && s.tile != nil {
		data = s.tile(t, slices.Clone(data))
	}
	return data, err
}

func digestText(d *federation.Document) string { return fmt.Sprintf("%x", d.Digest()) }

// newServed makes a region of four with a ledger of a few thousand entries, of which all but the last few are certified
// in steps of some hundreds.
func newServed(t *testing.T, sessions int, change ...func(*federation.Document)) *served {
	t.Helper()
	r := testregion.New(t, testfed.New(4, 1, append([]func(*federation.Document){testfed.Open}, change...)...), "a")
	s := &served{region: r, docs: map[string][]byte{digestText(r.Document()): r.Document().Canonical()}}
	s.grow(t, "s", sessions)
	return s
}

// perCertificate is how many sessions are opened, in one batch, between two certificates.
const perCertificate = 300

func (s *served) grow(t *testing.T, label string, sessions int) {
	t.Helper()
	a := s.region.Fed.Agent("alice-"+label, s.region.Now)
	for n := 0; n < sessions; {
		var proofs []*pci.Envelope
		for ; n < sessions && len(proofs) < perCertificate; n++ {
			proofs = append(proofs, a.Sign("session.open", map[string]any{"region": "a", "session": fmt.Sprint(label, n)}, ""))
		}
		for _, rec := range s.region.Submit(proofs...) {
			if !rec.Accepted() {
				t.Fatalf("%v", rec.Message())
			}
		}
		if n < sessions { // what comes last waits for its certificate
			s.certify(t, s.region.Seal())
		}
	}
	s.ledger = s.region.View().Ledger()
}

func (s *served) certify(t *testing.T, seal *fsm.Seal) {
	t.Helper()
	note := s.region.Certify(seal)
	if res := s.region.Apply(fsm.EncodeCertify(seal.Number, note)); !res.Attested.Accepted() {
		t.Fatalf("%+v", res.Attested)
	}
	s.newest = note
	s.certs = append(s.certs, client.Certificate{Size: seal.Size, Note: string(note)})
	s.ledger = s.region.View().Ledger()
}

func (s *served) config(st store.Store) audit.Config {
	return audit.Config{Source: s, Store: st, Document: s.region.Document(), Token: "token"}
}

// wantInvalid runs an audit that must find something, and say where.
func (s *served) wantInvalid(t *testing.T, st store.Store, says string, change ...func(*audit.Config)) audit.Report {
	t.Helper()
	cfg := s.config(st)
	for _, f := range change {
		f(&cfg)
	}
	report, err := audit.Run(t.Context(), cfg)
	if !errors.Is(err, audit.ErrNotValid) || !strings.Contains(err.Error(), says) {
		t.Fatalf("found %v, want %q", err, says)
	}
	return report
}

func openPebble(t *testing.T, dir string) *pebblestore.Store {
	t.Helper()
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestAuditInterruptedAndResumed walks a ledger of several thousand entries with an interruption every
// few hundred, on disk; then again what came since; then nothing new.
func TestAuditInterruptedAndResumed(t *testing.T) {
	s := newServed(t, 4000)
	dir := filepath.Join(t.TempDir(), "audit")
	total := s.certs[len(s.certs)-1].Size
	size, _ := s.ledger.Size()
	if total < 3000 || size <= total {
		t.Fatalf("%d entries, of which %d are certified", size, total)
	}
	runs, certificates := 0, int64(0)
	var last int64
	run := func(failAt int) (audit.Report, error) {
		t.Helper()
		st := openPebble(t, dir)
		s.entries, s.failAt = 0, failAt
		cfg := s.config(st)
		cfg.Progress = func(done, of int64) {
			if done < last || done > of || of != s.certs[len(s.certs)-1].Size {
				t.Errorf("progress %d of %d after %d", done, of, last)
			}
			last = done
		}
		report, err := audit.Run(t.Context(), cfg)
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		runs++
		certificates += report.Certificates
		return report, err
	}
	for {
		before := last
		report, err := run(3)
		if err == nil {
			if report.Entries != total || report.Certified == nil || report.Certified.Checkpoint.Size != total || len(report.Certified.Cosigners) != 2 {
				t.Fatalf("%+v", report)
			}
			break
		}
		if !errors.Is(err, errInterrupted) || report.Resumed != before || report.Entries <= before {
			t.Fatalf("run %d from %d: %+v, %v", runs, before, report, err)
		}
	}
	if runs < 5 || certificates != int64(len(s.certs)) {
		t.Errorf("%d runs checked %d certificates of %d", runs, certificates, len(s.certs))
	}
	s.certify(t, s.region.Seal())
	s.grow(t, "more", 700)
	report, err := run(0)
	if err != nil || report.Resumed != total || report.Entries != s.certs[len(s.certs)-1].Size {
		t.Fatalf("%+v, %v", report, err)
	}
	if report, err = run(0); err != nil || report.Resumed != report.Entries || report.Certificates != 1 || s.entries != 0 {
		t.Errorf("an audit of nothing new read %d bundles: %+v, %v", s.entries, report, err)
	}
}

func TestAuditEndsWithItsContext(t *testing.T) {
	s := newServed(t, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := s.config(store.NewMemory())
	cfg.Progress = func(done, _ int64) {
		if done > 300 {
			cancel()
		}
	}
	if _, err := audit.Run(ctx, cfg); !errors.Is(err, context.Canceled) || errors.Is(err, audit.ErrNotValid) {
		t.Errorf("%v", err)
	}
}

// resign has everybody sign another checkpoint: what no single region could do.
func (s *served) resign(t *testing.T, number int, change func(*checkpoint.Checkpoint)) {
	t.Helper()
	body, err := fsm.CertificateBody([]byte(s.certs[number].Note))
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.ParseBody(body)
	if err != nil {
		t.Fatal(err)
	}
	change(c)
	note := testregion.Certify(t, s.region.Fed, c)
	s.certs[number].Note = string(note)
	if number == len(s.certs)-1 {
		s.newest = note
	}
}

// forge replaces an entry, and gives every hash and certificate that this needs: the ledger of regions that all lie.
func (s *served) forge(t *testing.T, index int64, change func(entry string) string) {
	t.Helper()
	total := s.certs[len(s.certs)-1].Size
	st := store.NewMemory()
	log, err := ledger.Open(st)
	if err != nil {
		t.Fatal(err)
	}
	txn := store.NewTxn(st)
	changed := false
	for i := range total {
		data, err := s.ledger.Entry(i)
		if err != nil {
			t.Fatal(err)
		}
		if i == index {
			forged := change(string(data))
			changed = forged != string(data)
			data = []byte(forged)
		}
		if _, err := log.Append(txn, ledger.Appended{Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	if !changed {
		t.Fatal("nothing was forged")
	}
	if err := st.Commit(txn.Writes()); err != nil {
		t.Fatal(err)
	}
	s.ledger = ledger.View{Reader: st}
	for i := range s.certs {
		s.resign(t, i, func(c *checkpoint.Checkpoint) {
			root, err := s.ledger.Root(c.Size)
			if err != nil {
				t.Fatal(err)
			}
			c.Root = root
		})
	}
}

// TestAuditNamesWhatIsWrong tampers with one thing after the other.
func TestAuditNamesWhatIsWrong(t *testing.T) {
	const sessions = 700
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	only := func(path string, change func([]byte) []byte) func(tlog.Tile, []byte) []byte {
		return func(t tlog.Tile, data []byte) []byte {
			if strings.HasPrefix(torchwood.TilePath(t), path) {
				return change(data)
			}
			return data
		}
	}
	for name, c := range map[string]struct {
		tamper func(*testing.T, *served)
		says   string
	}{
		"a hash in a tile": {func(_ *testing.T, s *served) { s.tile = only("tile/0/001", flip(5*32)) }, "tile/0/001"},
		"a tile too short": {func(_ *testing.T, s *served) {
			s.tile = only("tile/0/000", func(b []byte) []byte { return b[:len(b)-1] })
		}, "tile/0/000 has 8191 bytes"},
		"an entry in a tile": {func(_ *testing.T, s *served) { s.tile = only("tile/entries/001", flip(2)) }, "entry 256: its hash"},
		"entries after the end": {func(_ *testing.T, s *served) {
			s.tile = only("tile/entries/000", func(b []byte) []byte { return append(b, 0, 1, 'x') })
		}, "tile/entries/000: 3 bytes follow"},
		"an entry left out": {func(_ *testing.T, s *served) {
			s.tile = only("tile/entries/001", func(b []byte) []byte { _, rest, _ := torchwood.ReadTileEntry(b); return rest })
		}, "entries where"},
		"an outcome, certified": {func(t *testing.T, s *served) {
			s.forge(t, 400, func(e string) string { return strings.Replace(e, `"state":"init"`, `"state":"active"`, 1) })
		}, "entry 400: recorded"},
		"a time, certified": {func(t *testing.T, s *served) {
			s.forge(t, 400, func(e string) string {
				return strings.Replace(e, fmt.Sprint(testregion.Start), fmt.Sprint(testregion.Start-1), 1)
			})
		}, "entry 400"},
		"a payload, certified": {func(t *testing.T, s *served) {
			s.forge(t, 300, func(e string) string { return strings.Replace(e, `"session":"s299"`, `"session":"other"`, 1) })
		}, "entry 300: the signature of its proof does not hold"},
		"an entry that is none, certified": {func(t *testing.T, s *served) { s.forge(t, 500, func(string) string { return "{}" }) }, "entry 500"},
		"a founding that is none, certified": {func(t *testing.T, s *served) {
			s.forge(t, 0, func(e string) string {
				return strings.Replace(e, digestText(s.region.Document()), strings.Repeat("zz", 32), 1)
			})
		}, "entry 0"},
		"a founding on another document": {func(t *testing.T, s *served) {
			s.forge(t, 0, func(e string) string {
				return strings.Replace(e, digestText(s.region.Document()), strings.Repeat("ab", 32), 1)
			})
			s.docs[strings.Repeat("ab", 32)] = []byte("{}")
		}, "another document"},
		"a state, certified":    {func(t *testing.T, s *served) { s.resign(t, 0, func(c *checkpoint.Checkpoint) { c.State[0]++ }) }, "the certificate of 301 entries is not about what the entries give"},
		"a log time, certified": {func(t *testing.T, s *served) { s.resign(t, 1, func(c *checkpoint.Checkpoint) { c.TimeMillis++ }) }, "the certificate of 601 entries is not about"},
		"a root, certified":     {func(t *testing.T, s *served) { s.resign(t, 0, func(c *checkpoint.Checkpoint) { c.Root[0]++ }) }, "the certificate of 301 entries"},
		"a signature of an early certificate": {func(_ *testing.T, s *served) {
			s.certs[0].Note = strings.Replace(s.certs[0].Note, "— test/b", "— test/x", 1)
		}, "the certificate of 301 entries"},
		"an early certificate for another size": {func(_ *testing.T, s *served) { s.certs[0].Size-- }, "the certificate of 300 entries"},
		"certificates out of order": {func(_ *testing.T, s *served) {
			s.certs = []client.Certificate{{Size: 301, Note: s.certs[0].Note}, {Size: 301, Note: s.certs[0].Note}}
		}, "behind one of 301"},
		"a cosignature of the newest certificate": {func(_ *testing.T, s *served) {
			s.newest = []byte(strings.Replace(string(s.newest), "— test/b", "— test/x", 1))
		}, "the newest certificate, of 601 entries"},
		"a certificate without a quorum": {func(_ *testing.T, s *served) {
			lines := strings.SplitAfter(string(s.newest), "\n")
			s.newest = []byte(strings.Join(lines[:len(lines)-2], ""))
		}, "the newest certificate"},
		"no note at all":               {func(_ *testing.T, s *served) { s.newest = []byte("hello\n") }, "the checkpoint that the node serves"},
		"a certificate of a neighbour": {func(t *testing.T, s *served) { s.resign(t, 1, func(c *checkpoint.Checkpoint) { c.Origin = "test/b" }) }, `of "test/b"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServed(t, sessions)
			if len(s.certs) != 2 {
				t.Fatalf("%d certificates", len(s.certs))
			}
			if _, err := audit.Run(t.Context(), s.config(store.NewMemory())); err != nil {
				t.Fatalf("an honest ledger: %v", err)
			}
			c.tamper(t, s)
			s.wantInvalid(t, store.NewMemory(), c.says)
		})
	}
}

// TestAuditOfAForkedLedger: an auditor who comes back is not shown another ledger.
func TestAuditOfAForkedLedger(t *testing.T) {
	one, other := newServed(t, 700), newServed(t, 310)
	st := store.NewMemory()
	if _, err := audit.Run(t.Context(), one.config(st)); err != nil {
		t.Fatal(err)
	}
	other.wantInvalid(t, st, "an earlier audit has executed 601 entries")
	// As long, but another from some entry on.
	for _, label := range []string{"fork-a-", "fork-b-"} {
		other.certify(t, other.region.Seal())
		other.grow(t, label, 400)
	}
	if other.certs[len(other.certs)-1].Size <= 601 {
		t.Fatalf("%+v", other.certs)
	}
	if report := other.wantInvalid(t, st, "there are two ledgers"); report.Entries != 0 || other.entries != 0 {
		t.Errorf("something of the fork was executed: %+v", report)
	}
	// Of the same length.
	third := newServed(t, 700)
	third.resign(t, 1, func(c *checkpoint.Checkpoint) { c.State[3]++ })
	third.wantInvalid(t, st, "two certificates of the region contradict")
}

// TestAuditUnderDocuments: the ledger may have come to a later document than the auditor's, and is
// not believed while it has not come to it.
func TestAuditUnderDocuments(t *testing.T) {
	r := testregion.New(t, testfed.New(1, 1, testfed.Open), "a")
	s := &served{region: r, docs: map[string][]byte{digestText(r.Document()): r.Document().Canonical()}}
	first := r.Document()
	s.grow(t, "s", 10)
	s.certify(t, r.Seal())
	next := r.Fed.Next(testfed.Stricter)
	adopt := r.Fed.Operator("a", r.Now).Sign("federation.adopt", next.Adopts(), "")
	if rec := r.Apply(fsm.EncodeAdopt(r.Now, adopt.Canonical(), next.Document.Canonical())).Receipts[0]; !rec.Accepted() {
		t.Fatal(rec.Message())
	}
	r.Fed = next
	s.docs[digestText(next.Document)] = next.Document.Canonical()
	s.grow(t, "t", 10)
	s.certify(t, r.Seal())
	for name, c := range map[string]struct {
		own   *federation.Document
		valid bool
	}{
		"none at hand":   {nil, true},
		"the first":      {first, true},
		"the second":     {next.Document, true},
		"one to come":    {next.Next(testfed.Open).Document, false},
		"another first":  {testfed.New(1, 1).Document, false},
		"another second": {testfed.New(1, 1, testfed.Open).Next(testfed.Lenient).Document, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.config(store.NewMemory())
			cfg.Document = c.own
			report, err := audit.Run(t.Context(), cfg)
			switch {
			case c.valid && (err != nil || report.Document.Version != 2 || report.Certificates != 2):
				t.Errorf("%+v, %v", report, err)
			case !c.valid && !errors.Is(err, audit.ErrNotValid):
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
	delete(s.docs, digestText(next.Document))
	cfg := s.config(store.NewMemory())
	cfg.Document = first
	if _, err := audit.Run(t.Context(), cfg); err == nil || errors.Is(err, audit.ErrNotValid) || !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a document that the node does not give: %v", err)
	}
	s.docs[digestText(next.Document)] = first.Canonical()
	s.wantInvalid(t, store.NewMemory(), "another document", func(cfg *audit.Config) { cfg.Document = first })
}

func TestAuditCannotBeMade(t *testing.T) {
	s := newServed(t, 310)
	for name, c := range map[string]struct {
		change func(*served, *audit.Config)
		says   string
	}{
		"nothing certified":  {func(s *served, _ *audit.Config) { s.newest = nil }, "no certificate yet"},
		"no token":           {func(_ *served, cfg *audit.Config) { cfg.Token = "" }, "401"},
		"another federation": {func(_ *served, cfg *audit.Config) { d := *cfg.Document; d.Name = "other"; cfg.Document = &d }, `federation "test"`},
		"no source":          {func(_ *served, cfg *audit.Config) { cfg.Source = nil }, "Source"},
		"a region of no place": {func(_ *served, cfg *audit.Config) {
			cfg.Document = testfed.New(1, 1, func(d *federation.Document) { d.Regions[0].Name = "z" }).Document
		}, `region "a"`},
	} {
		copied := *s
		cfg := copied.config(store.NewMemory())
		c.change(&copied, &cfg)
		if _, err := audit.Run(t.Context(), cfg); err == nil || errors.Is(err, audit.ErrNotValid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	st := store.NewMemory()
	if _, err := audit.Run(t.Context(), s.config(st)); err != nil {
		t.Fatal(err)
	}
	again := *s
	again.region = testregion.New(t, s.region.Fed, "b")
	seal := again.region.Seal()
	again.newest = again.region.Certify(seal)
	if _, err := audit.Run(t.Context(), again.config(st)); err == nil || errors.Is(err, audit.ErrNotValid) || !strings.Contains(err.Error(), "directory") {
		t.Errorf("the store of another region: %v", err)
	}
}

// TestAuditOfWitnessedCertificates: lines of outside witnesses are no harm.
func TestAuditOfWitnessedCertificates(t *testing.T) {
	s := newServed(t, 310)
	line, err := certificate.Cosign(bodyOf(t, s.newest), "witness.example", testfed.Key("witness"), testregion.CosignSeconds)
	if err != nil {
		t.Fatal(err)
	}
	s.newest = certificate.WithWitnesses(s.newest, line)
	if report, err := audit.Run(t.Context(), s.config(store.NewMemory())); err != nil || report.Certificates != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

func bodyOf(t *testing.T, note []byte) []byte {
	t.Helper()
	body, err := fsm.CertificateBody(note)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
