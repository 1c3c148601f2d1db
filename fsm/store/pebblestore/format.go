package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	formatFileName     = "BIZRA-STORE"
	formatTempFileName = "BIZRA-STORE.tmp"
	lockFileName       = "LOCK"
	formatText         = "bizra-store 1\n"
	formatBytesMax     = 64
)

// ErrFormat is returned by Open for a directory of another format version, or that holds other things than a store.
var ErrFormat = errors.New("not a store that this version of bizra can open")

// checkFormat refuses a directory of another format, and marks one that holds nothing yet. The caller holds the lock.
func checkFormat(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	foreign := ""
	for _, name := range names {
		switch name {
		case formatFileName:
			return readFormat(fs, fs.PathJoin(dir, formatFileName))
		case formatTempFileName, lockFileName:
		default:
			foreign = name
		}
	}
	if foreign != "" {
		return fmt.Errorf("%w: it has no file %s but others, such as %s; name an empty directory or one that a store was made in", ErrFormat, formatFileName, foreign)
	}
	return writeFormat(fs, dir)
}

func readFormat(fs vfs.FS, path string) error {
	f, err := fs.Open(path)
	if err != nil {
		return fmt.Errorf("reading the format: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, formatBytesMax))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("reading the format: %w", err)
	}
	if string(b) != formatText {
		return fmt.Errorf("%w: its format is %q, want %q; run the version of bizra that wrote it", ErrFormat, strings.TrimSpace(string(b)), strings.TrimSpace(formatText))
	}
	return nil
}

// writeFormat puts the format file into dir so that a crash leaves all of it or nothing.
func writeFormat(fs vfs.FS, dir string) error {
	temp := fs.PathJoin(dir, formatTempFileName)
	f, err := fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("writing the format: %w", err)
	}
	_, err = f.Write([]byte(formatText))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing the format: %w", err)
	}
	if err := fs.Rename(temp, fs.PathJoin(dir, formatFileName)); err != nil {
		return fmt.Errorf("writing the format: %w", err)
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}

// makeDir makes dir and what is missing above it, durably.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := makeDir(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

// lockDir takes the directory's lock. The lock file itself not being writable is a path error; anything else says that
// someone holds it.
func lockDir(fs vfs.FS, dir string) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, fs)
	if err == nil {
		return lock, nil
	}
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return nil, fmt.Errorf("locking: %w", err)
	}
	return nil, fmt.Errorf("%w, by another bizra process or by this one (%w)", ErrLocked, err)
}
