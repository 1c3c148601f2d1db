package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is one way of asking: so many clients, each of which sends its next request when the one
// before is answered.
type load struct {
	Name       string `json:"name"`
	Clients    int    `json:"clients"`
	PerRequest int    `json:"per_request"` // proofs or puts
	Requests   int    `json:"requests"`    // in a round, of all clients together
}

// loads are those of the comparison, with rounds of a few seconds.
func loads() []load {
	return []load{
		{Name: "1 client", Clients: 1, PerRequest: 1, Requests: 1000},
		{Name: "64 clients", Clients: 64, PerRequest: 1, Requests: 12_000},
		{Name: "256 clients", Clients: 256, PerRequest: 1, Requests: 20_000},
		{Name: "64 clients, 64 a request", Clients: 64, PerRequest: 64, Requests: 600},
	}
}

// measured is one round of one load.
type measured struct {
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"per_second"` // proofs or puts
	P50     float64 `json:"p50_ms"`     // of a request
	P99     float64 `json:"p99_ms"`
	// ServerMicros and ClientMicros are the processor time of a proof or a put in microseconds, of all servers together
	// and of the clients. On a machine that does other things besides, they tell more than rates.
	ServerMicros float64 `json:"server_cpu_us"`
	ClientMicros float64 `json:"client_cpu_us"`
}

// ask sends request number n by one of the clients.
type ask func(ctx context.Context, client, n int) error

// run sends all requests of a load. Any client takes the next one, so that none is idle before the end.
func run(ctx context.Context, l load, ask ask) (measured, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([]time.Duration, l.Requests)
	var next atomic.Int64
	var clients sync.WaitGroup
	start := time.Now()
	for c := range l.Clients {
		clients.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= l.Requests {
					return
				}
				from := time.Now()
				if err := ask(ctx, c, n); err != nil {
					cancel(fmt.Errorf("request %d of %q: %w", n, l.Name, err))
					return
				}
				took[n] = time.Since(from)
			}
		})
	}
	clients.Wait()
	if ctx.Err() != nil {
		return measured{}, context.Cause(ctx)
	}
	total := time.Since(start)
	slices.Sort(took)
	return measured{Seconds: total.Seconds(), Rate: float64(l.Requests*l.PerRequest) / total.Seconds(),
		P50: millis(quantile(took, 50)), P99: millis(quantile(took, 99))}, nil
}

// quantile is the smallest of sorted values that percent of them do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max((len(sorted)*percent+99)/100, 1)-1]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
