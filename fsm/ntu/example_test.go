package ntu_test

import (
	"fmt"

	"github.com/bizra/bizra/fsm/ntu"
)

// A session that goes well, then badly.
func Example() {
	unit, err := ntu.New(ntu.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, snr := range []float64{0.9, 0.92, 0.95, 0.97, 0.2, 0.1} {
		state, err := unit.Observe(snr)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%.2f: belief %.3f, entropy %.3f, potential %.3f\n", snr, state.Belief, state.Entropy, state.Potential)
	}
	// Output:
	// 0.90: belief 0.670, entropy 0.000, potential 0.670
	// 0.92: belief 0.912, entropy 0.000, potential 0.912
	// 0.95: belief 0.972, entropy 0.000, potential 0.972
	// 0.97: belief 0.987, entropy 0.000, potential 0.987
	// 0.20: belief 0.552, entropy 0.455, potential 0.301
	// 0.10: belief 0.337, entropy 0.613, potential 0.131
}

// A unit as it lies in replicated state.
func ExampleUnit_MarshalBinary() {
	unit, err := ntu.New(ntu.Config{Window: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range []float64{0.25, 0.5} {
		if _, err := unit.Observe(v); err != nil {
			fmt.Println(err)
			return
		}
	}
	b, err := unit.MarshalBinary()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(b))
	fmt.Printf("%x\n", b[35:])
	var back ntu.Unit
	fmt.Println(back.UnmarshalBinary(b), back.State() == unit.State())
	// Output:
	// 51
	// 3fd00000000000003fe0000000000000
	// <nil> true
}

func ExampleConverge() {
	c, err := ntu.Converge(ntu.Config{}, []float64{0.9}, 0.01, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%t after %d, belief %.4f\n", c.Converged, c.Iterations, c.State.Belief)
	// Output:
	// true after 4, belief 0.8303
}

func ExampleDetect() {
	rising := []float64{0.1, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1}
	d, err := ntu.Detect(ntu.Config{}, rising, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Detected, d.Runs)
	// Output:
	// true [{5 8}]
}

func ExampleChain_Stationary() {
	share, err := ntu.DefaultChain().Stationary()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.4f\n", share)
	// Output: [0.1600 0.2533 0.5867]
}
