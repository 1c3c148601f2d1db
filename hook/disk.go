package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	fileMode     = 0o600 // what is in a home concerns its owner alone
	dirMode      = 0o700
	fileBytesMax = 4 << 20
	lockPoll     = 2 * time.Millisecond
)

// writeDurably replaces a file so that after a crash there is the old or the new one, whole.
func writeDurably(path string, text []byte) error { return replace(path, text, true) }

// replace is writeDurably; not synced, the file survives the end of the process but perhaps not
// that of the machine.
func replace(path string, text []byte, synced bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(text)
	if err == nil && synced {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	if !synced {
		return nil
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec // a folder of the home
	if err != nil {
		return fmt.Errorf("make %s durable: %w", path, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("make %s durable: %w", path, err)
	}
	return nil
}

// removeDurably deletes a file; one that is not there is deleted.
func removeDurably(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no ordinary file", path) // a pipe would be waited for until the CLI goes on without an answer
	}
	if info.Size() > fileBytesMax {
		return nil, fmt.Errorf("%s has %d bytes, at most %d", path, info.Size(), fileBytesMax)
	}
	return os.ReadFile(path) //nolint:gosec // a file of the home
}

// readOwn reads a file that decides what the hook does or keeps secret. One that others can read was not made by this home: it came
// with a project, whose maker would then decide what its users' agents may do, or knows the secret.
func readOwn(path string) ([]byte, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s can be read by others (mode %04o): if you made it, run `chmod 600 %s`; if it came with the project, remove it", path, info.Mode().Perm(), path)
	}
	return text, err
}

// readJSON reads a file of the home; found is false where there is none.
func readJSON(path string, into any) (found bool, err error) {
	text, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}

// readIfWhole is readJSON for what is written without waiting for the disk. Where the machine failed since, it may be
// there in name only, and that is as good as not there.
func readIfWhole(path string, into any) (found bool, err error) {
	found, err = readJSON(path, into)
	if _, torn := errors.AsType[*json.SyntaxError](err); torn {
		return false, nil
	}
	return found, err
}

func writeJSON(path string, v any, synced bool) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return replace(path, append(text, '\n'), synced)
}

// lock is a lock between processes, which the system takes back from one that is killed.
type lock struct{ f *os.File }

// acquire waits for the lock until the context ends.
func acquire(ctx context.Context, path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, fileMode) //nolint:gosec // a file of the home
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return &lock{f}, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%w: %s: %w", errBusy, path, context.Cause(ctx)), f.Close())
		}
	}
}

// errBusy is matched where another process held a lock for as long as this one could wait.
var errBusy = errors.New("another hook process is at work")

func (l *lock) release() error {
	if err := l.f.Close(); err != nil { // which gives the lock back
		return fmt.Errorf("unlock %s: %w", l.f.Name(), err)
	}
	return nil
}
