package hook

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bizra/bizra/pci"
)

// What is in a home.
const (
	FileConfig  = "hook.json"
	FileKey     = "agent.key"
	FileLog     = "log.ndjson"
	filePolicy  = "policy.json"
	fileMemory  = "memory.json"
	fileID      = "id"
	fileIgnore  = ".gitignore"
	dirOutbox   = "outbox"
	dirAside    = "aside"    // items that no region will ever take
	dirPending  = "pending"  // calls that were let pass and have no result yet
	dirSessions = "sessions" // what is known of the CLI's sessions
	dirHeads    = "heads"    // where the ledger's sessions stand
	dirSalts    = "salts"
	lockAppend  = "append.lock"
	lockDrain   = "drain.lock"
)

const homeIDBytes = 4

// ErrNoHome is returned, wrapped, where a folder is not set up.
var ErrNoHome = errors.New("the hook is not set up here: run `bizra hook install`")

// Home is a folder with all that the hook of a project knows. Any number of processes may
// use it at once.
type Home struct {
	Dir    string
	Config Config
	id     string // tells sessions of this home from those of others
	key    *pci.PrivateKey

	reached func(point string) // in tests: told each point at which a crash is to be survived
}

// Create makes a home with a configuration and, where there is none, an agent's key. What is
// there already stays, but for the configuration.
func Create(dir string, cfg Config) (*Home, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make the hook's home: %w", err)
	}
	cfg = cfg.withDefaults()
	keyPath := cfg.keyPath(dir)
	key, err := pci.LoadKey(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = pci.GenerateKey(); err == nil {
			err = key.Save(keyPath)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the agent's key: %w", err)
	}
	if cfg.AgentID == "" {
		cfg.AgentID = AgentIDOf(key)
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("the hook's configuration: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileID)); errors.Is(err, fs.ErrNotExist) {
		id := make([]byte, homeIDBytes)
		_, _ = rand.Read(id) // it never fails
		if err := writeDurably(filepath.Join(dir, fileID), []byte(hex.EncodeToString(id)+"\n")); err != nil {
			return nil, err
		}
	}
	// Secrets must not be committed with the project.
	if err := writeDurably(filepath.Join(dir, fileIgnore), []byte("*\n")); err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(dir, FileConfig), cfg, true); err != nil {
		return nil, err
	}
	return Open(dir)
}

// AgentIDOf names an agent by its key, where nobody gave it a name.
func AgentIDOf(key *pci.PrivateKey) string {
	public := key.Public()
	return "hook-" + hex.EncodeToString(public[:8])
}

// Open opens a home.
func Open(dir string) (*Home, error) {
	text, err := readOwn(filepath.Join(dir, FileConfig))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (%s is missing)", ErrNoHome, filepath.Join(dir, FileConfig))
	}
	if err != nil {
		return nil, fmt.Errorf("read the hook's configuration: %w", err)
	}
	h := &Home{Dir: dir, reached: func(string) {}}
	if h.Config, err = parseConfig(text); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, FileConfig), err)
	}
	id, err := readBounded(h.path(fileID))
	if err != nil || len(id) < 2*homeIDBytes {
		return nil, fmt.Errorf("%w: its id cannot be read: %w", ErrNoHome, err)
	}
	h.id = string(id[:2*homeIDBytes])
	for _, sub := range []string{dirOutbox, dirAside, dirPending, dirSessions, dirHeads, dirSalts} {
		if err := ownFolder(h.path(sub)); err != nil {
			return nil, fmt.Errorf("open the hook's home: %w", err)
		}
	}
	return h, nil
}

// ownFolder makes a folder of the home. A link in its place, such as a project that somebody else made may have, would
// lead what is written out of the home.
func ownFolder(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.MkdirAll(path, dirMode)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder: remove it", path)
	}
	return nil
}

func (h *Home) path(parts ...string) string {
	return filepath.Join(append([]string{h.Dir}, parts...)...)
}

// Key is the agent's key; a decision needs none, so it is read when it is first asked for.
func (h *Home) Key() (*pci.PrivateKey, error) {
	if h.key != nil {
		return h.key, nil
	}
	key, err := pci.LoadKey(h.Config.keyPath(h.Dir))
	if err != nil {
		return nil, fmt.Errorf("the agent's key: %w", err)
	}
	h.key = key
	return key, nil
}
