package p2p

import (
	"slices"
	"testing"
	"time"

	"github.com/bizra/bizra/internal/testfed"
)

// TestWhoStandsByReachesAFewRegions has voters that stand by want a connection to each of a few regions,
// each voter to others, and to all once they do not.
func TestWhoStandsByReachesAFewRegions(t *testing.T) {
	const regions = foreignManyRegions + 2
	fed := testfed.New(regions, 3)
	reached := map[string]int{}
	for name, nodes := range fed.Nodes {
		for _, key := range nodes {
			access, stands := newAccess(t, name, fed.Document), true
			k := newKeeper(access, KeeperConfig{Logger: quiet(), StandsBy: func() bool { return stands }}.withDefaults(), newWire(idOf(t, key)))
			o := k.outlookAt(time.Now())
			if len(o.foreign) != foreignStandingBy || k.foreignWanted(o) != foreignFew {
				t.Fatalf("it wants %d voters of each of %d regions", k.foreignWanted(o), len(o.foreign))
			}
			for _, ids := range o.foreign {
				region := access.RegionOf(ids[0])
				if region == name {
					t.Fatal("the own region is no other")
				}
				reached[region]++
			}
			stands = false
			if o = k.outlookAt(time.Now()); len(o.foreign) != regions-1 {
				t.Fatalf("it reaches %d regions, though it does not stand by any more", len(o.foreign))
			}
			k.cancel()
		}
	}
	if len(reached) != regions {
		t.Errorf("%d of %d regions are reached", len(reached), regions)
	}
	counts := make([]int, 0, len(reached))
	for _, n := range reached {
		counts = append(counts, n)
	}
	if most := slices.Max(counts); most > 5*foreignStandingBy*3 {
		t.Errorf("one region is reached by %d, where %d are the mean", most, 3*foreignStandingBy)
	}
}
