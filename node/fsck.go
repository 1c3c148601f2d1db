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
	err = report.fsck(ctx, fsm.Config{Region: h.Identity.Region, Own: h.Document}, scratch, progress)
	return report, err
}

// FsckCopy does for the copy of another region's ledger what [Fsck] does for the node's own.
// A copy that is not sound is discarded by deleting its folder: the node builds it anew.
func FsckCopy(ctx context.Context, home, regionName, scratch string, progress fsm.Progress) (report FsckReport, err error) {
	h, err := OpenHome(home)
	if err != nil {
		return report, err
	}
	if h.Document == nil {
		return report, fmt.Errorf("fsck: %s has no federation document yet, so that it holds no copy of another region: start its node once with --join", home)
	}
	if _, known := h.Document.Region(regionName); !known || regionName == h.Identity.Region {
		return report, fmt.Errorf("fsck: the federation document has no other region %q, of which %s could hold a copy", regionName, home)
	}
	report.Home, report.Folder = home, h.path(copyFolder(regionName))
	err = report.fsck(ctx, fsm.Config{Region: regionName, Own: h.Document}, scratch, progress)
	return report, err
}

func (report *FsckReport) fsck(ctx context.Context, cfg fsm.Config, scratch string, progress fsm.Progress) (err error) {
	if _, err := os.Stat(report.Folder); err != nil {
		return fmt.Errorf("fsck: %s does not exist, so there is no state yet: %w", report.Folder, err)
	}
	st, err := pebblestore.Open(report.Folder, pebblestore.Options{})
	if errors.Is(err, pebblestore.ErrLocked) {
		return fmt.Errorf("fsck: the node of %s is running; stop it first: %w", report.Home, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	dir, err := os.MkdirTemp(scratch, "bizra-fsck-")
	if err != nil {
		return fmt.Errorf("fsck: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	again, err := pebblestore.Open(filepath.Join(dir, "state"), pebblestore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, again.Close()) }()
	if err := fsm.Check(ctx, st, cfg, progress); err != nil {
		return fmt.Errorf("fsck: %w", err)
	}
	if report.Applied, err = appliedIndex(st, cfg.Region); err != nil {
		return err
	}
	if report.Rederived, err = fsm.Rederive(ctx, st, again, cfg, progress); err != nil {
		return fmt.Errorf("fsck: %w", err)
	}
	return nil
}
