package p2p

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

func TestInvitationRoundTrip(t *testing.T) {
	fed := testfed.New(2, 1)
	key := testfed.Key("member")
	text := invite(t, fed, "a", key)
	inv, err := ParseInvitation(text)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(inv.Canonical(), text) {
		t.Errorf("not the same again:\n%s\n%s", text, inv.Canonical())
	}
	if err := inv.Verify(fed.Document, time.Now()); err != nil {
		t.Error(err)
	}
	// The node as peer ID, spaces, another order: the same invitation.
	spaced := strings.Replace(string(text), inv.Node.String(), idOf(t, key).String(), 1)
	spaced = strings.ReplaceAll(spaced, ",", " ,\n ")
	again, err := ParseInvitation([]byte(spaced))
	if err != nil {
		t.Fatal(err)
	}
	if again != inv {
		t.Errorf("written otherwise it is another: %+v", again)
	}
}

func TestInvitationRefused(t *testing.T) {
	fed := testfed.New(2, 1)
	now := time.UnixMilli(1_800_000_000_000)
	base := Invitation{Federation: "test", Region: "a", Node: testfed.Key("member").Public(), Role: RoleMember, ExpiresMillis: now.UnixMilli() + 1}
	signed := func(change func(*Invitation), by string) Invitation {
		inv := base
		change(&inv)
		inv.Operator = testfed.Key(by).Public()
		digest := inv.digest()
		inv.Signature = testfed.Key(by).Sign(digest[:])
		return inv
	}
	same := func(*Invitation) {}
	good := signed(same, "a-operator")
	if err := good.Verify(fed.Document, now); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	forged := good
	forged.ExpiresMillis++
	cases := []struct {
		name string
		inv  Invitation
		says string
	}{
		{"expired in this millisecond", signed(func(i *Invitation) { i.ExpiresMillis-- }, "a-operator"), "ended at"},
		{"another federation", signed(func(i *Invitation) { i.Federation = "other" }, "a-operator"), "federation"},
		{"a region that does not exist", signed(func(i *Invitation) { i.Region = "z" }, "a-operator"), "no region"},
		{"the operator of another region", signed(same, "b-operator"), "not an operator"},
		{"a node's key", signed(same, "a-1"), "not an operator"},
		{"nobody's key", signed(same, "mallory"), "not an operator"},
		{"changed after signing", forged, "signature"},
		{"role of a voter", signed(func(i *Invitation) { i.Role = "voter" }, "a-operator"), "role"},
		{"never expires", signed(func(i *Invitation) { i.ExpiresMillis = 0 }, "a-operator"), "expires_ms"},
		{"expires beyond the calendar", signed(func(i *Invitation) { i.ExpiresMillis = invitationExpiresMax + 1 }, "a-operator"), "expires_ms"},
	}
	for _, c := range cases {
		err := c.inv.Verify(fed.Document, now)
		if !errors.Is(err, ErrInvitation) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want a refusal that says %q", c.name, err, c.says)
		}
	}
	if expired := cases[0].inv.Verify(fed.Document, now); !errors.Is(expired, ErrInvitationExpired) {
		t.Errorf("expired: %v", expired)
	}
	if _, err := SignInvitation(Invitation{Federation: "test", Region: "a"}, fed.Operators["a"]); err == nil {
		t.Error("an invitation without an end was signed")
	}
}

func TestInvitationIsForItsNodeAndRegionOnly(t *testing.T) {
	fed := testfed.New(2, 1)
	member, other := testfed.Key("member"), testfed.Key("other")
	text := invite(t, fed, "a", member)
	if _, err := newAccess(t, "a", fed.Document).Admit(idOf(t, other), text); !errors.Is(err, ErrInvitation) {
		t.Errorf("shown by another node: %v", err)
	}
	if _, err := newAccess(t, "b", fed.Document).Admit(idOf(t, member), text); !errors.Is(err, ErrInvitation) {
		t.Errorf("shown to another region: %v", err)
	}
	a := newAccess(t, "a", fed.Document)
	if _, err := a.Admit(idOf(t, member), text); err != nil {
		t.Errorf("shown rightly: %v", err)
	}
	if inv, ok := a.Invited(idOf(t, member)); !ok || !bytes.Equal(inv.Canonical(), text) {
		t.Error("the invitation was not kept")
	}
}

func TestParseInvitationStrict(t *testing.T) {
	fed := testfed.New(1, 1)
	text := string(invite(t, fed, "a", testfed.Key("member")))
	edit := func(from, to string) string {
		if !strings.Contains(text, from) {
			t.Fatalf("%q is not in %s", from, text)
		}
		return strings.Replace(text, from, to, 1)
	}
	for name, bad := range map[string]string{
		"nothing":            "",
		"not an object":      "[]",
		"unknown member":     edit(`"v":1`, `"v":1,"x":0`),
		"member twice":       edit(`"v":1`, `"v":1,"v":1`),
		"member missing":     edit(`,"v":1`, ``),
		"another version":    edit(`"v":1`, `"v":2`),
		"another role":       edit(`"role":"member"`, `"role":"voter"`),
		"fractional expiry":  edit(`"expires_ms":`, `"expires_ms":0.5e0,"y":`),
		"short signature":    edit(`"signature":"`, `"signature":"00","z":"`),
		"trailing text":      text + "{}",
		"too long":           text + strings.Repeat(" ", InvitationBytesMax),
		"RSA-like node name": edit(`"node":"`, `"node":"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N","w":"`),
	} {
		if inv, err := ParseInvitation([]byte(bad)); !errors.Is(err, ErrInvitation) {
			t.Errorf("%s: taken as %+v, %v", name, inv, err)
		}
	}
	atLimit := text + strings.Repeat(" ", InvitationBytesMax-len(text))
	if _, err := ParseInvitation([]byte(atLimit)); err != nil {
		t.Errorf("just short enough: %v", err)
	}
}

func FuzzParseInvitation(f *testing.F) {
	inv, err := SignInvitation(Invitation{Federation: "test", Region: "a", Node: federation.Key(testfed.Key("m").Public()), ExpiresMillis: 1}, testfed.Key("o"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(inv.Canonical())
	f.Add([]byte(`{"v":1,"node":"","operator":""}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, text []byte) {
		inv, err := ParseInvitation(text)
		if err != nil {
			return
		}
		again, err := ParseInvitation(inv.Canonical())
		if err != nil || again != inv {
			t.Fatalf("canonical form of %q does not read back: %v", text, err)
		}
	})
}
