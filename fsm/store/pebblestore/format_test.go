package pebblestore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzFormat: a directory is opened under its own format alone, whatever its format file holds.
func FuzzFormat(f *testing.F) {
	f.Add([]byte(formatText))
	f.Add([]byte("bizra-store 2\n"))
	f.Add([]byte(formatText + "x"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		fs := vfs.NewMem()
		file, err := fs.Create(formatFileName, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = file.Write(bytes.Clone(text)) // Pebble's checking builds scribble over what they were given
			err = errors.Join(err, file.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := checkFormat(fs, ""); (err == nil) != (string(text) == formatText) || err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
