package checkpoint

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
)

const (
	// BodyBytesMax bounds a body: two names of 63 bytes, three hashes in base64, four numbers.
	BodyBytesMax = 512
	// numberMax is the greatest whole number that every JSON reader keeps exactly; a
	// time or a document version beyond it is refused.
	numberMax = 1 << 53
	bodyLines = 6
)

// ErrBody is returned, wrapped, for text that is no checkpoint's body in its one form.
var ErrBody = errors.New("malformed checkpoint")

// Checkpoint is what a region says about its ledger at one point.
type Checkpoint struct {
	Origin         string   // <federation>/<region>
	Size           int64    // entries, from 1 to ledger.SizeMax
	Root           [32]byte // RFC 6962 root over them
	State          [32]byte // state commitment after them
	TimeMillis     int64    // log time of the last of them, Unix milliseconds
	Document       int64    // version of the federation document in force, from 1
	DocumentDigest [32]byte
}

// Origin names a region's ledger: <federation>/<region>. It is also the name of the
// key that signs it.
func Origin(federation, region string) string { return federation + "/" + region }

// Region is the region of the origin line.
func (c *Checkpoint) Region() string {
	_, region, _ := strings.Cut(c.Origin, "/")
	return region
}

// Federation is the federation of the origin line.
func (c *Checkpoint) Federation() string {
	name, _, _ := strings.Cut(c.Origin, "/")
	return name
}

// Body is the checkpoint's text as it is signed, the last newline included.
func (c *Checkpoint) Body() []byte {
	b64 := base64.StdEncoding
	b := append(make([]byte, 0, BodyBytesMax), c.Origin...)
	b = strconv.AppendInt(append(b, '\n'), c.Size, 10)
	b = b64.AppendEncode(append(b, '\n'), c.Root[:])
	b = b64.AppendEncode(append(b, "\nstate "...), c.State[:])
	b = strconv.AppendInt(append(b, "\ntime "...), c.TimeMillis, 10)
	b = strconv.AppendInt(append(b, "\nfederation "...), c.Document, 10)
	b = b64.AppendEncode(append(b, ' '), c.DocumentDigest[:])
	return append(b, '\n')
}

// ParseBody reads a body in its one form; an error wraps [ErrBody].
func ParseBody(body []byte) (*Checkpoint, error) {
	if len(body) > BodyBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrBody, len(body), BodyBytesMax)
	}
	lines := strings.Split(string(body), "\n")
	if len(lines) != bodyLines+1 || lines[bodyLines] != "" {
		return nil, fmt.Errorf("%w: it must have %d lines, each ended by a newline", ErrBody, bodyLines)
	}
	r := reader{}
	c := &Checkpoint{Origin: r.origin(lines[0]), Size: r.number("size", lines[1], 1, ledger.SizeMax), Root: r.hash("root", lines[2])}
	c.State = r.hash("state", r.after("state ", lines[3]))
	c.TimeMillis = r.number("time", r.after("time ", lines[4]), 0, numberMax)
	version, digest, _ := strings.Cut(r.after("federation ", lines[5]), " ")
	c.Document = r.number("federation", version, 1, numberMax)
	c.DocumentDigest = r.hash("federation", digest)
	if r.err != nil {
		return nil, r.err
	}
	if !bytes.Equal(c.Body(), body) {
		return nil, fmt.Errorf("%w: not written in its one form", ErrBody)
	}
	return c, nil
}

// reader reads the parts of a body; the first fault sticks.
type reader struct{ err error }

func (r *reader) fault(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrBody}, args...)...)
	}
}

func (r *reader) origin(line string) string {
	name, region, _ := strings.Cut(line, "/")
	if !federation.IsName(name) || !federation.IsName(region) {
		r.fault("origin %.140q is not <federation>/<region>", line)
	}
	return line
}

func (r *reader) after(prefix, line string) string {
	rest, ok := strings.CutPrefix(line, prefix)
	if !ok {
		r.fault("a line must begin with %q", prefix)
	}
	return rest
}

func (r *reader) number(what, text string, low, high int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		r.fault("%s %.30q is no number from %d to %d", what, text, low, high)
	}
	return n
}

func (r *reader) hash(what, text string) (h [32]byte) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != len(h) {
		r.fault("%s %.60q is no hash of 32 bytes in base64", what, text)
		return h
	}
	return [32]byte(b)
}
