package random

import (
	"crypto/ed25519"
	crand "crypto/rand"
	"crypto/sha256"
	"hash/maphash"
	"math/rand"
	randv2 "math/rand/v2"

	"github.com/google/uuid"
)

func forbidden(b []byte) {
	_ = rand.Int()          // want `rand: rand.Int: replicas draw different numbers`
	_ = rand.New(nil)       // want `rand: rand.New`
	_ = randv2.N(3)         // want `rand: v2.N`
	_, _ = crand.Read(b)    // want `rand: rand.Read`
	r := crand.Reader       // want `rand: rand.Reader`
	_ = maphash.MakeSeed()  // want `rand: maphash.MakeSeed`
	_ = uuid.New()          // want `rand: uuid.New`
	_, _ = uuid.NewRandom() // want `rand: uuid.NewRandom`
	ed25519.GenerateKey(r)  // want `rand: ed25519.GenerateKey`
}

func method(r *rand.Rand) int {
	return r.Int() // want `rand: rand.Rand.Int`
}

func allowed(b []byte) {
	_ = sha256.Sum256(b)
	_, _ = uuid.Parse("")
	_ = uuid.NewSHA1(uuid.UUID{}, b)
	_ = ed25519.Verify(nil, b, b)
}
