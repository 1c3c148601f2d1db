package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

func newSubmitCommand() *cobra.Command {
	c := &cobra.Command{Use: "submit [FILE|-]", Short: "Submit proofs: sign bare payloads, pass signed envelopes on",
		Long: `submit reads JSON objects from FILE or standard input, one a line or spread over lines,
and prints a receipt a line.

A bare payload {"action": …, "data": {…}} is completed and signed with --key: policy_hash
from the node; data.region where the action wants it; state_hash from the session's only
tip where the action builds on one, unless the payload gives it. A signed envelope goes as
it is, so that it can be submitted again: what was decided is answered again, never done twice.

With --wait attested a receipt is printed once a quorum of the federation's regions vouches for
its entry, or after --wait-timeout as it is then.

The exit code is 3 if a gate refused any, 1 if any was left undecided or is not attested in time.`,
		Example: `  echo '{"action":"session.open","data":{"session":"s1"}}' | bizra submit --key agent.key
  bizra submit --key agent.key --agent-id builder steps.ndjson
  bizra submit --key agent.key --wait attested steps.ndjson
  bizra submit --key agent.key --sign-only steps.ndjson > signed.ndjson
  bizra submit --node /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW… --key agent.key signed.ndjson`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s takes one file, not %d", cmd.CommandPath(), len(args))
			}
			return nil
		},
		RunE: runSubmit}
	addNodeFlag(c)
	addSignerFlags(c)
	addWaitFlags(c)
	c.Flags().Bool("sign-only", false, "print the signed envelopes and submit nothing")
	c.Flags().String("node-key", "", "key file to be known by at a multiaddr, of an agent, an operator or a node that is not running (default: --key, else a key made for this run)")
	c.Flags().String("federation", "", "federation document, to take policy_hash from where --node is a multiaddr")
	return c
}

func addSignerFlags(c *cobra.Command) {
	c.Flags().String("key", "", "key file to sign with")
	c.Flags().String("agent-id", "", "sender.agent_id (default: agent- and the first 16 digits of the public key)")
	c.Flags().String("agent-type", pci.AgentPAT, "sender.agent_type: PAT or SAT")
	c.Flags().Float64("ihsan", client.IhsanScoreDefault, "metadata.ihsan_score to claim")
	c.Flags().Float64("snr", client.SNRScoreDefault, "metadata.snr_score to claim")
}

// signerOf is who signs, as the command line has it; its key is nil without --key.
func signerOf(cmd *cobra.Command) (client.Signer, error) {
	s := client.Signer{AgentID: cmd.Flags().Lookup("agent-id").Value.String(), AgentType: cmd.Flags().Lookup("agent-type").Value.String()}
	if s.AgentType != pci.AgentPAT && s.AgentType != pci.AgentSAT {
		return s, usagef("--agent-type %q: it must be PAT or SAT", s.AgentType)
	}
	for name, into := range map[string]*float64{"ihsan": &s.IhsanScore, "snr": &s.SNRScore} {
		v, err := cmd.Flags().GetFloat64(name)
		if err != nil {
			return s, err
		}
		if !(v > 0 && v <= 1) {
			return s, usagef("--%s %v: it must be above 0 and at most 1", name, v)
		}
		*into = v
	}
	if cmd.Flags().Lookup("key").Value.String() == "" {
		return s, nil
	}
	var err error
	s.Key, err = loadKey(cmd, "key", "")
	return s, err
}

func runSubmit(cmd *cobra.Command, args []string) (err error) {
	signer, err := signerOf(cmd)
	if err != nil {
		return err
	}
	in, size, err := openInput(cmd, args)
	if err != nil {
		return err
	}
	defer in.Close()
	line, err := newSubmission(cmd, signer)
	if err != nil {
		return err
	}
	defer line.close()
	line.bar = newProgress(cmd, "submitting", size, true)
	err = line.run(cmd.Context(), in)
	line.bar.done()
	if serr := line.settle(cmd.Context()); err == nil {
		err = serr
	}
	if err != nil {
		return explained(cmd, err)
	}
	return line.verdict()
}

