package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

// Names of the files of a home. The folders of Raft and of the state are consensus/region's.
const (
	FileNode         = "node.json"         // which node this is
	FileNodeKey      = "node.key"          // its identity
	FileLogKey       = "region-log.key"    // the region's, on its voters
	FileCosignKey    = "region-cosign.key" // the region's, on its voters
	FileDocument     = "federation.json"
	FileInvitation   = "invitation.json"    // of a member
	FileFounding     = "founding"           // of a founding voter that has not voted yet
	FilePeers        = "peers.json"         // address book
	filePastDocument = "federation-%d.json" // one that came before FileDocument, by its version
	folderFollow     = "follow"             // a member's copy of the state
	folderState      = "state"              // a voter's state
	folderRaft       = "raft"               // a voter's Raft log and votes
)

const homeVersion = 1

// Identity says which node a home belongs to.
type Identity struct {
	Version int    `json:"v"`
	Name    string `json:"name"`
	Region  string `json:"region"`
	Role    string `json:"role"` // RoleVoter or RoleMember: what it was made as
}

// Roles of a home.
const (
	RoleVoter  = "voter"
	RoleMember = "member"
)

// Home is a node's directory, read and checked.
type Home struct {
	Dir      string
	Identity Identity
	NodeKey  *pci.PrivateKey
	// LogKey and CosignKey are nil on a member.
	LogKey, CosignKey *pci.PrivateKey
	// Document is nil in a member's home that has not joined yet.
	Document *federation.Document
	// Invitation is nil where the document lists the node.
	Invitation []byte
}

// ErrNoHome is returned for a directory that is no home.
var ErrNoHome = errors.New("not a node's home")

func (h *Home) path(name string) string { return filepath.Join(h.Dir, name) }

// OpenHome reads a home and checks that its parts belong together.
func OpenHome(dir string) (*Home, error) {
	h := &Home{Dir: dir}
	b, err := readFile(h.path(FileNode))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no %s; `bizra federation new` makes the homes of voters, `bizra federation invite` that of a member", ErrNoHome, dir, FileNode)
	}
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	if h.Identity, err = parseIdentity(b); err != nil {
		return nil, fmt.Errorf("open home: %s: %w", h.path(FileNode), err)
	}
	if h.NodeKey, err = pci.LoadKey(h.path(FileNodeKey)); err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	if err := h.loadOptional(); err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	return h, nil
}

// parseIdentity reads what FileNode holds.
func parseIdentity(text []byte) (id Identity, err error) {
	if err := json.Unmarshal(text, &id); err != nil {
		return Identity{}, fmt.Errorf("it is damaged: %w", err)
	}
	if id.Version != homeVersion {
		return Identity{}, fmt.Errorf("it is of version %d and this program knows version %d: a newer bizra may read it", id.Version, homeVersion)
	}
	return id, nil
}

func (h *Home) loadOptional() (err error) {
	for name, key := range map[string]**pci.PrivateKey{FileLogKey: &h.LogKey, FileCosignKey: &h.CosignKey} {
		if *key, err = pci.LoadKey(h.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	b, err := readFile(h.path(FileDocument))
	if err == nil {
		h.Document, err = federation.Parse(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", h.path(FileDocument), err)
	}
	h.Invitation, err = readFile(h.path(FileInvitation))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (h *Home) check() error {
	if h.Document == nil {
		if h.Identity.Role == RoleVoter {
			return fmt.Errorf("open home: %s is missing, and a voter needs it: copy it from another node of the federation", h.path(FileDocument))
		}
		return nil
	}
	r, ok := h.Document.Region(h.Identity.Region)
	if !ok {
		return fmt.Errorf("open home: the federation document has no region %q, which %s names", h.Identity.Region, FileNode)
	}
	for _, k := range []struct {
		file string
		key  *pci.PrivateKey
		want federation.Key
	}{{FileLogKey, h.LogKey, r.LogKey}, {FileCosignKey, h.CosignKey, r.CosignKey}} {
		if k.key != nil && k.key.Public() != k.want {
			return fmt.Errorf("open home: %s is not the key that the federation document names for region %q", h.path(k.file), r.Name)
		}
	}
	if h.Votes() && (h.LogKey == nil || h.CosignKey == nil) {
		return fmt.Errorf("open home: a voter needs %s and %s", h.path(FileLogKey), h.path(FileCosignKey))
	}
	return nil
}

// Votes reports whether the node of this home takes part in Raft: it was founded as
// a voter, or was made one later.
func (h *Home) Votes() bool {
	if h.Identity.Role == RoleVoter {
		return true
	}
	_, err := os.Stat(h.path(folderRaft))
	return err == nil
}

// SaveDocument keeps the document that a member has fetched, or that has come in force. The
// one before it stays, in a file with its version in the name.
func (h *Home) SaveDocument(d *federation.Document) error {
	if was := h.Document; was != nil && was.Version != d.Version {
		if err := writeDurably(h.path(fmt.Sprintf(filePastDocument, was.Version)), append(was.Canonical(), '\n')); err != nil {
			return err
		}
	}
	if err := writeDurably(h.path(FileDocument), append(d.Canonical(), '\n')); err != nil {
		return err
	}
	h.Document = d
	return nil
}

// hasDocument reports whether the home's document, or one that came before it here, has this digest; a nil
// digest is any document's.
func (h *Home) hasDocument(digest *[32]byte) (bool, error) {
	if digest == nil || h.Document.Digest() == *digest {
		return true, nil
	}
	for version := h.Document.Version - 1; version > 0; version-- {
		b, err := readFile(h.path(fmt.Sprintf(filePastDocument, version)))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if federation.DigestOf(bytes.TrimSuffix(b, []byte{'\n'})) == *digest {
			return true, nil
		}
	}
	return false, nil
}

// SaveRegionKeys keeps the region's keys that the leader has handed over.
func (h *Home) SaveRegionKeys(log, cosign *pci.PrivateKey) error {
	for name, key := range map[string]*pci.PrivateKey{FileLogKey: log, FileCosignKey: cosign} {
		was, err := pci.LoadKey(h.path(name))
		if err == nil && was.Public() == key.Public() {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := key.Save(h.path(name)); err != nil {
			return err
		}
	}
	h.LogKey, h.CosignKey = log, cosign
	return nil
}

const homeFileBytesMax = federation.DocumentBytesMax + 1

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > homeFileBytesMax {
		return nil, fmt.Errorf("%s has %d bytes: at most %d", path, info.Size(), homeFileBytesMax)
	}
	return os.ReadFile(path) //nolint:gosec // a path below the home that the operator named
}

// writeDurably replaces a file so that after a crash there is the old or the new one.
func writeDurably(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the home
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
