package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/hook"
	"github.com/bizra/bizra/pci"
)

const installWithin = 15 * time.Second

func addSettingsFlags(c *cobra.Command) {
	c.Flags().String("project", ".", "the project's directory")
	c.Flags().String("cli", string(hook.Claude), "whose settings: claude or gemini")
	c.Flags().Bool("local", false, "use settings.local.json, which is one person's own (claude)")
	c.Flags().String("home", "", "the hook's folder (default: "+hookHomeName+" in the project)")
}

// hookSettings are the settings that the command line means.
func hookSettings(cmd *cobra.Command) (*hook.Settings, error) {
	project, err := filepath.Abs(cmd.Flags().Lookup("project").Value.String())
	if err != nil {
		return nil, err
	}
	if !exists(project) {
		return nil, fmt.Errorf("there is no %s: name the project's directory with --project", project)
	}
	s := &hook.Settings{CLI: hook.CLI(cmd.Flags().Lookup("cli").Value.String()), Project: project}
	if s.CLI != hook.Claude && s.CLI != hook.Gemini {
		return nil, usagef("--cli %q: it must be claude or gemini; for others put the command that `bizra hook install` writes into their settings by hand", s.CLI)
	}
	if s.Local, err = cmd.Flags().GetBool("local"); err != nil {
		return nil, err
	}
	home := cmd.Flags().Lookup("home").Value.String()
	if home == "" {
		home = filepath.Join(project, hookHomeName)
	}
	if s.Home, err = filepath.Abs(home); err != nil {
		return nil, err
	}
	s.Program, s.Args, err = hookProgram()
	return s, err
}

func newHookInstallCommand() *cobra.Command {
	c := &cobra.Command{Use: "install --project DIR", Short: "Put a project's agent CLI under governance", Args: takes(),
		Long: `install makes the project's folder .bizra with the agent's key and configuration, registers the agent where an
operator's key is given, and adds the hook to the CLI's settings, behind what is there; the file as it was is
kept beside it. Run again it changes what the command line names and keeps the rest, the key included.`,
		Example: `  bizra hook install --project . --agent-id builder
  bizra hook install --project . --agent-id builder --owner acme --operator-key operators/eu.key
  bizra hook install --project . --offline local --record full --scope .`,
		RunE: runHookInstall}
	addSettingsFlags(c)
	addNodeFlag(c)
	c.Flags().String("agent-id", "", "agent_id (default: hook- and digits of its key)")
	c.Flags().String("key", "", "the agent's key file (default: a new one in the folder)")
	c.Flags().String("owner", "", "who answers for the agent, where it is registered (default: its agent_id)")
	c.Flags().String("operator-key", "", "key file of an operator of the region, to register the agent")
	c.Flags().String("offline", "", "where no node answers: closed (default) or local")
	c.Flags().String("record", "", "what of inputs and results is recorded: digest (default) or full")
	c.Flags().String("judge", "", "who reads the text of calls: auto (default), node or local")
	c.Flags().String("on-pass", "", "what the CLI is told of a call that passes: defer (default) or allow")
	c.Flags().String("scope", "", "directory outside of which nothing may be written")
	c.Flags().Bool("no-failures", false, "leave out the event PostToolUseFailure, for versions of the CLI that do not know it")
	return c
}

// hookConfig is the configuration there is, changed as the command line says. kept are the options that were set otherwise before
// than by default, and stay so: a home may be another's work.
func hookConfig(cmd *cobra.Command, s *hook.Settings) (cfg hook.Config, kept []string, err error) {
	cfg = hook.Defaults()
	otherwise := cfg
	if h, err := hook.Open(s.Home); err == nil {
		cfg = h.Config
	} else if !errors.Is(err, hook.ErrNoHome) {
		return cfg, nil, err
	}
	for _, o := range []struct {
		name      string
		into      *string
		otherwise string
	}{{"agent-id", &cfg.AgentID, cfg.AgentID}, {"key", &cfg.Key, otherwise.Key}, {"offline", &cfg.Offline, otherwise.Offline}, {"record", &cfg.Record, otherwise.Record},
		{"judge", &cfg.Judge, otherwise.Judge}, {"on-pass", &cfg.OnPass, otherwise.OnPass}, {"scope", &cfg.Scope, otherwise.Scope}} {
		f := cmd.Flags().Lookup(o.name)
		if !f.Changed {
			if *o.into != o.otherwise {
				kept = append(kept, "--"+o.name+" "+*o.into)
			}
			continue
		}
		*o.into = f.Value.String()
		if (o.name == "key" || o.name == "scope") && *o.into != "" {
			path, err := filepath.Abs(*o.into)
			if err != nil {
				return cfg, nil, err
			}
			*o.into = path
		}
	}
	nodes, err := targets(cmd)
	if err != nil {
		return cfg, nil, err
	}
	if isMultiaddr(nodes) {
		return cfg, nil, usagef("--node %s: the hook speaks HTTP: give the node's URL", nodes[0])
	}
	cfg.Nodes = nodes
	return cfg, kept, nil
}

