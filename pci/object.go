package pci

import "slices"

// Object reads the members of a JSON object against a fixed form: every member
// that is asked for must be there with the right type, and [Object.Done] refuses
// those that nobody asked for. The first fault sticks; after it every read gives
// a zero value.
type Object struct {
	v    Value
	path string
	read []string // names that were asked for: few, so that looking through them beats a map
	errs *Reject
	root *Object
}

// ReadObject begins to read an object; anything but an object is a fault.
func ReadObject(v Value) *Object {
	o := &Object{v: v, read: make([]string, 0, 16)}
	o.root = o
	if v.Kind() != ObjectKind {
		o.fault("an object is wanted here, not %v", v.Kind())
	}
	return o
}

func (o *Object) fault(format string, args ...any) {
	if o.root.errs == nil {
		o.root.errs = Rejectf(RejectSchema, format, args...)
	}
}

// Has reports whether the object has a member of this name.
func (o *Object) Has(name string) bool {
	if o.v.Kind() != ObjectKind {
		return false
	}
	_, ok := o.v.Get(name)
	return ok
}

func (o *Object) take(name string, kind Kind) (Value, bool) {
	if o.v.Kind() != ObjectKind {
		return Value{}, false
	}
	o.read = append(o.read, name)
	v, ok := o.v.Get(name)
	if !ok {
		o.fault("member %s%s is missing", o.path, name)
		return Value{}, false
	}
	if v.Kind() != kind {
		o.fault("member %s%s is of the wrong type: it must be %v, not %v", o.path, name, kind, v.Kind())
		return Value{}, false
	}
	return v, true
}

// Text reads a string of at most bytesMax bytes of UTF-8.
func (o *Object) Text(name string, bytesMax int) string {
	v, ok := o.take(name, StringKind)
	if !ok {
		return ""
	}
	s := v.String()
	if len(s) > bytesMax {
		o.fault("member %s%s is too long: %d bytes, at most %d", o.path, name, len(s), bytesMax)
		return ""
	}
	return s
}

// OptionalText is [Object.Text], or "" where the member is missing.
func (o *Object) OptionalText(name string, bytesMax int) string {
	if !o.Has(name) {
		return ""
	}
	return o.Text(name, bytesMax)
}

// Int reads a whole number that fits 64 bits, written without point or exponent.
func (o *Object) Int(name string) int64 {
	v, ok := o.take(name, NumberKind)
	if !ok {
		return 0
	}
	n, ok := v.Int64()
	if !ok {
		o.fault("member %s%s must be a whole number of at most 64 bits, without point or exponent", o.path, name)
	}
	return n
}

// OptionalInt is [Object.Int], or otherwise where the member is missing.
func (o *Object) OptionalInt(name string, otherwise int64) int64 {
	if !o.Has(name) {
		return otherwise
	}
	return o.Int(name)
}

// Float reads a finite number.
func (o *Object) Float(name string) float64 {
	v, ok := o.take(name, NumberKind)
	if !ok {
		return 0
	}
	f, ok := v.Float64()
	if !ok {
		o.fault("member %s%s must be a finite number", o.path, name)
	}
	return f
}

// Bool reads true or false.
func (o *Object) Bool(name string) bool {
	v, _ := o.take(name, BoolKind)
	return v.Kind() == BoolKind && v.Bool()
}

// Null reads a member that must be null.
func (o *Object) Null(name string) { o.take(name, NullKind) }

// Any reads a member of any type; ok is false where it is missing.
func (o *Object) Any(name string) (v Value, ok bool) {
	if o.v.Kind() != ObjectKind {
		return Value{}, false
	}
	o.read = append(o.read, name)
	return o.v.Get(name)
}

// Array reads the elements of an array of at most countMax elements.
func (o *Object) Array(name string, countMax int) []Value {
	v, ok := o.take(name, ArrayKind)
	if !ok {
		return nil
	}
	e := v.Elems()
	if len(e) > countMax {
		o.fault("member %s%s has too many elements: %d, at most %d", o.path, name, len(e), countMax)
		return nil
	}
	return e
}

// Texts reads an array of strings; an element of another type is a fault.
func (o *Object) Texts(name string, countMax, bytesMax int) []string {
	elems := o.Array(name, countMax)
	texts := make([]string, 0, len(elems))
	for i, e := range elems {
		if e.Kind() != StringKind || len(e.String()) > bytesMax {
			o.fault("member %s%s: element %d must be a string of at most %d bytes", o.path, name, i, bytesMax)
			return nil
		}
		texts = append(texts, e.String())
	}
	return texts
}

// Object reads a member that is an object itself; its faults are those of the outer one.
func (o *Object) Object(name string) *Object {
	v, _ := o.take(name, ObjectKind)
	return &Object{v: v, path: o.path + name + ".", read: make([]string, 0, 8), root: o.root}
}

// Element reads an element of an array as an object, with faults under the name of the array.
func (o *Object) Element(name string, v Value) *Object {
	if v.Kind() != ObjectKind {
		o.fault("member %s%s: every element must be an object", o.path, name)
	}
	return &Object{v: v, path: o.path + name + "[].", read: make([]string, 0, 8), root: o.root}
}

// Fault records a fault that the caller found, such as a value outside its range.
func (o *Object) Fault(format string, args ...any) { o.fault(format, args...) }

// Done ends the reading: it returns the first fault as a [*Reject] with code
// [RejectSchema], among them members that were never asked for.
func (o *Object) Done() error {
	if o.v.Kind() == ObjectKind {
		for _, m := range o.v.Members() {
			if !slices.Contains(o.read, m.Name) {
				o.fault("member %s%s is not known here", o.path, shortened(m.Name))
				break
			}
		}
	}
	if o.root.errs == nil {
		return nil
	}
	return o.root.errs
}

// DigestOf names any JSON value as envelopes are named: BLAKE3-256 of [DigestPrefix]
// and the value's canonical form.
func DigestOf(v Value) [32]byte { return digestOf(v.AppendCanonical(nil), nil) }
