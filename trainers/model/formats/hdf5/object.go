package hdf5

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Object is a group or a tensor.
type Object struct {
	f        *File
	path     string
	messages []raw
	members  map[string]uint64 // addresses of headers; nil until they were read
	names    []string          // of members, in order
}

// object reads the header of what lies at an address.
func (f *File) object(path string, at uint64) (*Object, error) {
	messages, err := f.header(at)
	if err != nil {
		return nil, err
	}
	return &Object{f: f, path: path, messages: messages}, nil
}

// Path is where the object lies in the file, without a leading slash.
func (o *Object) Path() string { return o.path }

// IsGroup reports whether the object is a group; else it is a tensor or something that is neither.
func (o *Object) IsGroup() bool {
	return o.has(msgGroup) || o.has(msgLinkInfo) || o.has(msgLink)
}

// IsTensor reports whether the object holds data.
func (o *Object) IsTensor() bool { return o.has(msgLayout) }

func (o *Object) has(kind uint16) bool {
	return slices.ContainsFunc(o.messages, func(m raw) bool { return m.kind == kind })
}

// message gives the first message of a kind, or nil. A body that lies elsewhere is refused.
func (o *Object) message(kind uint16) ([]byte, error) {
	for _, m := range o.messages {
		if m.kind == kind {
			if m.flags&2 != 0 {
				return nil, o.unsupported("a shared message of type %d", kind)
			}
			return m.body, nil
		}
	}
	return nil, nil
}

// Members gives the names of a group's members in order of their bytes. The caller must not change the slice.
func (o *Object) Members() ([]string, error) {
	if o.members != nil {
		return o.names, nil
	}
	if !o.IsGroup() {
		return nil, corrupt("%s is no group", o)
	}
	l := list{o: o, members: map[string]uint64{}}
	if err := l.all(); err != nil {
		return nil, err
	}
	o.members = l.members
	for name := range l.members {
		o.names = append(o.names, name)
	}
	slices.Sort(o.names)
	return o.names, nil
}

// Open gives a member by path. What is not there is an error that satisfies errors.Is(err, fs.ErrNotExist).
func (o *Object) Open(path string) (*Object, error) {
	at := o
	for i, name := range strings.Split(path, "/") {
		if i >= maxDepth {
			return nil, corrupt("%.80q is too deep", path)
		}
		if _, err := at.Members(); err != nil {
			return nil, err
		}
		addr, ok := at.members[name]
		if !ok {
			return nil, &notThere{at.child(name)}
		}
		next, err := at.f.object(at.child(name), addr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at.child(name), err)
		}
		at = next
	}
	return at, nil
}

func (o *Object) child(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "/" + name
}

// String names the object in errors.
func (o *Object) String() string { return "/" + o.path }

func (o *Object) corrupt(format string, args ...any) error {
	return corrupt("%s: %s", o, fmt.Sprintf(format, args...))
}

func (o *Object) unsupported(format string, args ...any) error {
	return unsupported("%s: %s", o, fmt.Sprintf(format, args...))
}

// notThere says which path is absent.
type notThere struct{ path string }

func (e *notThere) Error() string        { return "HDF5: there is no /" + e.path }
func (e *notThere) ErrorKind() string    { return "corrupt" }
func (e *notThere) Is(target error) bool { return target == fs.ErrNotExist }

// list collects the members of a group from wherever they are kept. Soft and external links are left out: nothing that
// a file names outside of itself is opened.
type list struct {
	o       *Object
	members map[string]uint64
	names   []byte // a local heap's data
}

func (l *list) add(name string, addr uint64) error {
	if name == "" || len(l.members) >= maxMembers {
		return l.o.corrupt("it has a member without a name, or more than %d", maxMembers)
	}
	if _, twice := l.members[name]; twice {
		return l.o.corrupt("it has the member %.80q twice", name)
	}
	l.members[name] = addr
	return nil
}

func (l *list) all() error {
	if body, err := l.o.message(msgLinkInfo); err != nil {
		return err
	} else if body != nil {
		c := cursor{b: body, sizes: l.o.f.width}
		c.skip(1)
		if c.u8()&1 != 0 {
			c.skip(8)
		}
		if c.address() != undefined {
			return l.o.unsupported("a group whose links lie in a fractal heap")
		}
	}
	for _, m := range l.o.messages {
		if m.kind == msgLink {
			if err := l.link(m.body); err != nil {
				return err
			}
		}
	}
	body, err := l.o.message(msgGroup)
	if err != nil || body == nil {
		return err
	}
	c := cursor{b: body, sizes: l.o.f.width}
	tree, heap := c.address(), c.address()
	if c.short {
		return l.o.corrupt("its symbol table message is cut off")
	}
	if err := l.heap(heap); err != nil {
		return err
	}
	w := walk{f: l.o.f, kind: 0, keySize: l.o.f.width.length, seen: map[uint64]bool{}}
	return w.tree(tree, func(_ []byte, addr uint64) error { return l.symbols(addr) })
}

