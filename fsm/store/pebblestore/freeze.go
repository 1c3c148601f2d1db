package pebblestore

import (
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// freezingFS is the file system that Pebble gets. Pebble answers an error from its log with a panic that nobody can recover
// from (in some places it then unlocks a mutex that is not locked), which would end the process, and every other node in it,
// before the node could say why. So the first write in the store's directory that fails makes the store fail, and from that
// moment on, whatever the reason, writes only seem to happen: the disk stays as it was, as after a crash, and Pebble can be
// closed in order. No caller is told of a success after it: each call looks at health when Pebble has returned.
type freezingFS struct {
	vfs.FS
	dir    string // clean; all files of a store lie directly in it
	health *health
}

// settle makes an error of a write the store's failure, and hides it from Pebble if the disk is frozen, be it by this error
// or by one before. Errors elsewhere, such as where a checkpoint goes, are Pebble's to report.
func (f *freezingFS) settle(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	if path == f.dir || f.PathDir(path) == f.dir {
		f.health.fail(fmt.Errorf("%s %s: %w", doing, path, err))
	}
	if f.frozen() {
		return nil
	}
	return err
}

func (f *freezingFS) frozen() bool { return f.health.err() != nil }

func (f *freezingFS) file(doing, path string, file vfs.File, err error) (vfs.File, error) {
	if err := f.settle(doing, path, err); err != nil {
		return nil, err
	}
	if err != nil {
		return &lostFile{name: f.PathBase(path)}, nil //nolint:nilerr // the disk is frozen: what was asked for seems to have happened
	}
	return &freezingFile{File: file, fs: f, path: path}, nil
}

func (f *freezingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if f.frozen() {
		return &lostFile{name: f.PathBase(name)}, nil
	}
	file, err := f.FS.Create(name, category)
	return f.file("creating", name, file, err)
}

func (f *freezingFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if f.frozen() {
		return &lostFile{name: f.PathBase(newname)}, nil
	}
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	return f.file("reusing", newname, file, err)
}

func (f *freezingFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, category, opts...)
	if err != nil {
		return nil, err
	}
	return &freezingFile{File: file, fs: f, path: name}, nil
}

func (f *freezingFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &freezingFile{File: file, fs: f, path: name}, nil
}

func (f *freezingFS) Rename(oldname, newname string) error {
	if f.frozen() {
		return nil
	}
	return f.settle("renaming", newname, f.FS.Rename(oldname, newname))
}

// The errors of these are Pebble's to judge: it copies where it cannot link, and leaves what it cannot remove.

func (f *freezingFS) Link(oldname, newname string) error {
	if f.frozen() {
		return nil
	}
	return f.FS.Link(oldname, newname)
}

func (f *freezingFS) Remove(name string) error {
	if f.frozen() {
		return nil
	}
	return f.FS.Remove(name)
}

func (f *freezingFS) RemoveAll(name string) error {
	if f.frozen() {
		return nil
	}
	return f.FS.RemoveAll(name)
}

func (f *freezingFS) MkdirAll(dir string, perm os.FileMode) error {
	if f.frozen() {
		return nil
	}
	return f.FS.MkdirAll(dir, perm)
}

func (f *freezingFS) Unwrap() vfs.FS { return f.FS }

// freezingFile is a file or directory that was opened for writing or syncing before anything failed.
type freezingFile struct {
	vfs.File
	fs   *freezingFS
	path string
}

// write runs one write of n bytes.
func (f *freezingFile) write(n int, do func() (int, error)) (int, error) {
	if f.fs.frozen() {
		return n, nil
	}
	done, err := do()
	if err := f.fs.settle("writing", f.path, err); err != nil {
		return done, err
	}
	return n, nil
}

func (f *freezingFile) Write(p []byte) (int, error) {
	return f.write(len(p), func() (int, error) { return f.File.Write(p) })
}

func (f *freezingFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(len(p), func() (int, error) { return f.File.WriteAt(p, off) })
}

func (f *freezingFile) sync(do func() error) error {
	if f.fs.frozen() {
		return nil
	}
	return f.fs.settle("syncing", f.path, do())
}

func (f *freezingFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *freezingFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *freezingFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *freezingFile) Preallocate(offset, length int64) error {
	if f.fs.frozen() {
		return nil
	}
	return f.File.Preallocate(offset, length)
}

func (f *freezingFile) Close() error { return f.fs.settle("closing", f.path, f.File.Close()) }

// lostFile stands for a file that was to be made after the disk froze: what is written to it is gone.
type lostFile struct {
	name string
	size int64
}

func (f *lostFile) Write(p []byte) (int, error) { f.size += int64(len(p)); return len(p), nil }

func (f *lostFile) WriteAt(p []byte, off int64) (int, error) {
	f.size = max(f.size, off+int64(len(p)))
	return len(p), nil
}

func (f *lostFile) Read([]byte) (int, error)          { return 0, f.lost("read") }
func (f *lostFile) ReadAt([]byte, int64) (int, error) { return 0, f.lost("read") }
func (f *lostFile) lost(op string) error {
	return &os.PathError{Op: op, Path: f.name, Err: os.ErrNotExist}
}
func (f *lostFile) Preallocate(int64, int64) error      { return nil }
func (f *lostFile) Prefetch(int64, int64) error         { return nil }
func (f *lostFile) Sync() error                         { return nil }
func (f *lostFile) SyncData() error                     { return nil }
func (f *lostFile) SyncTo(int64) (full bool, err error) { return false, nil }
func (f *lostFile) Close() error                        { return nil }
func (f *lostFile) Fd() uintptr                         { return vfs.InvalidFd }
func (f *lostFile) Stat() (vfs.FileInfo, error)         { return lostFileInfo{f.name, f.size}, nil }

type lostFileInfo struct {
	name string
	size int64
}

func (i lostFileInfo) Name() string           { return i.name }
func (i lostFileInfo) Size() int64            { return i.size }
func (i lostFileInfo) Mode() fs.FileMode      { return 0o600 }
func (i lostFileInfo) ModTime() time.Time     { return time.Time{} }
func (i lostFileInfo) IsDir() bool            { return false }
func (i lostFileInfo) Sys() any               { return nil }
func (i lostFileInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
