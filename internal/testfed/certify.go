package testfed

import (
	"fmt"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
)

// Certify makes the command that records a region's seal as certified, so that it can make
// the next ones: the checkpoint note alone, since Apply leaves the signatures to others.
func (f *Federation) Certify(s *fsm.Seal) []byte {
	c := s.Checkpoint()
	signed, err := checkpoint.Sign(c, f.LogKeys[c.Region()])
	if err != nil {
		panic(fmt.Sprintf("testfed: %v", err))
	}
	return fsm.EncodeCertify(s.Number, signed)
}
