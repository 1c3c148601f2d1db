package sim

import (
	"testing"
	"time"
)

// manyRegions are so many that the copies of voters who do not lead stand by.
const manyRegions = 18

// TestAVoterThatStoodByTakesOver has the quorum hang on regions whose leaders are gone: who leads
// there now has copies that stood by, and votes all the same.
func TestAVoterThatStoodByTakesOver(t *testing.T) {
	bubble(t, func(c *Config) { c.Regions = manyRegions }, func(t *testing.T, w *World) {
		names := w.Regions()
		standing := func() (standing, following int) {
			for _, n := range w.All() {
				st, err := n.Running().Status()
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range st.Regions {
					if r.Following && r.Size > 0 && n == w.Leader(n.Region) {
						following++
					}
				}
				if n != w.Leader(n.Region) {
					standing++
				}
			}
			return standing, following
		}
		w.attested(t, 30*time.Second, names[0], w.submit(t, names[0], 3))
		if standing, following := standing(); standing != 2*manyRegions || following != manyRegions*(manyRegions-1) {
			t.Fatalf("%d voters stand by, %d copies of leaders follow", standing, following)
		}
		for _, r := range names[13:] { // no more than may be missing
			w.CutOff(r, true)
		}
		for _, r := range names[1:4] {
			if err := w.Leader(r).Crash(); err != nil {
				t.Fatal(err)
			}
		}
		w.attested(t, time.Minute, names[0], w.submit(t, names[0], 3))
		for _, r := range names[1:4] {
			if w.Leader(r) == nil {
				t.Errorf("%s has no leader", r)
			}
		}
	})
}
