package attest

import (
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
)

// Keys signs with the keys of a region: it is the [Signer] of a node that holds them.
type Keys struct {
	region      string
	log, cosign checkpoint.Signer
}

// NewKeys makes the signer of a region from its log key and its cosign key.
func NewKeys(region string, log, cosign checkpoint.Signer) *Keys { return &Keys{region, log, cosign} }

// Checkpoint implements [Signer].
func (k *Keys) Checkpoint(c *checkpoint.Checkpoint) ([]byte, error) {
	return checkpoint.Sign(c, k.log)
}

// Cosign implements [Signer].
func (k *Keys) Cosign(body []byte, unixSeconds int64) ([]byte, error) {
	return certificate.Cosign(body, k.region, k.cosign, unixSeconds)
}

// Refuse implements [Signer].
func (k *Keys) Refuse(r Refusal) ([]byte, error) {
	c := r.Checkpoint
	full := certificate.Refusal{Region: k.region, Origin: c.Origin, Document: c.Document, Size: c.Size,
		BodyDigest: certificate.BodyDigest(c.Body()), Code: r.Code, Detail: clean(r.Detail)}
	return full.Sign(k.cosign)
}

// clean makes a text fit for the detail of a refusal: one line, without control characters.
func clean(text string) string {
	out := make([]rune, 0, len(text))
	size := 0
	for _, r := range text {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			r = ' '
		}
		if size += len(string(r)); size > certificate.DetailBytesMax {
			break
		}
		out = append(out, r)
	}
	return string(out)
}
