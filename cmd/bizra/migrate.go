package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/node"
)

func newMigrateCommand() *cobra.Command {
	log := &cobra.Command{Use: "log --home DIR --to wal|bolt", Short: "Move a voter's Raft log to another kind of store", Args: takes(),
		Long: `log moves the Raft log of a voter that is not running between bolt, one file, and a
write-ahead log, which writes less for each entry. The voter's votes and term stay in
bolt. The copy is read back and compared before it is used. If it is interrupted the
log is whole in one place or the other: start the node, or the command again.`,
		Example: "  bizra migrate log --home demo/eu-1 --to wal",
		RunE:    runMigrateLog}
	log.Flags().String("home", "", "the node's home")
	log.Flags().String("to", "", "wal or bolt")
	return group("migrate", "Change how a home keeps its data", "migrate changes how a home that is not in use keeps its data.",
		"  bizra migrate log --home demo/eu-1 --to wal", log)
}

func runMigrateLog(cmd *cobra.Command, _ []string) error {
	dir, err := need(cmd, "home", "name the node's home")
	if err != nil {
		return err
	}
	text, err := need(cmd, "to", "wal or bolt")
	if err != nil {
		return err
	}
	kind, err := region.ParseLogKind(text)
	if err != nil {
		return usagef("--to: %w", err)
	}
	if _, err := node.OpenHome(dir); err != nil {
		return err
	}
	bar := newProgress(cmd, "migrating", 100, false)
	moved, err := region.MigrateLog(cmd.Context(), dir, kind, slog.New(slog.DiscardHandler), func(done, total uint64) {
		bar.at(int64(100 * done / max(total, 1))) //nolint:gosec // at most 100
	})
	bar.done()
	if err != nil {
		return err
	}
	result := struct {
		Home  string         `json:"home"`
		Log   region.LogKind `json:"log"`
		Moved uint64         `json:"moved"`
	}{dir, kind, moved}
	return show(cmd, result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "the Raft log of %s is in %s: %d entries moved\n", dir, kind, moved)
		return err
	})
}
