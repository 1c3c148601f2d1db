package sim

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits of a scenario file.
const (
	ScenarioBytesMax = 64 << 10
	scenarioNodesMax = 100_000
)

//go:embed scenarios/*.yaml
var scenarioFiles embed.FS

// Scenario is a run as a file describes it, in two sizes.
type Scenario struct {
	Name  string
	About string
	Seed  uint64 // draws what the file leaves open; the file's own, unless another is set
	form  *scenarioForm
}

// scenarioForm is the file.
type scenarioForm struct {
	Name     string      `yaml:"name"`
	About    string      `yaml:"about"`
	Seed     uint64      `yaml:"seed"`
	Small    sizeForm    `yaml:"small"` // as in tests
	Large    sizeForm    `yaml:"large"` // as it is meant
	Settle   duration    `yaml:"settle"`
	Liveness duration    `yaml:"liveness"`
	Market   bool        `yaml:"market"` // regions have markets, and owners trade
	Faults   []faultForm `yaml:"faults"`
	Expect   expectForm  `yaml:"expect"`

	lines map[int]int // of the faults
}

// sizeForm is a federation and what it is given to do.
type sizeForm struct {
	Nodes        int      `yaml:"nodes"`
	Regions      int      `yaml:"regions"`
	Voters       int      `yaml:"voters"`
	Certificates int      `yaml:"certificates"`
	Rate         int      `yaml:"rate"`
	Duration     duration `yaml:"duration"`
}

// faultForm is a fault and when it happens.
type faultForm struct {
	Kind    string   `yaml:"kind"`
	At      duration `yaml:"at"`
	For     duration `yaml:"for"`     // 0: until all is healed
	Every   duration `yaml:"every"`   // from one time to the next
	Times   int      `yaml:"times"`   // 1
	InTurn  bool     `yaml:"in-turn"` // each time the next node
	Regions int      `yaml:"regions"`
	Share   float64  `yaml:"share"`
	Named   []string `yaml:"named"`
	Whom    string   `yaml:"whom"`
	Nodes   int      `yaml:"nodes"`
	Part    float64  `yaml:"part"`
	Delay   duration `yaml:"delay"`
}

type expectForm struct {
	Stall  bool   `yaml:"stall"`
	Broken string `yaml:"broken"`
}

// duration is one in a file, as 1m30s.
type duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	x, err := time.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is no duration: write it as 500ms, 20s or 1m30s", n.Line, n.Value)
	}
	*d = duration(x)
	return nil
}

// ScenarioNames lists the scenarios that come with the simulator.
func ScenarioNames() (names []string) {
	files, err := scenarioFiles.ReadDir("scenarios")
	if err != nil {
		return nil // it is embedded
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return names
}

// LoadScenario reads one that comes with the simulator, by its name, or else a file.
func LoadScenario(name string) (*Scenario, error) {
	b, err := scenarioFiles.ReadFile(path.Join("scenarios", name+".yaml"))
	if err == nil {
		return ReadScenario(bytes.NewReader(b), name)
	}
	f, err := os.Open(name) //nolint:gosec // the file that the caller named
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s, and no scenario of that name: there are %s", name, strings.Join(ScenarioNames(), ", "))
	}
	if err != nil {
		return nil, err
	}
	s, err := ReadScenario(f, name)
	return s, errors.Join(err, f.Close())
}