// openInput opens the file or standard input; size is -1 where it is not known.
func openInput(cmd *cobra.Command, args []string) (io.ReadCloser, int64, error) {
	if len(args) == 0 || args[0] == "-" {
		return io.NopCloser(cmd.InOrStdin()), -1, nil
	}
	f, err := os.Open(args[0])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("there is no file %s: name a file with one proof a line, or - for standard input", args[0])
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open the proofs: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder: name a file with one proof a line", args[0])
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// submitter sends signed envelopes and gives an outcome for each, in order.
type submitter interface {
	SubmitAll(ctx context.Context, envelopes [][]byte) ([]client.Outcome, error)
}

// submission is one run of submit: proofs are gathered into batches and sent when a
// batch is full or when the next payload builds on one that is still in it.
type submission struct {
	to       submitter
	region   *client.Client // nil where the node is reached by multiaddr: it tells nothing
	closers  []func()
	out      io.Writer
	bar      *progress
	signer   client.Signer
	signOnly bool
	context  *client.Context // once known
	heads    map[string]string
	pending  [][]byte
	waiting  map[string]bool // sessions with a step in pending

	until *waiting
	held  []client.Outcome // that are printed once they are attested
	last  *client.Receipt  // the entry of the highest index among them

	sent, refused, undecided int
	first                    error // that kept a proof from success
}

func (s *submission) close() {
	for _, c := range s.closers {
		c()
	}
}

const itemBytesMax = 1 << 20 // of one JSON object in the input, indented as it may be

func (s *submission) run(ctx context.Context, in io.Reader) error {
	counted := &countingReader{r: in}
	dec := json.NewDecoder(counted)
	for n := 1; ; n++ {
		counted.limit = counted.n + itemBytesMax
		var item json.RawMessage
		err := dec.Decode(&item)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if serr := s.flush(ctx); serr != nil {
				return serr
			}
			return fmt.Errorf("item %d of the input, near byte %d, is no JSON: %w (the %d before it were dealt with)", n, dec.InputOffset(), err, n-1)
		}
		s.bar.at(dec.InputOffset())
		if err := s.add(ctx, item); err != nil {
			return fmt.Errorf("item %d of the input: %w", n, err)
		}
	}
	if s.sent == 0 && len(s.pending) == 0 && !s.signOnly {
		return errors.New("the input is empty: give one JSON object a line")
	}
	return s.flush(ctx)
}

