package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
)

// Source is the node whose ledger is audited; [client.Client] is one.
type Source interface {
	Federation(ctx context.Context) (*client.Federation, error)
	DocumentText(ctx context.Context, digest string) ([]byte, error)
	Checkpoint(ctx context.Context) ([]byte, error)
	Certificates(ctx context.Context, after int64, limit int) (*client.Certificates, error)
	Tile(ctx context.Context, t tlog.Tile, token string) ([]byte, error)
}

// Config is what an audit needs.
type Config struct {
	Source Source
	// Store keeps what was executed. One that an earlier audit of the same ledger has left is gone on with.
	Store store.Store
	// Document is the federation document that the auditor trusts. Nil: the node's word is
	// taken for it, and the audit shows no more than that the ledger fits together.
	Document *federation.Document
	// Token is a reader token, where entries are not open.
	Token string
	// Progress is told how many entries of how many are executed; nil: nobody.
	Progress func(done, total int64)
}

func (c Config) validate() error {
	if c.Source == nil || c.Store == nil {
		return errors.New("audit: Source and Store must be set")
	}
	return nil
}

// Certified is a certificate that was found to hold.
type Certified struct {
	Checkpoint checkpoint.Checkpoint
	Cosigners  []string // regions, beside the origin
}

// Report is what an audit found, also one that ended early.
type Report struct {
	Federation   string
	Region       string
	Entries      int64 // executed, those of earlier audits with them
	Resumed      int64 // of them, by earlier audits
	Certificates int64 // that were checked by this one
	// Certified is the newest that holds, nil before the first.
	Certified *Certified
	// Document is the one in force after the last entry executed, nil before the first.
	Document *federation.Document
}

// audit is one run.
type audit struct {
	cfg     Config
	machine *fsm.Machine
	origin  string
	tree    tlog.Tree
	served  []byte // the newest certificate, as it was served
	after   int64  // size of the certificate that was checked last
	failed  error  // why a document could not be had

	due      []client.Certificate // of the list, that are still to come
	listedTo int64                // size of the one that was listed last
	more     bool                 // the list goes on
	report   Report
}

// Run audits the ledger up to the newest certificate. The report says how far it came, whatever the error.
func Run(ctx context.Context, cfg Config) (report Report, err error) {
	if err := cfg.validate(); err != nil {
		return Report{}, err
	}
	if cfg.Progress == nil {
		cfg.Progress = func(int64, int64) {}
	}
	a := &audit{cfg: cfg, more: true}
	if err := a.begin(ctx); err != nil {
		return a.report, err
	}
	defer func() { err = errors.Join(err, a.machine.Close()) }()
	err = a.run(ctx)
	a.report.Entries, a.report.Document = a.machine.Size(), a.machine.InForce()
	return a.report, err
}

// begin asks what is to be audited, and takes up what an earlier audit has left.
func (a *audit) begin(ctx context.Context) error {
	fed, err := a.cfg.Source.Federation(ctx)
	if err != nil {
		return err
	}
	if !federation.IsName(fed.Federation) || !federation.IsName(fed.Region) {
		return fmt.Errorf("audit: the node names itself %.70q of %.70q: is this the address of a bizra node?", fed.Region, fed.Federation)
	}
	a.report.Federation, a.report.Region = fed.Federation, fed.Region
	a.origin = checkpoint.Origin(fed.Federation, fed.Region)
	if d := a.cfg.Document; d != nil {
		if _, known := d.Region(fed.Region); d.Name != fed.Federation || !known {
			return fmt.Errorf("audit: the node is of region %q of federation %q, and the federation document at hand is of %q, with the regions %v", fed.Region, fed.Federation, d.Name, regionNames(d))
		}
	}
	if err := a.newest(ctx); err != nil {
		return err
	}
	a.machine, err = fsm.Open(a.cfg.Store, fsm.Config{Region: fed.Region, Own: a.cfg.Document,
		Document: func(digest [32]byte) ([]byte, bool) { return a.document(ctx, digest) }})
	if err != nil {
		return fmt.Errorf("audit: take up what an earlier audit has left: %w; audit into another directory to begin anew", err)
	}
	if err := a.resume(ctx); err != nil {
		return errors.Join(err, a.machine.Close())
	}
	return nil
}

func regionNames(d *federation.Document) (names []string) {
	for i := range d.Regions {
		names = append(names, d.Regions[i].Name)
	}
	return names
}