// ReadScenario reads a scenario file strictly: what is not known in it is an error, which names the line.
func ReadScenario(r io.Reader, name string) (*Scenario, error) {
	b, err := io.ReadAll(io.LimitReader(r, ScenarioBytesMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read scenario %s: %w", name, err)
	case len(b) > ScenarioBytesMax:
		return nil, fmt.Errorf("scenario %s is longer than %d bytes", name, ScenarioBytesMax)
	}
	form, err := parseScenario(b)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", name, err)
	}
	s := &Scenario{Name: cmp.Or(form.Name, name), About: form.About, Seed: form.Seed, form: form}
	for _, large := range []bool{false, true} {
		if _, err := s.Plan(large); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func parseScenario(b []byte) (*scenarioForm, error) {
	form := &scenarioForm{lines: map[int]int{}}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(form); err != nil {
		return nil, plain(err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document in it")
	}
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		return nil, plain(err)
	}
	for i := 0; len(root.Content) > 0 && i+1 < len(root.Content[0].Content); i += 2 {
		if root.Content[0].Content[i].Value == "faults" {
			for k, f := range root.Content[0].Content[i+1].Content {
				form.lines[k] = f.Line
			}
		}
	}
	return form, nil
}

// plain takes Go's names out of what the decoder says.
func plain(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = regexp.MustCompile(` in type sim\.\w+`).ReplaceAllString(text, "")
	text = regexp.MustCompile(` into sim\.\w+`).ReplaceAllString(text, "")
	return errors.New(strings.Join(strings.Fields(strings.TrimPrefix(text, "unmarshal errors:")), " "))
}

// Plan makes the plan of a run, of the size that is meant or of the small one. A plan serves one run.
func (s *Scenario) Plan(large bool) (Plan, error) {
	f, of := s.form, s.form.Small
	if large {
		of = f.Large
	}
	p := Plan{Name: s.Name, Settle: time.Duration(f.Settle), Liveness: time.Duration(f.Liveness), Expect: Expect{Broken: f.Expect.Broken, Stall: f.Expect.Stall},
		Config: Config{Nodes: of.Nodes, Regions: of.Regions, Voters: of.Voters, Seed: s.Seed},
		Work:   Workload{Certificates: of.Certificates, Rate: of.Rate, Duration: time.Duration(of.Duration), Markets: f.Market}}
	fail := func(format string, args ...any) (Plan, error) {
		return Plan{}, fmt.Errorf("scenario %s: "+format, append([]any{s.Name}, args...)...)
	}
	if of.Nodes < 0 || of.Nodes > scenarioNodesMax {
		return fail("nodes is %d: up to %d", of.Nodes, scenarioNodesMax)
	}
	if b := f.Expect.Broken; b != "" && !slices.Contains(Invariants(), b) {
		return fail("expect: broken: %q is no invariant: %s", b, strings.Join(Invariants(), ", "))
	}
	for i := range f.Faults {
		planned, err := f.Faults[i].plan(s.Seed + uint64(i))
		if err != nil {
			return fail("line %d: fault %d: %w", f.lines[i], i+1, err)
		}
		p.Faults = append(p.Faults, planned...)
	}
	check := p.withDefaults()
	check.Config.Dir = "checked when it runs"
	if err := errors.Join(check.validate(), check.Config.validate()); err != nil {
		return fail("%w", err)
	}
	return p, nil
}

// plan is the fault at each of its times.
func (f *faultForm) plan(seed uint64) (list []Planned, err error) {
	times := max(1, f.Times)
	switch {
	case f.Times < 0 || times > FaultsMax:
		return nil, fmt.Errorf("times is %d: from 1 to %d", f.Times, FaultsMax)
	case times > 1 && f.Every <= 0:
		return nil, fmt.Errorf("it happens %d times: say every how long", times)
	case f.At < 0 || f.For < 0 || f.Every < 0:
		return nil, errors.New("at, for and every must not be negative")
	case times > 1 && (f.For == 0 || f.For > f.Every):
		return nil, fmt.Errorf("it happens every %v: it must last (for) as long at most", time.Duration(f.Every))
	}
	for i := range times {
		cfg := FaultConfig{Kind: f.Kind, Seed: seed + uint64(i)<<32, Regions: f.Regions, Share: f.Share, Named: f.Named, Whom: f.Whom, Nodes: f.Nodes, Part: f.Part,
			Delay: time.Duration(f.Delay)}
		if f.InTurn {
			cfg.Turn, cfg.Seed = i+1, seed
		}
		fault, err := NewFault(cfg)
		if err != nil {
			return nil, err
		}
		x := Planned{From: time.Duration(f.At) + time.Duration(i)*time.Duration(f.Every), Fault: fault}
		if f.For > 0 {
			x.Until = x.From + time.Duration(f.For)
		}
		list = append(list, x)
	}
	return list, nil
}
