package client

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bizra/bizra/pci"
)

const (
	// ReaderTokenLongest is how far ahead a reader token may expire.
	ReaderTokenLongest = 7 * 24 * time.Hour
	// ReaderTokenBytesMax bounds a reader token.
	ReaderTokenBytesMax = 256
	readerDomain        = "bizra-reader-v1"
)

// ErrReaderToken is returned, wrapped, for a token that does not hold.
var ErrReaderToken = errors.New("not a valid reader token")

// readerMessage is what a reader key signs.
func readerMessage(origin string, expiresUnix int64) []byte {
	return fmt.Appendf(nil, "%s\n%s\n%d\n", readerDomain, origin, expiresUnix)
}

// ReaderToken makes the token with which the holder of a listed reader key reads a
// region's entries until it expires, as Authorization: Bearer TOKEN. The origin is
// <federation>/<region>; the time counts in whole seconds. Who sees the token can use it.
func ReaderToken(key *pci.PrivateKey, origin string, expires time.Time) string {
	public, sig := key.Public(), key.Sign(readerMessage(origin, expires.Unix()))
	return readerText(public[:], expires.Unix(), sig[:])
}

func readerText(public []byte, expiresUnix int64, sig []byte) string {
	return fmt.Sprintf("%x.%d.%x", public, expiresUnix, sig)
}

// CheckReaderToken gives the key that signed a token for this origin that has not
// expired and does not expire later than [ReaderTokenLongest] from now. Whether the key
// is one that may read, the caller knows. An error wraps [ErrReaderToken].
func CheckReaderToken(token, origin string, now time.Time) (key [32]byte, err error) {
	parts := strings.Split(token, ".")
	if len(token) > ReaderTokenBytesMax || len(parts) != 3 {
		return key, fmt.Errorf("%w: it must be KEY.EXPIRY.SIGNATURE", ErrReaderToken)
	}
	public, err1 := hex.DecodeString(parts[0])
	expires, err2 := strconv.ParseInt(parts[1], 10, 64)
	sig, err3 := hex.DecodeString(parts[2])
	if err := errors.Join(err1, err2, err3); err != nil || len(public) != len(key) || len(sig) != ed25519.SignatureSize || token != readerText(public, expires, sig) {
		return key, fmt.Errorf("%w: it must be KEY.EXPIRY.SIGNATURE, key and signature in hexadecimal, expiry in seconds since 1970", ErrReaderToken)
	}
	if !ed25519.Verify(public, readerMessage(origin, expires), sig) {
		return key, fmt.Errorf("%w: its signature does not hold for %s", ErrReaderToken, origin)
	}
	switch left := time.Unix(expires, 0).Sub(now); {
	case left <= 0:
		return key, fmt.Errorf("%w: it expired at %s", ErrReaderToken, time.Unix(expires, 0).UTC().Format(time.RFC3339))
	case left > ReaderTokenLongest:
		return key, fmt.Errorf("%w: it expires more than %v ahead", ErrReaderToken, ReaderTokenLongest)
	}
	return [32]byte(public), nil
}
