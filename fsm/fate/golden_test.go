package fate_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm/fate"
)

// goldenBits is the SHA-256 over 10,000 verdicts by either rule. Any processor must give it,
// whatever GOARCH, GOAMD64 or GOARM64 say.
const goldenBits = "0cf8cc5db712578475aca080d00fe7172d9022dd96addebfbc76959cc6c54249"

func TestGolden(t *testing.T) {
	h := sha256.New()
	seed := uint64(3)
	draw := func() uint64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		return seed >> 11
	}
	unit := func() float64 { return float64(draw()) / (1 << 53) }
	coin := func() bool { return draw()>>20&1 == 0 }
	vocabulary := []string{"read", "WRITE", "file", "Δοκιμή", "summarize", "x", "ÄNDERE", "δοκιμή"}
	text := func(gap string) string {
		words := make([]string, draw()>>20%5)
		for i := range words {
			words[i] = vocabulary[draw()>>20%uint64(len(vocabulary))]
		}
		return strings.Join(words, gap)
	}
	write := func(f float64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], math.Float64bits(f))
		h.Write(b[:])
	}
	for range 5000 {
		o := fate.Operation{
			Name: text("_"), Intent: text(" "), Type: text("-"), SNR: unit(), HasSNR: coin(),
			HasExecutionID: coin(), HasTimestamp: coin(), HasTrace: coin(), HasInput: coin(), HasDescription: coin(),
			PIIDetected: coin(), ToxicityDetected: coin(), EthicsViolation: coin(),
		}
		for _, p := range []fate.Policy{
			mustNew(t, fate.Config{}),
			mustNew(t, fate.Config{Rule: fate.Geometric, Weights: [4]float64{unit(), unit(), unit(), unit()}}),
		} {
			v := p.Judge(&o)
			for d := fate.Fidelity; d <= fate.Ethics; d++ {
				write(v.Scores.Of(d))
			}
			write(v.Composite)
			h.Write([]byte{byte(v.Weakest)})
			for _, g := range v.Gaps {
				write(g.Gain)
				write(g.Composite)
				write(g.Least)
				h.Write([]byte(g.String()))
			}
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != goldenBits {
		t.Errorf("verdicts have hash %s, want %s", got, goldenBits)
	}
}
