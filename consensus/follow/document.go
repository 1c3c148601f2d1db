package follow

import (
	"bytes"
	"fmt"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
)

// An entry that puts a federation document in force only names it, so the document is sent
// before the entry, in parts: as a whole it may be four times as long as any other frame.

const documentPartBytes = 64 << 10

// checkDocument says whether a frame may be part of a document.
func (f *frame) checkDocument() error {
	if f.DocumentSize > federation.DocumentBytesMax || f.DocumentFrom < 0 || f.DocumentFrom+int64(len(f.Document)) > f.DocumentSize {
		return fmt.Errorf("%w: %d bytes from %d on of a federation document of %d bytes, at most %d", ErrMalformed,
			len(f.Document), f.DocumentFrom, f.DocumentSize, federation.DocumentBytesMax)
	}
	return nil
}

// documentDue makes of f the next part of the document that the entry at pos needs, if one
// is missing; the one that the follower holds is not. Where the document of a later entry is needed, the entries to send end before it.
func documentDue(v *fsm.View, f *frame, pos *position, to *int64) (due bool, err error) {
	index, digest, found, err := v.NextDocument(pos.next)
	if err == nil && found && index == pos.next {
		var text []byte
		if !bytes.Equal(digest[:], pos.holds) {
			if text, err = v.DocumentText(digest); err != nil {
				return false, err
			}
		}
		if pos.document < int64(len(text)) {
			f.Kind, f.DocumentFrom, f.DocumentSize = frameDocument, pos.document, int64(len(text))
			f.Document = text[pos.document:min(int64(len(text)), pos.document+documentPartBytes)]
			pos.document += int64(len(f.Document))
			return true, nil
		}
		index, _, found, err = v.NextDocument(pos.next + 1)
	}
	if err == nil && found {
		*to = min(*to, index)
	}
	return false, err
}

// incoming is the document that a stream brings.
type incoming struct {
	text  []byte // so far
	whole bool   // and offered to the replica; entries come next
}

// takeDocument takes up a part of a document.
func (f *Follower) takeDocument(fr *frame) error {
	in := &f.document
	if in.whole || fr.DocumentFrom != int64(len(in.text)) {
		return outOfOrder("bytes of a document from %d on, where %d had come and whole was %v", fr.DocumentFrom, len(in.text), in.whole)
	}
	in.text = append(in.text, fr.Document...)
	if int64(len(in.text)) < fr.DocumentSize {
		return nil
	}
	if err := f.cfg.Replica.OfferDocument(in.text); err != nil {
		return fmt.Errorf("%w: take a federation document: %w", ErrReplica, err)
	}
	*in = incoming{whole: true}
	return nil
}

// expectDocument refuses a frame that comes in the middle of a document.
func (f *Follower) expectDocument(fr *frame) error {
	if fr.Kind == frameDocument {
		return nil
	}
	if len(f.document.text) > 0 {
		return outOfOrder("a frame of kind %d where the rest of a document was due", fr.Kind)
	}
	f.document = incoming{}
	return nil
}
