package node

import (
	"encoding/json"
	"testing"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/p2p"
)

// FuzzIdentity: the file that says which node a home belongs to is of the version that is known, or refused.
func FuzzIdentity(f *testing.F) {
	good, err := json.Marshal(Identity{Version: homeVersion, Name: "a-1", Region: "a", Role: RoleVoter})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if id, err := parseIdentity(text); err == nil && id.Version != homeVersion {
			t.Fatalf("version %d was taken", id.Version)
		}
	})
}

// FuzzCertificates: what a peer asks about certificates, and answers, is read within its limits or refused.
func FuzzCertificates(f *testing.F) {
	for _, m := range []any{&certificatesRequest{Version: certificatesVersion, Have: []certifiedFor{{Region: "a", Size: 7}}}, &certificatesResponse{Certificates: [][]byte{{1, 2}}}} {
		b, err := p2p.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var req certificatesRequest
		if err := p2p.Unmarshal(b, &req); err == nil {
			if again, err := p2p.Marshal(&req); err != nil || p2p.Unmarshal(again, &req) != nil {
				t.Fatalf("a request that was read cannot be written: %v", err)
			}
		}
		var res certificatesResponse
		if err := p2p.Unmarshal(b, &res); err != nil {
			return
		}
		for _, c := range res.Certificates {
			if m, err := attest.DecodeMessage(c); err == nil && len(m.Payload) > attest.MessageBytesMax {
				t.Fatal("a certificate beyond the limit")
			}
		}
	})
}
