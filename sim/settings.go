package sim

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/sim/report"
)

// settings lists what differs from what cmd/bizra runs with.
func settings(p Plan) (list []report.Setting) {
	add := func(name, simulated, def, why string) {
		list = append(list, report.Setting{Name: name, Simulated: simulated, Default: def, Why: why})
	}
	first, last := p.sealEvery(0), p.sealEvery(p.workers()-1)
	switch {
	case p.Config.Raft.SealInterval == 0 && first != last:
		add("seal interval", fmt.Sprintf("%v to %v by region, none within the run where there is no work", first, last), "1s",
			fmt.Sprintf("%d certificates are asked for, one after the other", p.Work.Certificates))
	case first != time.Second:
		add("seal interval", first.String(), "1s", fmt.Sprintf("%d certificates are asked for", p.Work.Certificates))
	}
	plain := reflect.ValueOf(region.Config{})
	raft := reflect.ValueOf(p.Config.Raft)
	for i := range raft.NumField() {
		f := raft.Type().Field(i)
		if f.Name == "SealInterval" || raft.Field(i).IsZero() || plain.Field(i).Kind() == reflect.Func {
			continue
		}
		add("raft: "+strings.ToLower(f.Name), fmt.Sprint(raft.Field(i)), "the node's", "asked for by the plan")
	}
	if !p.Config.NoMemo {
		add("identical work", "done once for all nodes, and counted", "done by each node", "nodes share the processors; what is done once is what each would do")
	}
	add("network, disks, clock", "in memory, in virtual time", "the machine's", "the simulator's ground; processors take no virtual time")
	add("HTTP interface", "off", "on", "agents hand their proofs to the node itself")
	if p.Work.Markets {
		add("market", "in every region", "where the document says so", "the scenario is about it")
		add("constitution", "no rules, no breaker", "the default's", "rules only cost processors, and a market's refusals count against an agent")
	} else {
		add("constitution", "no rules, open registration, no breaker", "the default's", "agents need no operator's proof first, and rules only cost processors")
	}
	return list
}
