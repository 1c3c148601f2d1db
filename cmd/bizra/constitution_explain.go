package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/gate"
	"github.com/bizra/bizra/pci"
)

func newConstitutionExplainCommand() *cobra.Command {
	c := &cobra.Command{Use: "explain FILE|- PROOF", Short: "Say which rule or score decides about a proof, and what would make it pass",
		Args: takes("a constitution", "a proof"),
		Long: `explain judges a signed envelope, or a bare payload {"action": …, "data": {…}} with the claims
of --ihsan and --snr, by a constitution: the claimed scores and the policy hash, every deny
rule that holds, with the texts that the rules look at, and for a transition the four scores
with their composite and the weakest. At the end it says what would make the proof pass.

It knows no region: whether the agent is registered, the session is where the proof says, and
the claimed snr_score is supported by the agent's record, a node decides.

The exit code is 3 if the constitution refuses the proof.`,
		Example: `  bizra constitution explain policy.yaml proof.json
  bizra constitution explain policy.yaml payload.json --snr 0.97 --json
  bizra submit --sign-only --key agent.key steps.ndjson | head -1 | bizra constitution explain policy.yaml -`,
		RunE: runConstitutionExplain}
	c.Flags().Float64("ihsan", client.IhsanScoreDefault, "ihsan_score that a bare payload is to claim")
	c.Flags().Float64("snr", client.SNRScoreDefault, "snr_score that a bare payload is to claim")
	c.Flags().String("agent-id", "", "agent_id that a bare payload is to be signed with")
	c.Flags().String("agent-type", pci.AgentPAT, "its agent_type")
	c.Flags().String("owner", "", "the agent's owner, as it is registered")
	c.Flags().Bool("terms", false, "show also the texts that the rules ask")
	return c
}

// shownVerdict is a verdict as --json prints it.
type shownVerdict struct {
	Passed     bool           `json:"passed"`
	Decision   gate.Decision  `json:"decided_by"`
	Rule       string         `json:"rule,omitempty"`
	PolicyHash string         `json:"policy_hash"`
	HashOK     bool           `json:"policy_hash_fits"`
	Ihsan      gate.Threshold `json:"ihsan_score"`
	SNR        gate.Threshold `json:"snr_score"`
	Rules      []shownRule    `json:"rules"`
	Fate       *fate.Verdict  `json:"fate,omitempty"`
	Terms      []shownTerm    `json:"terms,omitempty"`
	ToPass     []string       `json:"to_pass"`
}

type shownRule struct {
	Rule      string `json:"rule"`
	Dimension string `json:"dimension"`
	Message   string `json:"message"`
	Failed    bool   `json:"failed,omitempty"` // its expression, which denies
}

type shownTerm struct {
	Name  string `json:"name"`
	Text  string `json:"text"`
	Error string `json:"error,omitempty"`
}

func runConstitutionExplain(cmd *cobra.Command, args []string) error {
	if args[0] == "-" && args[1] == "-" {
		return usagef("only one of constitution and proof can come from standard input")
	}
	g, err := readGate(cmd, args[0])
	if err != nil {
		return err
	}
	in, claims, err := readProof(cmd, args[1])
	if err != nil {
		return err
	}
	v, err := g.Judge(in, claims)
	if err != nil {
		return fmt.Errorf("%s would be %w, before the constitution is asked: %w", args[1], errRefused, err)
	}
	terms, err := cmd.Flags().GetBool("terms")
	if err != nil {
		return err
	}
	shown := shownVerdict{Passed: v.Passed(), Decision: v.Decision, Rule: v.Rules.Verdict.Rule, PolicyHash: v.PolicyHash, HashOK: !v.HashDiffers,
		Ihsan: v.Ihsan, SNR: v.SNR, Rules: []shownRule{}, ToPass: v.ToPass()}
	for _, r := range v.Rules.Holding {
		shown.Rules = append(shown.Rules, shownRule{r.Rule, string(r.Dimension), r.Message, r.Error})
	}
	if v.Scored {
		shown.Fate = &v.Scores
	}
	if terms || asJSON(cmd) {
		for _, t := range v.Rules.Terms {
			if t.Text != "" || t.Error != "" {
				shown.Terms = append(shown.Terms, shownTerm(t))
			}
		}
	}
	if err := show(cmd, shown, func(w io.Writer) error { return writeVerdict(w, &v, &shown, claims) }); err != nil {
		return err
	}
	if !v.Passed() {
		return fmt.Errorf("the proof would be %w, by %s", errRefused, decider(&v))
	}
	return nil
}

