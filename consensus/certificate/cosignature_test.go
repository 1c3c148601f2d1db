package certificate_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"filippo.io/torchwood"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

func TestCosignature(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	line := cosign(t, fed, c, "b")
	at, err := certificate.CheckCosignature(c.Body(), line, fed.Document, "b")
	if err != nil || at != nowSeconds {
		t.Fatalf("made at %d: %v", at, err)
	}
	if !strings.HasPrefix(string(line), "— test/b ") || !bytes.HasSuffix(line, []byte("\n")) {
		t.Errorf("the line is %q", line)
	}
	again := must[[]byte](t)(certificate.Cosign(c.Body(), "b", fed.Cosign["b"], nowSeconds+60))
	if at, err := certificate.CheckCosignature(c.Body(), again, fed.Document, "b"); err != nil || at != nowSeconds+60 || bytes.Equal(line, again) {
		t.Errorf("cosigned again a minute later: at %d: %v", at, err)
	}
}

func TestCosignRefused(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	for name, tt := range map[string]struct {
		body   []byte
		region string
		at     int64
	}{
		"the origin's own":   {c.Body(), "a", nowSeconds},
		"no checkpoint":      {[]byte("hello\n"), "b", nowSeconds},
		"a note":             {sign(t, fed, c), "b", nowSeconds},
		"at no time":         {c.Body(), "b", 0},
		"before 1970":        {c.Body(), "b", -1},
		"a time too late":    {c.Body(), "b", 1<<40 + 1},
		"a name with spaces": {c.Body(), "b c", nowSeconds},
	} {
		if line, err := certificate.Cosign(tt.body, tt.region, fed.Cosign["b"], tt.at); err == nil {
			t.Errorf("%s: cosigned as %q", name, line)
		}
	}
	for _, at := range []int64{1, 1 << 40} {
		line := must[[]byte](t)(certificate.Cosign(c.Body(), "b", fed.Cosign["b"], at))
		if got, err := certificate.CheckCosignature(c.Body(), line, fed.Document, "b"); err != nil || got != at {
			t.Errorf("at %d: read %d: %v", at, got, err)
		}
	}
}

func TestCosignatureRefused(t *testing.T) {
	fed := testfed.New(4, 1)
	c, other := statement(fed, "a", 7), statement(fed, "a", 8)
	line := cosign(t, fed, c, "b")
	foreign := testfed.New(4, 1, func(d *federation.Document) { d.Name = "other" })
	// The cosign key of b under b's name, but in the form of a log key (type 0x01).
	asLog := statement(fed, "b", 7)
	logLine := must[[]byte](t)(checkpoint.Sign(asLog, fed.Cosign["b"]))
	logLine = logLine[len(asLog.Body())+1:]
	for name, tt := range map[string]struct {
		body, line []byte
		doc        *federation.Document
		region     string
		want       error
	}{
		"of another body":             {other.Body(), line, fed.Document, "b", certificate.ErrCosignature},
		"as another region's":         {c.Body(), line, fed.Document, "c", certificate.ErrCosignature},
		"as the origin's":             {c.Body(), line, fed.Document, "a", certificate.ErrCosignature},
		"as a stranger's":             {c.Body(), line, fed.Document, "z", certificate.ErrCosignature},
		"by another key":              {c.Body(), must[[]byte](t)(certificate.Cosign(c.Body(), "b", fed.Cosign["c"], nowSeconds)), fed.Document, "b", certificate.ErrCosignature},
		"by the log key":              {c.Body(), must[[]byte](t)(certificate.Cosign(c.Body(), "b", fed.LogKeys["b"], nowSeconds)), fed.Document, "b", certificate.ErrCosignature},
		"in the form of a log key":    {c.Body(), logLine, fed.Document, "b", certificate.ErrCosignature},
		"no line":                     {c.Body(), nil, fed.Document, "b", certificate.ErrCosignature},
		"no newline":                  {c.Body(), bytes.TrimSpace(line), fed.Document, "b", certificate.ErrCosignature},
		"twice":                       {c.Body(), append(bytes.Clone(line), line...), fed.Document, "b", certificate.ErrCosignature},
		"with another's line":         {c.Body(), append(bytes.Clone(line), cosign(t, fed, c, "c")...), fed.Document, "b", certificate.ErrCosignature},
		"too long":                    {c.Body(), append(bytes.Repeat([]byte("x"), certificate.LineBytesMax), '\n'), fed.Document, "b", certificate.ErrCosignature},
		"under the next document":     {c.Body(), line, raised(fed.Document), "b", certificate.ErrOtherDocument},
		"under another federation's":  {c.Body(), line, foreign.Document, "b", certificate.ErrOtherDocument},
		"of no checkpoint":            {[]byte("hello\n"), line, fed.Document, "b", certificate.ErrCosignature},
		"of a body with an extension": {append(c.Body(), "more\n"...), line, fed.Document, "b", certificate.ErrCosignature},
	} {
		if _, err := certificate.CheckCosignature(tt.body, tt.line, tt.doc, tt.region); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", name, err, tt.want)
		}
	}
	// Every byte of the line matters.
	for i := range line {
		bent := bytes.Clone(line)
		bent[i] ^= 1
		if _, err := certificate.CheckCosignature(c.Body(), bent, fed.Document, "b"); err == nil {
			t.Errorf("byte %d of the line changed: %q", i, bent)
		}
	}
}

// TestCosignatureOfNoTime: a signer that is not ours may sign a time that is none.
func TestCosignatureOfNoTime(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	v := must[*torchwood.CosignatureVerifier](t)(certificate.CosignVerifier("test/b", fed.Cosign["b"].Public()))
	for _, at := range []uint64{0, 1<<40 + 1, math.MaxUint64} {
		line := foreignLine(v, fed.Cosign["b"], c.Body(), at)
		if !v.Verify(c.Body(), decodeLine(t, line)[4:]) {
			t.Fatalf("time %d: the line was to be a good signature", at)
		}
		if _, err := certificate.CheckCosignature(c.Body(), line, fed.Document, "b"); !errors.Is(err, certificate.ErrCosignature) {
			t.Errorf("time %d: error %v", at, err)
		}
	}
}

func FuzzCosignature(f *testing.F) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	line := cosign(f, fed, c, "b")
	f.Add(c.Body(), line)
	f.Add(c.Body(), cosign(f, fed, c, "c"))
	f.Fuzz(func(t *testing.T, body, text []byte) {
		if _, err := certificate.CheckCosignature(body, text, fed.Document, "b"); err == nil && (!bytes.Equal(body, c.Body()) || !bytes.Equal(text, line)) {
			t.Fatalf("accepted %q under %q, which nobody signed", text, body)
		}
	})
}
