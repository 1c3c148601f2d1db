package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Options are what one run of the hook is given.
type Options struct {
	Dir   string     // the home
	Local LocalJudge // judges without a node; nil: nobody can
	In    io.Reader  // the event
	Out   io.Writer  // the answer
	Err   io.Writer
	// Reached is told, in tests, each point at which a crash is to be survived; nil: nobody is.
	Reached func(point string)
}

// Run handles one event of an agent CLI and gives the exit code. Whatever goes wrong before a
// tool call denies it.
func Run(ctx context.Context, o Options) (code int) {
	began := time.Now()
	// One byte more than an event may have shows that there is more.
	text, err := io.ReadAll(io.LimitReader(o.In, EventBytesMax+1))
	if err != nil {
		return block(o.Err, "the event could not be read: "+err.Error())
	}
	e, err := ParseEvent(text)
	if err != nil && (e.Kind == BeforeTool || e.Kind == Other) {
		// An event that cannot be read may be one before a tool call.
		return block(o.Err, err.Error())
	}
	h, herr := Open(o.Dir)
	if err = errors.Join(err, herr); err != nil {
		return failed(o.Err, e, err)
	}
	if o.Reached != nil {
		h.reached = o.Reached
	}
	a, err := h.handle(ctx, e, o.Local, began)
	if err != nil {
		h.log(LogLine{Event: e.Name, Tool: e.Tool, Session: e.Session, Error: clip(err.Error(), 1<<10)})
	}
	if err != nil && a == nil {
		return failed(o.Err, e, err)
	}
	return a.write(e, o.Out, o.Err)
}

// failed tells of an error: before a tool call it denies, else the person is told.
func failed(errOut io.Writer, e *Event, err error) int {
	if e.Kind == BeforeTool {
		return block(errOut, err.Error())
	}
	_, _ = fmt.Fprintf(errOut, "bizra hook: %v\n", err) // the exit code says that something is wrong
	return ExitFailed
}

// handle deals with an event. An error beside an answer holds nothing up and is logged.
func (h *Home) handle(ctx context.Context, e *Event, local LocalJudge, began time.Time) (*Answer, error) {
	switch e.Kind {
	case BeforeTool:
		return h.before(ctx, e, local, began)
	case AfterTool, TurnEnd, SessionEnd:
		record := h.after
		if e.Kind != AfterTool {
			record = h.end
		}
		if err := record(ctx, e); err != nil {
			return nil, err
		}
		return &Answer{}, nil
	case SessionBegin:
		return h.begin(ctx)
	default:
		return &Answer{}, nil
	}
}

// before is the gate.
func (h *Home) before(ctx context.Context, e *Event, local LocalJudge, began time.Time) (*Answer, error) {
	v := h.decide(ctx, e, local)
	c, err := h.newCall(e, v, time.Now())
	if err == nil && v.passed {
		err = h.room()
	}
	if err == nil && v.passed {
		err = h.putPending(e, c)
	}
	if err != nil { // what cannot be written down must not happen
		v = &verdict{withheld: true, by: byHook, message: "The call could not be written down: " + err.Error()}
	}
	line := LogLine{Event: e.Name, Tool: e.Tool, Call: e.Call, Session: e.Session, Decision: "pass", By: v.by, Rule: v.rule, Micros: time.Since(began).Microseconds()}
	if v.passed {
		h.log(line)
		return &Answer{Allowed: h.Config.OnPass == PassAllow, Reason: "The constitution lets it pass."}, nil
	}
	line.Decision = itemDenied
	if v.withheld {
		line.Decision = itemWithheld
	}
	h.log(line)
	if err == nil {
		err = h.recordDenial(ctx, e, c, v)
	}
	a := &Answer{Denied: true, Reason: v.reason()}
	if err != nil {
		a.Warning = "bizra hook: the denial could not be recorded: " + err.Error()
	}
	return a, err
}

// room reports an outbox that has none left.
func (h *Home) room() error {
	items, err := h.list()
	if err == nil && len(items) >= OutboxItemsMax {
		err = fmt.Errorf("%w: %d items wait: `bizra hook flush` submits them once a node answers", errFull, len(items))
	}
	return err
}

