package hdf5

// raw is one message of an object header.
type raw struct {
	kind  uint16
	flags byte
	body  []byte
}

// Types of messages (section IV.A.2).
const (
	msgDataspace = 0x01
	msgLinkInfo  = 0x02
	msgDatatype  = 0x03
	msgFillOld   = 0x04
	msgFill      = 0x05
	msgLink      = 0x06
	msgLayout    = 0x08
	msgFilters   = 0x0b
	msgAttribute = 0x0c
	msgMore      = 0x10
	msgGroup     = 0x11
	msgAttrInfo  = 0x15
)

// header collects the messages of an object header of either version, continuations included.
func (f *File) header(at uint64) ([]raw, error) {
	head, err := f.r.read(at, min(4, f.r.size-min(at, f.r.size)))
	if err != nil {
		return nil, err
	}
	h := headerReader{f: f}
	switch {
	case len(head) == 4 && string(head) == "OHDR":
		err = h.version2(at)
	case len(head) == 4 && head[0] == 1:
		err = h.version1(at)
	default:
		return nil, corrupt("there is no object header at %d", at)
	}
	return h.messages, err
}

type headerReader struct {
	f        *File
	messages []raw
	blocks   []extent // still to read
	read     int      // bytes so far
	seen     int      // blocks so far
}

// block reads the next piece within the limits; a header that continues in itself comes to an end here.
func (h *headerReader) block(at, n uint64) (*cursor, error) {
	h.seen++
	if n > maxHeader || h.read+int(n) > maxHeader || h.seen > maxBlocks {
		return nil, corrupt("the object header at %d is larger than %d bytes", at, maxHeader)
	}
	h.read += int(n)
	return h.f.cursor(at, n)
}

// version1 is section IV.A.1.a: a prefix of 16 bytes, then messages that are padded to eight.
func (h *headerReader) version1(at uint64) error {
	c, err := h.f.cursor(at, 16)
	if err != nil {
		return err
	}
	c.skip(8)
	h.blocks = []extent{{at + 16, uint64(c.u32())}}
	for len(h.blocks) > 0 {
		b := h.blocks[0]
		h.blocks = h.blocks[1:]
		c, err := h.block(b.at, b.n)
		if err != nil {
			return err
		}
		for len(c.b) >= 8 {
			kind, n, flags := c.u16(), int(c.u16()), c.u8()
			c.skip(3)
			if err := h.add(kind, flags, c.take(n)); err != nil || c.short {
				return cutOff(c, at, err)
			}
		}
	}
	return nil
}

// version2 is section IV.A.1.b: pieces that begin with a signature and end with a checksum.
func (h *headerReader) version2(at uint64) error {
	c, err := h.f.cursor(at, min(64, h.f.r.size-at))
	if err != nil {
		return err
	}
	total := len(c.b)
	c.skip(5)
	flags := c.u8()
	if flags&0x20 != 0 {
		c.skip(16) // times
	}
	if flags&0x10 != 0 {
		c.skip(4) // limits of attribute storage
	}
	n := c.uint(1 << (flags & 3))
	if c.short || n > maxHeader {
		return corrupt("the object header at %d is cut off", at)
	}
	prefix := uint64(total - len(c.b))
	h.blocks = []extent{{at, prefix + n + 4}}
	for len(h.blocks) > 0 {
		b := h.blocks[0]
		h.blocks = h.blocks[1:]
		c, err := h.block(b.at, b.n)
		if err != nil {
			return err
		}
		end := len(c.b) - 4
		if end < int(prefix) || lookup3(c.b[:end]) != le32(c.b[end:]) {
			return corrupt("the object header at %d does not match its checksum", at)
		}
		if prefix == 4 && string(c.b[:4]) != "OCHK" {
			return corrupt("the object header at %d does not go on at %d", at, b.at)
		}
		c.b = c.b[:end]
		c.skip(int(prefix))
		prefix = 4 // of continuations
		least := 4
		if flags&4 != 0 {
			least = 6
		}
		for len(c.b) >= least {
			kind, n, mflags := uint16(c.u8()), int(c.u16()), c.u8()
			c.skip(least - 4) // creation order
			if err := h.add(kind, mflags, c.take(n)); err != nil || c.short {
				return cutOff(c, at, err)
			}
		}
	}
	return nil
}

func cutOff(c *cursor, at uint64, err error) error {
	if err == nil && c.short {
		return corrupt("a message of the object header at %d is cut off", at)
	}
	return err
}

// add keeps a message, or notes where the header goes on.
func (h *headerReader) add(kind uint16, flags byte, body []byte) error {
	if kind != msgMore {
		h.messages = append(h.messages, raw{kind, flags, body})
		return nil
	}
	c := cursor{b: body, sizes: h.f.width}
	h.blocks = append(h.blocks, extent{c.address(), c.length()})
	if c.short {
		return corrupt("a continuation of an object header is cut off")
	}
	return nil
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// lookup3 is Bob Jenkins' hash of that name with an initial value of 0, the checksum of all newer structures.
func lookup3(k []byte) uint32 {
	a := 0xdeadbeef + uint32(len(k))
	b, c := a, a
	rot := func(x uint32, n uint) uint32 { return x<<n | x>>(32-n) }
	for ; len(k) > 12; k = k[12:] {
		a, b, c = a+le32(k), b+le32(k[4:]), c+le32(k[8:])
		a = (a - c) ^ rot(c, 4)
		c += b
		b = (b - a) ^ rot(a, 6)
		a += c
		c = (c - b) ^ rot(b, 8)
		b += a
		a = (a - c) ^ rot(c, 16)
		c += b
		b = (b - a) ^ rot(a, 19)
		a += c
		c = (c - b) ^ rot(b, 4)
		b += a
	}
	if len(k) == 0 {
		return c
	}
	var tail [12]byte
	copy(tail[:], k)
	a, b, c = a+le32(tail[:]), b+le32(tail[4:]), c+le32(tail[8:])
	c = (c ^ b) - rot(b, 14)
	a = (a ^ c) - rot(c, 11)
	b = (b ^ a) - rot(a, 25)
	c = (c ^ b) - rot(b, 16)
	a = (a ^ c) - rot(c, 4)
	b = (b ^ a) - rot(a, 14)
	return (c ^ b) - rot(b, 24)
}
