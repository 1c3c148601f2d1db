package region

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// Putting a received snapshot in place, step by step; each step is durable before the next begins.
//
//	1  the state machine is closed
//	2  snapshots/swap names the incoming snapshot: from here on the swap is finished, whatever happens
//	3  state -> snapshots/replaced
//	4  snapshots/incoming-ID -> state
//	5  snapshots/pointer = snapshots/incoming-ID.pointer
//	6  snapshots/swap is removed
//	7  what is left over is removed
//
// A crash before 2 leaves the old state and its pointer; the incoming snapshot is dropped at start-up. A crash after 2 is finished
// at start-up, before Raft starts. The pointer is never ahead of the state: 5 comes after 4.

// openSnapshots finishes or drops what a crash interrupted and reads the pointer.
func openSnapshots(s *snapshots) error {
	s.incoming = make(map[string]*pointer)
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(s.dir, dirMode); err != nil {
		return fmt.Errorf("make the snapshot directory: %w", err)
	}
	id, err := os.ReadFile(s.path(swapName))
	switch {
	case err == nil:
		s.logger.Info("finishing the swap of a received snapshot", "id", string(id))
		if err := s.finishSwap(string(id)); err != nil {
			return fmt.Errorf("finish the swap of snapshot %s: %w", id, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the mark of an interrupted swap: %w", err)
	}
	if err := s.clean(); err != nil {
		return err
	}
	current, err := readPointer(s.path(pointerName))
	s.mu.Lock() // who asks for the status may do so already
	defer s.mu.Unlock()
	s.current = current
	return err
}

// SwapUnfinished says whether a received snapshot is only half in place in a home: its state folder may then be the old one, the
// new one or missing. The next start of the voter finishes it.
func SwapUnfinished(home string) (bool, error) {
	return exists(filepath.Join(home, snapshotsName, swapName))
}

// clean removes what no swap needs.
func (s *snapshots) clean() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list the snapshot directory: %w", err)
	}
	for _, e := range entries {
		if leftover(e.Name()) {
			if err := s.disk.remove(s.path(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// swap puts a received snapshot in place of the state, whose machine is closed.
func (s *snapshots) swap(id string) error {
	s.mu.Lock()
	_, ok := s.incoming[id]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("there is no received snapshot %s", id)
	}
	if err := s.disk.remove(s.path(replacedName)); err != nil {
		return err
	}
	if err := s.disk.write(s.path(swapName), []byte(id)); err != nil {
		return err
	}
	if err := s.finishSwap(id); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.incoming, id)
	s.mu.Unlock()
	// Copies on their way out are in use; everything else that is left over belongs to this swap.
	return errors.Join(s.disk.remove(s.path(replacedName)), s.disk.remove(s.path(incomingPrefix+id+"."+pointerName)))
}

// finishSwap does steps 3 to 6, or what is left of them.
func (s *snapshots) finishSwap(id string) error {
	if id == "" || strings.ContainsAny(id, "/\\") {
		return fmt.Errorf("the mark of an interrupted swap names %q", id)
	}
	incoming := s.path(incomingPrefix + id)
	p, err := readPointer(incoming + "." + pointerName)
	if err != nil {
		return err
	}
	if p == nil {
		return errors.New("its pointer is missing: the home is damaged: restore it, or replace this voter (bizra voter replace)")
	}
	waiting, err := exists(incoming)
	if err != nil {
		return err
	}
	if waiting {
		if err := s.replaceState(incoming); err != nil {
			return err
		}
	}
	if err := s.point(p); err != nil {
		return err
	}
	return s.disk.remove(s.path(swapName))
}

func (s *snapshots) replaceState(incoming string) error {
	old, err := exists(s.stateDir)
	if err != nil {
		return err
	}
	if old {
		if err := s.disk.remove(s.path(replacedName)); err != nil {
			return err
		}
		if err := s.disk.rename(s.stateDir, s.path(replacedName)); err != nil {
			return err
		}
	}
	return s.disk.rename(incoming, s.stateDir)
}
