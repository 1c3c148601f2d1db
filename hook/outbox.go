package hook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OutboxItemsMax is how many items may wait. With as many, every tool call is denied: what cannot
// be recorded must not happen.
const OutboxItemsMax = 10_000

// Kinds of items.
const (
	itemCall     = "call"     // was let pass; with its result, or without
	itemDenied   = "denied"   // by a rule, or by the hook for its own protection
	itemWithheld = "withheld" // denied since nobody could say
	itemStop     = "stop"     // the end of a turn
)

// Item is one thing that the ledger is to hold, in the order in which things happened. One
// durable write puts it into the outbox, with what is known of the turn after it.
type Item struct {
	Version int    `json:"version"`
	Seq     uint64 `json:"seq"`
	Kind    string `json:"kind"`
	At      string `json:"at"`
	Session string `json:"session"` // of the ledger
	Tool    string `json:"tool,omitempty"`
	Steps   []Step `json:"steps"`
	Turn    turn   `json:"turn"`
	Memory  *note  `json:"memory,omitempty"`  // that a turn leaves
	Pending string `json:"pending,omitempty"` // the note of the call, which is not needed any more

	// How far its submission is.
	Next      int             `json:"next"`             // the first of Steps that is not decided
	Signed    json.RawMessage `json:"signed,omitempty"` // an envelope that may have been sent
	For       string          `json:"for,omitempty"`    // what Signed is: open, step, or the state that it walks to
	Tries     int             `json:"tries,omitempty"`  // refusals in a row that brought it no further
	NotBefore time.Time       `json:"not_before,omitzero"`
	Problem   string          `json:"problem,omitempty"` // why it still waits
	Proofs    []Proof         `json:"proofs,omitempty"`  // of its steps, decided
}

// Proof is what became of a step.
type Proof struct {
	To      string `json:"to"`
	Digest  string `json:"digest"`
	Name    string `json:"name"`
	Rule    string `json:"rule,omitempty"`
	Index   *int64 `json:"index,omitempty"`
	Skipped string `json:"skipped,omitempty"` // why it was not sent
}

const itemVersion = 1

// turn is what an agent did between two prompts: one session of the ledger.
type turn struct {
	CLI      string         `json:"cli"` // session
	Number   int            `json:"number"`
	Over     bool           `json:"over"`
	Began    string         `json:"began,omitempty"` // "" while nothing was recorded in it
	Calls    map[string]int `json:"calls,omitempty"` // by tool
	Failed   int            `json:"failed,omitempty"`
	Unknown  int            `json:"unknown,omitempty"` // calls without a result
	Denied   int            `json:"denied,omitempty"`
	Withheld int            `json:"withheld,omitempty"`
	Denials  []denial       `json:"denials,omitempty"` // the newest
}

type denial struct {
	Tool   string `json:"tool"`
	By     string `json:"by"`
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason"`
}

const denialsKept = 8

func keyOf(cli string) string {
	sum := sha256.Sum256([]byte(cli))
	return hex.EncodeToString(sum[:12])
}

// sessionOf names a turn's session in the ledger.
func (h *Home) sessionOf(t *turn) string {
	name := t.CLI
	if name == "" || len(name) > 64 || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		name = keyOf(t.CLI)
	}
	return fmt.Sprintf("hook-%s-%s.%d", h.id, name, t.Number)
}

func (i *Item) name() string { return fmt.Sprintf("%016d-%s.json", i.Seq, keyOf(i.Turn.CLI)) }

// listed is an item as its file's name tells.
type listed struct {
	seq  uint64
	key  string
	file string
}

// list gives the items that wait, the oldest first.
func (h *Home) list() ([]listed, error) { return h.listIn(dirOutbox) }

