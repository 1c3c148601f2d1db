package api

import (
	"context"
	"net/http"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

func (s *Server) federation(r *http.Request) (*reply, error) {
	q, err := params(r, consistencyParam)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) { return v.Federation() })
}

// adopt takes a federation document with the proof that adopts it.
func (s *Server) adopt(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	media, err := bodyMedia(r)
	if err == nil && media != client.MediaJSON {
		err = failf(http.StatusUnsupportedMediaType, "One adoption is one JSON object: send it as %s.", client.MediaJSON)
	}
	if err != nil {
		return nil, err
	}
	body, release, err := s.readBody(r, client.AdoptionBytesMax)
	if err != nil {
		return nil, err
	}
	defer release()
	envelope, document, err := readAdoption(body)
	if err != nil {
		return nil, err
	}
	return s.oneProof(r.Context(), func(ctx context.Context) (Outcome, error) { return s.backend.Adopt(ctx, envelope, document) })
}

// readAdoption takes the body apart. An error is a *pci.Reject.
func readAdoption(body []byte) (envelope, document []byte, err error) {
	v, err := pci.Parse(body, pci.Limits{BytesMax: client.AdoptionBytesMax, DepthMax: pci.DepthMax + 1})
	if err != nil {
		return nil, nil, err
	}
	o := pci.ReadObject(v)
	proof, hasProof := o.Any("proof")
	doc, hasDocument := o.Any("document")
	if !hasProof || !hasDocument || proof.Kind() != pci.ObjectKind || doc.Kind() != pci.ObjectKind {
		o.Fault(`an adoption is {"document": …, "proof": …}: the federation document and the envelope that adopts it, both objects`)
	}
	if err := o.Done(); err != nil {
		return nil, nil, err
	}
	if document = doc.AppendCanonical(nil); len(document) > client.DocumentBytesMax {
		return nil, nil, pci.Rejectf(pci.RejectSchema, "the federation document has %d bytes: at most %d", len(document), client.DocumentBytesMax)
	}
	return proof.AppendCanonical(nil), document, nil
}
