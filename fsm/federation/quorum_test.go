package federation

import (
	"math/rand/v2"
	"testing"
)

// dumbQuorum is the least number of regions that are more than two thirds of n, found by counting.
func dumbQuorum(n int) int {
	q := 0
	for !(q+q+q > n+n) {
		q++
	}
	return q
}

// dumbTolerated is the greatest number of regions that is less than a third of n, found by counting.
func dumbTolerated(n int) int {
	f := 0
	for (f+1)+(f+1)+(f+1) < n {
		f++
	}
	return f
}

// TestQuorumsMeet: for every number of regions that a document may have, two quorums, chosen
// to share as little as they can, share more regions than may lie, and the honest ones are a
// quorum by themselves.
func TestQuorumsMeet(t *testing.T) {
	for n := 1; n <= RegionsMax; n++ {
		q, f := Quorum(n), FaultsTolerated(n)
		if q != dumbQuorum(n) || f != dumbTolerated(n) {
			t.Fatalf("%d regions: quorum %d and %d faults, counting gives %d and %d", n, q, f, dumbQuorum(n), dumbTolerated(n))
		}
		shared := 0 // the first q regions and the last q
		for i := range n {
			if i < q && i >= n-q {
				shared++
			}
		}
		if shared <= f {
			t.Errorf("%d regions: two quorums of %d may share only %d, and %d may lie", n, q, shared, f)
		}
		if n-f < q {
			t.Errorf("%d regions: without %d liars, %d are left, and a quorum is %d", n, f, n-f, q)
		}
		if q < 1 || q > n || q > 100 {
			t.Errorf("%d regions: a quorum of %d", n, q)
		}
	}
	// 2f+1 of 6 regions is not safe: two threes need not meet.
	if Quorum(4) != 3 || Quorum(6) != 5 || Quorum(3) != 3 || FaultsTolerated(3) != 0 || Quorum(RegionsMax) != 100 {
		t.Errorf("the quorums are not those of the design: %d of 4, %d of 6, %d of 3", Quorum(4), Quorum(6), Quorum(3))
	}
}

// TestRandomQuorumsMeet: in 50,000 random cases an honest region is in both of two quorums.
func TestRandomQuorumsMeet(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	split := 0 // cases in which liars were in both
	for range 50_000 {
		n := 1 + rng.IntN(RegionsMax)
		one, two, liars := rng.Perm(n)[:Quorum(n)], rng.Perm(n)[:Quorum(n)], map[int]bool{}
		for _, i := range rng.Perm(n)[:FaultsTolerated(n)] {
			liars[i] = true
		}
		in := map[int]bool{}
		for _, i := range one {
			in[i] = true
		}
		honest, lying := 0, 0
		for _, i := range two {
			switch {
			case in[i] && liars[i]:
				lying++
			case in[i]:
				honest++
			}
		}
		if honest == 0 {
			t.Fatalf("seed %d: %d regions, liars %v: quorums %v and %v share no honest region", seed, n, liars, one, two)
		}
		if lying > 0 {
			split++
		}
	}
	if split < 10_000 {
		t.Errorf("in only %d cases did a liar vote twice", split)
	}
}
