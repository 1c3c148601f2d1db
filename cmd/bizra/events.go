package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
)

func newEventsCommand() *cobra.Command {
	known := []string{client.EventReceipt, client.EventCertificate, client.EventLocal, client.EventAlarm}
	c := &cobra.Command{Use: "events", Short: "Tell what happens in a region as it happens", Args: takes(),
		Long: `events prints a line for every proof that becomes an entry, for every certificate, when the rest of
the federation is not heard any more or again, and for alarms about regions; with --json the
events as the node sends them. It goes on until it is interrupted, and takes up where it was
when a node goes away.`,
		Example: `  bizra events
  bizra events --from 0 --kind receipt --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var from client.EventsFrom
			if cmd.Flags().Changed("from") {
				index, err := cmd.Flags().GetInt64("from")
				if err != nil {
					return err
				}
				if index < 0 {
					return usagef("--from %d: the first entry has index 0", index)
				}
				from.Index = &index
			}
			kinds, err := cmd.Flags().GetStringSlice("kind")
			if err != nil {
				return err
			}
			for _, k := range kinds {
				if !slices.Contains(known, k) {
					return usagef("--kind %q: known are %s", k, strings.Join(known, ", "))
				}
			}
			from.Kinds = kinds
			count, err := cmd.Flags().GetInt("count")
			if err != nil {
				return err
			}
			if count < 0 {
				return usagef("--count %d: it must not be negative", count)
			}
			c, err := dial(cmd, submitRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			return printEvents(cmd, c, from, count)
		}}
	addNodeFlag(c)
	c.Flags().Int64("from", 0, "begin with the receipt of this entry (default: what comes now)")
	c.Flags().StringSlice("kind", nil, "only these kinds: "+strings.Join(known, ", ")+" (default: all)")
	c.Flags().Int("count", 0, "end after so many events (default: never)")
	return c
}

func printEvents(cmd *cobra.Command, c *client.Client, from client.EventsFrom, count int) error {
	out, seen := cmd.OutOrStdout(), 0
	for event, err := range c.Events(cmd.Context(), from) {
		if err != nil {
			if cmd.Context().Err() != nil {
				return nil // somebody has seen enough
			}
			return explained(cmd, err)
		}
		if err := printEvent(out, &event, asJSON(cmd)); err != nil {
			return err
		}
		if seen++; seen == count {
			return nil
		}
	}
	return errors.New("the stream of events ended")
}

func printEvent(out io.Writer, e *client.Event, raw bool) error {
	if raw {
		return json.NewEncoder(out).Encode(e)
	}
	var text string
	switch e.Kind {
	case client.EventReceipt:
		r := e.Receipt
		text = fmt.Sprintf("%s %d  %s by %s: %s", r.Time, e.Index, r.Action, r.AgentID, r.Name)
		if r.Session != "" {
			text += ", session " + r.Session
		}
		if r.State != "" {
			text += " is " + r.State
		}
	case client.EventCertificate:
		text = fmt.Sprintf("certificate of region %s: %d entries", e.Certificate.Region, e.Certificate.Size)
	case client.EventLocal:
		text = "other regions are heard again"
		if e.Local.Local {
			text = "LOCAL ONLY: no other region is heard; what is committed is attested later"
		}
	case client.EventAlarm:
		a := e.Alarm
		text = fmt.Sprintf("ALARM %s, region %s: %s", a.Kind, a.Region, a.Detail)
		if a.Over {
			text = fmt.Sprintf("over: alarm %s, region %s", a.Kind, a.Region)
		}
	}
	_, err := fmt.Fprintln(out, text)
	return err
}
