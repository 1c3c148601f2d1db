package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/client/judge"
	"github.com/bizra/bizra/hook"
)

// hookHomeName is the folder in a project that holds all that its hook knows.
const hookHomeName = ".bizra"

func newHookCommand() *cobra.Command {
	return group("hook", "Put an agent CLI under governance: judge its tool calls, record them as proofs",
		`hook is what an agent CLI (Claude Code, Gemini CLI, others with the same protocol) runs at its events.
Before a tool is used it denies what the constitution in force denies; what was done and what was denied is
recorded as signed proofs. docs/hooks.md is the guide.

The folder .bizra in the project holds the agent's key, the outbox, the log, and hook.json:

  {
    "version": 1,
    "nodes": ["http://127.0.0.1:8420"],   nodes of one region, in order of preference
    "agent_id": "builder",
    "key": "agent.key",                   in the folder, or an absolute path
    "offline": "closed",                  no node answers: closed denies every call, local judges by
                                          the constitution heard last and submits later
    "record": "digest",                   digest: salted digests of inputs and results; full: their text
    "judge": "auto",                      who reads the text: node, local (this machine), or auto: a node
                                          where it is on this machine, else local
    "on_pass": "defer",                   defer: the CLI asks its person as ever; allow: it does not
    "scope": "/home/me/project",          nothing may be written elsewhere
    "ihsan_score": 0.99, "snr_score": 0.95,
    "decide_ms": 3000, "submit_ms": 10000
  }`,
		`  bizra hook install --project . --agent-id builder
  bizra hook status
  bizra hook uninstall --project .`,
		newHookInstallCommand(), newHookUninstallCommand(), newHookRunCommand(), newHookStatusCommand(), newHookFlushCommand(),
		newHookLogCommand(), newHookOpenCommand(), newHookJudgeCommand())
}

func addHomeFlag(c *cobra.Command) {
	c.Flags().String("home", "", "the hook's folder (default: "+hookHomeName+" in this directory or one above it)")
}

// hookHome finds the folder that the command line means.
func hookHome(cmd *cobra.Command) (string, error) {
	if dir := cmd.Flags().Lookup("home").Value.String(); dir != "" {
		return dir, nil
	}
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		dir := filepath.Join(at, hookHomeName)
		if exists(filepath.Join(dir, hook.FileConfig)) {
			return dir, nil
		}
		above := filepath.Dir(at)
		if above == at {
			return "", fmt.Errorf("no folder %s here or above: `bizra hook install --project DIR` makes one, --home names one", hookHomeName)
		}
		at = above
	}
}

func openHook(cmd *cobra.Command) (*hook.Home, error) {
	dir, err := hookHome(cmd)
	if err != nil {
		return nil, err
	}
	return hook.Open(dir)
}

// judgeHere compiles the constitution in this process.
func judgeHere(_ context.Context, constitution []byte, questions []client.Question) (*client.Judgement, error) {
	by, err := judge.Parse(constitution)
	if err != nil {
		return nil, err
	}
	var j *client.Judgement
	for _, q := range questions {
		if j, err = by.Judge(q, judge.Standing{}); err != nil || !j.Passed {
			return j, err
		}
	}
	return j, nil
}

// hookExit is the exit code that the protocol of hooks wants, whatever this program's own mean.
type hookExit struct{ code int }

func (e *hookExit) Error() string { return fmt.Sprintf("the hook ends with %d", e.code) }

func newHookRunCommand() *cobra.Command {
	c := &cobra.Command{Use: "run", Short: "Handle one event of an agent CLI", Args: takes(),
		Long: `run reads an event from standard input and writes the answer to standard output. CLIs are better given
bizra-hook, which does the same and starts faster. The exit codes are the protocol's: 0 done, 1 told to the
person, 2 the tool call is blocked.`,
		Example: `  echo '{"session_id":"s1","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"ls"}}' | bizra hook run`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := hookHome(cmd)
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "bizra hook: %v\n", err)
				return &hookExit{hook.ExitBlocked}
			}
			if code := hook.Run(cmd.Context(), hook.Options{Dir: dir, Local: judgeHere, In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr()}); code != hook.ExitDone {
				return &hookExit{code}
			}
			return nil
		}}
	addHomeFlag(c)
	return c
}

