package attest_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

// statements is one good message of each kind about region a of a federation.
func statements(tb testing.TB, fed *testfed.Federation) map[attest.Kind][]byte {
	tb.Helper()
	doc := fed.Document
	c := &checkpoint.Checkpoint{Origin: doc.Name + "/a", Size: 7, Root: [32]byte{1}, State: [32]byte{2}, TimeMillis: start,
		Document: doc.Version, DocumentDigest: doc.Digest()}
	other := *c
	other.State[0]++
	note, err1 := checkpoint.Sign(c, fed.LogKeys["a"])
	lie, err2 := checkpoint.Sign(&other, fed.LogKeys["a"])
	lines := map[string][]byte{}
	var errs []error
	for _, r := range doc.Regions[1:] {
		line, err := certificate.Cosign(c.Body(), r.Name, fed.Cosign[r.Name], start/1000)
		lines[r.Name], errs = line, append(errs, err)
	}
	made, err3 := certificate.Assemble(note, lines, doc)
	refusal, err4 := (&certificate.Refusal{Region: "b", Origin: c.Origin, Document: doc.Version, Size: 7, BodyDigest: certificate.BodyDigest(c.Body()),
		Code: certificate.RefusedDiverged, Detail: "x"}).Sign(fed.Cosign["b"])
	evidence, err5 := checkpoint.Contradiction(note, lie).Marshal()
	if err := errors.Join(append(errs, err1, err2, err3, err4, err5)...); err != nil {
		tb.Fatal(err)
	}
	message := func(kind attest.Kind, payload []byte) []byte {
		return (&attest.Message{Kind: kind, Document: doc.Version, Payload: payload}).Encode()
	}
	return map[attest.Kind][]byte{attest.KindCheckpoint: message(attest.KindCheckpoint, note),
		attest.KindCosignature: attest.EncodeCosignature(doc.Version, "b", c.Body(), lines["b"]),
		attest.KindCertificate: message(attest.KindCertificate, made), attest.KindRefusal: message(attest.KindRefusal, refusal),
		attest.KindEvidence: attest.EncodeEvidence(doc.Version, "a", evidence)}
}

func TestMessagesAreSignedWithin(t *testing.T) {
	fed := testfed.New(4, 1)
	for kind, data := range statements(t, fed) {
		s, err := attest.Open(data, fed.Document)
		if err != nil || s.Kind != kind || s.Origin != "a" {
			t.Fatalf("kind %d: %+v, %v", kind, s, err)
		}
		// Any bit counts, except where it makes the message one of another version.
		for i := range data {
			for bit := range 8 {
				bad := bytes.Clone(data)
				bad[i] ^= 1 << bit
				if _, err := attest.Open(bad, fed.Document); !errors.Is(err, attest.ErrMessage) && !errors.Is(err, attest.ErrOtherDocument) {
					t.Fatalf("kind %d with bit %d of byte %d turned: %v", kind, bit, i, err)
				}
			}
		}
	}
}

// TestOtherDocumentsAreNobodysFault: a validator rejects only what no document makes good.
func TestOtherDocumentsAreNobodysFault(t *testing.T) {
	fed := testfed.New(4, 1)
	next := testfed.New(4, 1, func(d *federation.Document) { d.Version = 2 })
	for kind, data := range statements(t, fed) {
		if _, err := attest.Open(data, next.Document); !errors.Is(err, attest.ErrOtherDocument) {
			t.Errorf("kind %d under the next document: %v", kind, err)
		}
		newer := append([]byte{2}, data[1:]...)
		if _, err := attest.Open(newer, fed.Document); !errors.Is(err, attest.ErrOtherDocument) {
			t.Errorf("kind %d of a newer version: %v", kind, err)
		}
	}
	// Meant under this document, and made under another.
	m, err := attest.DecodeMessage(statements(t, fed)[attest.KindCheckpoint])
	if err != nil {
		t.Fatal(err)
	}
	m.Document = 2
	if _, err := attest.Open(m.Encode(), next.Document); !errors.Is(err, attest.ErrOtherDocument) {
		t.Error(err)
	}
}

