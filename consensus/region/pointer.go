package region

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"
)

// Limits of a pointer.
const (
	pointerVersion      = 1
	pointerBytesMax     = 64 << 10
	pointerServersMax   = 64
	pointerServerIDsMax = 256 // bytes of an ID or an address
)

// pointer is a snapshot: not a copy of the state but the statement that the state store, made durable, is at least this far.
type pointer struct {
	Index              uint64 // the last Raft index that the snapshot covers
	Term               uint64
	Configuration      raft.Configuration
	ConfigurationIndex uint64
	Applied            uint64 // the state machine's own index; below Index by what it never sees (barriers, configurations)
	StateBytes         int64  // size of the state store on disk, roughly
}

type pointerCBOR struct {
	_                  struct{} `cbor:",toarray"`
	Index, Term        uint64
	Servers            []serverCBOR
	ConfigurationIndex uint64
	Applied            uint64
	StateBytes         int64
}

type serverCBOR struct {
	_        struct{} `cbor:",toarray"`
	Suffrage uint8
	ID       string
	Address  string
}

func pointerModes() (cbor.EncMode, cbor.DecMode, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, nil, fmt.Errorf("set up CBOR encoding: %w", err)
	}
	dec, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4,
		MaxArrayElements: pointerServersMax, MaxMapPairs: 16, UTF8: cbor.UTF8RejectInvalid}.DecMode()
	if err != nil {
		return nil, nil, fmt.Errorf("set up CBOR decoding: %w", err)
	}
	return enc, dec, nil
}

// encode writes the pointer: version byte, CBOR, SHA-256 of both.
func (p *pointer) encode() ([]byte, error) {
	enc, _, err := pointerModes()
	if err != nil {
		return nil, err
	}
	c := pointerCBOR{Index: p.Index, Term: p.Term, ConfigurationIndex: p.ConfigurationIndex, Applied: p.Applied, StateBytes: p.StateBytes}
	for _, s := range p.Configuration.Servers {
		c.Servers = append(c.Servers, serverCBOR{Suffrage: uint8(s.Suffrage), ID: string(s.ID), Address: string(s.Address)}) //nolint:gosec // three values
	}
	body, err := enc.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode a snapshot pointer: %w", err)
	}
	b := append([]byte{pointerVersion}, body...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

func decodePointer(b []byte) (*pointer, error) {
	if len(b) < 1+sha256.Size || len(b) > pointerBytesMax {
		return nil, fmt.Errorf("a snapshot pointer of %d bytes", len(b))
	}
	if b[0] != pointerVersion {
		return nil, fmt.Errorf("snapshot pointer version %d is not known to this program, which knows version %d", b[0], pointerVersion)
	}
	body, stored := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], stored) {
		return nil, errors.New("the snapshot pointer's checksum does not fit: the file is damaged")
	}
	_, dec, err := pointerModes()
	if err != nil {
		return nil, err
	}
	var c pointerCBOR
	if err := dec.Unmarshal(body[1:], &c); err != nil {
		return nil, fmt.Errorf("decode a snapshot pointer: %w", err)
	}
	p := &pointer{Index: c.Index, Term: c.Term, ConfigurationIndex: c.ConfigurationIndex, Applied: c.Applied, StateBytes: c.StateBytes}
	for _, s := range c.Servers {
		p.Configuration.Servers = append(p.Configuration.Servers,
			raft.Server{Suffrage: raft.ServerSuffrage(s.Suffrage), ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)})
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pointer) validate() error {
	switch {
	case p.Index == 0 || p.Term == 0:
		return fmt.Errorf("a snapshot pointer at index %d, term %d", p.Index, p.Term)
	case p.Applied > p.Index:
		return fmt.Errorf("a snapshot pointer at index %d claims the state at %d", p.Index, p.Applied)
	case p.ConfigurationIndex > p.Index:
		return fmt.Errorf("a snapshot pointer at index %d with the configuration of %d", p.Index, p.ConfigurationIndex)
	case p.StateBytes < 0:
		return fmt.Errorf("a snapshot pointer with a state of %d bytes", p.StateBytes)
	case len(p.Configuration.Servers) == 0:
		return errors.New("a snapshot pointer without servers")
	}
	for _, s := range p.Configuration.Servers {
		if len(s.ID) == 0 || len(s.ID) > pointerServerIDsMax || len(s.Address) > pointerServerIDsMax || s.Suffrage > raft.Staging {
			return fmt.Errorf("a snapshot pointer with the server %q", printable([]byte(s.ID)))
		}
	}
	return nil
}

func (p *pointer) meta(id string, size int64) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{Version: 1, ID: id, Index: p.Index, Term: p.Term, Configuration: p.Configuration.Clone(),
		ConfigurationIndex: p.ConfigurationIndex, Size: size}
}

// readPointer reads a pointer file; nil if there is none.
func readPointer(path string) (*pointer, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the path is the home's own
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the snapshot pointer: %w", err)
	}
	p, err := decodePointer(b)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot pointer %s: %w", path, err)
	}
	return p, nil
}
