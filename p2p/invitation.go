package p2p

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/zeebo/blake3"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

// Limits of invitations.
const (
	InvitationBytesMax   = 2 << 10
	invitationVersion    = 1
	invitationDepthMax   = 2
	invitationDomain     = "bizra-invitation-v1:"
	invitationNameMax    = 63
	invitationExpiresMax = 253402300799999 // the last millisecond of the year 9999
	AdmissionsMax        = 4096            // invited nodes that a node remembers at once
)

// RoleMember is the one role that an invitation can give. Voters are made by
// region.voter actions, never by invitation.
const RoleMember = "member"

// Errors of invitations; test with errors.Is.
var (
	// ErrInvitation is wrapped by every refusal of an invitation.
	ErrInvitation = errors.New("invitation refused")
	// ErrAdmissionsFull is returned where [AdmissionsMax] invited nodes are known already.
	ErrAdmissionsFull = errors.New("too many invited nodes")
)

// Signer signs with an operator's key; *pci.PrivateKey does.
type Signer interface {
	Public() [32]byte
	Sign(message []byte) [64]byte
}

// Invitation is an operator's statement that a node that the document does not list
// belongs to the operator's region, until it expires. The node shows it to each peer
// that it connects to; a stolen one is of no use without the node's key.
type Invitation struct {
	Federation    string         // the document's name
	Region        string         // the inviting region
	Node          federation.Key // the invited node's identity
	Role          string         // RoleMember
	ExpiresMillis int64          // Unix time; the first millisecond at which it no longer holds
	Operator      federation.Key // who signed
	Signature     [64]byte       // Ed25519 over BLAKE3-256("bizra-invitation-v1:" ‖ canonical JSON without signature)
}

// SignInvitation fills in operator and signature.
func SignInvitation(inv Invitation, operator Signer) (Invitation, error) {
	inv.Operator = operator.Public()
	if inv.Role == "" {
		inv.Role = RoleMember
	}
	if err := inv.check(); err != nil {
		return Invitation{}, err
	}
	digest := inv.digest()
	inv.Signature = operator.Sign(digest[:])
	return inv, nil
}

func (inv *Invitation) appendUnsigned(b []byte) []byte {
	b = append(b, `{"expires_ms":`...)
	b = strconv.AppendInt(b, inv.ExpiresMillis, 10)
	b = append(b, `,"federation":`...)
	b = pci.AppendString(b, inv.Federation)
	b = append(b, `,"node":"`...)
	b = append(b, inv.Node.String()...)
	b = append(b, `","operator":"`...)
	b = append(b, inv.Operator.String()...)
	b = append(b, `","region":`...)
	b = pci.AppendString(b, inv.Region)
	b = append(b, `,"role":`...)
	return pci.AppendString(b, inv.Role)
}

func (inv *Invitation) digest() (digest [32]byte) {
	h := blake3.New()
	_, _ = h.WriteString(invitationDomain)
	_, _ = h.Write(append(inv.appendUnsigned(nil), `,"v":1}`...))
	h.Sum(digest[:0])
	return digest
}

// Canonical is the invitation's one form, as it is stored and sent.
func (inv *Invitation) Canonical() []byte {
	b := inv.appendUnsigned(nil)
	b = append(b, `,"signature":"`...)
	b = hex.AppendEncode(b, inv.Signature[:])
	return append(b, `","v":1}`...)
}

func (inv *Invitation) check() error {
	switch {
	case inv.Federation == "" || len(inv.Federation) > invitationNameMax:
		return fmt.Errorf("%w: federation must be named with 1 to %d bytes", ErrInvitation, invitationNameMax)
	case inv.Region == "" || len(inv.Region) > invitationNameMax:
		return fmt.Errorf("%w: region must be named with 1 to %d bytes", ErrInvitation, invitationNameMax)
	case inv.Role != RoleMember:
		return fmt.Errorf("%w: role %q: an invitation can only make a %q", ErrInvitation, clip(inv.Role), RoleMember)
	case inv.ExpiresMillis <= 0 || inv.ExpiresMillis > invitationExpiresMax:
		return fmt.Errorf("%w: expires_ms %d: it must be from 1 to %d", ErrInvitation, inv.ExpiresMillis, int64(invitationExpiresMax))
	}
	return nil
}

