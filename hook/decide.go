package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// Who decided, where it was not a gate of the region.
const (
	byHook   = "hook"   // for its own protection, or since the call cannot be judged
	byNobody = "nobody" // no node answers
)

// Where the rules over a call's text were asked, as a proof says.
const (
	whereNode   = "asked by the node, over the text, which it did not keep"
	whereHere   = "asked where the text is, by the hook"
	whereNobody = "not asked"
)

// verdict is what was found of a tool call.
type verdict struct {
	passed     bool
	withheld   bool // denied since nobody could say; nothing speaks against the call
	by         string
	rule       string
	dimension  string
	message    string
	toPass     []string
	where      string
	policyHash string
	offline    bool
}

// reason is what the agent is told of a denial: why, and what would pass.
func (v *verdict) reason() string {
	text := v.message
	if len(v.toPass) > 0 && v.rule == "" {
		text += " To pass: " + strings.Join(v.toPass, "; ") + "."
	}
	return text
}

// LocalJudge judges questions by a constitution in canonical JSON, in this process or another
// one: the first denial, or that nothing speaks against any of them.
type LocalJudge func(ctx context.Context, constitution []byte, questions []client.Question) (*client.Judgement, error)

const (
	judgedBytesMax = 40 << 10 // payload.data of a question, in canonical form
	windowBytesMax = 24 << 10 // of a long text, in canonical form
	windowOverlap  = 512      // bytes that two windows share, so that what is looked for is whole in one
	windowsMax     = 128
)

