package hdf5

import (
	"bytes"
	"slices"
)

// Attribute is a small value that belongs to an object.
type Attribute struct {
	Name  string
	Type  Type
	Shape []int // nil for a scalar
	o     *Object
	data  []byte
	none  bool
}

// Attribute gives the attribute of that name; nil when there is none.
func (o *Object) Attribute(name string) (*Attribute, error) {
	for _, m := range o.messages {
		switch m.kind {
		case msgAttribute:
			if m.flags&2 != 0 {
				return nil, o.unsupported("an attribute that several objects share")
			}
			a, err := o.attribute(m.body)
			if err != nil {
				return nil, err
			}
			if a.Name == name {
				return a, nil
			}
		case msgAttrInfo:
			c := cursor{b: m.body, sizes: o.f.width}
			c.skip(1)
			if c.u8()&1 != 0 {
				c.skip(2)
			}
			if c.address() != undefined {
				return nil, o.unsupported("an object whose attributes lie in a fractal heap")
			}
		}
	}
	return nil, nil
}

// attribute is section IV.A.2.m, versions 1 to 3.
func (o *Object) attribute(body []byte) (*Attribute, error) {
	c := cursor{b: body, sizes: o.f.width}
	version, flags := c.u8(), c.u8()
	nameLen, typeLen, spaceLen := int(c.u16()), int(c.u16()), int(c.u16())
	part := c.take
	switch version {
	case 1:
		part = c.padded
	case 2:
	case 3:
		c.skip(1) // character set of the name
	default:
		return nil, o.unsupported("an attribute message of version %d", version)
	}
	name, dt, ds := part(nameLen), part(typeLen), part(spaceLen)
	if c.short {
		return nil, o.corrupt("an attribute is cut off")
	}
	a := &Attribute{Name: string(bytes.TrimRight(name, "\x00")), o: o, data: c.b}
	if version > 1 && flags&3 != 0 {
		return nil, o.unsupported("the shared type of attribute %.80q", a.Name)
	}
	var err error
	if a.Type, err = o.datatype(&cursor{b: dt, sizes: o.f.width}); err != nil {
		return nil, err
	}
	if a.Shape, a.none, err = o.dataspace(&cursor{b: ds, sizes: o.f.width}); err != nil {
		return nil, err
	}
	if n := elements(a.Shape); !a.none && n > int64(len(a.data)/a.Type.Size) {
		return nil, o.corrupt("attribute %.80q has %d bytes for %d values of %d", a.Name, len(a.data), n, a.Type.Size)
	}
	return a, nil
}

// Strings gives an attribute's texts; of a scalar there is one. Numbers are an error.
func (a *Attribute) Strings() ([]string, error) {
	if a.none || elements(a.Shape) == 0 {
		return nil, nil
	}
	if a.Type.Class != Text && a.Type.Class != VarText {
		return nil, a.o.corrupt("attribute %.80q holds no texts but %s", a.Name, a.Type.Class)
	}
	var out []string
	total := 0
	for i := range int(elements(a.Shape)) {
		b := a.data[i*a.Type.Size:][:a.Type.Size]
		if a.Type.Class == VarText {
			var err error
			if b, err = a.o.f.heapText(&cursor{b: b, sizes: a.o.f.width}); err != nil {
				return nil, err
			}
		}
		if end := bytes.IndexByte(b, 0); end >= 0 {
			b = b[:end]
		}
		if total += len(b); total > maxText {
			return nil, a.o.corrupt("attribute %.80q holds more than %d bytes", a.Name, maxText)
		}
		out = append(out, string(b))
	}
	return out, nil
}

// heapText follows a reference into a global heap (section III.E): length, address of the collection, index in it.
func (f *File) heapText(c *cursor) ([]byte, error) {
	n, at, index := uint64(c.u32()), c.address(), uint16(c.u32())
	if n == 0 || at == 0 {
		return nil, nil
	}
	objects, ok := f.heaps[at]
	if !ok {
		var err error
		if objects, err = f.heap(at); err != nil {
			return nil, err
		}
		if len(f.heaps) >= 1024 {
			clear(f.heaps)
		}
		f.heaps[at] = objects
	}
	o, ok := objects[index]
	if !ok || n > o.n || n > maxText {
		return nil, corrupt("the global heap at %d has no object %d of %d bytes", at, index, n)
	}
	b, err := f.r.read(o.at, n)
	return slices.Clone(b), err
}

// heap lists the objects of a collection, without reading them.
func (f *File) heap(at uint64) (map[uint16]extent, error) {
	c, err := f.cursor(at, uint64(8+f.width.length))
	if err != nil {
		return nil, err
	}
	if string(c.take(4)) != "GCOL" || c.u8() != 1 {
		return nil, corrupt("there is no global heap at %d", at)
	}
	c.skip(3)
	size := c.length()
	if size > f.r.size-at {
		return nil, corrupt("the global heap at %d has %d bytes, beyond the end of the file", at, size)
	}
	objects := map[uint16]extent{}
	head := uint64(8 + f.width.length)
	for off := head; off+head <= size; {
		c, err := f.cursor(at+off, head)
		if err != nil {
			return nil, err
		}
		index := c.u16()
		c.skip(6)
		n := c.length()
		if index == 0 { // what is free: the rest
			break
		}
		off += head
		if n > size-off {
			return nil, corrupt("object %d of the global heap at %d is cut off", index, at)
		}
		objects[index] = extent{at + off, n}
		off += (n + 7) &^ 7
	}
	return objects, nil
}