// ParseInvitation reads an invitation strictly, in any JSON spacing; the node may be
// written as key or as peer ID. It does not verify: see [Invitation.Verify].
func ParseInvitation(text []byte) (Invitation, error) {
	v, err := pci.Parse(text, pci.Limits{BytesMax: InvitationBytesMax, DepthMax: invitationDepthMax})
	if err != nil {
		return Invitation{}, fmt.Errorf("%w: %w", ErrInvitation, err)
	}
	o := pci.ReadObject(v)
	if n := o.Int("v"); n != invitationVersion {
		o.Fault("version %d of invitations is not known to this program: it knows version %d", n, invitationVersion)
	}
	inv := Invitation{Federation: o.Text("federation", invitationNameMax), Region: o.Text("region", invitationNameMax),
		Role: o.Text("role", invitationNameMax), ExpiresMillis: o.Int("expires_ms")}
	node, operator, signature := o.Text("node", 128), o.Text("operator", 64), o.Text("signature", 128)
	if err := o.Done(); err != nil {
		return Invitation{}, fmt.Errorf("%w: %w", ErrInvitation, err)
	}
	id, err := ParseNode(node)
	if err == nil {
		inv.Node, err = NodeKey(id)
	}
	if err != nil {
		return Invitation{}, fmt.Errorf("%w: node: %w", ErrInvitation, err)
	}
	if inv.Operator, err = federation.ParseKey(operator); err != nil {
		return Invitation{}, fmt.Errorf("%w: operator: %w", ErrInvitation, err)
	}
	if n, err := hex.Decode(inv.Signature[:], []byte(signature)); err != nil || n != ed25519.SignatureSize {
		return Invitation{}, fmt.Errorf("%w: signature must have %d hexadecimal digits", ErrInvitation, 2*ed25519.SignatureSize)
	}
	if err := inv.check(); err != nil {
		return Invitation{}, err
	}
	return inv, nil
}

// Verify says whether the invitation holds under the document at the time: right
// federation, a region of it, signed by an operator of that region, not expired.
func (inv *Invitation) Verify(d *federation.Document, now time.Time) error {
	if err := inv.check(); err != nil {
		return err
	}
	if err := inv.checkDocument(d); err != nil {
		return err
	}
	if err := inv.checkTime(now); err != nil {
		return err
	}
	return inv.checkSignature()
}

func (inv *Invitation) checkTime(now time.Time) error {
	if !now.Before(time.UnixMilli(inv.ExpiresMillis)) {
		return fmt.Errorf("%w: %w: it ended at %s; ask an operator of %q for a new one", ErrInvitation, ErrInvitationExpired,
			time.UnixMilli(inv.ExpiresMillis).UTC().Format(time.RFC3339), inv.Region)
	}
	return nil
}

func (inv *Invitation) checkSignature() error {
	digest := inv.digest()
	if !ed25519.Verify(inv.Operator[:], digest[:], inv.Signature[:]) {
		return fmt.Errorf("%w: the signature is not that of operator %v over it", ErrInvitation, inv.Operator)
	}
	return nil
}

func (inv *Invitation) checkDocument(d *federation.Document) error {
	if d == nil {
		return fmt.Errorf("%w: there is no federation document yet to check it by", ErrInvitation)
	}
	if inv.Federation != d.Name {
		return fmt.Errorf("%w: it is for federation %q, this is %q", ErrInvitation, clip(inv.Federation), d.Name)
	}
	r, ok := d.Region(inv.Region)
	if !ok {
		return fmt.Errorf("%w: federation %q has no region %q", ErrInvitation, d.Name, clip(inv.Region))
	}
	if !r.IsOperator(inv.Operator) {
		return fmt.Errorf("%w: key %v is not an operator of region %q", ErrInvitation, inv.Operator, inv.Region)
	}
	return nil
}

