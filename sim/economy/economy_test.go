package economy_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/bizra/bizra/sim/economy"
)

func run(t *testing.T, cfg economy.Config) *economy.Report {
	t.Helper()
	r, err := economy.Run(t.Context(), cfg, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d %-8s worst %.3f settled %.3f served %.2f welfare %.3f sales %d refused %d dodged %d; attackers %d: units %.3f declared %.3f net %.0f of %.0f (%.3f/h, %.3f a unit-hour), honest %.3f/h, %.3f",
		cfg.Seed, r.Attack, r.GiniWorst, r.GiniSettle, r.Served, r.Welfare, r.Sales, r.Refused, r.Dodged, r.Attackers, r.AttackerUnits, r.AttackerDeclared,
		r.AttackerNet, r.AttackerPurse, r.AttackerNetHour, r.AttackerUnitHour, r.HonestNetHour, r.HonestUnitHour)
	return r
}

// TestAttacks plays all of them, holds every epoch to the limit, and pins what docs/market.md says of each.
func TestAttacks(t *testing.T) {
	reports := map[economy.Attack]*economy.Report{}
	for _, a := range economy.Attacks() {
		r := run(t, economy.Config{Seed: 7, Owners: 200, For: 48 * time.Hour, Attack: a})
		if reports[a] = r; r.Broken != 0 || len(r.Hours) != 48 || r.Sales == 0 || r.Refused == 0 {
			t.Errorf("%s: %d hours, %d of them broke a promise", a, len(r.Hours), r.Broken)
		}
	}
	if r := reports[economy.Hoard]; r.AttackerDeclared > 0.25 || r.AttackerNet >= 0 {
		t.Errorf("one owner declares %.2f of all, and gains %.0f", r.AttackerDeclared, r.AttackerNet)
	}
	if r := reports[economy.Split]; r.AttackerNet <= 0 {
		t.Errorf("names at the floor gain %.0f: that names pay is what the document warns of", r.AttackerNet)
	}
	if r := reports[economy.Dodge]; r.Dodged == 0 || r.AttackerNetHour <= r.HonestNetHour {
		t.Errorf("who dodges %d sales gains %.2f an hour, others %.2f", r.Dodged, r.AttackerNetHour, r.HonestNetHour)
	}
	if r := reports[economy.Collude]; r.AttackerUnits < 2*reports[economy.Hoard].AttackerUnits || r.AttackerNet >= 0 || r.HonestNetHour <= 0 {
		t.Errorf("a ring holds %.2f of the units for %.0f, others gain %.2f an hour", r.AttackerUnits, r.AttackerNet, r.HonestNetHour)
	}
}

func TestARunIsAFunctionOfItsSeed(t *testing.T) {
	cfg := economy.Config{Seed: 3, Owners: 60, For: 12 * time.Hour, Attack: economy.Hoard}
	one, two := run(t, cfg), run(t, cfg)
	if !reflect.DeepEqual(one, two) {
		t.Error("the same seed gave two reports")
	}
	cfg.Seed++
	if reflect.DeepEqual(one.Hours, run(t, cfg).Hours) {
		t.Error("another seed gave the same hours")
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := economy.Run(ctx, economy.Config{Seed: 1, Owners: 20}, func(hour, _ int) {
		if hour == 5 {
			cancel()
		}
	})
	if err == nil || r == nil || len(r.Hours) != 5 {
		t.Errorf("%+v, %v", r, err)
	}
}