func (h *Home) listIn(dir string) ([]listed, error) {
	files, err := os.ReadDir(h.path(dir))
	if err != nil {
		return nil, fmt.Errorf("list the items in %s: %w", dir, err)
	}
	var items []listed
	for _, f := range files {
		number, key, ok := strings.Cut(strings.TrimSuffix(f.Name(), ".json"), "-")
		seq, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil {
			continue // a file that was not finished
		}
		items = append(items, listed{seq, key, f.Name()})
	}
	slices.SortFunc(items, func(a, b listed) int { return strings.Compare(a.file, b.file) })
	return items, nil
}

// load reads an item; it matches fs.ErrNotExist if it was submitted meanwhile.
func (h *Home) load(file string) (*Item, error) {
	text, err := readBounded(h.path(dirOutbox, file))
	if err != nil {
		return nil, fmt.Errorf("read an item of the outbox: %w", err)
	}
	var i Item
	if err := json.Unmarshal(text, &i); err != nil {
		return nil, fmt.Errorf("read item %s of the outbox: %w", file, err)
	}
	if i.Version != itemVersion {
		return nil, fmt.Errorf("item %s of the outbox has version %d, this program knows version %d", file, i.Version, itemVersion)
	}
	return &i, nil
}

// save writes an item again. What it says of an envelope must be on the disk before the envelope is sent.
func (h *Home) save(i *Item, synced bool) error {
	return writeJSON(h.path(dirOutbox, i.name()), i, synced)
}

// current is the turn of a session of the CLI as it stands: as the newest item of it says, or,
// where none waits, as its file does.
func (h *Home) current(cli string) (turn, error) {
	key := keyOf(cli)
	for {
		items, err := h.list()
		if err != nil {
			return turn{}, err
		}
		at := -1
		for n := range items {
			if items[n].key == key {
				at = n
			}
		}
		if at < 0 {
			t := turn{CLI: cli, Number: 1}
			_, err := readJSON(h.path(dirSessions, key+".json"), &t)
			return t, err
		}
		i, err := h.load(items[at].file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // submitted just now; its turn is in the file
		}
		if err != nil {
			return turn{}, err
		}
		return i.Turn, nil
	}
}

// next is the turn that something is recorded in: a new one if the last is over.
func (t *turn) next() turn {
	n := *t
	if t.Over {
		n = turn{CLI: t.CLI, Number: t.Number + 1}
	}
	n.Calls = make(map[string]int, len(t.Calls)+1)
	if !t.Over {
		for tool, count := range t.Calls {
			n.Calls[tool] = count
		}
	}
	n.Denials = slices.Clone(n.Denials)
	if n.Began == "" {
		n.Began = timeText(time.Now())
	}
	return n
}

// errFull is matched where the outbox holds as much as it may.
var errFull = errors.New("the outbox is full")

// put appends an item durably. fill gets the turn that it belongs to, and may say that there is
// nothing to append.
func (h *Home) put(ctx context.Context, cli string, fill func(t *turn, i *Item) (bool, error)) (err error) {
	l, err := acquire(ctx, h.path(lockAppend))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	now, err := h.current(cli)
	if err != nil {
		return err
	}
	t := now.next()
	i := &Item{Version: itemVersion, At: timeText(time.Now())}
	if wanted, err := fill(&t, i); err != nil || !wanted {
		return err
	}
	items, err := h.list()
	if err != nil {
		return err
	}
	if len(items) >= OutboxItemsMax {
		return fmt.Errorf("%w: %d items wait: `bizra hook flush` submits them once a node answers", errFull, len(items))
	}
	if i.Seq, err = h.number(items); err != nil {
		return err
	}
	i.Turn, i.Session = t, h.sessionOf(&t)
	h.reached("before-append")
	if err := h.save(i, true); err != nil {
		return err
	}
	h.reached("appended")
	return nil
}

const fileSequence = "sequence"

