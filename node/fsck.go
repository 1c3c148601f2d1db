package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store/pebblestore"
)

// FsckReport is what [Fsck] found in a home.
type FsckReport struct {
	Home    string
	Folder  string // the folder that was checked
	Applied uint64 // last Raft index, 0 on a member
	fsm.Rederived
}

// Fsck derives root, state and every session of a home again from the entries on its
// disk, and compares all of it. The node must not be running. It changes nothing in
// the home but what opening a store does, and works in a folder below scratch.
func Fsck(ctx context.Context, home, scratch string, progress fsm.Progress) (report FsckReport, err error) {
	h, err := OpenHome(home)
	if err != nil {
		return report, err
	}
	report.Home = home
	switch half, err := region.SwapUnfinished(home); {
	case err != nil:
		return report, fmt.Errorf("fsck: %w", err)
	case half:
		return report, fmt.Errorf("fsck: a snapshot that %s received is only half in place: start its node once, which finishes that, and check then", home)
	}
	report.Folder = h.path(folderState)
	if !h.Votes() {
		report.Folder = h.path(folderFollow)
	}
	if _, err := os.Stat(report.Folder); err != nil {
		return report, fmt.Errorf("fsck: %s holds no state yet: %w", home, err)
	}
	st, err := pebblestore.Open(report.Folder, pebblestore.Options{})
	if errors.Is(err, pebblestore.ErrLocked) {
		return report, fmt.Errorf("fsck: the node of %s is running; stop it first: %w", home, err)
	}
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	dir, err := os.MkdirTemp(scratch, "bizra-fsck-")
	if err != nil {
		return report, fmt.Errorf("fsck: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	again, err := pebblestore.Open(filepath.Join(dir, "state"), pebblestore.Options{})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, again.Close()) }()
	cfg := fsm.Config{Region: h.Identity.Region}
	if err := fsm.Check(ctx, st, cfg, progress); err != nil {
		return report, fmt.Errorf("fsck: %w", err)
	}
	if report.Applied, err = appliedIndex(st, cfg.Region); err != nil {
		return report, err
	}
	if report.Rederived, err = fsm.Rederive(ctx, st, again, cfg, progress); err != nil {
		return report, fmt.Errorf("fsck: %w", err)
	}
	return report, nil
}
