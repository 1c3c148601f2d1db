package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// Answers to "no node answers".
const (
	OfflineClosed = "closed" // every tool call is denied
	OfflineLocal  = "local"  // the constitution heard last decides here; proofs are submitted later
)

// What of inputs and results a proof records.
const (
	RecordDigest = "digest" // salted digests
	RecordFull   = "full"   // the text, for ever, for all who may read the ledger
)

// Where the rules over a call's text run.
const (
	JudgeAuto  = "auto"  // by the node where it is on this machine, else here
	JudgeNode  = "node"  // by the node, wherever it is: the text goes there, and is not kept
	JudgeLocal = "local" // here
)

// What the CLI is told of a call that passes.
const (
	PassDefer = "defer" // nothing: it asks the person as it would without the hook
	PassAllow = "allow" // that it may go ahead without asking
)

const configVersion = 1

// Config is how a home is set up: hook.json in it.
type Config struct {
	Version int      `json:"version"`
	Nodes   []string `json:"nodes"`    // URLs of nodes of one region, in order of preference
	AgentID string   `json:"agent_id"` // that proofs are signed with
	Key     string   `json:"key"`      // the agent's key file, in the home if it is no absolute path
	Offline string   `json:"offline"`  // [OfflineClosed] or [OfflineLocal]
	Record  string   `json:"record"`   // [RecordDigest] or [RecordFull]
	Judge   string   `json:"judge"`    // [JudgeAuto], [JudgeNode] or [JudgeLocal]
	OnPass  string   `json:"on_pass"`  // [PassDefer] or [PassAllow]
	// Scope is a directory outside of which nothing may be written, for constitutions that have
	// a rule about it; "": none is declared.
	Scope string `json:"scope,omitempty"`
	// IhsanScore and SNRScore are what proofs claim; the latter never more than the agent's record supports.
	IhsanScore float64 `json:"ihsan_score"`
	SNRScore   float64 `json:"snr_score"`
	// DecideMillis is how long a decision may take before no node counts as answering, SubmitMillis
	// how long one event may spend on submitting.
	DecideMillis int64 `json:"decide_ms"`
	SubmitMillis int64 `json:"submit_ms"`
}

// Defaults is the configuration where nothing else is said.
func Defaults() Config { return Config{}.withDefaults() }

func (c Config) withDefaults() Config {
	or := func(s *string, otherwise string) {
		if *s == "" {
			*s = otherwise
		}
	}
	if c.Version == 0 {
		c.Version = configVersion
	}
	if len(c.Nodes) == 0 {
		c.Nodes = []string{"http://127.0.0.1:8420"}
	}
	or(&c.Key, FileKey)
	or(&c.Offline, OfflineClosed)
	or(&c.Record, RecordDigest)
	or(&c.Judge, JudgeAuto)
	or(&c.OnPass, PassDefer)
	if c.IhsanScore == 0 {
		c.IhsanScore = client.IhsanScoreDefault
	}
	if c.SNRScore == 0 {
		c.SNRScore = client.SNRScoreDefault
	}
	if c.DecideMillis == 0 {
		c.DecideMillis = 3000
	}
	if c.SubmitMillis == 0 {
		c.SubmitMillis = 10_000
	}
	return c
}

const (
	decideMillisMax = 20_000
	submitMillisMax = 40_000
	// answerMillisMax is how long an answer may take in all, well below what the CLI is told to wait: it goes on without a hook
	// that takes longer, and the call happens.
	answerMillisMax = hookSeconds*1000 - 10_000
	nodesMax        = 16
)

// Validate says what is wrong with a configuration, naming field and value.
func (c Config) Validate() error {
	oneOf := func(name, value string, known ...string) error {
		for _, k := range known {
			if value == k {
				return nil
			}
		}
		return fmt.Errorf("%s is %q: it must be %s", name, value, strings.Join(known, " or "))
	}
	within := func(name string, value, low, high float64) error {
		if value >= low && value <= high {
			return nil
		}
		return fmt.Errorf("%s is %v: it must be from %v to %v", name, value, low, high)
	}
	errs := []error{
		oneOf("offline", c.Offline, OfflineClosed, OfflineLocal), oneOf("record", c.Record, RecordDigest, RecordFull),
		oneOf("judge", c.Judge, JudgeAuto, JudgeNode, JudgeLocal), oneOf("on_pass", c.OnPass, PassDefer, PassAllow),
		within("ihsan_score", c.IhsanScore, 0, 1), within("snr_score", c.SNRScore, 0, 1),
		within("decide_ms", float64(c.DecideMillis), 1, decideMillisMax), within("submit_ms", float64(c.SubmitMillis), 1, submitMillisMax),
		within("number of nodes", float64(len(c.Nodes)), 1, nodesMax),
	}
	if c.Version != configVersion {
		errs = append(errs, fmt.Errorf("version is %d: this program knows version %d", c.Version, configVersion))
	}
	if c.AgentID == "" || len(c.AgentID) > pci.AgentIDBytesMax || strings.ContainsAny(c.AgentID, ":\n\r\t\x00") {
		errs = append(errs, fmt.Errorf("agent_id is %q: it must have 1 to %d bytes and no ':' or control characters", c.AgentID, pci.AgentIDBytesMax))
	}
	// A decision without a node may take its time twice, and a denial is recorded before it is answered.
	if all := 2*c.DecideMillis + c.SubmitMillis; all > answerMillisMax {
		errs = append(errs, fmt.Errorf("decide_ms is %d and submit_ms is %d: twice the first and the second must be at most %d together, or the CLI goes on before it is answered",
			c.DecideMillis, c.SubmitMillis, answerMillisMax))
	}
	if c.Scope != "" && !filepath.IsAbs(c.Scope) {
		errs = append(errs, fmt.Errorf("scope is %q: it must be an absolute path", c.Scope))
	}
	if _, err := client.New(client.Config{URLs: c.Nodes}); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Config) keyPath(home string) string {
	if filepath.IsAbs(c.Key) {
		return c.Key
	}
	return filepath.Join(home, c.Key)
}

func (c Config) decideWithin() time.Duration { return time.Duration(c.DecideMillis) * time.Millisecond }
func (c Config) submitWithin() time.Duration { return time.Duration(c.SubmitMillis) * time.Millisecond }

// parseConfig reads hook.json; a member that is not known is a mistake that would go unseen.
func parseConfig(text []byte) (Config, error) {
	var c Config
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, err
	}
	c = c.withDefaults()
	return c, c.Validate()
}
