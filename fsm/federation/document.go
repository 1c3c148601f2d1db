// Package federation is the federation document: who the regions are, which keys
// speak for them, where their voters are, and by which constitution proofs are
// judged. Everything that a verifier trusts hangs on this one document, so it is
// read strictly, written in one form only and named by its digest.
//
// The package is pure: no I/O and no network. It does not decide who may speak
// which protocol (package p2p does) and does not hold secret keys.
package federation

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/multiformats/go-multiaddr"
	"github.com/zeebo/blake3"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/pci"
)

// Limits of a document.
const (
	DocumentBytesMax  = 1 << 20
	RegionsMax        = 149 // a note has at most 100 signatures, and a certificate a quorum of them
	OperatorsMax      = 16  // a region
	AddressesMax      = 8   // a voter
	AddressBytesMax   = 256
	documentDepthMax  = 9 // a constitution's, and one
	documentDomain    = "bizra-federation-v1:"
	documentFormat    = 1
	marketFormat      = 2 // of a document in which a region has a market
	keyHexBytes       = 64
	versionAdvanceMax = exactMax
)

var (
	namePattern  = regexp.MustCompile(`^[a-z0-9.-]{1,63}$`)
	voterPattern = regexp.MustCompile(`^[a-z0-9.-]{1,80}$`)
)

// IsName reports whether a text can be the name of a federation or a region: it must
// match [a-z0-9.-]{1,63}.
func IsName(text string) bool { return namePattern.MatchString(text) }

// Key is an Ed25519 public key.
type Key [32]byte

// String is the key as 64 lower-case hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// ParseKey reads 64 lower-case hexadecimal digits.
func ParseKey(text string) (Key, error) {
	var k Key
	if len(text) != keyHexBytes {
		return k, fmt.Errorf("a public key has %d hexadecimal digits, not %d", keyHexBytes, len(text))
	}
	if _, err := hex.Decode(k[:], []byte(text)); err != nil || k.String() != text {
		return k, fmt.Errorf("a public key is written in lower-case hexadecimal digits")
	}
	return k, nil
}

// Voter is a node that votes in its region's Raft from the founding on. Later
// changes of the voters stand in the region's ledger, not here.
type Voter struct {
	Name      string   // unique in the document, such as "a-1"
	NodeKey   Key      // of its libp2p identity
	Addresses []string // multiaddrs without /p2p; may be empty: others then learn it by --join
}

// Region is one party of the federation: one Raft cluster with one ledger.
type Region struct {
	Name      string
	LogKey    Key   // signs its checkpoints
	CosignKey Key   // signs its cosignatures
	Operators []Key // sorted
	Voters    []Voter
	Market    *market.Rules // nil: nothing is licensed, and a step may not name a resource
}

// Document is the federation document. What [Parse] returned is not changed afterwards.
type Document struct {
	Version      int64 // from 1
	Name         string
	Constitution constitution.Constitution // by which proofs are judged
	Regions      []Region                  // sorted by name
	policy       *constitution.Policy      // nil for a document that was not parsed
	form         *form                     // nil for a document that was not parsed
}

// form is the canonical form of a parsed document, which is asked for with every message about it.
type form struct {
	of        *Document // a copy of the document may be changed, and then has another form
	canonical []byte
	digest    [32]byte
}

// Policy is the document's constitution, compiled: what [Parse] made ready, or made ready now.
func (d *Document) Policy() (*constitution.Policy, error) {
	if d.policy != nil {
		return d.policy, nil
	}
	p, err := d.Constitution.Compile()
	if err != nil {
		return nil, fmt.Errorf("federation document: %w", err)
	}
	return p, nil
}

// Quorum is how many of n regions make a certificate: floor(2n/3)+1.
func Quorum(n int) int { return 2*n/3 + 1 }

// FaultsTolerated is how many of n regions may be down or lie without stopping
// certificates or contradicting them: floor((n-1)/3).
func FaultsTolerated(n int) int { return (n - 1) / 3 }

// Region finds a region by its name.
func (d *Document) Region(name string) (*Region, bool) {
	for i := range d.Regions {
		if d.Regions[i].Name == name {
			return &d.Regions[i], true
		}
	}
	return nil, false
}

// IsOperator reports whether the key is one of the region's operators'.
func (r *Region) IsOperator(key Key) bool { return slices.Contains(r.Operators, key) }

// Digest names the document: BLAKE3-256("bizra-federation-v1:" ‖ canonical form).
func (d *Document) Digest() [32]byte {
	if d.form != nil && d.form.of == d {
		return d.form.digest
	}
	return blake3.Sum256(append([]byte(documentDomain), d.Canonical()...))
}

