package certificate_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/internal/testfed"
)

func refusal(fed *testfed.Federation) *certificate.Refusal {
	c := statement(fed, "a", 7)
	return &certificate.Refusal{Region: "b", Origin: c.Origin, Document: 1, Size: 7, BodyDigest: certificate.BodyDigest(c.Body()),
		Code: certificate.RefusedDiverged, Detail: "entry 3: recorded accepted, here it gives STATE_MISMATCH"}
}

func TestRefusal(t *testing.T) {
	fed := testfed.New(4, 1)
	data := must[[]byte](t)(refusal(fed).Sign(fed.Cosign["b"]))
	got, err := certificate.OpenRefusal(data, fed.Document)
	if err != nil || *got != *refusal(fed) {
		t.Fatalf("read %+v: %v", got, err)
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		if _, err := certificate.OpenRefusal(changed, fed.Document); err == nil {
			t.Errorf("byte %d changed, and it opens", i)
		}
	}
	for name, text := range map[string][]byte{
		"nothing": nil, "a byte more": append(bytes.Clone(data), 0), "a byte less": data[:len(data)-1], "the signature alone": data[:65],
		"too long":         append(bytes.Clone(data), make([]byte, certificate.RefusalBytesMax)...),
		"by another key":   must[[]byte](t)(refusal(fed).Sign(fed.Cosign["c"])),
		"by the log key":   must[[]byte](t)(refusal(fed).Sign(fed.LogKeys["b"])),
		"by a stranger":    must[[]byte](t)(func() *certificate.Refusal { r := refusal(fed); r.Region = "z"; return r }().Sign(fed.Cosign["b"])),
		"a longer integer": bytes.Replace(data, []byte{0x01, 0x07, 0x58, 0x20}, []byte{0x18, 0x01, 0x07, 0x58, 0x20}, 1),
	} {
		if bytes.Equal(text, data) {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := certificate.OpenRefusal(text, fed.Document); !errors.Is(err, certificate.ErrRefusal) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := certificate.OpenRefusal(data, raised(fed.Document)); !errors.Is(err, certificate.ErrOtherDocument) {
		t.Errorf("under the next document: %v", err)
	}
}

func TestRefusalLimits(t *testing.T) {
	fed := testfed.New(4, 1)
	long := strings.Repeat("n", 63)
	for _, tt := range []struct {
		name   string
		change func(*certificate.Refusal)
		ok     bool
	}{
		{"a longest detail", func(r *certificate.Refusal) { r.Detail = strings.Repeat("x", certificate.DetailBytesMax) }, true},
		{"a detail too long", func(r *certificate.Refusal) { r.Detail = strings.Repeat("x", certificate.DetailBytesMax+1) }, false},
		{"a detail of two lines", func(r *certificate.Refusal) { r.Detail = "a\nb" }, false},
		{"a detail that is no text", func(r *certificate.Refusal) { r.Detail = "\xff" }, false},
		{"no detail", func(r *certificate.Refusal) { r.Detail = "" }, true},
		{"longest names", func(r *certificate.Refusal) {
			r.Region, r.Origin, r.Detail = long, long+"/"+long[1:], strings.Repeat("x", certificate.DetailBytesMax)
			r.Code = strings.Repeat("c", 32)
		}, true},
		{"a code too long", func(r *certificate.Refusal) { r.Code = strings.Repeat("c", 33) }, false},
		{"no code", func(r *certificate.Refusal) { r.Code = "" }, false},
		{"its own", func(r *certificate.Refusal) { r.Region = "a" }, false},
		{"no origin", func(r *certificate.Refusal) { r.Origin = "a" }, false},
		{"no entries", func(r *certificate.Refusal) { r.Size = 0 }, false},
		{"no document", func(r *certificate.Refusal) { r.Document = 0 }, false},
	} {
		r := refusal(fed)
		tt.change(r)
		data, err := r.Sign(fed.Cosign["b"])
		if (err == nil) != tt.ok || len(data) > certificate.RefusalBytesMax {
			t.Errorf("%s: %d bytes: %v", tt.name, len(data), err)
		}
	}
}

func FuzzRefusal(f *testing.F) {
	fed := testfed.New(4, 1)
	data := must[[]byte](f)(refusal(fed).Sign(fed.Cosign["b"]))
	f.Add(data)
	f.Add(data[:66])
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := certificate.OpenRefusal(text, fed.Document); err == nil && !bytes.Equal(text, data) {
			t.Fatalf("accepted %x, which nobody signed", text)
		}
	})
}
