package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// A proof is completed with what the region says, signed and submitted. The server
// stands in for a node.
func Example() {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", client.MediaJSON)
		switch r.URL.Path {
		case "/v1/policy":
			fmt.Fprintf(w, `{"policy_hash":"%s","region":"eu"}`, strings.Repeat("ab", 32))
		case "/v1/proofs":
			fmt.Fprint(w, `{"version":1,"code":0,"name":"SUCCESS","message":"The proof was accepted.","index":4,"session":"build-17","state":"init","finality":"committed"}`)
		}
	}))
	defer node.Close()

	c, err := client.New(client.Config{URLs: []string{node.URL}})
	if err != nil {
		panic(err)
	}
	key, err := pci.GenerateKey() // or pci.LoadKey("agent.key")
	if err != nil {
		panic(err)
	}
	payload, err := client.ParsePayload([]byte(`{"action": "session.open", "data": {"session": "build-17"}}`))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	proof, err := c.Complete(ctx, payload, client.Signer{Key: key, AgentID: "builder"})
	if err != nil {
		panic(err)
	}
	receipt, err := c.Submit(ctx, proof.Canonical())
	if err != nil {
		panic(err) // no decision: submitting the same proof again is safe
	}
	if err := receipt.Err(); err != nil {
		panic(err) // a gate refused it, and the message says what to do
	}
	fmt.Println(receipt.Name, "entry", *receipt.Index, "session", receipt.Session, receipt.State)
	// Output: SUCCESS entry 4 session build-17 init
}
