package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

func TestReaderToken(t *testing.T) {
	key := pci.NewKeyFromSeed([32]byte{7})
	now := time.Unix(1_772_452_800, 0)
	token := client.ReaderToken(key, "demo/eu", now.Add(time.Hour))
	if got, err := client.CheckReaderToken(token, "demo/eu", now); err != nil || got != key.Public() || len(token) > client.ReaderTokenBytesMax {
		t.Fatalf("token %s: key %x: %v", token, got, err)
	}
	other := client.ReaderToken(pci.NewKeyFromSeed([32]byte{8}), "demo/eu", now.Add(time.Hour))
	parts, others := strings.Split(token, "."), strings.Split(other, ".")
	for name, tt := range map[string]struct {
		token, origin string
		now           time.Time
		ok            bool
	}{
		"a second before it expires": {token, "demo/eu", now.Add(time.Hour - time.Second), true},
		"as it expires":              {token, "demo/eu", now.Add(time.Hour), false},
		"the longest":                {client.ReaderToken(key, "demo/eu", now.Add(client.ReaderTokenLongest)), "demo/eu", now, true},
		"a second longer":            {client.ReaderToken(key, "demo/eu", now.Add(client.ReaderTokenLongest+time.Second)), "demo/eu", now, false},
		"never expiring":             {client.ReaderToken(key, "demo/eu", time.Unix(1<<62, 0)), "demo/eu", now, false},
		"for another region":         {token, "demo/us", now, false},
		"another's signature":        {parts[0] + "." + parts[1] + "." + others[2], "demo/eu", now, false},
		"another's key":              {others[0] + "." + parts[1] + "." + parts[2], "demo/eu", now, false},
		"another expiry":             {parts[0] + ".1772456401." + parts[2], "demo/eu", now, false},
		"capitals":                   {strings.ToUpper(token), "demo/eu", now, false},
		"a sign before the expiry":   {parts[0] + ".+" + parts[1] + "." + parts[2], "demo/eu", now, false},
		"two parts":                  {parts[0] + "." + parts[1], "demo/eu", now, false},
		"four parts":                 {token + ".", "demo/eu", now, false},
		"a short key":                {parts[0][2:] + "." + parts[1] + "." + parts[2], "demo/eu", now, false},
		"no number":                  {parts[0] + ".soon." + parts[2], "demo/eu", now, false},
		"nothing":                    {"", "demo/eu", now, false},
		"too long":                   {strings.Repeat("0", client.ReaderTokenBytesMax+1), "demo/eu", now, false},
	} {
		if _, err := client.CheckReaderToken(tt.token, tt.origin, tt.now); (err == nil) != tt.ok || err != nil && !errors.Is(err, client.ErrReaderToken) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestReaderTokenOfOpenSSL: what the recipe of docs/http.md made with OpenSSL holds.
func TestReaderTokenOfOpenSSL(t *testing.T) {
	const key, expiry = "974f1424bfe97e12fe2803c2d699c7803d47d22ee7f13ceb830cb50ecfb1ee87", 1795566632
	token := fmt.Sprintf("%s.%d.%s", key, expiry, "02ab1d9019b4cd308ad70817f456b146b76dde2efe8b739361ff097c588ff50e"+
		"cfa0a3c0b142f62270a0acf2a2bacd0a8c4c1688cff55a19a42a1a203d611f0a")
	if got, err := client.CheckReaderToken(token, "demo/eu", time.Unix(expiry-3600, 0)); err != nil || fmt.Sprintf("%x", got) != key {
		t.Errorf("key %x: %v", got, err)
	}
}

func FuzzReaderToken(f *testing.F) {
	now := time.Unix(1_772_452_800, 0)
	token := client.ReaderToken(pci.NewKeyFromSeed([32]byte{7}), "demo/eu", now.Add(time.Hour))
	f.Add(token)
	f.Add("00.1.00")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := client.CheckReaderToken(text, "demo/eu", now); err == nil && text != token {
			t.Fatalf("accepted %q, which nobody signed", text)
		}
	})
}
