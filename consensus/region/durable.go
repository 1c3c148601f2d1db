package region

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Permissions of what a home holds: the ledger is nobody's business but the node's.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// disk does the steps that have to survive a crash. Each one names itself to the hook first, by which a test stops the work at
// any of them.
type disk struct{ hook func(step string) error }

func (d *disk) step(format string, args ...any) error {
	if d.hook == nil {
		return nil
	}
	return d.hook(fmt.Sprintf(format, args...))
}

// write makes a file appear whole or not at all, and durable: temporary file, sync, rename, sync of the directory.
func (d *disk) write(path string, content []byte) error {
	name := filepath.Base(path)
	if err := d.step("write %s", name); err != nil {
		return err
	}
	temp := path + tempSuffix
	if err := writeSynced(temp, content); err != nil {
		return fmt.Errorf("write %s: %w", temp, err)
	}
	if err := d.step("rename %s into place", name); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("put %s in place: %w", name, err)
	}
	return d.sync(filepath.Dir(path))
}

const tempSuffix = ".tmp"

func writeSynced(path string, content []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode) //nolint:gosec // the path is the home's own
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// sync makes the names in a directory durable.
func (d *disk) sync(dir string) error {
	if err := d.step("sync %s", filepath.Base(dir)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) (err error) {
	f, err := os.Open(dir) //nolint:gosec // the path is the home's own
	if err != nil {
		return fmt.Errorf("open %s to sync it: %w", dir, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// rename moves a file or a directory durably.
func (d *disk) rename(from, to string) error {
	if err := d.step("rename %s to %s", filepath.Base(from), filepath.Base(to)); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	// The new name first: a crash between the two leaves the entry twice, never not at all.
	if err := d.sync(filepath.Dir(to)); err != nil {
		return err
	}
	if filepath.Dir(from) == filepath.Dir(to) {
		return nil
	}
	return d.sync(filepath.Dir(from))
}

// remove deletes a file or a directory with all it holds, durably. What does not exist is removed.
func (d *disk) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.step("remove %s", filepath.Base(path)); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return d.sync(filepath.Dir(path))
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("look for %s: %w", path, err)
	}
}
