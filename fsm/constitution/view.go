package constitution

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/bizra/bizra/pci"
)

// view presents a JSON value to CEL. A whole number that fits 64 bits and is written
// without point or exponent is an int, every other number a double. Objects and arrays
// are looked into only where an expression does so.
func view(v pci.Value) ref.Val {
	switch v.Kind() {
	case pci.BoolKind:
		return types.Bool(v.Bool())
	case pci.NumberKind:
		if n, ok := v.Int64(); ok {
			return types.Int(n)
		}
		f, ok := v.Float64()
		if !ok {
			return types.NewErr("the number %s has no value", v.NumberText())
		}
		return types.Double(f)
	case pci.StringKind:
		return types.String(v.String())
	case pci.ArrayKind:
		elems := v.Elems()
		vals := make([]ref.Val, 0, len(elems))
		for _, e := range elems {
			vals = append(vals, view(e))
		}
		return types.NewRefValList(types.DefaultTypeAdapter, vals)
	case pci.ObjectKind:
		return object{v}
	}
	return types.NullValue
}

// object is a JSON object as a map of CEL whose keys come sorted by code point.
type object struct{ v pci.Value }

var _ traits.Mapper = object{}

// Find implements traits.Mapper.
func (o object) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	m, ok := o.v.Get(string(name))
	if !ok {
		return nil, false
	}
	return view(m), true
}

// Get implements traits.Indexer.
func (o object) Get(key ref.Val) ref.Val {
	v, ok := o.Find(key)
	if !ok {
		return types.NewErr("no such key: %v", key)
	}
	return v
}

// Contains implements traits.Container.
func (o object) Contains(key ref.Val) ref.Val {
	_, ok := o.Find(key)
	return types.Bool(ok)
}

// Size implements traits.Sizer.
func (o object) Size() ref.Val { return types.Int(len(o.v.Members())) }

// Iterator implements traits.Iterable.
func (o object) Iterator() traits.Iterator {
	members := o.v.Members()
	names := make([]ref.Val, 0, len(members))
	for _, m := range members {
		names = append(names, types.String(m.Name))
	}
	return types.NewRefValList(types.DefaultTypeAdapter, names).Iterator()
}

// Equal implements ref.Val: the same keys with equal values.
func (o object) Equal(other ref.Val) ref.Val {
	m, ok := other.(traits.Mapper)
	if !ok || m.Size() != o.Size() {
		return types.False
	}
	for _, member := range o.v.Members() {
		v, ok := m.Find(types.String(member.Name))
		if !ok || types.Equal(view(member.Value), v) != types.True {
			return types.False
		}
	}
	return types.True
}

// ConvertToType implements ref.Val.
func (o object) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.MapType:
		return o
	case types.TypeType:
		return types.MapType
	}
	return types.NewErr("a map cannot be converted to %s", t.TypeName())
}

// ConvertToNative implements ref.Val.
func (o object) ConvertToNative(t reflect.Type) (any, error) {
	if reflect.TypeOf(o).AssignableTo(t) {
		return o, nil
	}
	return nil, fmt.Errorf("a map cannot be converted to %v", t)
}

// Type implements ref.Val.
func (o object) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (o object) Value() any { return o.v }
