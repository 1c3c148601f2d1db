package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// judgement says how a proof would fare. Nothing of the question is kept.
func (s *Server) judgement(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	media, err := bodyMedia(r)
	if err == nil && media != client.MediaJSON {
		err = failf(http.StatusUnsupportedMediaType, "One question is one JSON object: send it as %s.", client.MediaJSON)
	}
	if err != nil {
		return nil, err
	}
	body, release, err := s.readBody(r, client.JudgementBytesMax)
	if err != nil {
		return nil, err
	}
	defer release()
	q, err := readQuestion(body)
	if err != nil {
		return nil, err
	}
	return s.work(r.Context(), func(ctx context.Context) (*reply, error) {
		j, err := s.backend.Judge(ctx, q)
		if err != nil {
			return nil, err
		}
		return jsonReply(http.StatusOK, j)
	})
}

// readQuestion reads a question as strictly as an envelope is read. An error is a *pci.Reject.
func readQuestion(body []byte) (client.Question, error) {
	var q client.Question
	v, err := pci.Parse(body, pci.Limits{BytesMax: client.JudgementBytesMax})
	if err != nil {
		return q, err
	}
	o := pci.ReadObject(v)
	q.AgentID, q.AgentType = o.Text("agent_id", pci.AgentIDBytesMax), o.OptionalText("agent_type", 3)
	q.Action, q.PolicyHash = o.Text("action", questionTextMax), o.OptionalText("policy_hash", questionTextMax)
	q.IhsanScore, q.SNRScore = o.Float("ihsan_score"), o.Float("snr_score")
	data, _ := o.Any("data")
	if data.Kind() != pci.ObjectKind {
		o.Fault("data must be there and be an object: the payload.data of the proof")
	}
	if q.AgentType != "" && q.AgentType != pci.AgentPAT && q.AgentType != pci.AgentSAT {
		o.Fault("agent_type must be PAT or SAT")
	}
	if !(q.IhsanScore >= 0 && q.IhsanScore <= 1 && q.SNRScore >= 0 && q.SNRScore <= 1) {
		o.Fault("ihsan_score and snr_score must be from 0 to 1")
	}
	if err := o.Done(); err != nil {
		return q, err
	}
	if q.Data = json.RawMessage(data.AppendCanonical(nil)); len(q.Data) > pci.EnvelopeBytesMax {
		return q, pci.Rejectf(pci.RejectSchema, "data has %d bytes in canonical form: an envelope has at most %d", len(q.Data), pci.EnvelopeBytesMax)
	}
	return q, nil
}

const questionTextMax = 128 // of an action, of a policy hash
