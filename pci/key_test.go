package pci

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeySigns(t *testing.T) {
	// RFC 8032, 7.1, test 2.
	key := NewKeyFromSeed(fromHex(t, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
	if want := fromHex(t, "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"); key.Public() != want {
		t.Errorf("public key %x", key.Public())
	}
	const want = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
	if got := key.Sign([]byte{0x72}); hex.EncodeToString(got[:]) != want {
		t.Errorf("signature %x", got)
	}
}

func TestGenerateKey(t *testing.T) {
	a, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if a.Public() == b.Public() || a.Seed() == ([32]byte{}) {
		t.Error("two new keys are the same or empty")
	}
	if again := NewKeyFromSeed(a.Seed()); again.Public() != a.Public() {
		t.Error("the seed gives another key")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.key")
	key := NewKeyFromSeed([32]byte{9})
	if err := key.Save(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	loaded, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Seed() != key.Seed() || loaded.Public() != key.Public() {
		t.Error("another key came back")
	}
	if err := NewKeyFromSeed([32]byte{10}).Save(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("saving over a key: %v", err)
	}
	if again, err := LoadKey(path); err != nil || again.Seed() != key.Seed() {
		t.Errorf("the key was overwritten: %v", err)
	}
}

func TestKeyFileOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.key")
	if err := NewKeyFromSeed([32]byte{9}).Save(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o600, 0o400, 0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKey(path)
		if private := mode&0o077 == 0; private != (err == nil) {
			t.Errorf("mode %04o: %v", mode, err)
		} else if !private && !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %04o: the error does not say what to do: %v", mode, err)
		}
	}
}

func TestKeyFileFaults(t *testing.T) {
	dir := t.TempDir()
	valid := filepath.Join(dir, "valid")
	if err := NewKeyFromSeed([32]byte{9}).Save(valid); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(valid)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": nil, "text": []byte("secret"), "another kind": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"no PKCS8": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}), "another type": bytes.ReplaceAll(text, []byte("PRIVATE"), []byte("PUBLIC")),
		"two keys": append(bytes.Clone(text), text...), "cut": text[:len(text)/2], "too long": append(bytes.Clone(text), make([]byte, KeyFileBytesMax)...),
	} {
		path := filepath.Join(dir, "faulty")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(path); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	padded := append(bytes.Clone(text), bytes.Repeat([]byte("\n"), KeyFileBytesMax-len(text))...)
	if err := os.WriteFile(filepath.Join(dir, "padded"), padded, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(filepath.Join(dir, "padded")); err != nil {
		t.Errorf("a file of %d bytes: %v", KeyFileBytesMax, err)
	}
	if _, err := LoadKey(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := LoadKey(dir); err == nil {
		t.Error("a directory passed as a key file")
	}
	if err := NewKeyFromSeed([32]byte{9}).Save(filepath.Join(dir, "none", "key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("saving into no directory: %v", err)
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	key := NewKeyFromSeed(fromHex(t, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
	type hidden struct {
		key   *PrivateKey
		value PrivateKey
	}
	type shown struct {
		Key   *PrivateKey
		Value PrivateKey
	}
	var out bytes.Buffer
	for _, x := range []any{key, *key, hidden{key, *key}, &hidden{key, *key}, shown{key, *key}, []*PrivateKey{key}, map[string]PrivateKey{"k": *key}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%08b"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		text, err := json.Marshal(x)
		if err != nil {
			t.Errorf("%T in JSON: %v", x, err)
		}
		out.Write(text)
		for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(handler).Info("key", "key", x)
		}
	}
	text, err := key.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	out.WriteString(key.String() + key.GoString())
	if n := strings.Count(out.String(), redacted); n < 30 {
		t.Fatalf("only %d keys were shown at all", n)
	}
	seed, public := key.Seed(), key.Public()
	whole := ed25519.NewKeyFromSeed(seed[:])
	printed := strings.ToLower(out.String())
	for _, secret := range []string{
		hex.EncodeToString(seed[:8]), base64.StdEncoding.EncodeToString(seed[:9]), strings.Trim(fmt.Sprintf("%d", seed[:4]), "[]"), strings.Trim(fmt.Sprintf("%#v", seed[:3]), "[]byte{}"),
		hex.EncodeToString(public[:8]), fmt.Sprintf("%b", whole[:2])[1:10],
	} {
		if strings.Contains(printed, strings.ToLower(secret)) {
			t.Errorf("%q of the key was printed", secret)
		}
	}
}
