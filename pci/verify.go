package pci

import (
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// verifyBatchMax is how many signatures share one equation. Larger batches gain
// little and make one bad signature cost more, since all of them are then verified
// one by one.
const verifyBatchMax = 64

// zip215 gives the rules of ZIP-215: points may be of small order or encoded
// non-canonically, s must be below the group order, and the equation is multiplied
// by the cofactor. Only so do single and batch verification agree on every input.
func zip215() *ed25519.Options {
	return &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}
}

// Verify checks the Ed25519 signature over the digest by the rules of ZIP-215. An
// error is a [*Reject] with [RejectSignature].
func (e *Envelope) Verify() error {
	if e.Signature == nil {
		return e.unsigned()
	}
	if !ed25519.VerifyWithOptions(e.Sender.PublicKey[:], e.digest[:], e.Signature.Value[:], zip215()) {
		return Rejectf(RejectSignature, "the signature does not fit the digest and sender.public_key")
	}
	return nil
}

// VerifyBatch verifies many envelopes at about half the cost of one by one. Element
// i of the result is what envs[i].Verify would return: a batch that does not hold
// as a whole is verified one by one, and one that holds contains a bad signature
// with a probability of 2^-128 at most, whatever the signers chose. A nil envelope
// is refused.
func VerifyBatch(envs []*Envelope) []error {
	errs := make([]error, len(envs))
	for start := 0; start < len(envs); start += verifyBatchMax {
		end := min(start+verifyBatchMax, len(envs))
		verifyBatch(envs[start:end], errs[start:end])
	}
	return errs
}

func verifyBatch(envs []*Envelope, errs []error) {
	batch := ed25519.NewBatchVerifierWithCapacity(len(envs))
	opts := zip215()
	signed := 0
	for _, e := range envs {
		if e != nil && e.Signature != nil {
			batch.AddWithOptions(e.Sender.PublicKey[:], e.digest[:], e.Signature.Value[:], opts)
			signed++
		}
	}
	// One signature alone is cheaper to verify as one.
	sound := signed > 1 && batch.VerifyBatchOnly(nil)
	for i, e := range envs {
		switch {
		case e == nil:
			errs[i] = Rejectf(RejectSignature, "there is no envelope")
		case e.Signature == nil || !sound:
			errs[i] = e.Verify()
		}
	}
}