func TestMessageLimits(t *testing.T) {
	for _, c := range []struct {
		kind  attest.Kind
		bytes int
		ok    bool
	}{
		{attest.KindCheckpoint, checkpoint.NoteBytesMax, true}, {attest.KindCheckpoint, checkpoint.NoteBytesMax + 1, false},
		{attest.KindCertificate, certificate.NoteBytesMax, true}, {attest.KindCertificate, certificate.NoteBytesMax + 1, false},
		{attest.KindRefusal, certificate.RefusalBytesMax, true}, {attest.KindRefusal, certificate.RefusalBytesMax + 1, false},
		{0, 1, false}, {6, 1, false},
	} {
		data := (&attest.Message{Kind: c.kind, Document: 1, Payload: make([]byte, c.bytes)}).Encode()
		if _, err := attest.DecodeMessage(data); (err == nil) != c.ok {
			t.Errorf("kind %d with %d bytes: %v", c.kind, c.bytes, err)
		}
	}
	for name, data := range map[string][]byte{"nothing": nil, "too long": bytes.Repeat([]byte{1}, attest.MessageBytesMax+1), "version alone": {1},
		"document 0": (&attest.Message{Kind: 1, Payload: nil}).Encode(), "bytes after it": append((&attest.Message{Kind: 1, Document: 1}).Encode(), 0),
		"a long form": {1, 0x83, 0x18, 1, 1, 0x40}} {
		if _, err := attest.DecodeMessage(data); !errors.Is(err, attest.ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLargestStatementsFit: the limits leave room for the longest names and the most regions.
func TestLargestStatementsFit(t *testing.T) {
	long := strings.Repeat("n", 63)
	body := (&checkpoint.Checkpoint{Origin: long + "/" + long, Size: 1 << 40, TimeMillis: 1 << 53, Document: 1 << 53}).Body()
	e := &checkpoint.Evidence{First: make([]byte, checkpoint.NoteBytesMax), Second: make([]byte, checkpoint.NoteBytesMax), Root: tlog.Hash{1},
		Proof: make(tlog.TreeProof, checkpoint.ProofHashesMax)}
	evidence, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"cosignature": attest.EncodeCosignature(1<<53, long, body, make([]byte, certificate.LineBytesMax)),
		"evidence":    attest.EncodeEvidence(1<<53, long, evidence),
		"certificate": (&attest.Message{Kind: attest.KindCertificate, Document: 1 << 53, Payload: make([]byte, certificate.NoteBytesMax)}).Encode(),
	} {
		if _, err := attest.DecodeMessage(data); err != nil {
			t.Errorf("%s of %d bytes: %v", name, len(data), err)
		}
	}
}

func TestExchangeLimits(t *testing.T) {
	regions := func(n int) []string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("r", i))
		}
		return names
	}
	messages := func(n, size int) [][]byte {
		var all [][]byte
		for range n {
			all = append(all, make([]byte, size))
		}
		return all
	}
	for name, c := range map[string]struct {
		x  attest.Exchange
		ok bool
	}{
		"empty":             {attest.Exchange{Version: 1}, true},
		"another version":   {attest.Exchange{Version: 2}, false},
		"most messages":     {attest.Exchange{Version: 1, Messages: messages(attest.ExchangeMessagesMax, 1)}, true},
		"a message more":    {attest.Exchange{Version: 1, Messages: messages(attest.ExchangeMessagesMax+1, 1)}, false},
		"most bytes":        {attest.Exchange{Version: 1, Messages: messages(1, attest.ExchangeBytesMax)}, true},
		"a byte more":       {attest.Exchange{Version: 1, Messages: messages(1, attest.ExchangeBytesMax+1)}, false},
		"most regions":      {attest.Exchange{Version: 1, Evidence: regions(federation.RegionsMax)}, true},
		"a region more":     {attest.Exchange{Version: 1, Evidence: regions(federation.RegionsMax + 1)}, false},
		"no region's name":  {attest.Exchange{Version: 1, Evidence: []string{"A region"}}, false},
		"an endless region": {attest.Exchange{Version: 1, Evidence: []string{strings.Repeat("a", 64)}}, false},
	} {
		if err := c.x.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen: whatever comes, it is read or refused; what is read is written back the same.
func FuzzOpen(f *testing.F) {
	fed := testfed.New(4, 1)
	for _, data := range statements(f, fed) {
		f.Add(data)
	}
	f.Add([]byte{1, 0x83, 0x02, 0x01, 0x40})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := attest.DecodeMessage(data)
		if err == nil && !bytes.Equal(m.Encode(), data) {
			t.Fatalf("%x and %x are the same message", data, m.Encode())
		}
		if _, err := attest.Open(data, fed.Document); err != nil && !errors.Is(err, attest.ErrMessage) && !errors.Is(err, attest.ErrOtherDocument) {
			t.Fatalf("%x: %v", data, err)
		}
	})
}

// FuzzExchanged: a machine takes any exchange, and stays within its bounds.
func FuzzExchanged(f *testing.F) {
	w := newWorld(f, 4, 1)
	n := w.nodes["b-1"]
	for _, data := range statements(f, w.fed) {
		f.Add("a", int64(0), "c", data)
	}
	f.Add("b", int64(-1), "", []byte(nil))
	f.Fuzz(func(t *testing.T, region string, certified int64, evidence string, data []byte) {
		x := &attest.Exchange{Version: 1, Document: w.fed.Document.Version, Certified: certified, Evidence: []string{evidence}, Messages: [][]byte{data, data}}
		if _, err := n.att.Step(w.now, attest.Exchanged{Region: region, Exchange: x}); err != nil {
			t.Fatal(err)
		}
		answer, err := n.att.Exchange(region)
		if err != nil || answer.Check() != nil {
			t.Fatalf("%+v, %v", answer, err)
		}
	})
}
