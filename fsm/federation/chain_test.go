package federation_test

import (
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

func TestSuccessor(t *testing.T) {
	fed := testfed.New(2, 1)
	was := fed.Document
	for _, c := range []struct {
		name   string
		change func(*federation.Document)
		says   string // "": may follow
	}{
		{"nothing but the version", func(*federation.Document) {}, ""},
		{"another constitution", testfed.Stricter, ""},
		{"another operator", func(d *federation.Document) { d.Regions[1].Operators = []federation.Key{testfed.Key("x").Public()} }, ""},
		{"another address", func(d *federation.Document) { d.Regions[0].Voters[0].Addresses = []string{"/ip4/192.0.2.1/tcp/1"} }, ""},
		{"another name", func(d *federation.Document) { d.Name = "other" }, `federation "other"`},
		{"the same version", func(d *federation.Document) { d.Version = 1 }, "comes 2"},
		{"a version too far", func(d *federation.Document) { d.Version = 3 }, "comes 2"},
		{"a region less", func(d *federation.Document) { d.Regions = d.Regions[:1] }, "1 regions"},
		{"a region renamed", func(d *federation.Document) { d.Regions[1].Name = "c" }, `"c" in its place`},
		{"another log key", func(d *federation.Document) { d.Regions[1].LogKey = testfed.Key("x").Public() }, "log_key"},
		{"another cosign key", func(d *federation.Document) { d.Regions[1].CosignKey = testfed.Key("x").Public() }, "cosign_key"},
		{"another voter's key", func(d *federation.Document) { d.Regions[1].Voters[0].NodeKey = testfed.Key("x").Public() }, "founding voters"},
		{"another voter's name", func(d *federation.Document) { d.Regions[1].Voters[0].Name = "x" }, "founding voters"},
	} {
		err := was.CheckSuccessor(fed.Next(c.change).Document)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

func TestKin(t *testing.T) {
	fed := testfed.New(2, 1)
	own := fed.Document
	later := fed.Next(testfed.Stricter)
	for _, c := range []struct {
		name   string
		other  *federation.Document
		region string
		says   string
	}{
		{"itself", own, "a", ""},
		{"a later one", later.Document, "a", ""},
		{"another of its version", testfed.New(2, 1, testfed.Open).Document, "a", "version 1 has digest"},
		{"another federation's", testfed.New(2, 1, func(d *federation.Document) { d.Name = "other" }).Document, "a", `federation "other"`},
		{"other keys of the region", fed.Next(func(d *federation.Document) { d.Regions[0].LogKey = testfed.Key("x").Public() }).Document, "a", "other keys"},
		{"other keys of another region", fed.Next(func(d *federation.Document) { d.Regions[0].LogKey = testfed.Key("x").Public() }).Document, "b", ""},
		{"no such region", own, "z", `no region "z"`},
	} {
		err := own.CheckKin(c.other, c.region)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	if own.Digest() != federation.DigestOf(own.Canonical()) || own.Digest() == federation.DigestOf(append(own.Canonical(), '\n')) {
		t.Error("the digest is not that of the canonical form, or of more than that")
	}
}