func newHookJudgeCommand() *cobra.Command {
	return &cobra.Command{Use: "judge", Short: "Judge questions by a constitution, both from standard input (for bizra-hook)", Args: takes(), Hidden: true,
		Example: `  bizra hook judge < request.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return hook.ServeJudge(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), judgeHere)
		}}
}

func newHookStatusCommand() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show what was decided, and what waits to be submitted", Args: takes(), Example: "  bizra hook status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := openHook(cmd)
			if err != nil {
				return err
			}
			s, err := h.Status()
			if err != nil {
				return err
			}
			return show(cmd, s, func(w io.Writer) error { return writeHookStatus(w, h, s) })
		}}
	addHomeFlag(c)
	return c
}

func counts(of map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%d %s", of[name], name))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func writeHookStatus(out io.Writer, h *hook.Home, s *hook.Status) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "hook\t%s\n", h.Dir)
	fmt.Fprintf(w, "agent\t%s\n", s.AgentID)
	fmt.Fprintf(w, "nodes\t%s; offline: %s\n", strings.Join(s.Nodes, ", "), s.Offline)
	fmt.Fprintf(w, "records\t%s; judged by: %s\n", s.Record, s.Judge)
	fmt.Fprintf(w, "decisions\t%s\n", counts(s.Decisions))
	if s.P99Micros > 0 {
		fmt.Fprintf(w, "took\tp50 %.1f ms, p99 %.1f ms, within the process\n", float64(s.P50Micros)/1e3, float64(s.P99Micros)/1e3)
	}
	fmt.Fprintf(w, "recorded\t%s\n", counts(s.Recorded))
	fmt.Fprintf(w, "waiting\t%d\n", len(s.Waiting))
	for _, i := range s.Waiting {
		fmt.Fprintf(w, "\t%d %s %s of %s: %s\n", i.Item, i.Kind, dash(i.Tool), i.At, dash(i.Problem))
	}
	if s.Aside > 0 {
		fmt.Fprintf(w, "set aside\t%d items that no region takes, in %s\n", s.Aside, filepath.Join(h.Dir, "aside"))
	}
	if s.Errors > 0 {
		fmt.Fprintf(w, "errors\t%d, in `bizra hook log`\n", s.Errors)
	}
	return w.Flush()
}

func newHookFlushCommand() *cobra.Command {
	c := &cobra.Command{Use: "flush", Short: "Submit what waits", Args: takes(), Example: "  bizra hook flush --within 1m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := openHook(cmd)
			if err != nil {
				return err
			}
			within, err := cmd.Flags().GetDuration("within")
			if err != nil {
				return err
			}
			ctx, cancel := patiently(cmd, within)
			defer cancel()
			n, err := h.Flush(ctx)
			if err != nil {
				return err
			}
			return show(cmd, map[string]int{"submitted": n}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%d items were submitted, none waits\n", n)
				return err
			})
		}}
	addHomeFlag(c)
	c.Flags().Duration("within", time.Minute, "how long it may take")
	return c
}

func newHookLogCommand() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "Show what the hook decided and recorded, the newest last", Args: takes(),
		Long: `log shows decisions, and for what was recorded the digest of each proof: "bizra bundle DIGEST" takes
it away to be checked offline. It has no text of inputs or results.`,
		Example: `  bizra hook log --last 20
  bizra hook log --last 1000 --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := openHook(cmd)
			if err != nil {
				return err
			}
			last, err := cmd.Flags().GetInt("last")
			if err != nil {
				return err
			}
			if last < 1 {
				return usagef("--last %d: it must be 1 or more", last)
			}
			lines, err := h.Log()
			if err != nil {
				return err
			}
			lines = append([]hook.LogLine{}, lines[max(len(lines)-last, 0):]...)
			return show(cmd, lines, func(w io.Writer) error { return writeHookLog(w, lines) })
		}}
	addHomeFlag(c)
	c.Flags().Int("last", 20, "so many lines")
	return c
}

func writeHookLog(out io.Writer, lines []hook.LogLine) error {
	for _, l := range lines {
		var err error
		switch {
		case l.Item != 0:
			_, err = fmt.Fprintf(out, "%s item %d, %s %s in session %s%s\n", l.At, l.Item, l.Kind, dash(l.Tool), l.Session, problem(l.Error))
			for _, p := range l.Proofs {
				if p.Skipped != "" {
					_, err = fmt.Fprintf(out, "  to %s: not sent, %s\n", p.To, p.Skipped)
					continue
				}
				_, err = fmt.Fprintf(out, "  to %s: %s, entry %d, proof %s\n", p.To, strings.TrimSpace(p.Name+" "+p.Rule), *orZero(p.Index), p.Digest)
			}
		case l.Decision != "":
			_, err = fmt.Fprintf(out, "%s %s %s: %s by %s\n", l.At, l.Event, l.Tool, l.Decision, strings.TrimSpace(l.By+" "+l.Rule))
		default:
			_, err = fmt.Fprintf(out, "%s %s%s\n", l.At, l.Event, problem(l.Error))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func problem(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

func newHookOpenCommand() *cobra.Command {
	c := &cobra.Command{Use: "open REF", Short: "Show that a text is the one that a proof digested, and give its salt away", Args: takes("the reference that stands beside the digest in the proof"),
		Long: `open computes the digest of a text from standard input (a tool's input or result; JSON in any spacing) under the salt of
that reference. Whoever is given text and salt can compute HMAC-SHA-256 again and compare it with the proof; it
opens this digest and no other.`,
		Example: `  echo '{"command":"go test ./..."}' | bizra hook open 3f0a… --digest 9d61…`,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := openHook(cmd)
			if err != nil {
				return err
			}
			text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), hook.EventBytesMax))
			if err != nil {
				return fmt.Errorf("read the text: %w", err)
			}
			o, err := h.Open(args[0], cmd.Flags().Lookup("digest").Value.String(), text)
			if err != nil {
				return err
			}
			return show(cmd, o, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "digest  %s\nsalt    %s\n", o.Digest, o.Salt)
				return err
			})
		}}
	addHomeFlag(c)
	c.Flags().String("digest", "", "the digest that it must have")
	return c
}

// hookProgram is what the CLI is to run: the small program beside this one, else this one.
func hookProgram() (program string, args []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", nil, err
	}
	beside := filepath.Join(filepath.Dir(self), "bizra-hook")
	if _, err := exec.LookPath(beside); err == nil {
		return beside, nil, nil
	}
	if found, err := exec.LookPath("bizra-hook"); err == nil && filepath.IsAbs(found) {
		return found, nil, nil
	} else if err != nil && !errors.Is(err, exec.ErrNotFound) {
		return "", nil, err
	}
	return self, []string{"hook", "run"}, nil
}