// link is section IV.A.2.g: one member inside the header.
func (l *list) link(body []byte) error {
	c := cursor{b: body, sizes: l.o.f.width}
	version, flags := c.u8(), c.u8()
	if version != 1 {
		return l.o.unsupported("a link message of version %d", version)
	}
	hard := true
	if flags&8 != 0 {
		hard = c.u8() == 0
	}
	if flags&4 != 0 {
		c.skip(8)
	}
	if flags&16 != 0 {
		c.skip(1)
	}
	n := c.uint(1 << (flags & 3))
	if n > uint64(len(c.b)) {
		return l.o.corrupt("a link is cut off")
	}
	name := string(c.take(int(n)))
	if !hard {
		return nil
	}
	addr := c.address()
	if c.short {
		return l.o.corrupt("a link is cut off")
	}
	return l.add(name, addr)
}

// heap is section III.D: the names of a symbol table.
func (l *list) heap(at uint64) error {
	c, err := l.o.f.cursor(at, uint64(8+2*l.o.f.width.length+l.o.f.width.address))
	if err != nil {
		return err
	}
	if string(c.take(4)) != "HEAP" || c.u8() != 0 {
		return l.o.corrupt("there is no local heap at %d", at)
	}
	c.skip(3)
	n := c.length()
	c.length()
	l.names, err = l.o.f.r.read(c.address(), n)
	l.names = bytes.Clone(l.names)
	return err
}

// symbols is section III.B and C: a node with entries.
func (l *list) symbols(at uint64) error {
	f := l.o.f
	c, err := f.cursor(at, 8)
	if err != nil {
		return err
	}
	if string(c.take(4)) != "SNOD" || c.u8() != 1 {
		return l.o.corrupt("there is no symbol table node at %d", at)
	}
	c.skip(1)
	n := int(c.u16())
	entry := 2*f.width.address + 24
	if c, err = f.cursor(at+8, uint64(n*entry)); err != nil {
		return err
	}
	for range n {
		e := cursor{b: c.take(entry), sizes: f.width}
		offset, addr, cached := e.address(), e.address(), e.u32()
		if offset >= uint64(len(l.names)) {
			return l.o.corrupt("a name lies outside of its heap")
		}
		end := bytes.IndexByte(l.names[offset:], 0)
		if end < 0 {
			return l.o.corrupt("a name has no end")
		}
		if cached == 2 { // a soft link
			continue
		}
		if err := l.add(string(l.names[offset:][:end]), addr); err != nil {
			return err
		}
	}
	return nil
}

// walk visits the leaves of a B-tree of version 1 (section III.A.1). A node is visited once, and a child lies one level
// below its parent, so no tree is without end.
type walk struct {
	f       *File
	kind    byte // 0 groups, 1 chunks
	keySize int
	seen    map[uint64]bool
}

// tree calls visit for every child of the nodes of level 0, with the key before it.
func (w *walk) tree(at uint64, visit func(key []byte, addr uint64) error) error {
	return w.node(at, -1, visit)
}

func (w *walk) node(at uint64, want int, visit func([]byte, uint64) error) error {
	if w.seen[at] || len(w.seen) >= maxNodes {
		return corrupt("the B-tree node at %d is reached twice, or the tree has more than %d nodes", at, maxNodes)
	}
	w.seen[at] = true
	address := w.f.width.address
	c, err := w.f.cursor(at, uint64(8+2*address))
	if err != nil {
		return err
	}
	if string(c.take(4)) != "TREE" || c.u8() != w.kind {
		return corrupt("there is no B-tree node at %d", at)
	}
	level, n := int(c.u8()), int(c.u16())
	if want >= 0 && level != want || level > maxDepth {
		return corrupt("the B-tree node at %d is of level %d, not %d", at, level, want)
	}
	c, err = w.f.cursor(at+uint64(8+2*address), uint64(n*(w.keySize+address)))
	if err != nil {
		return err
	}
	for range n {
		key, child := c.take(w.keySize), c.address()
		if level == 0 {
			err = visit(key, child)
		} else {
			err = w.node(child, level-1, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
