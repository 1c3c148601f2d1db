package node

import (
	"encoding/json"
	"testing"
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