// readProof reads a signed envelope or a bare payload.
func readProof(cmd *cobra.Command, path string) (in constitution.Input, claims gate.Claims, err error) {
	text, err := readBounded(cmd, path, 2*pci.EnvelopeBytesMax, "proof", "name a file with a signed envelope or a bare payload, or - for standard input")
	if err != nil {
		return in, claims, err
	}
	v, err := pci.Parse(text, pci.Limits{BytesMax: 2 * pci.EnvelopeBytesMax})
	if err != nil {
		return in, claims, fmt.Errorf("%s: %w", path, err)
	}
	owner := cmd.Flags().Lookup("owner").Value.String()
	if v.Kind() == pci.ObjectKind {
		if _, signed := v.Get("payload"); signed {
			env, err := pci.Inspect(text)
			if err != nil {
				return in, claims, fmt.Errorf("%s: %w", path, err)
			}
			in = constitution.Input{Action: env.Payload.Action, Data: env.Payload.Data,
				Agent: constitution.Agent{ID: env.Sender.AgentID, Type: env.Sender.AgentType, Owner: owner}}
			in.Session.ID = sessionOf(in.Data)
			return in, gate.Claims{Ihsan: env.Metadata.IhsanScore, SNR: env.Metadata.SNRScore, PolicyHash: env.Payload.PolicyHash}, nil
		}
	}
	o := pci.ReadObject(v)
	in.Action = o.Text("action", 128)
	in.Data, _ = o.Any("data")
	if in.Data.Kind() != pci.ObjectKind {
		o.Fault(`data must be there, an object: a bare payload is {"action": …, "data": {…}}`)
	}
	o.OptionalText("state_hash", 64)
	if err := o.Done(); err != nil {
		return in, claims, fmt.Errorf("%s: %w", path, err)
	}
	in.Agent = constitution.Agent{ID: cmd.Flags().Lookup("agent-id").Value.String(), Type: cmd.Flags().Lookup("agent-type").Value.String(), Owner: owner}
	in.Session.ID = sessionOf(in.Data)
	if claims.Ihsan, err = score(cmd, "ihsan"); err != nil {
		return in, claims, err
	}
	claims.SNR, err = score(cmd, "snr")
	return in, claims, err
}

func sessionOf(data pci.Value) string {
	id, _ := data.Get("session")
	return id.String()
}

func decider(v *gate.Verdict) string {
	switch v.Decision {
	case gate.ByRule:
		return "rule " + v.Rules.Verdict.Rule
	case gate.ByScores:
		return fmt.Sprintf("the scores, %v the weakest", v.Scores.Weakest)
	default:
		return string(v.Decision)
	}
}

func writeVerdict(w io.Writer, v *gate.Verdict, shown *shownVerdict, claims gate.Claims) error {
	mark := func(passed bool) string {
		if passed {
			return "passes"
		}
		return "refused"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "ihsan_score  %v, at least %v: %s\n", v.Ihsan.Claimed, v.Ihsan.Least, mark(v.Ihsan.Passed))
	fmt.Fprintf(&b, "snr_score    %v, at least %v: %s\n", v.SNR.Claimed, v.SNR.Least, mark(v.SNR.Passed))
	switch {
	case claims.PolicyHash == "":
		fmt.Fprintf(&b, "policy_hash  to be signed with %s\n", v.PolicyHash)
	case v.HashDiffers:
		fmt.Fprintf(&b, "policy_hash  refused: signed under %s, this is %s\n", claims.PolicyHash, v.PolicyHash)
	default:
		fmt.Fprintf(&b, "policy_hash  passes: %s\n", v.PolicyHash)
	}
	switch {
	case !gate.Ruled(v.Action):
		b.WriteString("rules        are asked about actions of sessions and in the market only\n")
	case len(v.Rules.Holding) == 0:
		b.WriteString("rules        none holds\n")
	}
	for i, r := range v.Rules.Holding {
		label := "             "
		if i == 0 {
			label = "rules        "
		}
		fmt.Fprintf(&b, "%s%s denies it, %s becomes 0: %s\n", label, r.Rule, r.Dimension, r.Message)
	}
	for _, e := range v.Rules.Errors {
		fmt.Fprintf(&b, "             an expression failed, which denies: %s\n", e)
	}
	if v.Scored {
		s := v.Scores
		fmt.Fprintf(&b, "scores       fidelity %.4g, accountability %.4g, transparency %.4g, ethics %.4g; weakest %v\n",
			s.Scores.Fidelity, s.Scores.Accountability, s.Scores.Transparency, s.Scores.Ethics, s.Weakest)
		fmt.Fprintf(&b, "composite    %.4g, at least %v: %s\n", s.Composite, s.Threshold, mark(s.Passed))
	} else {
		b.WriteString("scores       count for transitions only\n")
	}
	for _, t := range shown.Terms {
		fmt.Fprintf(&b, "term %s\n  %s\n", t.Name, strings.ReplaceAll(strings.TrimRight(t.Text+t.Error, "\n"), "\n", "\n  "))
	}
	if v.Passed() {
		b.WriteString("\nIt would pass.\n")
	} else {
		fmt.Fprintf(&b, "\nIt would be refused, by %s. To pass:\n", decider(v))
		for _, s := range shown.ToPass {
			fmt.Fprintf(&b, "  - %s\n", s)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