// newest reads the checkpoint up to which the ledger is audited. Whether it holds can be told at once only
// where the document that it names is the one at hand.
func (a *audit) newest(ctx context.Context) (err error) {
	if a.served, err = a.cfg.Source.Checkpoint(ctx); errors.Is(err, client.ErrNotFound) {
		return fmt.Errorf("audit: the region has no certificate yet, and there is nothing to hold its ledger against: %w", err)
	}
	if err != nil {
		return err
	}
	c, err := bodyOf(a.served)
	if err != nil {
		return notValid("the checkpoint that the node serves: %w", err)
	}
	if c.Origin != a.origin {
		return notValid("the checkpoint that the node serves is of %q, and the node of %q", c.Origin, a.origin)
	}
	if d := a.cfg.Document; d != nil && d.Digest() == c.DocumentDigest {
		if _, _, _, err := certificate.WithoutWitnesses(a.served, d); err != nil {
			return notValid("the newest certificate, of %d entries: %w", c.Size, err)
		}
	}
	a.tree = tlog.Tree{N: c.Size, Hash: c.Root}
	return nil
}

// bodyOf reads the checkpoint in a certificate and checks no signature.
func bodyOf(note []byte) (*checkpoint.Checkpoint, error) {
	body, err := fsm.CertificateBody(note)
	if err != nil {
		return nil, err
	}
	return checkpoint.ParseBody(body)
}

// resume looks at what is there already.
func (a *audit) resume(ctx context.Context) error {
	size := a.machine.Size()
	a.report.Resumed = size
	if size == 0 {
		return nil
	}
	v, err := a.machine.View()
	if err != nil {
		return err
	}
	first, err := v.Entry(0)
	if err == nil && (first.Region != a.report.Region || a.machine.InForce().Name != a.report.Federation) {
		err = fmt.Errorf("audit: what an earlier audit has left is of region %q of %q: give another directory", first.Region, a.machine.InForce().Name)
	}
	if err == nil && size > a.tree.N {
		err = notValid("an earlier audit has executed %d entries, and the node's newest certificate covers %d: this is another ledger, or an older one", size, a.tree.N)
	}
	if err == nil {
		a.after, err = v.CertifiedSize()
		a.listedTo = a.after
	}
	if err == nil && size < a.tree.N {
		err = a.extends(ctx, v, size)
	}
	return errors.Join(err, v.Close())
}

// extends refuses a ledger that does not begin with what was executed, before any of it is.
func (a *audit) extends(ctx context.Context, v *fsm.View, size int64) error {
	root, err := v.Ledger().Root(size)
	if err != nil {
		return err
	}
	proof, err := newHashTiles(ctx, a.cfg.Source).prove(a.tree, size)
	if err != nil {
		return err
	}
	if err := ledger.CheckConsistency(proof, a.tree.N, a.tree.Hash, size, root); err != nil {
		return notValid("the %d entries that an earlier audit has executed are not those with which the ledger of %d entries begins that the node serves now: there are two ledgers (%w)", size, a.tree.N, err)
	}
	return nil
}

// document finds a federation document for an entry that names it.
func (a *audit) document(ctx context.Context, digest [32]byte) ([]byte, bool) {
	if d := a.cfg.Document; d != nil && d.Digest() == digest {
		return d.Canonical(), true
	}
	text, err := a.cfg.Source.DocumentText(ctx, hex.EncodeToString(digest[:]))
	if err != nil {
		a.failed = err
		return nil, false
	}
	if federation.DigestOf(text) != digest {
		a.failed = notValid("the node sends another document for federation document %x", digest)
		return nil, false
	}
	return text, true
}

// run executes entries from certificate to certificate.
func (a *audit) run(ctx context.Context) error {
	if a.after == a.tree.N {
		return a.again()
	}
	r := read(ctx, a.cfg.Source, a.cfg.Token, a.tree, a.machine.Size())
	defer r.close()
	var left bundle
	for a.after < a.tree.N {
		note, size, err := a.next(ctx)
		if err != nil {
			return err
		}
		for a.machine.Size() < size {
			if ctx.Err() != nil { // what was read ahead is left for the next audit
				return fmt.Errorf("audit: interrupted: %w", context.Cause(ctx))
			}
			if len(left.entries) == 0 {
				// The reader ends before the tree does only with an error, or with the context.
				if left = <-r.bundles; left.err != nil {
					return left.err
				}
				continue
			}
			if err := a.execute(&left, size); err != nil {
				return err
			}
			a.cfg.Progress(a.machine.Size(), a.tree.N)
		}
		if err := a.certified(note, size); err != nil {
			return err
		}
	}
	return a.trusted()
}