// number gives the next number, above all that were given. The file may be lost with the machine; then it is above those of
// all items that are still there, so that order stays and none that was set aside is written over.
func (h *Home) number(items []listed) (uint64, error) {
	var last uint64
	found, err := readIfWhole(h.path(fileSequence), &last)
	if err == nil && !found {
		var aside []listed
		if aside, err = h.listIn(dirAside); len(aside) > 0 {
			last = aside[len(aside)-1].seq
		}
	}
	if err != nil {
		return 0, err
	}
	if len(items) > 0 {
		last = max(last, items[len(items)-1].seq)
	}
	return last + 1, writeJSON(h.path(fileSequence), last+1, false)
}

// setAside keeps an item that can never be submitted where it holds up nothing.
func (h *Home) setAside(i *Item) error {
	if err := writeJSON(h.path(dirAside, i.name()), i, true); err != nil {
		return err
	}
	return h.drop(i)
}

// drop takes an item out of the outbox. What it says of its turn is written down before.
func (h *Home) drop(i *Item) error {
	if err := writeJSON(h.path(dirSessions, keyOf(i.Turn.CLI)+".json"), i.Turn, true); err != nil {
		return err
	}
	if i.Memory != nil {
		if err := writeJSON(h.path(fileMemory), i.Memory, true); err != nil {
			return err
		}
	}
	if i.Pending != "" {
		if err := h.forgetPending(i.Turn.CLI, i.Pending); err != nil {
			return err
		}
	}
	h.reached("before-drop")
	return removeDurably(h.path(dirOutbox, i.name()))
}

// Pending calls: let pass, and not known how they ended. They are written without waiting for the
// disk, since a decision must be quick: they outlive the process, and only a machine that fails
// between a call and its result forgets one.

func (h *Home) pendingPath(cli, call string) string {
	return filepath.Join(h.path(dirPending, keyOf(cli)), call+".json")
}

// callKey names a call: by the CLI's id of it, or by what is called where it has none.
func callKey(e *Event) string {
	if e.Call != "" {
		return keyOf("id:" + e.Call)
	}
	return keyOf("is:" + e.Tool + "\x00" + string(e.Input.AppendCanonical(nil)))
}

func (h *Home) putPending(e *Event, c *call) error {
	path := h.pendingPath(e.Session, callKey(e))
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return fmt.Errorf("note a call: %w", err)
	}
	return writeJSON(path, c, false)
}

// takePending gives the note of a call; nil where there is none. It stays until it is forgotten.
func (h *Home) takePending(e *Event) (*call, error) {
	var c call
	found, err := readIfWhole(h.pendingPath(e.Session, callKey(e)), &c)
	if !found || err != nil {
		return nil, err
	}
	return &c, nil
}

func (h *Home) forgetPending(cli, call string) error {
	err := os.Remove(h.pendingPath(cli, call))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget a call: %w", err)
	}
	return nil
}

// pendingCall is a call of which no result was heard.
type pendingCall struct {
	call
	key string
}

// pending gives the calls of a session of the CLI that are not in the outbox either, in the order in
// which they were let pass. The outbox is looked at first: an item's note is gone before the item is.
func (h *Home) pending(cli string) ([]pendingCall, error) {
	items, err := h.list()
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, at := range items {
		i, err := h.load(at.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil && i.Turn.CLI == cli {
			known[i.Pending] = true
		}
	}
	files, err := os.ReadDir(h.path(dirPending, keyOf(cli)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the calls without a result: %w", err)
	}
	var calls []pendingCall
	for _, f := range files {
		p := pendingCall{key: strings.TrimSuffix(f.Name(), ".json")}
		if p.key == f.Name() || known[p.key] {
			continue // not finished, or in the outbox
		}
		found, err := readIfWhole(h.pendingPath(cli, p.key), &p.call)
		if err == nil && !found { // it has got its result meanwhile, or the machine lost it
			err = h.forgetPending(cli, p.key)
		}
		if err != nil {
			return nil, err
		}
		if found {
			calls = append(calls, p)
		}
	}
	slices.SortStableFunc(calls, func(a, b pendingCall) int { return strings.Compare(a.At, b.At) })
	return calls, nil
}
