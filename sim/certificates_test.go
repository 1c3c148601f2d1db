package sim

import (
	"testing"
	"time"
)

// TestAMemberAsksForCertificates: gossip has told of a certificate while a member was down, and tells
// no more; from its own region the member learns it all the same.
func TestAMemberAsksForCertificates(t *testing.T) {
	bubble(t, func(c *Config) { c.Members = 1 }, func(t *testing.T, w *World) {
		member := w.Nodes("a")[w.cfg.Voters]
		knows := func(region string) int64 {
			st, err := member.Running().Status()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range st.Regions {
				if r.Region == region {
					return r.Certified
				}
			}
			return 0
		}
		if err := member.Stop(); err != nil {
			t.Fatal(err)
		}
		for _, r := range []string{"b", "c"} {
			w.attested(t, 20*time.Second, r, w.submit(t, r, 3))
		}
		w.quiet(t, 2*time.Minute) // nobody announces them any longer
		if err := member.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.within(t, 20*time.Second, "the member to know what it missed", func() bool {
			return knows("b") == w.Auditor.Certified("b") && knows("c") == w.Auditor.Certified("c") && knows("b") > 0
		})
	})
}