// execute applies entries of a bundle up to a size, and leaves the others in it.
func (a *audit) execute(b *bundle, size int64) error {
	n := min(int64(len(b.entries)), size-a.machine.Size())
	err := a.machine.ApplyParsed(b.parsed[:n], b.entries[:n])
	switch {
	case err == nil:
		b.entries, b.parsed = b.entries[n:], b.parsed[n:]
		return nil
	case errors.Is(err, fsm.ErrDocument) && a.failed != nil:
		return fmt.Errorf("audit: get the federation document that an entry names: %w", a.failed)
	case errors.Is(err, fsm.ErrDiverged), errors.Is(err, fsm.ErrDocument):
		return notValid("executed again, an entry is another: %w", err)
	case errors.Is(err, fsm.ErrStop):
		return fmt.Errorf("audit: execute entries from %d on: %w", a.machine.Size(), err)
	}
	// What failed was the store, or an entry that nothing can be made of.
	if serr := a.machine.ApplyParsed(nil, nil); serr != nil {
		return fmt.Errorf("audit: execute entries from %d on: %w", a.machine.Size(), serr)
	}
	return notValid("it cannot be executed: %w", err)
}

// next is the certificate of least size that is due, at the end the newest.
func (a *audit) next(ctx context.Context) (note []byte, size int64, err error) {
	for {
		for len(a.due) > 0 {
			c := a.due[0]
			a.due = a.due[1:]
			if c.Size <= a.listedTo {
				return nil, 0, notValid("the node lists a certificate of %d entries behind one of %d", c.Size, a.listedTo)
			}
			if a.listedTo = c.Size; c.Size >= a.tree.N {
				a.due, a.more = nil, false
			} else if c.Size >= a.machine.Size() { // else an earlier audit, which was not shown it, has passed it by
				return []byte(c.Note), c.Size, nil
			}
		}
		if !a.more {
			return a.served, a.tree.N, nil
		}
		page, err := a.cfg.Source.Certificates(ctx, a.listedTo, client.CertificatesMax)
		if errors.Is(err, client.ErrNotFound) {
			page, err = &client.Certificates{}, nil // a node of an earlier version
		}
		if err != nil {
			return nil, 0, err
		}
		a.due, a.more = page.Certificates, page.Next != nil && len(page.Certificates) > 0
	}
}

// certified holds a certificate against what the entries up to its size gave.
func (a *audit) certified(served []byte, size int64) error {
	signed, c, cosigners, err := certificate.WithoutWitnesses(served, a.machine.InForce())
	if err == nil && (c.Origin != a.origin || c.Size != size) {
		err = fmt.Errorf("it is of %d entries of %q, and was given for one of %q", c.Size, c.Origin, a.origin)
	}
	if err != nil {
		return notValid("the certificate of %d entries: %w", size, err)
	}
	v, err := a.machine.View()
	if err != nil {
		return err
	}
	number := v.Seals()
	if err := v.Close(); err != nil {
		return err
	}
	err = a.machine.ApplySeal(&fsm.Seal{Number: number, Origin: c.Origin, Size: c.Size, Root: c.Root, State: c.State, TimeMillis: c.TimeMillis,
		Document: c.Document, DocumentDigest: c.DocumentDigest})
	if errors.Is(err, fsm.ErrDiverged) {
		return notValid("the certificate of %d entries is not about what the entries give: %w", size, err)
	}
	if err != nil {
		return fmt.Errorf("audit: seal %d entries: %w", size, err)
	}
	res, err := a.machine.ApplyCertificate(signed)
	if err == nil && !res.Accepted() {
		err = fmt.Errorf("it was refused: %s", res.Refusal)
	}
	if err != nil {
		return fmt.Errorf("audit: record the certificate of %d entries: %w", size, err)
	}
	a.after = size
	a.report.Certificates++
	a.report.Certified = &Certified{Checkpoint: *c, Cosigners: cosigners}
	return nil
}

// again is an audit of what was audited before: the certificate is looked at once more.
func (a *audit) again() error {
	_, c, cosigners, err := certificate.WithoutWitnesses(a.served, a.machine.InForce())
	if err != nil {
		return notValid("the newest certificate, of %d entries: %w", a.tree.N, err)
	}
	v, err := a.machine.View()
	if err != nil {
		return err
	}
	seal, err := v.SealAt(v.Seals() - 1)
	if err := errors.Join(err, v.Close()); err != nil {
		return err
	}
	if string(seal.Body()) != string(c.Body()) {
		return notValid("an earlier audit has found %q certified, and now the node serves %q: two certificates of the region contradict", seal.Body(), c.Body())
	}
	a.report.Certificates++
	a.report.Certified = &Certified{Checkpoint: *c, Cosigners: cosigners}
	a.cfg.Progress(a.tree.N, a.tree.N)
	return a.trusted()
}

// trusted refuses a ledger that has not come to the auditor's document: its certificates would hang on
// another, which nobody vouches for.
func (a *audit) trusted() error {
	if d := a.cfg.Document; d != nil && a.machine.InForce().Version < d.Version {
		return notValid("the ledger goes by version %d of the federation document, and the one at hand is version %d: give the one that is in force there, or ask a node that is not behind",
			a.machine.InForce().Version, d.Version)
	}
	return nil
}
