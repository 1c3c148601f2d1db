package region

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// A snapshot on its way is a stream of files:
//
//	magic    "bizra-snapshot-1\n", then 8 bytes: the state's applied index, at least (big endian)
//	a file   1 byte length of its name (1 to 128), the name, 8 bytes size (big endian), its bytes
//	the end  1 byte 0, SHA-256 of all before it
//
// Files come in the order of their names. There are no directories: a state store's copy is flat.
const (
	streamMagic         = "bizra-snapshot-1\n"
	streamFilesMax      = 1 << 16
	streamNameBytesMax  = 128
	streamSizeBytes     = 8
	streamCopyBytes     = 1 << 20
	freeBytesKept       = 64 << 20 // what a received snapshot leaves free on the disk
	streamHeaderBytes   = len(streamMagic) + streamIndexBytes
	streamIndexBytes    = 8
	streamTrailerBytes  = 1 + sha256.Size
	streamOverheadBytes = 1 + streamSizeBytes // of a file, its name apart
)

var streamName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// packer reads a directory as a stream.
type packer struct {
	dir   string
	files []packedFile
	size  int64 // of the whole stream, exactly

	next  int       // file whose header comes next
	now   io.Reader // what is being read
	open  *os.File
	hash  hash.Hash
	ended bool
}

type packedFile struct {
	name string
	size int64
}

func newPacker(dir string, applied uint64) (*packer, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list a snapshot's files: %w", err)
	}
	header := binary.BigEndian.AppendUint64([]byte(streamMagic), applied)
	p := &packer{dir: dir, size: int64(streamHeaderBytes + streamTrailerBytes), now: bytes.NewReader(header), hash: sha256.New()}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("list a snapshot's files: %w", err)
		}
		if !info.Mode().IsRegular() || !streamName.MatchString(e.Name()) {
			return nil, fmt.Errorf("a snapshot cannot carry %q: only files with plain names", e.Name())
		}
		p.files = append(p.files, packedFile{e.Name(), info.Size()})
		p.size += int64(streamOverheadBytes+len(e.Name())) + info.Size()
	}
	if len(p.files) == 0 || len(p.files) > streamFilesMax {
		return nil, fmt.Errorf("a snapshot of %d files: 1 to %d", len(p.files), streamFilesMax)
	}
	slices.SortFunc(p.files, func(a, b packedFile) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	return p, nil
}

func (p *packer) Read(b []byte) (int, error) {
	for {
		if p.now != nil {
			n, err := p.now.Read(b)
			if n > 0 {
				if !p.ended {
					_, _ = p.hash.Write(b[:n])
				}
				return n, nil
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return 0, fmt.Errorf("read a snapshot's file: %w", err)
			}
		}
		if err := p.advance(); err != nil {
			return 0, err
		}
	}
}

// advance goes to the next file, the trailer or the end.
func (p *packer) advance() error {
	if p.open != nil {
		file := p.files[p.next-1]
		if body, ok := p.now.(*io.LimitedReader); ok && body.N != 0 {
			return fmt.Errorf("a snapshot's file %s is %d bytes shorter than it was", file.name, body.N)
		}
		err := p.open.Close()
		p.open, p.now = nil, nil
		if err != nil {
			return fmt.Errorf("close a snapshot's file: %w", err)
		}
	}
	switch {
	case p.ended:
		return io.EOF
	case p.next < len(p.files):
		return p.openNext()
	default:
		_, _ = p.hash.Write([]byte{0})
		p.ended = true
		p.now = bytes.NewReader(p.hash.Sum([]byte{0}))
		return nil
	}
}

func (p *packer) openNext() error {
	file := p.files[p.next]
	// The header goes first, alone; then the file itself.
	if h, ok := p.now.(*headerReader); !ok || h.file != p.next {
		header := append([]byte{byte(len(file.name))}, file.name...)      //nolint:gosec // names are at most 128 bytes
		header = binary.BigEndian.AppendUint64(header, uint64(file.size)) //nolint:gosec // sizes are not negative
		p.now = &headerReader{bytes.NewReader(header), p.next}
		return nil
	}
	f, err := os.Open(filepath.Join(p.dir, file.name))
	if err != nil {
		return fmt.Errorf("open a snapshot's file: %w", err)
	}
	p.open, p.now = f, &io.LimitedReader{R: f, N: file.size}
	p.next++
	return nil
}

type headerReader struct {
	*bytes.Reader
	file int
}

func (p *packer) Close() error {
	if p.open == nil {
		return nil
	}
	err := p.open.Close()
	p.open = nil
	return err
}

// unpacker writes a stream into a directory as it comes. Nothing of it is trusted: names, sizes and number are bounded, and the
// directory holds a whole snapshot only once finish returned nil.
type unpacker struct {
	dir       string
	disk      *disk
	bytesLeft int64 // that the files may still have together
	applied   uint64

	hash   hash.Hash
	head   []byte // the part of a header or trailer read so far
	state  unpackState
	file   *os.File
	left   int64 // bytes of the file still to come
	files  int
	last   string
	failed error
}

