package attest_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

// note remembers what was sent, and makes every certificate that can be made of it: whoever wants
// to contradict the region has all cosignatures that were ever given.
func (w *world) note(from string, data []byte) {
	w.t.Helper()
	w.sent = append(w.sent, packet{from: from, data: data})
	s, err := attest.Open(data, w.fed.Document)
	w.check(err) // what an honest machine or a liar of these tests sends is well-formed
	w.stats[fmt.Sprintf("sent kind %d", s.Kind)]++
	switch s.Kind {
	case attest.KindCheckpoint:
		w.notes[string(s.Checkpoint.Body())] = s.Note
		for _, name := range w.blind {
			w.cosignBlindly(name, s.Checkpoint)
		}
	case attest.KindCosignature:
		w.cosigned(s)
	case attest.KindCertificate:
		w.certified(s.Origin, s.Note)
	}
}

func (w *world) certified(origin string, note []byte) {
	if !slices.ContainsFunc(w.certs[origin], func(b []byte) bool { return string(b) == string(note) }) {
		w.certs[origin] = append(w.certs[origin], note)
	}
}

func (w *world) cosigned(s *attest.Statement) {
	body := string(s.Checkpoint.Body())
	if !slices.Contains(w.blind, s.Region) && !w.worked[s.Region+" "+body] {
		w.t.Fatalf("%s cosigned %s at %d, to which none of its copies came\n%s", s.Region, s.Origin, s.Checkpoint.Size, w.out.String())
	}
	if w.lines[body] == nil {
		w.lines[body] = map[string][]byte{}
	}
	w.lines[body][s.Region] = s.Line
	if w.notes[body] == nil || len(w.lines[body]) < federation.Quorum(len(w.names()))-1 {
		return
	}
	made, err := certificate.Assemble(w.notes[body], w.lines[body], w.fed.Document)
	w.check(err)
	w.certified(s.Origin, made)
}

// cosignBlindly is what a lying region does: it votes for everything.
func (w *world) cosignBlindly(name string, c *checkpoint.Checkpoint) {
	w.t.Helper()
	if c.Region() == name {
		return
	}
	line, err := certificate.Cosign(c.Body(), name, w.fed.Cosign[name], w.now/1000)
	w.check(err)
	data := attest.EncodeCosignature(w.fed.Document.Version, name, c.Body(), line)
	w.say("%s: publish votes/%s: %s", name, c.Region(), w.describe(data))
	w.publish(name, attest.Topic{Name: attest.TopicVotes, Region: c.Region()}, data)
}

// contradictions are pairs of certificates of one origin of which neither covers a prefix of the
// other, by the ledgers that the origin has.
func (w *world) contradictions() (found []string) {
	w.t.Helper()
	for _, origin := range w.names() {
		var all []*checkpoint.Checkpoint
		for _, note := range w.certs[origin] {
			c, _, err := certificate.Verify(note, w.fed.Document)
			w.check(err)
			all = append(all, c)
		}
		for i, a := range all {
			for _, b := range all[:i] {
				if !w.agree(a, b) {
					found = append(found, fmt.Sprintf("%s at %d and at %d", origin, b.Size, a.Size))
				}
			}
		}
	}
	return found
}

// agree reports whether one checkpoint covers a prefix of what the other covers.
func (w *world) agree(a, b *checkpoint.Checkpoint) bool {
	if a.Size == b.Size {
		return *a == *b
	}
	z := w.regions[a.Region()]
	sources := []*ledgerSource{}
	for _, fork := range slices.Sorted(maps.Keys(z.forks)) {
		sources = append(sources, z.serves(w, fork))
	}
	for _, n := range z.nodes {
		sources = append(sources, sourceOf(w, n.m))
	}
	for _, src := range sources {
		if src.root(w, a.Size) == a.Root && src.root(w, b.Size) == b.Root {
			return true
		}
	}
	return false
}
