// Package uuid stands for the real one.
package uuid

type UUID [16]byte

func New() UUID                         { return UUID{} }
func NewRandom() (UUID, error)          { return UUID{}, nil }
func Parse(s string) (UUID, error)      { return UUID{}, nil }
func NewSHA1(space UUID, b []byte) UUID { return UUID{} }
