//detlint:allow rand keys are drawn where they are made, outside the state machine
//detlint:allow time so are stamps

package pci

import (
	"crypto/rand"
	"os"
	"time"
)

func draw() (b [32]byte, t time.Time) {
	_, _ = rand.Read(b[:])
	_ = os.Getenv("X") // want `env: os.Getenv`
	return b, time.Now()
}
