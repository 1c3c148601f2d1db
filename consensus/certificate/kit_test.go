package certificate_test

import (
	"testing"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// nowSeconds is when the regions of these tests cosign.
const nowSeconds = testregion.CosignSeconds

// statement is what a region of the federation says about a ledger of so many entries.
func statement(fed *testfed.Federation, region string, size int64) *checkpoint.Checkpoint {
	return &checkpoint.Checkpoint{Origin: checkpoint.Origin(fed.Document.Name, region), Size: size, Root: [32]byte{1}, State: [32]byte{2},
		TimeMillis: testregion.Start, Document: fed.Document.Version, DocumentDigest: fed.Document.Digest()}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func sign(t testing.TB, fed *testfed.Federation, c *checkpoint.Checkpoint) []byte {
	t.Helper()
	return must[[]byte](t)(checkpoint.Sign(c, fed.LogKeys[c.Region()]))
}

func cosign(t testing.TB, fed *testfed.Federation, c *checkpoint.Checkpoint, region string) []byte {
	t.Helper()
	return must[[]byte](t)(certificate.Cosign(c.Body(), region, fed.Cosign[region], nowSeconds))
}

// raised is the document with the next version.
func raised(doc *federation.Document) *federation.Document {
	next := *doc
	next.Version++
	return &next
}
