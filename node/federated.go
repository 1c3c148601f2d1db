package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/gossip/patterns"
)

// What a node shows of the rest of its federation.

// alarmsMax bounds the alarms that are remembered; the oldest goes first.
const alarmsMax = 256

// alarms are those that are raised once and stay true, such as certificates that contradict: what holds
// only for a while is read from the status of what attests.
type alarms struct {
	mu   sync.Mutex
	list []client.AlarmEvent
}

// raise implements drive.Config.OnAlarm.
func (a *alarms) raise(of attest.Alarm) {
	if of.Kind != attest.AlarmCertificate && of.Kind != attest.AlarmForked {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = slices.DeleteFunc(a.list, func(was client.AlarmEvent) bool { return was.Kind == string(of.Kind) && was.Region == of.Region })
	a.list = append(a.list, client.AlarmEvent{Kind: string(of.Kind), Region: of.Region, Detail: of.Detail})
	a.list = a.list[max(0, len(a.list)-alarmsMax):]
}

// all adds to them what holds now.
func (a *alarms) all(st *attest.Status) []client.AlarmEvent {
	a.mu.Lock()
	list := slices.Clone(a.list)
	a.mu.Unlock()
	for i := range st.Regions {
		r := &st.Regions[i]
		for _, one := range []client.AlarmEvent{{Kind: client.AlarmRefused, Detail: r.Refuses}, {Kind: client.AlarmRefuses, Detail: r.Refused},
			{Kind: client.AlarmDiverged, Detail: r.Diverged}} {
			if one.Detail != "" {
				one.Region = r.Region
				list = append(list, one)
			}
		}
		if r.Evidence {
			list = append(list, client.AlarmEvent{Kind: client.AlarmEvidence, Region: r.Region, Detail: evidenceText})
		}
	}
	return list
}

const evidenceText = "it signed two statements that cannot both be true: it gets no votes any more, and what it certified before stands"

// standing is what this voter's attestation knows, and on a member what it has heard.
func (n *Node) standing() attest.Status {
	if d := n.attest.Load(); d != nil {
		return d.Status()
	}
	st := attest.Status{NeededEach: federation.Quorum(len(n.Document().Regions)) - 1}
	n.attested.mu.Lock()
	defer n.attested.mu.Unlock()
	for _, r := range n.Document().Regions {
		certified, lied := n.attested.newest[r.Name], n.attested.convicted[r.Name]
		if r.Name != n.home.Identity.Region || lied {
			st.Regions = append(st.Regions, attest.RegionStatus{Region: r.Name, Certified: certified.Size, Evidence: lied})
		}
	}
	return st
}

// Outlook implements [api.Backend].
func (b backend) Outlook(context.Context) (*client.Outlook, error) {
	st := b.n.standing()
	o := &client.Outlook{Alarms: b.n.alarms.all(&st)}
	if local := b.n.localStatus(); local != nil {
		o.Local = *local
	}
	for i := range st.Regions {
		if r := &st.Regions[i]; r.Certified > 0 && r.Region != b.n.home.Identity.Region {
			o.Certified = append(o.Certified, client.CertificateEvent{Region: r.Region, Size: r.Certified})
		}
	}
	v, err := b.n.state.View()
	if err != nil {
		return nil, apiError(err)
	}
	size, err := v.CertifiedSize()
	if err := errors.Join(err, v.Close()); err != nil {
		return nil, err
	}
	if size > 0 {
		o.Certified = append(o.Certified, client.CertificateEvent{Region: b.n.home.Identity.Region, Size: size})
	}
	slices.SortFunc(o.Certified, func(x, y client.CertificateEvent) int { return strings.Compare(x.Region, y.Region) })
	return o, nil
}

// localStatus says whether the rest of the federation is heard, nil where there is none.
func (n *Node) localStatus() *client.LocalEvent {
	if len(n.Document().Regions) < 2 || n.hears.router == nil {
		return nil
	}
	st := n.hears.router.LocalOnly()
	return &client.LocalEvent{Local: st.Local, Since: instant(st.Since)}
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func instantOf(millis int64) string {
	if millis == 0 {
		return ""
	}
	return instant(time.UnixMilli(millis))
}

// attestationStatus says how far the own ledger is certified, and what is known of the other regions.
func (n *Node) attestationStatus(s *client.Status) error {
	slices.SortFunc(s.Regions, func(x, y client.RegionStatus) int { return strings.Compare(x.Region, y.Region) })
	st := n.standing()
	a := &s.Attestation
	a.Needed = st.NeededEach
	s.Local = n.localStatus()
	for i := range st.Regions {
		r := &st.Regions[i]
		if r.Region == n.home.Identity.Region {
			a.Evidence = r.Evidence
			continue
		}
		if r.Missing > 0 {
			a.Missing = append(a.Missing, r.Region)
		}
		of := regionOf(s, r.Region)
		of.Voted, of.Certified, of.Waiting, of.Missing = r.Voted, r.Certified, r.Waiting, r.Missing
		of.Refuses, of.Refusal, of.Diverged, of.Evidence = r.Refuses, r.Refused, r.Diverged, r.Evidence
	}
	if n.hears.router != nil {
		for _, heard := range n.hears.router.LocalOnly().Regions {
			if _, known := n.Document().Region(heard.Region); known && heard.Region != n.home.Identity.Region {
				of := regionOf(s, heard.Region)
				of.Heard, of.Connected = instant(heard.Heard), heard.Connected
			}
		}
	}
	v, err := n.state.View()
	if errors.Is(err, errNoState) {
		return nil
	}
	if err != nil {
		return err
	}
	next, err := v.Certified()
	a.Waiting = v.Seals() - next
	if err == nil && next > 0 {
		var seal *fsm.Seal
		if seal, err = v.SealAt(next - 1); err == nil {
			a.Certified, a.Time = seal.Size, timeText(seal.TimeMillis)
		}
	}
	return errors.Join(err, v.Close())
}

// regionOf is what a status says of a region, which it then says something of.
func regionOf(s *client.Status, name string) *client.RegionStatus {
	at, found := slices.BinarySearchFunc(s.Regions, name, func(r client.RegionStatus, name string) int { return strings.Compare(r.Region, name) })
	if !found {
		s.Regions = slices.Insert(s.Regions, at, client.RegionStatus{Region: name, Reason: "only voters re-execute the ledgers of other regions"})
	}
	return &s.Regions[at]
}

// Peers implements [api.Backend].
func (b backend) Peers(context.Context) (*client.Peers, error) {
	names := b.n.names()
	byID := map[string]*client.Peer{}
	list := &client.Peers{Peers: []client.Peer{}, Regions: []client.RegionPeers{}}
	var all []*client.Peer
	of := func(id string) *client.Peer {
		if byID[id] == nil {
			key, name := names.of(id)
			byID[id] = &client.Peer{PeerID: id, NodeKey: key, Name: name, Addresses: []string{}}
			all = append(all, byID[id])
		}
		return byID[id]
	}
	for _, p := range b.n.keeper.Peers() {
		one := of(p.ID)
		one.Region, one.Role, one.Connected, one.RTTMillis = p.Region, p.Role, p.Connected, p.LatencyMillis
		one.Addresses = append(one.Addresses, p.Addresses...)
	}
	if b.n.hears.members != nil {
		for _, p := range b.n.hears.members.Peers() {
			one := of(p.ID)
			one.Region, one.Role, one.Connected, one.RTTMillis = p.Region, p.Role, p.Connected, p.LatencyMillis
			one.State, one.Seen, one.Version, one.Entries = p.State, instantOf(p.SeenMillis), p.Version, p.Entries
			one.Score, one.Muted, one.Probation, one.Why = p.Score, p.Muted, p.Probation, p.Why
		}
		for _, r := range b.n.hears.members.Regions() {
			list.Regions = append(list.Regions, client.RegionPeers{Region: r.Name, Alive: r.Alive, Suspect: r.Suspect, Left: r.Left, Seen: instantOf(r.SeenMillis)})
		}
	}
	for _, p := range all {
		list.Peers = append(list.Peers, *p)
	}
	slices.SortFunc(list.Peers, func(x, y client.Peer) int {
		return strings.Compare(x.Region+"\x00"+x.Name+"\x00"+x.PeerID, y.Region+"\x00"+y.Name+"\x00"+y.PeerID)
	})
	return list, nil
}

// Patterns implements [api.Backend].
func (b backend) Patterns(_ context.Context, f client.PatternFilter, from, limit int) ([]client.Pattern, error) {
	var list []client.Pattern
	for _, item := range b.n.hears.patterns.List(patterns.Filter(f), from, limit) {
		list = append(list, client.Pattern(item))
	}
	return list, nil
}

// Pattern implements [api.Backend].
func (b backend) Pattern(_ context.Context, digest [32]byte) (*client.PatternRecord, error) {
	item, env, ok := b.n.hears.patterns.Get(digest)
	if !ok {
		return nil, api.ErrNotFound
	}
	return &client.PatternRecord{Pattern: client.Pattern(item), Proof: env.Canonical()}, nil
}

// Changed implements [api.Backend].
func (b backend) Changed() <-chan struct{} { return b.n.feed.Changed() }
