//go:build unix

package region

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// freeBytes is how much an ordinary user may still write to the file system of dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask how much room there is at %s: %w", dir, err)
	}
	free, size := uint64(st.Bavail), uint64(st.Bsize) //nolint:gosec,unconvert // the types differ between systems; neither is negative
	if size != 0 && free > math.MaxInt64/size {
		return math.MaxInt64, nil
	}
	return int64(free * size), nil //nolint:gosec // bounded above
}

// FreeBytes is how much may still be written to the file system of a directory.
func FreeBytes(dir string) (int64, error) { return freeBytes(dir) }