type countingReader struct {
	r        io.Reader
	n, limit int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	if c.n >= c.limit {
		return 0, fmt.Errorf("one object has more than %d bytes", itemBytesMax)
	}
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// add takes one item: a signed envelope or a bare payload.
func (s *submission) add(ctx context.Context, item []byte) error {
	if item = bytes.TrimSpace(item); item[0] != '{' {
		return errors.New("it is no object: give one JSON object a line, not a list of them")
	}
	envelope, session, err := s.envelope(ctx, item)
	if err != nil {
		return err
	}
	if s.signOnly {
		_, err := fmt.Fprintf(s.out, "%s\n", envelope)
		return err
	}
	s.pending = append(s.pending, envelope)
	if session != "" {
		s.waiting[session] = true
	}
	if len(s.pending) >= client.BatchLinesMax {
		return s.flush(ctx)
	}
	return nil
}

// envelope gives the item's signed form, and its session where it is a payload
// that was completed here.
func (s *submission) envelope(ctx context.Context, item []byte) (envelope []byte, session string, err error) {
	var form map[string]json.RawMessage
	if err := json.Unmarshal(item, &form); err != nil {
		return nil, "", err
	}
	if _, signed := form["payload"]; signed {
		return item, "", nil
	}
	if _, bare := form["action"]; !bare {
		return nil, "", errors.New(`it is neither a signed envelope (it has no "payload") nor a bare payload (it has no "action")`)
	}
	p, err := client.ParsePayload(item)
	if err != nil {
		return nil, "", err
	}
	if s.signer.Key == nil {
		return nil, "", usagef("it is a bare payload, which has to be signed: name your key with --key")
	}
	known, err := s.known(ctx, p)
	if err != nil {
		return nil, "", err
	}
	env, err := client.Complete(p, s.signer, known)
	if err != nil {
		return nil, "", err
	}
	return env.Canonical(), p.Session(), nil
}

// known is what the payload leaves out. A step that builds on one that is not sent
// yet waits for that one's receipt, which has the head.
func (s *submission) known(ctx context.Context, p *client.Payload) (client.Context, error) {
	if s.context == nil {
		if s.region == nil {
			return client.Context{}, usagef("policy_hash cannot be asked at a multiaddr: give --federation FILE, or an http:// URL as --node")
		}
		policy, err := s.region.Policy(ctx)
		if err != nil {
			return client.Context{}, err
		}
		s.context = &client.Context{PolicyHash: policy.PolicyHash, Region: policy.Region}
	}
	known := *s.context
	if !p.Builds() || p.StateHash != nil {
		return known, nil
	}
	session := p.Session()
	if s.waiting[session] {
		if s.signOnly {
			return known, fmt.Errorf("it builds on a step of session %s that is not submitted yet, so its state_hash is not known: submit them one after the other, or without --sign-only", session)
		}
		if err := s.flush(ctx); err != nil {
			return known, err
		}
	}
	if head, ok := s.heads[session]; ok {
		known.StateHash = head
		return known, nil
	}
	if s.region == nil {
		return known, usagef("the head of session %q cannot be asked at a multiaddr: give state_hash in the payload, or an http:// URL as --node", session)
	}
	var err error
	known.StateHash, err = s.region.Tip(ctx, session)
	return known, err
}

// flush sends what is pending and prints the outcomes.
func (s *submission) flush(ctx context.Context) error {
	if len(s.pending) == 0 {
		return nil
	}
	outcomes, err := s.to.SubmitAll(ctx, s.pending)
	for _, o := range outcomes {
		if perr := s.take(o); perr != nil {
			return perr
		}
	}
	if len(s.held) >= client.BatchLinesMax {
		if serr := s.settle(ctx); serr != nil {
			return serr
		}
	}
	if err != nil {
		if s.sent > 0 {
			err = fmt.Errorf("after %d proofs were decided: %w", s.sent, err)
		}
		return fmt.Errorf("%w (signed envelopes can be submitted again without harm: --sign-only prints them)", err)
	}
	s.pending = s.pending[:0]
	clear(s.waiting)
	return nil
}

// take counts an outcome and prints it, now or once it is attested.
func (s *submission) take(o client.Outcome) error {
	s.sent++
	if err := o.Err(); err != nil {
		if o.Receipt == nil && o.Problem.Code == nil {
			s.undecided++
		} else {
			s.refused++
		}
		if s.first == nil {
			s.first = err
		}
	}
	if r := o.Receipt; r != nil && r.Session != "" {
		// The head is the session's only tip as far as this run can tell; after a branch
		// or a refusal the region is asked.
		if r.Accepted() && (r.Action == "session.open" || r.Action == "session.transition" && s.heads[r.Session] != "") {
			s.heads[r.Session] = r.Head
		} else {
			delete(s.heads, r.Session)
		}
	}
	if s.until.finality == client.FinalityAttested {
		s.held = append(s.held, o)
		if r := o.Receipt; r != nil && r.Index != nil && (s.last == nil || *r.Index > *s.last.Index) {
			s.last = r
		}
		return nil
	}
	return printOutcome(s.out, o)
}

// settle waits until what is held is attested, which one certificate does for all before its end,
// and prints it.
func (s *submission) settle(ctx context.Context) error {
	if s.last != nil {
		s.last = s.until.await(ctx, s.region, s.last)
		for i := range s.held {
			if r := s.held[i].Receipt; r != nil && r.Index != nil && s.last.Finality == client.FinalityAttested {
				r.Finality = client.FinalityAttested
			}
		}
	}
	var err error
	for _, o := range s.held {
		err = errors.Join(err, printOutcome(s.out, o))
	}
	s.held, s.last = nil, nil
	return err
}

func printOutcome(out io.Writer, o client.Outcome) error {
	text, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// verdict is the run's error: nothing failed, some proofs were refused, or worse.
func (s *submission) verdict() error {
	switch {
	case s.undecided > 0:
		return fmt.Errorf("%d of %d proofs were left undecided; the first says: %w", s.undecided, s.sent, s.first)
	case s.refused > 0:
		return fmt.Errorf("%d of %d proofs were %w; the first because: %w", s.refused, s.sent, errRefused, s.first)
	}
	return s.until.failed
}
