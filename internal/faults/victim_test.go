package faults

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/bizra/bizra/consensus/region"
)

// The check passes on what a node really acknowledged, and finds out what is claimed beyond that.
func TestCheckFindsALoss(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	if err := Prepare(home); err != nil {
		t.Fatal(err)
	}
	run := func(home string) []Acked {
		var out bytes.Buffer
		if err := Victim(t.Context(), home, region.LogInBolt, &out); err != nil {
			t.Fatal(err)
		}
		acked, err := readAcked(&out)
		if err != nil || len(acked) != victimProofs {
			t.Fatalf("%d proofs were acknowledged: %v", len(acked), err)
		}
		return acked
	}
	acked := run(home)
	if err := Check(t.Context(), home, t.TempDir(), acked); err != nil {
		t.Fatal(err)
	}
	moved := append([]Acked(nil), acked...)
	moved[3].Index++
	if err := Check(t.Context(), home, t.TempDir(), moved); err == nil {
		t.Error("a proof that is another entry now was not found out")
	}
	other := filepath.Join(t.TempDir(), "home")
	if err := Prepare(other); err != nil {
		t.Fatal(err)
	}
	lost := append(append([]Acked(nil), acked...), run(other)...)
	if err := Check(t.Context(), home, t.TempDir(), lost); err == nil {
		t.Error("proofs that are not there were not found out")
	}
}
