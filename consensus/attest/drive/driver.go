package drive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/p2p"
)

// Limits of what is under way at once.
const (
	HeardMax     = 1024 // messages heard by gossip that wait for the machine
	AppliedMax   = 1024 // results of the own Raft that wait; beyond it the machine is made anew
	PublishMax   = 256  // messages that wait to be published
	ExchangesMax = 16   // exchanges with other regions
	ProposalsMax = 64   // commands in Raft's hands
)

// Config configures a [Driver]. A zero value takes the default named at its field.
type Config struct {
	Attest attest.Config // of the machine
	Host   host.Host
	Access *p2p.Access
	// Voters names the voters of another region, to take turns in exchanges; Access.ForeignVoters.
	Voters func(region string) []peer.ID
	// Leading says whether this node leads its region's Raft. It is asked often.
	Leading func() bool
	// Propose commits a command in the own Raft and returns when it was applied or is lost.
	// It is called from several goroutines, and must end with the context.
	Propose func(ctx context.Context, command []byte) error
	// Publish hands a message to gossip, which may lose it. It is called from one goroutine.
	Publish func(topic attest.Topic, data []byte) error
	// OnLearned is told of each newer certificate, the own region's too, from the owner's
	// goroutine: it must be quick. May be nil.
	OnLearned func(attest.Learned)
	// OnAlarm is told of each alarm, as OnLearned is. Alarms are logged in any case. May be nil.
	OnAlarm func(attest.Alarm)
	// OnFailure is called once where the machine's storage or keys fail; the driver then does
	// nothing any more. It must not call Close.
	OnFailure func(error)

	Wall            func() time.Time // reads the wall clock; time.Now
	TickEvery       time.Duration    // 1 s
	LookEvery       time.Duration    // how often Leading is asked; 100 ms
	ExchangeTimeout time.Duration    // of one exchange; 5 s
	Metrics         prometheus.Registerer
	Logger          *slog.Logger // default: nowhere
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&c.TickEvery, time.Second)
	set(&c.LookEvery, 100*time.Millisecond)
	set(&c.ExchangeTimeout, 5*time.Second)
	if c.Voters == nil && c.Access != nil {
		c.Voters = c.Access.ForeignVoters
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.OnLearned == nil {
		c.OnLearned = func(attest.Learned) {}
	}
	if c.OnAlarm == nil {
		c.OnAlarm = func(attest.Alarm) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if c.Host == nil || c.Access == nil || c.Leading == nil || c.Propose == nil || c.Publish == nil || c.OnFailure == nil {
		return errors.New("attest driver: Host, Access, Leading, Propose, Publish or OnFailure is missing")
	}
	if c.TickEvery < 0 || c.LookEvery < 0 || c.ExchangeTimeout < 0 {
		return fmt.Errorf("attest driver: TickEvery %v, LookEvery %v and ExchangeTimeout %v must be positive", c.TickEvery, c.LookEvery, c.ExchangeTimeout)
	}
	return nil
}

// Driver runs one voter's machine until Close. Its methods may be called from any goroutine
// and do not wait, but for Close.
type Driver struct {
	cfg     Config
	inbox   *inbox
	server  *p2p.Server
	publish chan attest.Publish
	metrics *metrics
	ctx     context.Context
	cancel  context.CancelFunc
	loop    sync.WaitGroup // the owner and the publisher
	calls   sync.WaitGroup // proposals and exchanges

	mu     sync.Mutex // guards status
	status attest.Status

	// What follows is the owner's.
	machine   *attest.Machine
	leading   bool
	stepped   bool                // since the status was taken
	agreed    int64               // own seal agreed on last; -1: none
	sealed    map[int64]time.Time // when own seals that wait for a certificate were agreed on
	exchanges map[string]bool     // regions with which one is under way
	turns     map[string]int      // whose turn it is, by region
	ended     chan string         // regions with which an exchange has ended
	proposals chan struct{}       // a place for each
}

// New starts a driver. Close ends it.
func New(cfg Config) (*Driver, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	d := &Driver{cfg: cfg, inbox: newInbox(), publish: make(chan attest.Publish, PublishMax), agreed: -1, sealed: map[int64]time.Time{},
		exchanges: map[string]bool{}, turns: map[string]int{}, ended: make(chan string, ExchangesMax), proposals: make(chan struct{}, ProposalsMax)}
	var err error
	if d.machine, err = attest.New(cfg.Attest, d.wallMillis()); err != nil {
		return nil, err
	}
	d.status = d.machine.Status()
	d.metrics = newMetrics(cfg.Attest.Region, d.Status)
	if err := d.metrics.register(cfg.Metrics); err != nil {
		return nil, err
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if d.server, err = d.serve(); err != nil {
		d.cancel()
		d.metrics.unregister(cfg.Metrics)
		return nil, err
	}
	d.loop.Go(d.run)
	d.loop.Go(d.runPublisher)
	return d, nil
}

// Close ends the driver and waits for everything that it started.
func (d *Driver) Close() error {
	d.cancel()
	err := d.server.Close()
	d.loop.Wait()
	d.calls.Wait()
	d.metrics.unregister(d.cfg.Metrics)
	return err
}

// Status is what the machine knew when it had last done something.
func (d *Driver) Status() attest.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// run is the owner.
func (d *Driver) run() {
	tick, look := time.NewTicker(d.cfg.TickEvery), time.NewTicker(d.cfg.LookEvery)
	defer tick.Stop()
	defer look.Stop()
	for {
		var err error
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
			err = d.step(attest.Tick{})
		case <-look.C:
		case <-d.inbox.wake:
			err = d.takeIn()
		case region := <-d.ended:
			delete(d.exchanges, region)
		case q := <-d.inbox.questions:
			err = d.answer(q)
		}
		if err == nil {
			err = d.look()
		}
		if err == nil && !d.stepped {
			continue
		}
		d.stepped = false
		if err != nil {
			if d.ctx.Err() == nil {
				d.cfg.Logger.Error("attestation stops", "error", err)
				d.cfg.OnFailure(fmt.Errorf("attest: %w", err))
			}
			d.cancel()
			return
		}
		d.mu.Lock()
		d.status = d.machine.Status()
		d.mu.Unlock()
	}
}

// look tells the machine whether it leads.
func (d *Driver) look() error {
	leading := d.cfg.Leading()
	if leading == d.leading {
		return nil
	}
	d.leading = leading
	return d.step(attest.Leading{Leading: leading})
}

// takeIn steps what was told since.
func (d *Driver) takeIn() error {
	got := d.inbox.take()
	d.metrics.dropped.WithLabelValues("heard").Add(float64(got.dropped))
	if got.lost {
		if err := d.anew(); err != nil {
			return err
		}
	}
	for _, res := range got.applied {
		if err := d.step(attest.Applied{Result: res}); err != nil {
			return err
		}
	}
	if got.agreed > d.agreed {
		d.noteAgreed(got.agreed)
		if err := d.step(attest.Agreed{Number: got.agreed}); err != nil {
			return err
		}
	}
	for _, origin := range got.executed {
		if err := d.step(attest.Executed{Origin: origin}); err != nil {
			return err
		}
	}
	for _, ev := range got.diverged {
		if err := d.step(ev); err != nil {
			return err
		}
	}
	for _, ev := range got.answers {
		if err := d.step(ev); err != nil {
			return err
		}
	}
	for _, data := range got.heard {
		if err := d.step(attest.Received{Data: data}); err != nil {
			return err
		}
	}
	return nil
}

// anew makes the machine from the applied records again: more was applied than could be told.
func (d *Driver) anew() (err error) {
	d.cfg.Logger.Warn("attestation begins anew from the applied records: it was told less than was applied")
	if d.machine, err = attest.New(d.cfg.Attest, d.wallMillis()); err != nil {
		return err
	}
	d.leading, d.stepped = false, true
	if d.agreed >= 0 {
		return d.step(attest.Agreed{Number: d.agreed})
	}
	return nil
}

func (d *Driver) noteAgreed(number int64) {
	now := time.Now()
	for n := max(d.agreed+1, number-sealedMax+1); n <= number; n++ {
		d.sealed[n] = now
	}
	d.agreed = number
}

// sealedMax bounds the seals of which it is remembered since when they wait.
const sealedMax = 64

func (d *Driver) wallMillis() int64 { return d.cfg.Wall().UnixMilli() }

func (d *Driver) step(ev attest.Event) error {
	d.stepped = true
	out, err := d.machine.Step(d.wallMillis(), ev)
	if err != nil {
		return err
	}
	for _, o := range out {
		if err := d.do(o); err != nil {
			return err
		}
	}
	return nil
}

// do carries out what the machine says.
func (d *Driver) do(o attest.Output) error {
	switch o := o.(type) {
	case attest.Publish:
		select {
		case d.publish <- o:
		default:
			d.metrics.dropped.WithLabelValues("publish").Inc()
		}
	case attest.Propose:
		d.propose(o)
	case attest.Offer:
		return d.exchange(o.Region)
	case attest.Learned:
		d.learned(o)
	case attest.Alarm:
		d.metrics.alarms.WithLabelValues(string(o.Kind)).Inc()
		d.cfg.Logger.Warn("attestation alarm", "kind", o.Kind, "region", o.Region, "detail", o.Detail)
		d.cfg.OnAlarm(o)
	default:
		return fmt.Errorf("output %T is not known", o)
	}
	return nil
}

func (d *Driver) learned(o attest.Learned) {
	if o.Origin == d.cfg.Attest.Region {
		certified := d.machine.Status().Certified
		for number, since := range d.sealed {
			if number < certified {
				d.metrics.latency.Observe(time.Since(since).Seconds())
				delete(d.sealed, number)
			}
		}
	}
	d.cfg.OnLearned(o)
}

// runPublisher hands messages to gossip.
func (d *Driver) runPublisher() {
	for {
		select {
		case <-d.ctx.Done():
			return
		case p := <-d.publish:
			if err := d.cfg.Publish(p.Topic, p.Data); err != nil {
				d.metrics.dropped.WithLabelValues("gossip").Inc()
				d.cfg.Logger.Debug("gossip did not take a message", "topic", p.Topic.Name, "region", p.Topic.Region, "error", err)
			}
		}
	}
}

// propose hands a command to Raft, if there is a place. The machine proposes again what is lost.
func (d *Driver) propose(o attest.Propose) {
	select {
	case d.proposals <- struct{}{}:
	default:
		d.metrics.dropped.WithLabelValues("propose").Inc()
		return
	}
	d.calls.Go(func() {
		defer func() { <-d.proposals }()
		if err := d.cfg.Propose(d.ctx, o.Command); err != nil && d.ctx.Err() == nil {
			d.metrics.dropped.WithLabelValues("raft").Inc()
			d.cfg.Logger.Debug("Raft did not take a command of attestation", "statement", o.Statement, "origin", o.Origin, "error", err)
		}
	})
}
