package hook

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// The log of a home: what was decided, and what became of what was recorded, a line of JSON each.
// It has no text of inputs or results.

const (
	logBytesMax  = 8 << 20 // then the log before the last is given up
	logLineMax   = 64 << 10
	fileLogOlder = "log.1.ndjson"
)

// LogLine is one line of the log.
type LogLine struct {
	At       string  `json:"at"`
	Event    string  `json:"event,omitempty"` // of a decision, or of what else was handled
	Tool     string  `json:"tool,omitempty"`
	Call     string  `json:"call,omitempty"`
	Session  string  `json:"session,omitempty"`  // of the ledger, or of the CLI while there is none
	Decision string  `json:"decision,omitempty"` // pass, denied, withheld
	By       string  `json:"by,omitempty"`
	Rule     string  `json:"rule,omitempty"`
	Micros   int64   `json:"took_us,omitempty"`
	Error    string  `json:"error,omitempty"`
	Item     uint64  `json:"item,omitempty"` // of the outbox, whose Proofs came to be
	Kind     string  `json:"kind,omitempty"`
	Proofs   []Proof `json:"proofs,omitempty"`
}

// log appends a line. A log that cannot be written holds nothing up: the outbox is what counts.
func (h *Home) log(l LogLine) {
	if l.At == "" {
		l.At = timeText(time.Now())
	}
	text, err := json.Marshal(l)
	if err != nil || len(text) > logLineMax {
		return
	}
	path := h.path(FileLog)
	if info, err := os.Stat(path); err == nil && info.Size() > logBytesMax {
		_ = os.Rename(path, h.path(fileLogOlder)) // another process may have done it
	}
	// A home may have come with a project that somebody else made: what stands in the log's place must not be written to, or waited for.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, fileMode) //nolint:gosec // the home's own log
	if err != nil {
		return
	}
	_, _ = f.Write(append(text, '\n')) // see above
	_ = f.Close()
}

func (h *Home) logItem(i *Item) {
	h.log(LogLine{Item: i.Seq, Kind: i.Kind, Tool: i.Tool, Session: i.Session, Proofs: i.Proofs, Error: i.Problem})
}

// Log gives the lines of the log, the oldest first.
func (h *Home) Log() ([]LogLine, error) {
	var lines []LogLine
	for _, name := range []string{fileLogOlder, FileLog} {
		f, err := os.Open(h.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		lines = readLog(lines, f)
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
	}
	return lines, nil
}

// readLog passes over lines that cannot be read, such as the last before a crash.
func readLog(lines []LogLine, r io.Reader) []LogLine {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 2*logLineMax)
	for sc.Scan() {
		var l LogLine
		if json.Unmarshal(sc.Bytes(), &l) == nil {
			lines = append(lines, l)
		}
	}
	return lines
}

// Status is how a home stands.
type Status struct {
	AgentID   string         `json:"agent_id"`
	Nodes     []string       `json:"nodes"`
	Offline   string         `json:"offline"`
	Record    string         `json:"record"`
	Judge     string         `json:"judge"`
	Waiting   []Waiting      `json:"waiting"`   // in the outbox, the oldest first
	Aside     int            `json:"aside"`     // items that no region takes
	Decisions map[string]int `json:"decisions"` // as the log has them
	Recorded  map[string]int `json:"recorded"`  // items, by kind
	Errors    int            `json:"errors"`
	P50Micros int64          `json:"decision_p50_us"`
	P99Micros int64          `json:"decision_p99_us"`
}

// Waiting is an item of the outbox.
type Waiting struct {
	Item    uint64 `json:"item"`
	Kind    string `json:"kind"`
	Tool    string `json:"tool,omitempty"`
	At      string `json:"at"`
	Session string `json:"session"`
	Problem string `json:"problem,omitempty"`
}

// Status tells how the home stands.
func (h *Home) Status() (*Status, error) {
	s := &Status{AgentID: h.Config.AgentID, Nodes: h.Config.Nodes, Offline: h.Config.Offline, Record: h.Config.Record, Judge: h.Config.Judge,
		Waiting: []Waiting{}, Decisions: map[string]int{}, Recorded: map[string]int{}}
	items, err := h.list()
	if err != nil {
		return nil, err
	}
	for _, at := range items {
		i, err := h.load(at.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.Waiting = append(s.Waiting, Waiting{i.Seq, i.Kind, i.Tool, i.At, i.Session, i.Problem})
	}
	aside, err := os.ReadDir(h.path(dirAside))
	if err != nil {
		return nil, fmt.Errorf("list what was set aside: %w", err)
	}
	s.Aside = len(aside)
	lines, err := h.Log()
	if err != nil {
		return nil, err
	}
	var took []int64
	for _, l := range lines {
		if l.Decision != "" {
			s.Decisions[l.Decision]++
			took = append(took, l.Micros)
		}
		if l.Item != 0 {
			s.Recorded[l.Kind]++
		}
		if l.Error != "" {
			s.Errors++
		}
	}
	if slices.Sort(took); len(took) > 0 {
		s.P50Micros, s.P99Micros = took[len(took)/2], took[len(took)*99/100]
	}
	return s, nil
}