// Canonical is the document's one form: canonical JSON as in package pci. It must not be changed.
func (d *Document) Canonical() []byte {
	if d.form != nil && d.form.of == d {
		return d.form.canonical
	}
	b := append([]byte(nil), `{"constitution":`...)
	b = append(b, d.Constitution.Canonical()...)
	b = strconv.AppendInt(append(b, `,"format":`...), d.format(), 10)
	b = pci.AppendString(append(b, `,"name":`...), d.Name)
	b = append(b, `,"regions":[`...)
	for i := range d.Regions {
		if i > 0 {
			b = append(b, ',')
		}
		b = d.Regions[i].appendCanonical(b)
	}
	b = append(b, `],"version":`...)
	b = strconv.AppendInt(b, d.Version, 10)
	return append(b, '}')
}

// Is reports whether the document is what [Parse] makes of a text in canonical form.
func (d *Document) Is(canonical []byte) bool {
	return d.form != nil && d.form.of == d && bytes.Equal(d.form.canonical, canonical)
}

func (r *Region) appendCanonical(b []byte) []byte {
	b = append(b, `{"cosign_key":"`...)
	b = append(b, r.CosignKey.String()...)
	b = append(b, `","log_key":"`...)
	b = append(append(b, r.LogKey.String()...), '"')
	b = appendMarket(b, r.Market)
	b = append(b, `,"name":`...)
	b = pci.AppendString(b, r.Name)
	b = append(b, `,"operators":[`...)
	for i, k := range r.Operators {
		if i > 0 {
			b = append(b, ',')
		}
		b = pci.AppendString(b, k.String())
	}
	b = append(b, `],"voters":[`...)
	for i, v := range r.Voters {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"addresses":[`...)
		for j, a := range v.Addresses {
			if j > 0 {
				b = append(b, ',')
			}
			b = pci.AppendString(b, a)
		}
		b = append(b, `],"key":"`...)
		b = append(b, v.NodeKey.String()...)
		b = append(b, `","name":`...)
		b = pci.AppendString(b, v.Name)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// Parse reads a document strictly and checks all that [Document.Check] does. Any
// JSON spacing and order of members is taken; the digest is that of the canonical form.
func Parse(text []byte) (*Document, error) {
	v, err := pci.Parse(text, pci.Limits{BytesMax: DocumentBytesMax, DepthMax: documentDepthMax})
	if err != nil {
		return nil, fmt.Errorf("federation document: %w", err)
	}
	o := pci.ReadObject(v)
	format := o.Int("format")
	if format != documentFormat && format != marketFormat {
		o.Fault("format %d of federation documents is not known to this program: it knows formats %d and %d; a newer bizra may read it", format, documentFormat, marketFormat)
	}
	d := &Document{Version: o.Int("version"), Name: o.Text("name", 63)}
	member, given := o.Any("constitution")
	for _, e := range o.Array("regions", RegionsMax) {
		d.Regions = append(d.Regions, readRegion(o, o.Element("regions", e)))
	}
	if !given {
		o.Fault("constitution is missing")
	}
	if d.format() > format {
		o.Fault("a document in which a region has a market is of format %d, not %d", marketFormat, format)
	}
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("federation document: %w", err)
	}
	if d.policy, err = constitution.PolicyOf(member); err != nil {
		return nil, fmt.Errorf("federation document: %w", err)
	}
	d.Constitution = d.policy.Constitution()
	if err := d.checkRegions(); err != nil {
		return nil, err
	}
	canonical := slices.Clip(d.Canonical())
	d.form = &form{of: d, canonical: canonical, digest: DigestOf(canonical)}
	return d, nil
}

func readKey(o *pci.Object, what, text string) Key {
	k, err := ParseKey(text)
	if err != nil {
		o.Fault("%s: %v", what, err)
	}
	return k
}

func readRegion(root, o *pci.Object) Region {
	r := Region{Name: o.Text("name", 63)}
	r.LogKey = readKey(root, "log_key of region "+r.Name, o.Text("log_key", keyHexBytes))
	r.CosignKey = readKey(root, "cosign_key of region "+r.Name, o.Text("cosign_key", keyHexBytes))
	for _, k := range o.Texts("operators", OperatorsMax, keyHexBytes) {
		r.Operators = append(r.Operators, readKey(root, "operators of region "+r.Name, k))
	}
	for _, e := range o.Array("voters", VotersMax) {
		vo := o.Element("voters", e)
		v := Voter{Name: vo.Text("name", 80)}
		v.NodeKey = readKey(root, "key of voter "+v.Name, vo.Text("key", keyHexBytes))
		v.Addresses = vo.Texts("addresses", AddressesMax, AddressBytesMax)
		_ = vo.Done()
		r.Voters = append(r.Voters, v)
	}
	r.Market = readMarket(o)
	_ = o.Done()
	return r
}

// VotersMax bounds the voters of a region.
const VotersMax = 5

// Check refuses a document that breaks a rule, naming region and rule. Among them:
// one to [RegionsMax] regions with distinct names, sorted; 1, 3 or 5 voters each; no
// Ed25519 key twice anywhere, whatever its role, since each key must speak for one role only;
// no market where registration is open.
func (d *Document) Check() error {
	if _, err := constitution.ParseCanonical(d.Constitution.Canonical()); err != nil {
		return fmt.Errorf("federation document: %w", err)
	}
	return d.checkRegions()
}

func (d *Document) checkRegions() error {
	if d.Version < 1 || d.Version > versionAdvanceMax {
		return fmt.Errorf("federation document: version %d: it must be from 1 to %d", d.Version, int64(versionAdvanceMax))
	}
	if !namePattern.MatchString(d.Name) {
		return fmt.Errorf("federation document: name %q: it must match %s", d.Name, namePattern)
	}
	if len(d.Regions) == 0 || len(d.Regions) > RegionsMax {
		return fmt.Errorf("federation document: %d regions: there must be 1 to %d", len(d.Regions), RegionsMax)
	}
	keys := map[Key]string{}
	names := map[string]string{}
	for i := range d.Regions {
		r := &d.Regions[i]
		if i > 0 && d.Regions[i-1].Name >= r.Name {
			return fmt.Errorf("federation document: regions must be sorted by name, each once: %q stands after %q", r.Name, d.Regions[i-1].Name)
		}
		err := r.check(keys, names)
		if err == nil && r.Market != nil && d.Constitution.Limits.OpenRegistration {
			err = fmt.Errorf("market: it cannot be where registration is open, since whoever makes many names would have many shares: set limits.open_registration to false, or leave market out")
		}
		if err != nil {
			return fmt.Errorf("federation document: region %q: %w", r.Name, err)
		}
	}
	return nil
}

func (r *Region) check(keys map[Key]string, names map[string]string) error {
	if !namePattern.MatchString(r.Name) {
		return fmt.Errorf("the name must match %s", namePattern)
	}
	claim := func(k Key, role string) error {
		role += " of " + r.Name
		if k == (Key{}) {
			return fmt.Errorf("%s: the key is empty", role)
		}
		if was, twice := keys[k]; twice {
			return fmt.Errorf("key %v is both %s and %s: every key must have one role", k, was, role)
		}
		keys[k] = role
		return nil
	}
	if err := claim(r.LogKey, "log_key"); err != nil {
		return err
	}
	if err := claim(r.CosignKey, "cosign_key"); err != nil {
		return err
	}
	if len(r.Operators) == 0 || len(r.Operators) > OperatorsMax {
		return fmt.Errorf("%d operators: there must be 1 to %d", len(r.Operators), OperatorsMax)
	}
	for i, k := range r.Operators {
		if i > 0 && bytes.Compare(r.Operators[i-1][:], k[:]) >= 0 {
			return fmt.Errorf("operators must be sorted, each once")
		}
		if err := claim(k, "operator"); err != nil {
			return err
		}
	}
	if n := len(r.Voters); n != 1 && n != 3 && n != 5 {
		return fmt.Errorf("%d voters: a region is founded with 1, 3 or 5", n)
	}
	for _, v := range r.Voters {
		if err := v.check(names); err != nil {
			return err
		}
		if err := claim(v.NodeKey, "voter "+v.Name); err != nil {
			return err
		}
	}
	return checkMarket(r.Market)
}

func (v *Voter) check(names map[string]string) error {
	if !voterPattern.MatchString(v.Name) {
		return fmt.Errorf("voter %q: the name must match %s", v.Name, voterPattern)
	}
	if _, twice := names[v.Name]; twice {
		return fmt.Errorf("voter %q: the name stands twice", v.Name)
	}
	names[v.Name] = v.Name
	return CheckAddresses(v.Addresses)
}

// CheckAddresses refuses what is not a list of multiaddrs without /p2p within the limits.
func CheckAddresses(addresses []string) error {
	if len(addresses) > AddressesMax {
		return fmt.Errorf("%d addresses: at most %d", len(addresses), AddressesMax)
	}
	for _, a := range addresses {
		if len(a) > AddressBytesMax {
			return fmt.Errorf("address %.40q…: longer than %d bytes", a, AddressBytesMax)
		}
		m, err := multiaddr.NewMultiaddr(a)
		if err != nil {
			return fmt.Errorf("address %q is no multiaddr such as /ip4/192.0.2.1/tcp/4001: %w", a, err)
		}
		if _, err := m.ValueForProtocol(multiaddr.P_P2P); err == nil {
			return fmt.Errorf("address %q: leave out /p2p, the key says who is there", a)
		}
		if m.String() != a {
			return fmt.Errorf("address %q: write it as %q", a, m.String())
		}
	}
	return nil
}
