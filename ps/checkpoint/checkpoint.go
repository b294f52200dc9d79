package checkpoint

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"

	"dkpipe/ps"
)

// The form, all numbers little-endian:
//
//	"dkpipe-ps-checkpoint/2\n"
//	sections: kind 1 byte, length of the body 8 bytes, body, CRC-32C of all three 4 bytes
//	  1 head     the numbers of ps.Snapshot as 8 bytes each, in the order of head
//	  2 units    for each: ID 8 bytes, done 1 byte, length of the cursor 4 bytes, cursor
//	  3 centre   float32
//	  4 slots    float32
//	  5 end      SHA-256 of everything before this section
//
// Every section is there once, in this order, and nothing follows.
const (
	magic = "dkpipe-ps-checkpoint/2\n"

	kindHead   = 1
	kindUnits  = 2
	kindCentre = 3
	kindSlots  = 4
	kindEnd    = 5

	headNumbers = 16
	unitBytes   = 13 // without its cursor
	chunk       = 64 << 10
)

// Limits bound what Decode takes memory for.
type Limits struct {
	// Parameters of the centre; slots may be Slots times as many. 0 means 1<<30 (4 GiB).
	Parameters int
	// Slots of the rule for each parameter; 0 means 4.
	Slots int
	// Units that were begun or done, of the epochs that are not complete; 0 means 1<<20.
	Units int
	// Cursor is the greatest length of a unit's cursor; 0 means 64 KiB.
	Cursor int
}

func (l Limits) orDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Parameters, 1<<30)
	set(&l.Slots, 4)
	set(&l.Units, 1<<20)
	set(&l.Cursor, 64<<10)
	return l
}

func head(s *ps.Snapshot) [headNumbers]uint64 {
	t := s.Stats
	return [headNumbers]uint64{
		uint64(s.Generation), s.Version, uint64(s.Block), uint64(s.Shards), uint64(s.Epochs), uint64(s.Epoch), uint64(len(s.Centre)),
		uint64(len(s.Slots)), t.Commits, t.Duplicates, t.Rejected, t.Dropped, uint64(t.Samples), uint64(t.RejectedSamples),
		uint64(t.DroppedSamples), uint64(t.Steps),
	}
}

// Size is the number of bytes that Encode will write.
func Size(s *ps.Snapshot) int64 {
	const section = 1 + 8 + 4
	return int64(len(magic)) + 5*section + 8*headNumbers + unitsSize(s) + 4*int64(len(s.Centre)) + 4*int64(len(s.Slots)) + sha256.Size
}

func unitsSize(s *ps.Snapshot) int64 {
	n := int64(unitBytes * len(s.Units))
	for _, u := range s.Units {
		n += int64(len(u.Cursor))
	}
	return n
}

// Encode writes s. It holds a buffer of a few hundred KiB, whatever the size of s. Equal snapshots give equal bytes.
func Encode(w io.Writer, s *ps.Snapshot) error {
	e := &encoder{w: bufio.NewWriterSize(w, 4*chunk), sum: sha256.New(), crc: crc32.New(castagnoli())}
	e.raw([]byte(magic))
	e.begin(kindHead, 8*headNumbers)
	for _, v := range head(s) {
		e.write(binary.LittleEndian.AppendUint64(e.buf[:0], v))
	}
	e.end()
	e.begin(kindUnits, uint64(unitsSize(s)))
	for _, u := range s.Units {
		b := binary.LittleEndian.AppendUint64(e.buf[:0], uint64(u.ID))
		b = append(b, 0)
		if u.Done {
			b[8] = 1
		}
		e.write(binary.LittleEndian.AppendUint32(b, uint32(len(u.Cursor))))
		e.write(u.Cursor)
	}
	e.end()
	e.floats(kindCentre, s.Centre)
	e.floats(kindSlots, s.Slots)
	digest := e.sum.Sum(nil)
	e.begin(kindEnd, sha256.Size)
	e.write(digest)
	e.end()
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return e.err
}

type encoder struct {
	w   *bufio.Writer
	sum hash.Hash   // of all bytes
	crc hash.Hash32 // of the section
	err error       // the first one; nothing is written after it
	buf [chunk]byte
}

func (e *encoder) raw(b []byte) {
	if e.err == nil {
		_, _ = e.sum.Write(b) // never fails
		_, e.err = e.w.Write(b)
	}
}

