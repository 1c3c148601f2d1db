package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
)

func TestConfig(t *testing.T) {
	reg := prometheus.NewRegistry
	for name, c := range map[string]struct {
		cfg  api.Config
		says string
	}{
		"no registry":      {api.Config{}, "Registry"},
		"negative time":    {api.Config{Registry: reg(), IdleTimeout: -1}, "IdleTimeout"},
		"answers cut off":  {api.Config{Registry: reg(), WriteTimeout: time.Second}, "WriteTimeout"},
		"no connections":   {api.Config{Registry: reg(), ConnectionsMax: -1}, "ConnectionsMax"},
		"small batches":    {api.Config{Registry: reg(), BatchBytesMax: client.ProofBytesMax - 1}, "BatchBytesMax"},
		"large batches":    {api.Config{Registry: reg(), BatchBytesMax: client.BatchBytesMax + 1}, "BatchBytesMax"},
		"too small budget": {api.Config{Registry: reg(), BodiesBytesMax: client.BatchBytesMax - 1}, "BodiesBytesMax"},
	} {
		if _, err := api.New(&fake{}, c.cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that names %s", name, err, c.says)
		}
	}
	if _, err := api.New(nil, api.Config{Registry: reg()}); err == nil {
		t.Error("a server without a backend")
	}
	one := reg()
	if _, err := api.New(&fake{}, api.Config{Registry: one}); err != nil {
		t.Error(err)
	}
	if _, err := api.New(&fake{}, api.Config{Registry: one}); err == nil {
		t.Error("two servers on one registry would mix their metrics")
	}
}
