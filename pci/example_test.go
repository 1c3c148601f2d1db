package pci_test

import (
	"fmt"
	"log"
	"time"

	"github.com/bizra/bizra/pci"
)

// exampleDraft is the worked example of docs/envelope.md.
func exampleDraft() (pci.Draft, *pci.PrivateKey) {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(i)
	}
	data, err := pci.FromGo(map[string]any{
		"session": "demo", "to": "active", "observation": 1.0, "tiny": 1e-7,
		"note": "naïve/“ok” 😀\n", "é": true, "z": nil,
	})
	if err != nil {
		log.Fatal(err)
	}
	return pci.Draft{
		EnvelopeID: "7f0c2f4e-3f0b-4c58-9a55-0d9f6a5c2b10",
		Timestamp:  time.Date(2026, 3, 2, 12, 0, 0, 250_000_000, time.UTC),
		Nonce:      [32]byte{0xc0, 0xff, 0xee, 31: 1},
		AgentType:  pci.AgentPAT,
		AgentID:    "agent-7",
		Action:     "session.transition",
		Data:       data,
		PolicyHash: "5a1cbe2d9ad38d6b0b4f0f7d7c0a4f52b6a3f1c9e2d8b7460c5d9e8f7a6b5c4d",
		StateHash:  "",
		IhsanScore: 0.97,
		SNRScore:   1,
		Urgency:    pci.UrgencyBatch,
	}, pci.NewKeyFromSeed(seed)
}

func ExampleSign() {
	draft, key := exampleDraft()
	envelope, err := pci.Sign(draft, key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", envelope.Digest())
	fmt.Println(envelope.Verify())
	fmt.Println(key)
	// Output:
	// 416c35186400516a5a1ed221c1873628c9934d3d022b4e2b8ea65c0cd3c0479a
	// <nil>
	// pci.PrivateKey(redacted)
}

func ExampleDecode() {
	draft, key := exampleDraft()
	signed, err := pci.Sign(draft, key)
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := pci.Decode(signed.Canonical())
	if err != nil {
		log.Fatal(err) // a *pci.Reject: REJECT_SCHEMA or REJECT_SIGNATURE
	}
	note, _ := envelope.Payload.Data.Get("note")
	fmt.Printf("%s by %s: %q\n", envelope.Payload.Action, envelope.Sender.AgentID, note.String())

	thresholds := pci.DefaultThresholds(draft.PolicyHash)
	late := time.Date(2026, 3, 2, 12, 5, 0, 0, time.UTC)
	fmt.Println(envelope.CheckTime(late.UnixMilli(), thresholds))
	fmt.Println(envelope.CheckScores(thresholds), envelope.CheckPolicy(thresholds))
	// Output:
	// session.transition by agent-7: "naïve/“ok” 😀\n"
	// REJECT_TIMESTAMP_STALE: timestamp is 4m59.75s before log time, at most 2m0s is allowed
	// <nil> <nil>
}

func ExampleParse() {
	_, err := pci.Parse([]byte(`{"a": 1, "a": 2}`), pci.Limits{})
	fmt.Println(err)
	value, err := pci.Parse([]byte(`{"é": 1.50, "a": [1e3]}`), pci.Limits{})
	fmt.Println(string(value.AppendCanonical(nil)), err)
	// Output:
	// REJECT_SCHEMA: byte 15: the object that ends here has the member "a" twice
	// {"a":[1e3],"\u00e9":1.50} <nil>
}
