package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bizra/bizra/sim/economy"
)

// TestMarket runs the command as a person would.
func TestMarket(t *testing.T) {
	page := filepath.Join(t.TempDir(), "market.html")
	var out, errOut bytes.Buffer
	args := []string{"market", "--owners", "30", "--hours", "6", "--seed", "9", "--attack", "none,hoard", "--html", page}
	if code := run(t.Context(), args, &out, &errOut); code != exitOK || !strings.Contains(out.String(), "seed 9") || !strings.Contains(out.String(), page) {
		t.Fatalf("exit %d: %s%s", code, out.String(), errOut.String())
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte("<svg")) {
		t.Errorf("page of %d bytes: %v", len(b), err)
	}
	out.Reset()
	var reports []economy.Report
	if code := run(t.Context(), append(args[:len(args)-1], "", "--json"), &out, &errOut); code != exitOK || json.Unmarshal(out.Bytes(), &reports) != nil ||
		len(reports) != 2 || reports[1].Attack != economy.Hoard || len(reports[1].Hours) != 6 {
		t.Errorf("exit %d: %.200s%s", code, out.String(), errOut.String())
	}
	for _, bad := range [][]string{{"--attack", "pray"}, {"--hours", "0"}, {"--owners", "1"}, {"--surge", "0.1"}, {"more"}} {
		errOut.Reset()
		if code := run(t.Context(), append([]string{"market", "--html", ""}, bad...), &out, &errOut); code != exitUsage || !strings.Contains(errOut.String(), "--help") {
			t.Errorf("%v: exit %d: %s", bad, code, errOut.String())
		}
	}
}