// Credential is an invitation that holds under a document, but for its end. It is immutable, and
// nodes in one process may share it.
type Credential struct {
	Invitation Invitation
	peer       peer.ID
	canonical  []byte
	expires    time.Time
}

// Canonical is the invitation's one form. It must not be changed.
func (c *Credential) Canonical() []byte { return c.canonical }

// NewCredential reads an invitation and checks it against a document. An error wraps [ErrInvitation].
func NewCredential(text []byte, d *federation.Document) (*Credential, error) {
	inv, err := ParseInvitation(text)
	if err == nil {
		err = inv.checkDocument(d)
	}
	if err == nil {
		err = inv.checkSignature()
	}
	if err != nil {
		return nil, err
	}
	id, err := PeerID(inv.Node)
	if err != nil {
		return nil, fmt.Errorf("%w: node: %w", ErrInvitation, err)
	}
	// What was read of the text would keep all of it.
	inv.Federation, inv.Region, inv.Role = strings.Clone(inv.Federation), strings.Clone(inv.Region), strings.Clone(inv.Role)
	return &Credential{Invitation: inv, peer: id, canonical: inv.Canonical(), expires: time.UnixMilli(inv.ExpiresMillis)}, nil
}

// Admit takes an invitation that the peer showed, or that another showed for it: the
// peer counts as a [Member] until it expires, or until a new document no longer lists
// its operator. The error wraps [ErrInvitation] or [ErrAdmissionsFull].
func (a *Access) Admit(p peer.ID, text []byte) (*Credential, error) {
	if known, ok := a.Invited(p); ok && bytes.Equal(known.canonical, text) {
		return known, nil // it is shown again and again
	}
	d := a.Document()
	c, err := a.cfg.Credential(text, d)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	switch {
	case c.Invitation.Region != a.cfg.Region:
		return nil, fmt.Errorf("%w: it is for region %q, this is a node of %q", ErrInvitation, c.Invitation.Region, a.cfg.Region)
	case c.peer != p:
		return nil, fmt.Errorf("%w: it names node %v, shown for peer %v", ErrInvitation, c.Invitation.Node, p)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// Under the lock, so that a document that arrives meanwhile cannot be missed.
	if now := a.Document(); now != d {
		if err := c.Invitation.checkDocument(now); err != nil {
			return nil, err
		}
	}
	if err := c.Invitation.checkTime(now); err != nil {
		return nil, err
	}
	if known, ok := a.admitted[p]; ok {
		if c.expires.After(known.expires) {
			a.admitted[p] = c
			a.admissions++
		}
		return c, nil
	}
	if len(a.admitted) >= AdmissionsMax {
		for id, ad := range a.admitted {
			if !now.Before(ad.expires) {
				delete(a.admitted, id)
				a.admissions++
			}
		}
		if len(a.admitted) >= AdmissionsMax {
			return nil, fmt.Errorf("%w: %d, at most %d", ErrAdmissionsFull, len(a.admitted), AdmissionsMax)
		}
	}
	a.admitted[p] = c
	a.admissions++
	return c, nil
}

// Dismiss forgets the invitation by which a peer is a member; shown again, it counts again.
func (a *Access) Dismiss(p peer.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.admitted, p)
	a.admissions++
}

// Invited gives the invitation by which a peer is a member now, so that it can be
// shown to others.
func (a *Access) Invited(p peer.ID) (*Credential, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ad, ok := a.admitted[p]
	if !ok || !time.Now().Before(ad.expires) {
		return nil, false
	}
	return ad, true
}
