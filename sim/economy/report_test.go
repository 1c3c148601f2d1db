package economy_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/sim/economy"
)

// TestForms looks at what people see of two runs.
func TestForms(t *testing.T) {
	var reports []*economy.Report
	for _, a := range []economy.Attack{economy.Calm, economy.Split} {
		reports = append(reports, run(t, economy.Config{Seed: 5, Owners: 40, For: 10 * time.Hour, Attack: a}))
	}
	var table, page bytes.Buffer
	if err := economy.Table(&table, reports); err != nil {
		t.Fatal(err)
	}
	if err := economy.HTML(&page, reports); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"40 owners", "10 hours, seed 5", "none ", "split ", "welfare", "ask first"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	if n := strings.Count(page.String(), "<svg"); n != 8 {
		t.Errorf("the page has %d plots", n)
	}
	for _, bad := range []string{"NaN", "http://", "https://", "<script"} {
		if text := strings.ReplaceAll(page.String(), `http://www.w3.org`, ""); strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []economy.Config{{Owners: 1}, {Owners: economy.OwnersMax + 1}, {For: time.Minute}, {For: 90 * time.Minute}, {For: (economy.HoursMax + 1) * time.Hour},
		{Attack: "pray"}, {Purse: -1}, {Purse: economy.PurseMax + 1}, {Names: 1.1}, {Names: -1}, {Scarcity: -1}, {Scarcity: 101}, {Surge: 0.5}, {Surge: 101}} {
		if err := c.Check(); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	for _, c := range []economy.Config{{}, {Owners: economy.OwnersMax, For: economy.HoursMax * time.Hour, Purse: economy.PurseMax, Names: 1, Scarcity: 100, Surge: 100}} {
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
}
