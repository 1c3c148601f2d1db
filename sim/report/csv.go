package report

import (
	"encoding/csv"
	"io"
	"strconv"
)

// CSV writes every figure as a line: the seed of its run, what is measured, of what, and the value.
// Reports under one another make one table.
func (r *Report) CSV(w io.Writer) error { return CSV(w, r) }

// CSV writes the figures of several runs under one header.
func CSV(w io.Writer, runs ...*Report) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"seed", "measure", "of", "value"}); err != nil {
		return err
	}
	for _, r := range runs {
		seed := strconv.FormatUint(r.Seed, 10)
		for _, f := range r.figures() {
			if err := out.Write([]string{seed, f.measure, f.of, strconv.FormatFloat(f.value, 'g', -1, 64)}); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

// figure is one number of a report.
type figure struct {
	measure, of string
	value       float64
}

// figures are all numbers of a report, in a fixed order.
func (r *Report) figures() (list []figure) {
	add := func(measure, of string, value float64) { list = append(list, figure{measure, of, value}) }
	add("nodes", "started", float64(r.Nodes))
	add("nodes", "gossip_routers", float64(r.Routers))
	add("nodes", "voters", float64(r.Voters))
	add("nodes", "members", float64(r.Members))
	add("regions", "", float64(r.Regions))
	add("certificates", "", float64(r.Certificates))
	add("violations", "", float64(r.Violations))
	add("proofs", "submitted", float64(r.Proofs.Submitted))
	add("proofs", "committed", float64(r.Proofs.Committed))
	add("proofs", "attested", float64(r.Proofs.Attested))
	add("proofs", "refused", float64(r.Proofs.Refused))
	add("proofs", "failed", float64(r.Proofs.Failed))
	for _, t := range r.Timings {
		for _, q := range []struct {
			of     string
			values Quantiles
		}{{"took", t.Took}, {"limit", t.Limit}} {
			add(t.Name+" "+q.of+" ms", "p50", q.values.P50)
			add(t.Name+" "+q.of+" ms", "p90", q.values.P90)
			add(t.Name+" "+q.of+" ms", "p99", q.values.P99)
			add(t.Name+" "+q.of+" ms", "max", q.values.Max)
		}
		add(t.Name, "ratio", t.Ratio)
		add(t.Name, "count", float64(t.Count))
	}
	add("spread", "pairs", float64(r.Spread.Pairs))
	add("spread", "missing", float64(r.Spread.Missing))
	add("spread", "within_part", r.Spread.WithinPart)
	add("spread", "near_pairs", float64(r.Spread.NearPairs))
	add("spread", "near_late", float64(r.Spread.NearLate))
	add("traffic", "messages_per_node", r.Traffic.MessagesPerNode)
	add("traffic", "bytes_per_node", r.Traffic.BytesPerNode)
	add("traffic", "copies_per_node_and_certificate", r.Traffic.CopiesPerNodeCertificate)
	add("traffic", "duplicates_per_delivery", r.Traffic.DuplicatesPerDelivery)
	for _, p := range r.Traffic.Protocols {
		add("messages", p.Name, float64(p.Messages))
		add("bytes", p.Name, float64(p.Bytes))
	}
	for _, m := range r.Memo {
		add("computed", m.Kind, float64(m.Real))
		add("memoised", m.Kind, float64(m.Memoised))
	}
	add("cost", "virtual_seconds", r.VirtualSeconds)
	add("cost", "wall_seconds", r.WallSeconds)
	add("cost", "cpu_seconds", r.CPUSeconds)
	for _, p := range r.Phases {
		add("wall seconds", p.Name, p.WallSeconds)
		add("cpu seconds", p.Name, p.CPUSeconds)
	}
	add("cost", "peak_rss_bytes", float64(r.PeakRSSBytes))
	add("cost", "goroutines_max", float64(r.GoroutinesMax))
	for _, f := range r.Faults {
		add("fault took effect", f.Name, float64(f.Count))
	}
	for _, i := range r.Invariants {
		add("checks", i.Name, float64(i.Checks))
	}
	for _, x := range r.ByRegion {
		if x.Certificates > 0 {
			add("certificate ms", x.Name+" "+x.Place, x.MedianMS)
			add("certificate limit ms", x.Name+" "+x.Place, x.LimitMS)
		}
	}
	return list
}
