package sim

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm/store"
)

// backup is what a node's disk held, small files and all, but for copies of other regions' ledgers.
type backup struct {
	log    *raft.InmemStore
	states map[string]*store.Memory
	files  string // a folder with them
}

// stableKeys are what Raft keeps beside its log.
func stableKeys() (numbers, values []string) {
	return []string{"CurrentTerm", "LastVoteTerm"}, []string{"LastVoteCand"}
}

// copyLog copies Raft's log and votes.
func copyLog(from *raft.InmemStore) (*raft.InmemStore, error) {
	to := raft.NewInmemStore()
	first, err := from.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := from.LastIndex()
	if err != nil {
		return nil, err
	}
	for i := max(1, first); i <= last; i++ {
		log := new(raft.Log)
		if err := from.GetLog(i, log); err != nil {
			return nil, fmt.Errorf("copy log entry %d: %w", i, err)
		}
		if err := to.StoreLog(log); err != nil {
			return nil, err
		}
	}
	numbers, values := stableKeys()
	for _, k := range numbers {
		if n, err := from.GetUint64([]byte(k)); err == nil {
			if err := to.SetUint64([]byte(k), n); err != nil {
				return nil, err
			}
		}
	}
	for _, k := range values {
		if v, err := from.Get([]byte(k)); err == nil {
			if err := to.Set([]byte(k), v); err != nil {
				return nil, err
			}
		}
	}
	return to, nil
}

// forgetCopies drops the copies of other regions' ledgers, which are made anew from those.
func (d *disk) forgetCopies() {
	d.mu.Lock()
	list := d.copies
	d.copies = make(map[string]standing)
	d.mu.Unlock()
	for _, c := range list {
		c.history.leave(c.at)
	}
}

// backup copies the disk of a node that is down.
func (n *Node) backup() (*backup, error) {
	n.ended.Wait()
	if n.Running() != nil {
		return nil, fmt.Errorf("sim: back up %s: it is up", n.Name())
	}
	log, err := copyLog(n.disk.log)
	if err != nil {
		return nil, fmt.Errorf("sim: back up %s: %w", n.Name(), err)
	}
	b := &backup{log: log, states: maps.Clone(n.disk.states), files: filepath.Join(n.world.cfg.Dir, "backup-of-"+n.Name())}
	return b, errors.Join(os.RemoveAll(b.files), os.CopyFS(b.files, os.DirFS(n.dir)))
}

// restore has a node that is down have what it had when it was backed up.
func (n *Node) restore(b *backup) error {
	n.ended.Wait()
	if n.Running() != nil {
		return fmt.Errorf("sim: restore %s: it is up", n.Name())
	}
	n.disk.log, n.disk.states = b.log, b.states
	n.disk.forgetCopies()
	return errors.Join(os.RemoveAll(n.dir), os.CopyFS(n.dir, os.DirFS(b.files)))
}