func (h *Home) recordDenial(ctx context.Context, e *Event, c *call, v *verdict) error {
	ctx, cancel := context.WithTimeout(ctx, h.Config.submitWithin())
	defer cancel()
	record := c.denied
	if v.withheld {
		record = c.withheld
	}
	step, err := record(v)
	if err != nil {
		return err
	}
	err = h.put(ctx, e.Session, func(t *turn, i *Item) (bool, error) {
		i.Kind, i.Tool, i.Steps = itemDenied, e.Tool, []Step{step}
		if v.withheld {
			i.Kind = itemWithheld
			t.Withheld++
		} else {
			t.Denied++
		}
		t.Denials = append(t.Denials, denial{Tool: e.Tool, By: v.by, Rule: v.rule, Reason: clip(v.message, 400)})
		t.Denials = t.Denials[max(len(t.Denials)-denialsKept, 0):]
		return true, nil
	})
	if err != nil {
		return err
	}
	return h.submitNow(ctx)
}

// submitNow submits what waits, as far as that is possible now.
func (h *Home) submitNow(ctx context.Context) error {
	_, err := h.drain(ctx, false)
	if errors.Is(err, errLater) || errors.Is(err, errBusy) {
		return nil // shown by `bizra hook status`
	}
	return err
}

// after records what a tool call came to.
func (h *Home) after(ctx context.Context, e *Event) error {
	ctx, cancel := context.WithTimeout(ctx, h.Config.submitWithin())
	defer cancel()
	c, err := h.takePending(e)
	if err != nil {
		return err
	}
	if c == nil {
		// The CLI did not ask before, or asked another home.
		if c, err = h.newCall(e, &verdict{where: whereNobody}, time.Now()); err != nil {
			return err
		}
	}
	steps, err := h.result(c, e)
	if err != nil {
		return err
	}
	if err := h.putCall(ctx, e.Session, c, callKey(e), steps, func(t *turn) {
		if e.Failed {
			t.Failed++
		}
	}); err != nil {
		return err
	}
	if err := h.forgetPending(e.Session, callKey(e)); err != nil {
		return err
	}
	return h.submitNow(ctx)
}

func (h *Home) putCall(ctx context.Context, cli string, c *call, key string, steps []Step, tally func(*turn)) error {
	err := h.put(ctx, cli, func(t *turn, i *Item) (bool, error) {
		i.Kind, i.Tool, i.Steps, i.Pending = itemCall, c.Tool, steps, key
		if _, known := t.Calls[c.Tool]; !known && len(t.Calls) >= toolsCounted {
			t.Calls["other tools"]++
		} else {
			t.Calls[c.Tool]++
		}
		tally(t)
		return true, nil
	})
	return err
}

const toolsCounted = 40 // by name in a turn

// end closes a turn: calls without a result are recorded as such, then the session ends.
func (h *Home) end(ctx context.Context, e *Event) error {
	ctx, cancel := context.WithTimeout(ctx, h.Config.submitWithin())
	defer cancel()
	if err := h.resolve(ctx, e.Session); err != nil {
		return err
	}
	err := h.put(ctx, e.Session, func(t *turn, i *Item) (bool, error) {
		if t.Denied+t.Withheld+len(t.Calls) == 0 {
			return false, nil // nothing happened
		}
		n, err := h.remember(t)
		if err != nil {
			return false, err
		}
		d := transition(stateTerminated, operation{name: "close_session", intent: "close session", typ: "session"}, n.Sealed,
			"Ends the session of a turn of an agent; the digest is of the memory that it leaves to the next.")
		d.Meta["denied"], d.Meta["withheld"], d.Meta["failed"], d.Meta["unknown"] = t.Denied, t.Withheld, t.Failed, t.Unknown
		step, err := d.step()
		i.Kind, i.Steps, i.Memory = itemStop, []Step{step}, n
		t.Over = true
		return true, err
	})
	if err != nil {
		return err
	}
	return h.submitNow(ctx)
}

// resolve records the calls of a session of the CLI of which no result was heard.
func (h *Home) resolve(ctx context.Context, cli string) error {
	calls, err := h.pending(cli)
	if err != nil {
		return err
	}
	for n := range calls {
		p := &calls[n]
		step, err := unresolved(&p.call)
		if err != nil {
			return err
		}
		if err := h.putCall(ctx, cli, &p.call, p.key, []Step{step}, func(t *turn) { t.Unknown++ }); err != nil {
			return err
		}
		if err := h.forgetPending(cli, p.key); err != nil {
			return err
		}
	}
	return nil
}

// begin submits what is left of earlier sessions, and tells the agent what the last one was.
func (h *Home) begin(ctx context.Context) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, h.Config.submitWithin())
	defer cancel()
	err := h.submitNow(ctx)
	text, rerr := h.recall()
	if rerr != nil {
		return &Answer{Warning: "bizra hook: " + rerr.Error()}, errors.Join(err, rerr)
	}
	return &Answer{Context: text}, err
}