// installed is what `bizra hook install --json` prints.
type installed struct {
	Home       string   `json:"home"`
	Settings   string   `json:"settings"`
	Program    string   `json:"program"`
	AgentID    string   `json:"agent_id"`
	PublicKey  string   `json:"public_key"`
	Registered bool     `json:"registered"`
	Kept       []string `json:"kept"`   // options of an earlier installation that stay, and are not the default
	Advice     []string `json:"advice"` // what is still to be done
}

func runHookInstall(cmd *cobra.Command, _ []string) error {
	s, err := hookSettings(cmd)
	if err != nil {
		return err
	}
	if s.NoFailures, err = cmd.Flags().GetBool("no-failures"); err != nil {
		return err
	}
	cfg, kept, err := hookConfig(cmd, s)
	if err != nil {
		return err
	}
	was, werr := hook.Open(s.Home)
	h, err := hook.Create(s.Home, cfg)
	if err != nil {
		return err
	}
	key, err := h.Key()
	if err != nil {
		return err
	}
	done := installed{Home: s.Home, Settings: s.File(), Program: s.Program, AgentID: h.Config.AgentID, PublicKey: federation.Key(key.Public()).String(), Kept: append([]string{}, kept...), Advice: []string{}}
	ctx, cancel := patiently(cmd, installWithin)
	defer cancel()
	if err := done.register(ctx, cmd, h); err != nil {
		if werr == nil { // what worked goes on as it was
			_, werr = hook.Create(s.Home, was.Config)
			err = errors.Join(err, werr)
		}
		return err
	}
	if err := s.Install(); err != nil {
		return err
	}
	return show(cmd, done, done.writeTo)
}

// register makes the agent known to the region, where that takes an operator and one is there.
func (d *installed) register(ctx context.Context, cmd *cobra.Command, h *hook.Home) error {
	c, err := dial(cmd, readRetriesMax)
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := h.Learn(ctx)
	if err != nil {
		if cmd.Flags().Lookup("operator-key").Value.String() != "" {
			return explained(cmd, err)
		}
		d.Advice = append(d.Advice, fmt.Sprintf("no node answers at %v, so that every tool call is denied until one does", h.Config.Nodes))
		return nil
	}
	a, err := c.Agent(ctx, d.AgentID)
	switch {
	case err == nil && a.PublicKey != d.PublicKey:
		return fmt.Errorf("the region knows an agent %q with another key: choose another --agent-id, or give its key with --key", d.AgentID)
	case err == nil:
		d.Registered = true
		return nil
	case !errors.Is(err, client.ErrNotFound):
		return err
	}
	if cmd.Flags().Lookup("operator-key").Value.String() != "" {
		owner := cmd.Flags().Lookup("owner").Value.String()
		if owner == "" {
			owner = d.AgentID
		}
		_, err := operate(ctx, cmd, c, "agent.register", map[string]any{"agent_id": d.AgentID, "agent_type": pci.AgentPAT, "owner": owner, "public_key": d.PublicKey})
		d.Registered = err == nil
		return err
	}
	if !opensRegistration(p) {
		d.Advice = append(d.Advice, fmt.Sprintf("have an operator register the agent: bizra agent register --operator-key FILE --id %s --owner OWNER --public-key %s", d.AgentID, d.PublicKey))
	}
	return nil
}

// opensRegistration reports whether the first accepted proof of an agent registers it.
func opensRegistration(p *client.Policy) bool {
	law, err := constitution.ParseCanonical(p.Constitution)
	return err == nil && law.Limits.OpenRegistration
}

func (d installed) writeTo(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "agent %s, key %s\n%s runs %s\nwhat the hook knows is in %s\n", d.AgentID, d.PublicKey, d.Settings, d.Program, d.Home); err != nil {
		return err
	}
	for _, k := range d.Kept {
		if _, err := fmt.Fprintf(w, "kept from before: %s\n", k); err != nil {
			return err
		}
	}
	for _, a := range d.Advice {
		if _, err := fmt.Fprintf(w, "still to do: %s\n", a); err != nil {
			return err
		}
	}
	return nil
}

func newHookUninstallCommand() *cobra.Command {
	c := &cobra.Command{Use: "uninstall --project DIR", Short: "Take the hook out of a project's settings", Args: takes(),
		Long: `uninstall takes the hook out of the CLI's settings; where nothing else was changed since, the file is as it was before. The
folder .bizra stays: it holds the agent's key, the salts, and what may still wait to be submitted.`,
		Example: "  bizra hook uninstall --project .",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := hookSettings(cmd)
			if err != nil {
				return err
			}
			if err := s.Uninstall(); err != nil {
				return err
			}
			return show(cmd, map[string]string{"settings": s.File(), "home": s.Home}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s does not run the hook any more; %s stays\n", s.File(), s.Home)
				return err
			})
		}}
	addSettingsFlags(c)
	return c
}
