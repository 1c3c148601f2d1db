package certificate_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
	"github.com/bizra/bizra/pci"
)

// foreignLine is a cosignature line as a signer that is not ours would write it.
func foreignLine(v *torchwood.CosignatureVerifier, key *pci.PrivateKey, body []byte, at uint64) []byte {
	sig := key.Sign(append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), body...))
	raw := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, v.KeyHash()), at)
	return fmt.Appendf(nil, "— %s %s\n", v.Name(), base64.StdEncoding.EncodeToString(append(raw, sig[:]...)))
}

func decodeLine(t testing.TB, line []byte) []byte {
	t.Helper()
	return must[[]byte](t)(base64.StdEncoding.DecodeString(strings.Fields(string(line))[2]))
}

func TestCertificate(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 26, federation.RegionsMax} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			fed := testfed.New(n, 1)
			origin := fed.Document.Regions[n/2].Name
			c := statement(fed, origin, 7)
			cert := testregion.Certify(t, fed, c)
			got, cosigners, err := certificate.Verify(cert, fed.Document)
			if err != nil || *got != *c {
				t.Fatalf("read %+v: %v", got, err)
			}
			var want []string
			for i := range fed.Document.Regions {
				if r := fed.Document.Regions[i].Name; r != origin && len(want) < federation.Quorum(n)-1 {
					want = append(want, r)
				}
			}
			if !slices.Equal(cosigners, want) {
				t.Errorf("cosigned by %v, want %v", cosigners, want)
			}
			if len(cert) > certificate.NoteBytesMax {
				t.Errorf("%d bytes", len(cert))
			}
		})
	}
}

// TestTooManyRegions: a document beyond the note format's limit is refused, not panicked over.
func TestTooManyRegions(t *testing.T) {
	fed := testfed.New(federation.RegionsMax, 1)
	doc := *fed.Document
	doc.Regions = append(slices.Clone(doc.Regions), federation.Region{Name: "s", LogKey: federation.Key{1}, CosignKey: federation.Key{2}})
	if _, err := certificate.Policy(&doc, "r000"); !errors.Is(err, certificate.ErrCertificate) {
		t.Errorf("150 regions: error %v", err)
	}
	if _, err := certificate.Policy(&federation.Document{Name: "test"}, "a"); !errors.Is(err, certificate.ErrCertificate) {
		t.Errorf("no region: error %v", err)
	}
}

func TestAssembleLeavesOut(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	lines := testregion.Cosign(t, fed, c)
	lines["b"] = cosign(t, fed, statement(fed, "a", 8), "b")
	lines["z"], lines["a"] = lines["c"], lines["d"]
	cert := must[[]byte](t)(certificate.Assemble(sign(t, fed, c), lines, fed.Document))
	if _, cosigners, err := certificate.Verify(cert, fed.Document); err != nil || !slices.Equal(cosigners, []string{"c", "d"}) {
		t.Errorf("cosigned by %v: %v", cosigners, err)
	}
	lines["c"] = lines["d"]
	if _, err := certificate.Assemble(sign(t, fed, c), lines, fed.Document); !errors.Is(err, certificate.ErrTooFew) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("with one good line of two: %v", err)
	}
	for name, note := range map[string][]byte{
		"a certificate":        cert,
		"signed by another":    must[[]byte](t)(checkpoint.Sign(c, fed.LogKeys["b"])),
		"of a stranger":        must[[]byte](t)(checkpoint.Sign(statement(fed, "z", 7), fed.LogKeys["a"])),
		"a body":               c.Body(),
		"a body and a newline": append(c.Body(), '\n'),
	} {
		if _, err := certificate.Assemble(note, testregion.Cosign(t, fed, c), fed.Document); err == nil {
			t.Errorf("%s was taken for a checkpoint note", name)
		}
	}
	if _, err := certificate.Assemble(sign(t, fed, c), testregion.Cosign(t, fed, c), raised(fed.Document)); !errors.Is(err, certificate.ErrOtherDocument) {
		t.Errorf("under the next document: %v", err)
	}
}