func (e *encoder) write(b []byte) {
	_, _ = e.crc.Write(b) // never fails
	e.raw(b)
}

func (e *encoder) begin(kind byte, length uint64) {
	e.crc.Reset()
	e.write(binary.LittleEndian.AppendUint64(append(e.buf[:0], kind), length))
}

func (e *encoder) end() {
	e.raw(binary.LittleEndian.AppendUint32(e.buf[:0], e.crc.Sum32()))
}

func (e *encoder) floats(kind byte, x []float32) {
	e.begin(kind, 4*uint64(len(x)))
	for len(x) > 0 && e.err == nil {
		n := min(len(x), chunk/4)
		b := e.buf[:4*n]
		for i, v := range x[:n] {
			binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
		}
		e.write(b)
		x = x[n:]
	}
	e.end()
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Decode reads what Encode wrote, to the end of r: bytes that follow are an error. It takes memory only for what has
// arrived, within the limits. An error that is not the reader's has kind corrupt, or unsupported for another version.
func Decode(r io.Reader, limits Limits) (*ps.Snapshot, error) {
	d := &decoder{r: bufio.NewReaderSize(r, 4*chunk), sum: sha256.New(), crc: crc32.New(castagnoli()), limits: limits.orDefaults()}
	s, err := d.snapshot()
	if err != nil {
		return nil, err
	}
	return s, nil
}

type decoder struct {
	r      *bufio.Reader
	sum    hash.Hash
	crc    hash.Hash32
	limits Limits
	at     int64
	left   uint64 // bytes of the section's body
	buf    [chunk]byte
}

func (d *decoder) snapshot() (*ps.Snapshot, error) {
	first := d.buf[:len(magic)]
	if err := d.raw(first); err != nil {
		return nil, err
	}
	if string(first) != magic {
		const family = len("dkpipe-ps-checkpoint/")
		if string(first[:family]) == magic[:family] {
			return nil, &ps.Error{Kind: "unsupported", Message: fmt.Sprintf("checkpoint of the parameter server is of another version: %q", first),
				Hint: "read it with the dkpipe that wrote it"}
		}
		return nil, d.bad("it does not start as one")
	}
	s := new(ps.Snapshot)
	centre, slots, err := d.head(s)
	if err != nil {
		return nil, err
	}
	if err := d.units(s); err != nil {
		return nil, err
	}
	if s.Centre, err = d.floats(kindCentre, "centre", centre); err != nil {
		return nil, err
	}
	if s.Slots, err = d.floats(kindSlots, "slots", slots); err != nil {
		return nil, err
	}
	want := d.sum.Sum(nil)
	if err := d.begin(kindEnd, "end"); err != nil {
		return nil, err
	}
	got := d.buf[:sha256.Size]
	if d.left != sha256.Size {
		return nil, d.bad("a digest of %d bytes", d.left)
	}
	if err := d.body(got); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(want, got) != 1 {
		return nil, d.bad("its SHA-256 is not the one that it ends with")
	}
	if err := d.end("end"); err != nil {
		return nil, err
	}
	if _, err := d.r.ReadByte(); err != io.EOF {
		if err != nil {
			return nil, err
		}
		return nil, d.bad("something follows its end")
	}
	return s, nil
}

func (d *decoder) head(s *ps.Snapshot) (centre, slots uint64, err error) {
	if err := d.begin(kindHead, "head"); err != nil {
		return 0, 0, err
	}
	if d.left != 8*headNumbers {
		return 0, 0, d.bad("a head of %d bytes", d.left)
	}
	b := d.buf[:8*headNumbers]
	if err := d.body(b); err != nil {
		return 0, 0, err
	}
	var v [headNumbers]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	if err := d.end("head"); err != nil {
		return 0, 0, err
	}
	const most = 1 << 40 // of numbers that become int
	for i, limit := range [headNumbers]uint64{math.MaxUint32, math.MaxUint64, most, most, most, most, uint64(d.limits.Parameters), 0, math.MaxUint64,
		math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64} {
		if i == 7 {
			limit = uint64(d.limits.Slots) * v[6]
		}
		if v[i] > limit {
			return 0, 0, d.bad("number %d of its head is %d, at most %d is allowed", i, v[i], limit)
		}
	}
	s.Generation, s.Version, s.Block, s.Shards, s.Epochs, s.Epoch = uint32(v[0]), v[1], int(v[2]), int(v[3]), int(v[4]), int(v[5])
	s.Stats = ps.Stats{Commits: v[8], Duplicates: v[9], Rejected: v[10], Dropped: v[11], Samples: int64(v[12]), RejectedSamples: int64(v[13]),
		DroppedSamples: int64(v[14]), Steps: int64(v[15])}
	if s.Epoch > s.Epochs {
		return 0, 0, d.bad("epoch %d of %d", s.Epoch, s.Epochs)
	}
	return v[6], v[7], nil
}

func (d *decoder) units(s *ps.Snapshot) error {
	if err := d.begin(kindUnits, "units"); err != nil {
		return err
	}
	last := -1
	for d.left > 0 {
		if d.left < unitBytes || len(s.Units) == d.limits.Units {
			return d.bad("%d bytes of units are left after %d of at most %d", d.left, len(s.Units), d.limits.Units)
		}
		b := d.buf[:unitBytes]
		if err := d.body(b); err != nil {
			return err
		}
		id, done, n := binary.LittleEndian.Uint64(b), b[8], uint64(binary.LittleEndian.Uint32(b[9:]))
		if id > math.MaxInt64 || int(id) <= last || done > 1 || n > uint64(d.limits.Cursor) || n > d.left {
			return d.bad("unit %d after unit %d, done %d, with a cursor of %d bytes", id, last, done, n)
		}
		if last = int(id); s.Shards == 0 || last/s.Shards < s.Epoch || last/s.Shards >= s.Epochs {
			return d.bad("unit %d is in none of the epochs %d to %d of %d shards", id, s.Epoch, s.Epochs, s.Shards)
		}
		u := ps.UnitSnapshot{ID: last, Done: done == 1}
		if n > 0 {
			u.Cursor = make([]byte, n)
			if err := d.body(u.Cursor); err != nil {
				return err
			}
		}
		s.Units = append(s.Units, u)
	}
	return d.end("units")
}

// floats grows with what arrives, so that a length that lies costs no more memory than there are bytes.
func (d *decoder) floats(kind byte, what string, n uint64) ([]float32, error) {
	if err := d.begin(kind, what); err != nil {
		return nil, err
	}
	if d.left != 4*n {
		return nil, d.bad("%d bytes of %s for %d elements", d.left, what, n)
	}
	const first = 1 << 20
	x := make([]float32, 0, min(n, first))
	for d.left > 0 {
		b := d.buf[:min(d.left, chunk)]
		if err := d.body(b); err != nil {
			return nil, err
		}
		if len(x)+len(b)/4 > cap(x) { // once what is there proves that there is a lot: all of it
			grown := make([]float32, len(x), min(n, 4*uint64(cap(x))))
			copy(grown, x)
			x = grown
		}
		for ; len(b) > 0; b = b[4:] {
			x = append(x, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
	}
	return x, d.end(what)
}

func (d *decoder) raw(b []byte) error {
	n, err := io.ReadFull(d.r, b)
	d.at += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return d.bad("it ends there")
	}
	_, _ = d.sum.Write(b) // never fails
	return err
}

func (d *decoder) body(b []byte) error {
	d.left -= uint64(len(b))
	err := d.raw(b)
	_, _ = d.crc.Write(b) // never fails
	return err
}

func (d *decoder) begin(kind byte, what string) error {
	d.crc.Reset()
	b := d.buf[:9]
	d.left = 9
	if err := d.body(b); err != nil {
		return err
	}
	if b[0] != kind {
		return d.bad("section %d where %s was due", b[0], what)
	}
	d.left = binary.LittleEndian.Uint64(b[1:])
	return nil
}

func (d *decoder) end(what string) error {
	want := d.crc.Sum32()
	b := d.buf[:4]
	if err := d.raw(b); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != want {
		return d.bad("the checksum of its %s is wrong", what)
	}
	return nil
}

func (d *decoder) bad(format string, args ...any) error {
	return &ps.Error{Kind: "corrupt", Message: fmt.Sprintf("checkpoint of the parameter server, byte %d: ", d.at) + fmt.Sprintf(format, args...),
		Hint: "go on from an older checkpoint"}
}
