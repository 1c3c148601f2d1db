package p2p

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm/federation"
)

// PeerID is the libp2p identity of the node with this Ed25519 public key. It fails
// only for bytes that libp2p does not take as a key.
func PeerID(key federation.Key) (peer.ID, error) {
	pub, err := crypto.UnmarshalEd25519PublicKey(key[:])
	if err != nil {
		return "", fmt.Errorf("node key %v: %w", key, err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("node key %v: %w", key, err)
	}
	return id, nil
}

// NodeKey is the Ed25519 public key in a peer ID. It fails for the IDs of other kinds
// of key: they have no place in a federation.
func NodeKey(id peer.ID) (federation.Key, error) {
	var key federation.Key
	pub, err := id.ExtractPublicKey()
	if err != nil {
		return key, fmt.Errorf("peer %v: its ID does not hold an Ed25519 key: %w", id, err)
	}
	raw, err := pub.Raw()
	if err != nil {
		return key, fmt.Errorf("peer %v: %w", id, err)
	}
	if pub.Type() != crypto.Ed25519 || len(raw) != ed25519.PublicKeySize {
		return key, fmt.Errorf("peer %v: its key is of type %v: nodes have Ed25519 keys", id, pub.Type())
	}
	copy(key[:], raw)
	return key, nil
}

// ParseNode reads a node's name as people write it: a peer ID (12D3KooW…) or 64
// hexadecimal digits of its Ed25519 public key.
func ParseNode(text string) (peer.ID, error) {
	if key, err := federation.ParseKey(text); err == nil {
		return PeerID(key)
	}
	id, err := peer.Decode(text)
	if err != nil {
		return "", fmt.Errorf("%q is neither a peer ID (12D3KooW…) nor a node key of 64 hexadecimal digits", clip(text))
	}
	if _, err := NodeKey(id); err != nil {
		return "", err
	}
	return id, nil
}

// hostKey is the libp2p key of a seed. The seed is wiped from the copy made here once
// libp2p holds its own.
func hostKey(seed [32]byte) (crypto.PrivKey, error) {
	private := ed25519.NewKeyFromSeed(seed[:])
	defer clear(private)
	key, err := crypto.UnmarshalEd25519PrivateKey(bytes.Clone(private))
	if err != nil {
		return nil, fmt.Errorf("node key for libp2p: %w", err)
	}
	return key, nil
}

const clipBytes = 120

// clip shortens foreign text for an error or a log line.
func clip(text string) string {
	if len(text) <= clipBytes {
		return text
	}
	return text[:clipBytes] + "…"
}