type unpackState uint8

const (
	inMagic unpackState = iota
	inName
	inFile
	inSum
	atEnd
)

func newUnpacker(dir string, d *disk, bytesMax int64) *unpacker {
	return &unpacker{dir: dir, disk: d, bytesLeft: bytesMax, hash: sha256.New()}
}

func (u *unpacker) Write(b []byte) (int, error) {
	if u.failed != nil {
		return 0, u.failed
	}
	for rest := b; len(rest) > 0; {
		n, err := u.take(rest)
		if err != nil {
			u.failed = err
			return len(b) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// take handles the beginning of b and says how much of it.
func (u *unpacker) take(b []byte) (int, error) {
	switch u.state {
	case inFile:
		n, err := u.file.Write(b[:min(int64(len(b)), u.left)])
		if err != nil {
			return 0, fmt.Errorf("write a received snapshot's file: %w", err)
		}
		_, _ = u.hash.Write(b[:n])
		u.left -= int64(n)
		if u.left == 0 {
			err = u.endFile()
		}
		return n, err
	case atEnd:
		return 0, fmt.Errorf("%w: bytes after its end", ErrSnapshotStream)
	default:
		u.head = append(u.head, b[0])
		if u.state != inSum {
			_, _ = u.hash.Write(b[:1])
		}
		return 1, u.header()
	}
}

// header looks whether the header read so far is complete.
func (u *unpacker) header() error {
	switch u.state {
	case inMagic:
		if n := min(len(u.head), len(streamMagic)); string(u.head[:n]) != streamMagic[:n] {
			return fmt.Errorf("%w: it does not begin as one", ErrSnapshotStream)
		}
		if len(u.head) == streamHeaderBytes {
			u.applied = binary.BigEndian.Uint64(u.head[len(streamMagic):])
			u.state, u.head = inName, nil
		}
	case inName:
		length := int(u.head[0])
		switch {
		case length == 0:
			u.state, u.head = inSum, nil
		case length > streamNameBytesMax:
			return fmt.Errorf("%w: a name of %d bytes", ErrSnapshotStream, length)
		case len(u.head) == 1+length+streamSizeBytes:
			name, size := string(u.head[1:1+length]), binary.BigEndian.Uint64(u.head[1+length:])
			u.head = nil
			return u.beginFile(name, size)
		}
	case inSum:
		if len(u.head) == sha256.Size {
			if !bytes.Equal(u.head, u.hash.Sum(nil)) {
				return fmt.Errorf("%w: the checksum does not fit", ErrSnapshotStream)
			}
			u.state = atEnd
		}
	}
	return nil
}

func (u *unpacker) beginFile(name string, size uint64) error {
	switch {
	case !streamName.MatchString(name):
		return fmt.Errorf("%w: the file name %q", ErrSnapshotStream, name)
	case u.files > 0 && name <= u.last:
		return fmt.Errorf("%w: the file %q after %q", ErrSnapshotStream, name, u.last)
	case u.files >= streamFilesMax:
		return fmt.Errorf("%w: more than %d files", ErrSnapshotStream, streamFilesMax)
	case u.bytesLeft < 0 || size > uint64(u.bytesLeft):
		return fmt.Errorf("%w: the file %q of %d bytes is more than this disk may take (%d)", ErrSnapshotStream, name, size, u.bytesLeft)
	}
	u.files++
	u.last = name
	u.bytesLeft -= int64(size) //nolint:gosec // compared above
	if err := u.disk.step("receive %s", name); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(u.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode) //nolint:gosec // the name is checked above
	if err != nil {
		return fmt.Errorf("create a received snapshot's file: %w", err)
	}
	u.file, u.left, u.state = f, int64(size), inFile //nolint:gosec // compared above
	if size == 0 {
		return u.endFile()
	}
	return nil
}

func (u *unpacker) endFile() error {
	f := u.file
	u.file, u.state = nil, inName
	if err := u.disk.step("sync received %s", u.last); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make a received snapshot's file durable: %w", err)
	}
	return nil
}

// finish says whether the whole stream has come, and makes the names durable.
func (u *unpacker) finish() error {
	if u.failed != nil {
		return u.failed
	}
	if u.state != atEnd {
		return fmt.Errorf("%w: it ends in the middle", ErrSnapshotStream)
	}
	if u.files == 0 {
		return fmt.Errorf("%w: it has no files", ErrSnapshotStream)
	}
	return u.disk.sync(u.dir)
}

// close gives up what is open, without finishing.
func (u *unpacker) close() {
	if u.file != nil {
		_ = u.file.Close()
		u.file = nil
	}
	if u.failed == nil {
		u.failed = os.ErrClosed
	}
}