// decide finds out whether a tool call may go ahead.
func (h *Home) decide(ctx context.Context, e *Event, local LocalJudge) *verdict {
	if what := h.touches(e); what != "" {
		return &verdict{by: byHook, rule: "hook-is-protected", dimension: "accountability", where: whereHere,
			message: fmt.Sprintf("%s belongs to the hook that governs this agent, and is its person's to change. Leave it out of the call.", what)}
	}
	t, err := h.current(e.Session)
	if err != nil {
		return &verdict{withheld: true, by: byHook, where: whereNobody, message: "The hook cannot read its home: " + err.Error()}
	}
	next := t.next()
	questions, err := h.questions(e, h.sessionOf(&next))
	if err != nil {
		return &verdict{by: byHook, rule: "cannot-be-judged", dimension: "transparency", where: whereHere, message: "The call cannot be judged: " + err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, h.Config.decideWithin())
	defer cancel()
	if h.Config.Judge == JudgeNode || h.Config.Judge == JudgeAuto && onThisMachine(h.Config.Nodes) {
		return h.askNode(ctx, questions, local)
	}
	return h.askHere(ctx, questions, local)
}

// touches says what of the hook's own a call would reach for: its home, or the settings by which
// the CLI runs it. It looks at names, which a determined agent can hide; docs/hooks.md says what
// holds against that.
func (h *Home) touches(e *Event) string {
	reads, _ := typeOf(e.Tool)
	found, home := "", strings.ToLower(filepath.Base(h.Dir))
	eachText(e.Input, func(name, text string) {
		switch {
		case name == "patch" || name == "diff":
			text = patchedFiles(text)
		case found != "" || longText(name):
			return
		}
		text = strings.ToLower(text) // some file systems do not tell case apart
		switch {
		case hasComponent(text, home):
			found = "The folder " + filepath.Base(h.Dir)
		case reads != "read" && (strings.Contains(text, ".claude/settings") || strings.Contains(text, ".gemini/settings") || strings.Contains(text, ".codex/hooks")):
			found = "The settings file of the CLI"
		}
	})
	return found
}

// patchedFiles are the lines of a patch that name files; what is in them is text like that of any file.
func patchedFiles(patch string) string {
	var b strings.Builder
	for line := range strings.Lines(patch) {
		for _, begins := range [...]string{"*** ", "--- ", "+++ ", "diff ", "rename ", "copy "} {
			if strings.HasPrefix(line, begins) {
				b.WriteString(line)
				break
			}
		}
	}
	return b.String()
}

// eachText visits every string of a value with the name of the member that it stands under.
func eachText(v pci.Value, visit func(name, text string)) { eachTextUnder("", v, visit) }

func eachTextUnder(name string, v pci.Value, visit func(name, text string)) {
	switch v.Kind() {
	case pci.StringKind:
		visit(name, v.String())
	case pci.ArrayKind:
		for _, e := range v.Elems() {
			eachTextUnder(name, e, visit)
		}
	case pci.ObjectKind:
		for _, m := range v.Members() {
			eachTextUnder(m.Name, m.Value, visit)
		}
	}
}

// hasComponent reports whether a text has a name as a component of a path.
func hasComponent(text, name string) bool {
	edge := func(c byte) bool { return strings.IndexByte("/ \t\n\"'`=:;|&<>(),*?[]{}\\", c) >= 0 }
	for rest, at := text, 0; ; {
		i := strings.Index(rest, name)
		if i < 0 {
			return false
		}
		end := at + i + len(name)
		if (at+i == 0 || edge(text[at+i-1])) && (end == len(text) || edge(text[end])) {
			return true
		}
		at += i + 1
		rest = text[at:]
	}
}

// questions are what is asked about a call: one, or where it has a text that is longer than a proof,
// such as a file to be written, one for each window on it.
func (h *Home) questions(e *Event, session string) ([]client.Question, error) {
	inputs, err := windows(e.Input)
	if err != nil {
		return nil, err
	}
	questions := make([]client.Question, 0, len(inputs))
	for _, in := range inputs {
		d := transition(stateComputing, operationOf("use", e.Tool), recorded{Tool: e.Tool, Text: in}, "A tool call of an agent, as its CLI's hook saw it before it ran.")
		d.Session = session
		if h.Config.Scope != "" {
			d.Meta["scope"] = h.Config.Scope
		}
		s, err := d.step()
		if err != nil {
			return nil, err
		}
		questions = append(questions, client.Question{AgentID: h.Config.AgentID, Action: "session.transition", Data: s.Data,
			IhsanScore: h.Config.IhsanScore, SNRScore: h.Config.SNRScore})
	}
	return questions, nil
}

// windows cuts the long texts of a tool's input into parts that a question has room for.
func windows(input pci.Value) ([]json.RawMessage, error) {
	whole := input.AppendCanonical(nil)
	if len(whole) <= judgedBytesMax {
		return []json.RawMessage{whole}, nil
	}
	short := map[string]any{}
	var long []pci.Member
	for _, m := range input.Members() {
		if longText(m.Name) && m.Value.Kind() == pci.StringKind {
			short[m.Name] = ""
			long = append(long, m)
			continue
		}
		short[m.Name] = m.Value
	}
	base, err := pci.FromGo(short)
	if err != nil || len(long) == 0 || len(base.AppendCanonical(nil)) > judgedBytesMax-windowBytesMax {
		return nil, fmt.Errorf("its input has %d bytes, and at most %d can be judged beside the text of a file: put long texts into files, and work on them in parts",
			len(whole), judgedBytesMax-windowBytesMax)
	}
	var all []json.RawMessage
	for _, m := range long {
		text := m.Value.String()
		for from := 0; ; {
			end := windowEnd(text, from)
			short[m.Name] = text[from:end]
			v, err := pci.FromGo(short)
			if err != nil {
				return nil, err
			}
			if all = append(all, v.AppendCanonical(nil)); len(all) > windowsMax {
				return nil, fmt.Errorf("its text is longer than %d parts of %d bytes: write it in several calls", windowsMax, windowBytesMax)
			}
			if end == len(text) {
				break
			}
			from = max(runeStart(text, end-windowOverlap), from+1)
		}
		short[m.Name] = ""
	}
	return all, nil
}

// windowEnd is where the window that begins at from ends: by the length of its canonical form, which
// can be six times the text's.
func windowEnd(text string, from int) int {
	size := 0
	for i, r := range text[from:] {
		cost := 1
		switch {
		case r == '"' || r == '\\' || r == '\n' || r == '\r' || r == '\t':
			cost = 2
		case r > 0xffff:
			cost = 12
		case r < 0x20 || r > 0x7e:
			cost = 6
		}
		if size += cost; size > windowBytesMax {
			return from + i
		}
	}
	return len(text)
}

func runeStart(text string, at int) int {
	for at > 0 && !utf8.RuneStart(text[at]) {
		at--
	}
	return at
}

// onThisMachine reports whether all nodes are reached without leaving it.
func onThisMachine(nodes []string) bool {
	for _, n := range nodes {
		u, err := url.Parse(n)
		if err != nil {
			return false
		}
		ip := net.ParseIP(u.Hostname())
		if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// asking makes the client of a decision: every node is asked once, since the agent waits.
func (h *Home) asking() (*client.Client, error) {
	retries := len(h.Config.Nodes) - 1
	if retries == 0 {
		retries = -1
	}
	return client.New(client.Config{URLs: h.Config.Nodes, RetriesMax: retries, AttemptTimeout: h.Config.decideWithin(), Stale: true, UserAgent: "bizra-hook"})
}

// askNode has a node judge.
func (h *Home) askNode(ctx context.Context, questions []client.Question, local LocalJudge) *verdict {
	region, err := h.asking()
	if err != nil {
		return &verdict{withheld: true, by: byHook, where: whereNobody, message: err.Error()}
	}
	defer region.Close()
	var j *client.Judgement
	for n := range questions {
		j, err = region.Judge(ctx, questions[n])
		if err != nil || !j.Passed {
			break
		}
	}
	if _, refused := errors.AsType[*pci.Reject](err); refused {
		return &verdict{by: byHook, rule: "cannot-be-judged", dimension: "transparency", where: whereNode, message: "The call cannot be judged: " + err.Error()}
	}
	if err != nil {
		return h.unanswered(ctx, err, questions, local)
	}
	return verdictOf(j, whereNode)
}

func verdictOf(j *client.Judgement, where string) *verdict {
	v := &verdict{passed: j.Passed, by: j.DecidedBy, rule: j.Rule, dimension: j.Dimension, message: j.Message, toPass: j.ToPass, where: where, policyHash: j.PolicyHash}
	// What the agent's standing or claims decide is no fault of the call, and passes at another time.
	v.withheld = !v.passed && j.DecidedBy != client.DecidedByRule && j.DecidedBy != client.DecidedByFate
	return v
}

// askHere judges on this machine, by the constitution that a node says is in force.
func (h *Home) askHere(ctx context.Context, questions []client.Question, local LocalJudge) *verdict {
	region, err := h.asking()
	if err != nil {
		return &verdict{withheld: true, by: byHook, where: whereNobody, message: err.Error()}
	}
	defer region.Close()
	p, err := region.Policy(ctx)
	if err != nil {
		return h.unanswered(ctx, err, questions, local)
	}
	known, err := h.knownPolicy()
	if err != nil || known == nil || known.PolicyHash != p.PolicyHash {
		if err := h.keepPolicy(p); err != nil {
			return &verdict{withheld: true, by: byHook, where: whereNobody, message: err.Error()}
		}
	}
	return h.judgeHere(ctx, p, questions, local)
}

func (h *Home) judgeHere(ctx context.Context, p *client.Policy, questions []client.Question, local LocalJudge) *verdict {
	if local == nil {
		return &verdict{withheld: true, by: byHook, where: whereNobody, message: "This program cannot judge by itself: let the CLI run `bizra hook run`, or put bizra beside it."}
	}
	j, err := local(ctx, p.Constitution, questions)
	if err != nil {
		return &verdict{withheld: true, by: byHook, where: whereNobody, message: "The constitution could not be asked: " + err.Error()}
	}
	return verdictOf(j, whereHere)
}

// unanswered is the configured answer to a region that cannot be asked.
func (h *Home) unanswered(ctx context.Context, err error, questions []client.Question, local LocalJudge) *verdict {
	v := &verdict{withheld: true, by: byNobody, where: whereNobody, offline: true,
		message: fmt.Sprintf("No node answers at %s, and this project's hook is set to deny then (offline: closed). Start a node, or let the person set offline to local. (%v)",
			strings.Join(h.Config.Nodes, ", "), err)}
	if h.Config.Offline != OfflineLocal {
		return v
	}
	p, perr := h.knownPolicy()
	switch {
	case perr != nil:
		v.message = perr.Error()
		return v
	case p == nil:
		v.message = fmt.Sprintf("No node answers at %s, and none was ever heard: there is no constitution to judge by.", strings.Join(h.Config.Nodes, ", "))
		return v
	}
	// What was left of the time is used up where the node was slow rather than gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.Config.decideWithin())
	defer cancel()
	v = h.judgeHere(ctx, p, questions, local)
	v.offline = true
	return v
}