func TestCertificateRefused(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	good := testregion.Certify(t, fed, c)
	head := sign(t, fed, c)
	line := func(region string) []byte { return cosign(t, fed, c, region) }
	note := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	own := must[*torchwood.CosignatureVerifier](t)(certificate.CosignVerifier("test/a", fed.Cosign["a"].Public()))
	stranger := must[*torchwood.CosignatureVerifier](t)(certificate.CosignVerifier("witness.example/w", testfed.Key("w").Public()))
	asLog := func(region string) []byte { // a line of another region's log key
		s := statement(fed, region, 7)
		return must[[]byte](t)(checkpoint.Sign(s, fed.LogKeys[region]))[len(s.Body())+1:]
	}
	if !bytes.Equal(good, note(head, line("b"), line("c"))) {
		t.Fatal("a certificate is the note and two lines")
	}
	for name, text := range map[string][]byte{
		"one cosignature too few":     note(head, line("b")),
		"one cosignature too many":    note(head, line("b"), line("c"), line("d")),
		"one region twice":            note(head, line("b"), line("b")),
		"one region twice and more":   note(head, line("b"), line("b"), line("c")),
		"not sorted":                  note(head, line("c"), line("b")),
		"the origin not first":        note(c.Body(), []byte("\n"), line("b"), head[len(c.Body())+1:], line("c")),
		"without the origin":          note(c.Body(), []byte("\n"), line("b"), line("c"), line("d")),
		"the origin's own cosign":     note(head, foreignLine(own, fed.Cosign["a"], c.Body(), nowSeconds), line("b")),
		"an outside witness's":        note(head, line("b"), foreignLine(stranger, testfed.Key("w"), c.Body(), nowSeconds)),
		"an outside witness's more":   note(good, foreignLine(stranger, testfed.Key("w"), c.Body(), nowSeconds)),
		"one of another body":         note(head, line("b"), cosign(t, fed, statement(fed, "a", 8), "c")),
		"one of a log key":            note(head, line("b"), asLog("c")),
		"another origin's log key":    note(must[[]byte](t)(checkpoint.Sign(c, fed.LogKeys["b"])), line("b"), line("c")),
		"a body that nobody signed":   bytes.Replace(good, []byte("\n7\n"), []byte("\n6\n"), 1),
		"an extension":                bytes.Replace(good, []byte("\n\n"), []byte("\nmore\n\n"), 1),
		"a second body":               note(c.Body(), []byte("\n"), good),
		"no signature":                c.Body(),
		"nothing":                     nil,
		"too long":                    note(good, bytes.Repeat(line("b"), 110)),
		"of a region not in there":    must[[]byte](t)(checkpoint.Sign(statement(fed, "z", 7), fed.LogKeys["a"])),
		"bits past a signature's end": bytes.Replace(good, []byte("=\n— test/b"), []byte{bent(good, "=\n— test/b"), '=', '\n', 0xe2, 0x80, 0x94, ' ', 't', 'e', 's', 't', '/', 'b'}, 1),
	} {
		if bytes.Equal(text, good) {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, _, err := certificate.Verify(text, fed.Document); !errors.Is(err, certificate.ErrCertificate) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, _, err := certificate.Verify(good, raised(fed.Document)); !errors.Is(err, certificate.ErrOtherDocument) {
		t.Errorf("under the next document: %v", err)
	}
	changed := *fed.Document
	changed.Constitution.Limits.OpenRegistration = true
	if _, _, err := certificate.Verify(good, &changed); !errors.Is(err, certificate.ErrOtherDocument) {
		t.Errorf("under a changed document of the same version: %v", err)
	}
}

func bent(text []byte, before string) byte { return text[bytes.Index(text, []byte(before))-1] + 1 }

// TestCertificateTwin: whatever lines are put under a checkpoint, the certificate holds
// exactly if a second, simpler reading of the rules says so.
func TestCertificateTwin(t *testing.T) {
	const kinds = 6
	held, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(rt, "regions")
		fed := testfed.New(n, 1)
		origin := fed.Document.Regions[rapid.IntRange(0, n-1).Draw(rt, "origin")].Name
		c := statement(fed, origin, 7)
		text := sign(t, fed, c)
		good, tainted, last := 0, false, ""
		for range rapid.IntRange(0, n+1).Draw(rt, "lines") {
			region := fed.Document.Regions[rapid.IntRange(0, n-1).Draw(rt, "region")].Name
			key, body, v := fed.Cosign[region], c.Body(), must[*torchwood.CosignatureVerifier](t)(certificate.CosignVerifier("test/"+region, fed.Cosign[region].Public()))
			switch rapid.IntRange(0, kinds-1).Draw(rt, "kind") {
			case 0:
				key, tainted = testfed.Key("nobody"), true
			case 1:
				body, tainted = statement(fed, origin, 8).Body(), true
			}
			// Sorted, distinct, of others: the way in which an assembler would go.
			tainted = tainted || region <= last || region == origin
			good, last = good+1, region
			text = append(text, foreignLine(v, key, body, nowSeconds)...)
		}
		want := !tainted && 1+good == federation.Quorum(n)
		if _, _, err := certificate.Verify(text, fed.Document); (err == nil) != want {
			rt.Fatalf("%d regions, %q: %v, want it to hold: %v", n, text, err, want)
		}
		if want {
			held++
		} else {
			refused++
		}
	})
	if held < 3 || refused < 3 {
		t.Errorf("%d held and %d were refused: too few of one", held, refused)
	}
}

func FuzzVerify(f *testing.F) {
	fed := testfed.New(4, 1)
	good := testregion.Certify(f, fed, statement(fed, "a", 7))
	f.Add(good)
	f.Add(append(bytes.Clone(good), cosign(f, fed, statement(fed, "a", 7), "d")...))
	f.Add(sign(f, fed, statement(fed, "a", 7)))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, _, err := certificate.Verify(text, fed.Document); err == nil && !bytes.Equal(text, good) {
			t.Fatalf("accepted %q, which nobody signed", text)
		}
	})
}
