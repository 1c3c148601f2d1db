//detlint:allow io a key file is the operator's; no command of the state machine reads one
//detlint:allow rand a new key has to be random; no command of the state machine makes one
package pci

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// KeyFileBytesMax bounds a key file; an Ed25519 key takes 119 bytes.
const KeyFileBytesMax = 4096

const (
	keyFileMode    os.FileMode = 0o600
	keyFileOthers  os.FileMode = 0o077
	pemTypePrivate             = "PRIVATE KEY"
	redacted                   = "pci.PrivateKey(redacted)"
)

// PrivateKey is an Ed25519 key that is never printed: fmt, encoding/json and
// log/slog show that it is a key and nothing more. It comes from [GenerateKey],
// [NewKeyFromSeed] or [LoadKey]; a zero one signs nothing and panics.
type PrivateKey struct {
	// A function, because fmt calls no methods on the unexported field of another
	// struct. It shows the address of a function then; of a pointer, with a verb
	// that does not fit, it shows what that points to.
	secret func() ed25519.PrivateKey
}

func newKey(key ed25519.PrivateKey) *PrivateKey {
	return &PrivateKey{func() ed25519.PrivateKey { return key }}
}

// GenerateKey draws a new key.
func GenerateKey() (*PrivateKey, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("drawing a key: %w", err)
	}
	return NewKeyFromSeed(seed), nil
}

// NewKeyFromSeed returns the key of an RFC 8032 seed.
func NewKeyFromSeed(seed [32]byte) *PrivateKey {
	return newKey(ed25519.NewKeyFromSeed(seed[:]))
}

// Public returns the public key.
func (k *PrivateKey) Public() [32]byte {
	return [32]byte(k.secret()[ed25519.SeedSize:])
}

// Seed returns the RFC 8032 seed, which is the secret itself.
func (k *PrivateKey) Seed() [32]byte {
	return [32]byte(k.secret()[:ed25519.SeedSize])
}

// Sign returns the Ed25519 signature of msg; the same key and msg give the same one.
func (k *PrivateKey) Sign(msg []byte) [64]byte {
	return [64]byte(ed25519.Sign(k.secret(), msg))
}

// LoadKey reads a key file in PKCS #8 PEM. It refuses a file that others than its
// owner may read or write, and anything that is not an Ed25519 key.
func LoadKey(path string) (*PrivateKey, error) {
	key, err := loadKey(path)
	if err != nil {
		return nil, fmt.Errorf("reading key file %s: %w", path, err)
	}
	return key, nil
}

func loadKey(path string) (*PrivateKey, error) {
	// Before opening, for opening a named pipe would wait for a writer.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if others := info.Mode().Perm() & keyFileOthers; others != 0 {
		return nil, fmt.Errorf("its mode is %04o, so others may use the key: run chmod 600 %s", info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, KeyFileBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > KeyFileBytesMax {
		return nil, fmt.Errorf("it has more than %d bytes", KeyFileBytesMax)
	}
	return parseKey(text)
}

// parseKey reads what a key file holds.
func parseKey(text []byte) (*PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemTypePrivate || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("it must hold one PEM block of type %s and nothing after it", pemTypePrivate)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// The parser's error could quote what it read.
		return nil, errors.New("its PEM block is no PKCS #8 key")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it holds a key of another kind than Ed25519 (%T)", parsed)
	}
	return newKey(key), nil
}

// Save writes the key to a new file that only its owner may read, and returns when
// the file and its name are durable. It never overwrites a file.
func (k *PrivateKey) Save(path string) error {
	der, err := x509.MarshalPKCS8PrivateKey(k.secret())
	if err != nil {
		return fmt.Errorf("encoding the key for %s: %w", path, err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemTypePrivate, Bytes: der})
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, keyFileMode) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("creating key file: %w", err)
	}
	if err := writeDurably(f, text); err != nil {
		// Half a key file would only block the next attempt.
		return errors.Join(fmt.Errorf("writing key file %s: %w", path, err), os.Remove(path))
	}
	return nil
}

func writeDurably(f *os.File, text []byte) error {
	_, err := f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// String returns a fixed text instead of the key.
func (PrivateKey) String() string { return redacted }

// GoString returns a fixed text instead of the key.
func (PrivateKey) GoString() string { return redacted }

// Format writes a fixed text instead of the key, whatever the verb.
func (PrivateKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalJSON returns a fixed text instead of the key.
func (PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns a fixed text instead of the key.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns a fixed text instead of the key.
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }
