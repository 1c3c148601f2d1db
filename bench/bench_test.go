package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRunSendsEachRequestOnce(t *testing.T) {
	l := load{Name: "test", Clients: 7, PerRequest: 3, Requests: 100}
	var sent [100]atomic.Int32
	m, err := run(t.Context(), l, func(_ context.Context, client, n int) error {
		if client < 0 || client >= l.Clients {
			t.Errorf("client %d", client)
		}
		sent[n].Add(1)
		return nil
	})
	if err != nil || m.Rate <= 0 || m.P50 > m.P99 {
		t.Fatalf("%+v, %v", m, err)
	}
	for n := range sent {
		if got := sent[n].Load(); got != 1 {
			t.Errorf("request %d was sent %d times", n, got)
		}
	}
}

func TestRunFailsWithItsFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	_, err := run(t.Context(), load{Name: "test", Clients: 4, PerRequest: 1, Requests: 50}, func(_ context.Context, _, n int) error {
		if n == 10 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "request 10") {
		t.Errorf("error %v", err)
	}
}

func TestQuantile(t *testing.T) {
	sorted := make([]time.Duration, 200)
	for i := range sorted {
		sorted[i] = time.Duration(i + 1)
	}
	for percent, want := range map[int]time.Duration{1: 2, 50: 100, 99: 198, 100: 200} {
		if got := quantile(sorted, percent); got != want {
			t.Errorf("%d %% of 1 to 200 do not exceed %d, want %d", percent, got, want)
		}
	}
	if got := quantile(sorted[:1], 50); got != 1 {
		t.Errorf("of one value %d", got)
	}
}

func TestReport(t *testing.T) {
	r := report{Loads: []*compared{
		{load: load{Name: "one", Clients: 1, PerRequest: 1}, Etcd: series{Rounds: []measured{{Rate: 90, P50: 1}, {Rate: 100, P50: 2}, {Rate: 140, P50: 3}}},
			Bizra: series{Rounds: []measured{{Rate: 300, P50: 4}, {Rate: 200, P50: 3}}}},
		{load: load{Name: "many", Clients: 1, PerRequest: 64}, Etcd: series{Rounds: []measured{{Rate: 1000, P50: 1}}},
			Bizra: series{Rounds: []measured{{Rate: 500, P50: 1}}}},
		{load: load{Name: "alone", Clients: 1, PerRequest: 1}, Bizra: series{Rounds: []measured{{Rate: 500, P50: 1}}}},
	}}
	r.finish()
	one, many := r.Loads[0], r.Loads[1]
	if one.Etcd.Rate != 100 || one.Etcd.RateMin != 90 || one.Etcd.RateMax != 140 || one.Bizra.Rate != 250 || one.RateRatio != 2.5 || one.P50Ratio != 1.75 {
		t.Errorf("%+v", one)
	}
	if many.RateRatio != 0.5 || many.PutsRatio != 5 || r.Loads[2].RateRatio != 0 {
		t.Errorf("%+v and %+v", many, r.Loads[2])
	}
	var text strings.Builder
	if err := r.table(&text); err != nil || !strings.Contains(text.String(), "50 %") || !strings.Contains(text.String(), "5.00") {
		t.Errorf("%v\n%s", err, text.String())
	}
	path := t.TempDir() + "/bench.json"
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), `"rate_ratio": 2.5`) {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestProcessorTime(t *testing.T) {
	before, err := processorMicros(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for after := before; after == before; {
		if time.Now().After(deadline) {
			t.Fatal("after a minute of work no processor time was used")
		}
		if after, err = processorMicros(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := processorMicros(-1); err == nil {
		t.Error("a process that does not exist has used processor time")
	}
}

func TestFlags(t *testing.T) {
	var errs strings.Builder
	if o, err := parse([]string{"--bizra", "x/bizra", "--rounds", "2"}, &errs); err != nil || o.dir != "x" || o.rounds != 2 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{"more"}, {"--rounds", "-1"}, {"--idle", "-1s"}} {
		if _, err := parse(args, &errs); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// A region that does not decide is asked again; one that refuses is not.
func TestSubmitAgain(t *testing.T) {
	var asked atomic.Int32
	status := http.StatusServiceUnavailable
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 3 {
			fmt.Fprint(w, `{"code":0,"finality":"committed"}`)
			return
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	c, err := connect(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	if err := c.submit(t.Context(), "application/json", []byte("{}"), 1); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
	status = http.StatusForbidden
	if err := c.submit(t.Context(), "application/json", []byte("{}"), 1); err == nil || asked.Load() != 4 {
		t.Errorf("a refusal passes: %v after %d requests", err, asked.Load())
	}
}
