package audit

import (
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
)

// FuzzBundle: the bytes of a bundle of entries, as a node under audit serves them, are so many entries that were looked at, or refused.
func FuzzBundle(f *testing.F) {
	genesis := fsm.Entry{Kind: fsm.EntryGenesis, Region: "a", Outcome: fsm.Outcome{Document: 1, StateVersion: fsm.StateVersion}}
	text := genesis.AppendCanonical(nil)
	framed := append([]byte{byte(len(text) >> 8), byte(len(text))}, text...)
	f.Add(framed, uint8(1))
	f.Add(append(framed, framed...), uint8(2))
	f.Add(framed[:len(framed)-1], uint8(1))
	f.Add([]byte{0xff, 0xff}, uint8(200))
	f.Fuzz(func(t *testing.T, data []byte, count uint8) {
		entries, err := cut(data, int(count))
		if err != nil {
			return
		}
		bytes := 0
		for _, e := range entries {
			bytes += 2 + len(e)
			if len(e) > ledger.EntryBytesMax {
				t.Fatalf("an entry of %d bytes", len(e))
			}
		}
		if len(entries) != int(count) || bytes != len(data) {
			t.Fatalf("%d entries of %d bytes in all, from %d bytes", len(entries), bytes, len(data))
		}
		b := &bundle{entries: entries}
		b.parse()
		for i, e := range b.parsed {
			if b.err == nil && (e == nil || string(e.AppendCanonical(nil)) != string(entries[i])) {
				t.Fatalf("entry %d is not what was read", i)
			}
		}
	})
}
