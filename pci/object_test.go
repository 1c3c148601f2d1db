package pci

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestObjectReads(t *testing.T) {
	o := ReadObject(parse(t, `{"text":"é","int":-7,"float":0.5,"yes":true,"none":null,"any":[1],"texts":["a","b"],"inner":{"n":1},"list":[{"n":2}]}`))
	if got := o.Text("text", 2); got != "é" {
		t.Errorf("text %q", got)
	}
	if o.Int("int") != -7 || o.OptionalInt("missing", 5) != 5 || o.OptionalInt("int", 5) != -7 {
		t.Error("wrong whole number")
	}
	if o.Float("float") != 0.5 || !o.Bool("yes") || o.OptionalText("missing", 1) != "" || o.OptionalText("text", 2) != "é" {
		t.Error("wrong float, boolean or text")
	}
	o.Null("none")
	if v, ok := o.Any("any"); !ok || v.Kind() != ArrayKind {
		t.Errorf("any %v %v", v, ok)
	}
	if _, ok := o.Any("missing"); ok || o.Has("missing") || !o.Has("text") {
		t.Error("a member is there that is not, or the other way round")
	}
	if got := o.Texts("texts", 2, 1); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("texts %q", got)
	}
	inner := o.Object("inner")
	if inner.Int("n") != 1 || inner.Done() != nil {
		t.Error("wrong inner object")
	}
	for _, e := range o.Array("list", 1) {
		if element := o.Element("list", e); element.Int("n") != 2 || element.Done() != nil {
			t.Error("wrong element")
		}
	}
	if err := o.Done(); err != nil {
		t.Error(err)
	}
}

func TestObjectFaults(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		read func(*Object)
		want string
	}{
		"no object":        {`[]`, func(o *Object) { o.Int("n"); o.Has("n"); o.Any("n") }, "an object is wanted"},
		"unknown":          {`{"n":1,"m":2}`, func(o *Object) { o.Int("n") }, "member m is not known"},
		"missing":          {`{}`, func(o *Object) { o.Text("s", 1) }, "member s is missing"},
		"type":             {`{"s":1}`, func(o *Object) { o.Text("s", 1) }, "must be a string, not a number"},
		"text too long":    {`{"s":"ab"}`, func(o *Object) { o.Text("s", 1) }, "2 bytes, at most 1"},
		"int with a point": {`{"n":1.0}`, func(o *Object) { o.Int("n") }, "whole number"},
		"int too big":      {`{"n":9223372036854775808}`, func(o *Object) { o.Int("n") }, "whole number"},
		"boolean":          {`{"b":0}`, func(o *Object) { o.Bool("b") }, "must be a boolean"},
		"null":             {`{"z":0}`, func(o *Object) { o.Null("z") }, "must be null"},
		"float":            {`{"f":"1"}`, func(o *Object) { o.Float("f") }, "must be a number"},
		"too many":         {`{"a":[1,2]}`, func(o *Object) { o.Array("a", 1) }, "2, at most 1"},
		"texts":            {`{"a":["a",1]}`, func(o *Object) { o.Texts("a", 2, 1) }, "element 1 must be a string"},
		"texts too long":   {`{"a":["ab"]}`, func(o *Object) { o.Texts("a", 2, 1) }, "element 0 must be a string of at most 1"},
		"element":          {`{"a":[1]}`, func(o *Object) { o.Element("a", o.Array("a", 1)[0]) }, "member a: every element must be an object"},
		"inner":            {`{"o":{"n":""}}`, func(o *Object) { o.Object("o").Int("n") }, "member o.n is of the wrong type"},
		"inner unknown":    {`{"o":{"n":1}}`, func(o *Object) { _ = o.Object("o").Done() }, "member o.n is not known"},
		"the caller's":     {`{"n":1}`, func(o *Object) { o.Fault("n must be even, not %d", o.Int("n")) }, "n must be even, not 1"},
		"the first":        {`{"n":1}`, func(o *Object) { o.Text("a", 1); o.Text("b", 1) }, "member a is missing"},
	} {
		o := ReadObject(parse(t, c.text))
		c.read(o)
		err := o.Done()
		var r *Reject
		if !errors.As(err, &r) || r.Code != RejectSchema || !strings.Contains(r.Detail, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	long := ReadObject(parse(t, `{"`+strings.Repeat("x", 5000)+`":1}`)).Done()
	if long == nil || len(long.Error()) > 200 {
		t.Errorf("a long name gives an error of %d bytes", len(long.Error()))
	}
}
