package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"sync"
	"time"

	"dkpipe/hdfsio"
)

// Reading ahead. Callers that read on get a read that goes on behind what they asked for, which the sockets' buffers
// fill while they work. It grows as they go on, so that one that stops early has wasted at most as much as it used.
// Those that take much at once, as readers of columns do, are believed later: they often skip the next column.
const (
	bigRead     = 4 << 20
	bigSteps    = 2 // big reads, one behind the other, before that
	firstWindow = 512 << 10
	lastWindow  = 32 << 20
	maxParked   = 8 // reads of one file that can be continued
	maxIdle     = 20 * time.Second
)

// file is an open file; it implements hdfsio.File.
type file struct {
	fs   *FS
	name string
	size int64

	cancelled func() error                           // why the context given to Open is over, or nil
	dial      func(address string) (net.Conn, error) // ends with that context, too
	locate    func() (layout, error)                 // asks the NameNode again
	report    func(b *block, bad []replica)          // tells it of bad replicas
	end       func()                                 // releases what watches the context

	mu     sync.Mutex
	layout layout
	age    int // how often the layout was asked for anew
	live   map[*dataConn]struct{}
	parked []*dataConn // the newest last
	where  []int       // the block of each
	trails []trail
	closed bool
}

// trail is where a caller that reads on would come next.
type trail struct {
	at     int64
	window int64
	steps  int // reads so far, one behind the other
}

var _ hdfsio.File = (*file)(nil)

// open makes the file; the context is watched until Close.
func (f *FS) open(ctx context.Context, name string, l layout) *file {
	life, cancel := context.WithCancel(ctx)
	o := &file{fs: f, name: name, size: l.size, layout: l, live: make(map[*dataConn]struct{})}
	o.cancelled = func() error { return ended(ctx) }
	o.dial = func(address string) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(life, "tcp", address)
	}
	o.locate = func() (l layout, err error) {
		err = f.call(ctx, "read", f.URI(name), true, func(c *client) error {
			if _, err := c.Stat(name); err != nil { // connects to the active NameNode
				return err
			}
			l, err = c.locate(name)
			return err
		})
		return l, err
	}
	o.report = func(b *block, bad []replica) { f.tell(ctx, b, bad) }
	stop := context.AfterFunc(life, o.interrupt)
	o.end = func() {
		stop()
		cancel()
	}
	return o
}

// Size is the length of the file when it was opened.
func (f *file) Size() int64 { return f.size }

// interrupt breaks the reads that are under way.
func (f *file) interrupt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d := range f.live {
		d.Close()
	}
}

// Close ends the reads that are under way, and later ones fail.
func (f *file) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return hdfsio.Wrap("close", f.fs.URI(f.name), fs.ErrClosed)
	}
	f.closed = true
	parked := f.parked
	f.parked, f.where = nil, nil
	f.mu.Unlock()
	for _, d := range parked {
		f.drop(d)
	}
	f.end()
	f.interrupt()
	return nil
}

// ReadAt reads verified bytes.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.state(); err != nil {
		return 0, hdfsio.Wrap("read", f.fs.URI(f.name), err)
	}
	if off < 0 {
		return 0, hdfsio.Wrap("read", f.fs.URI(f.name), fs.ErrInvalid)
	}
	n := 0
	for n < len(p) && off+int64(n) < f.size {
		m, err := f.readBlock(p[n:], off+int64(n))
		n += m
		if err != nil {
			if over := f.state(); over != nil {
				err = over
			}
			return n, hdfsio.Wrap("read", f.fs.URI(f.name), err)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// state tells why nothing can be read any more, or nil.
func (f *file) state() error {
	if err := f.cancelled(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.fs.closed.Load() {
		return fs.ErrClosed
	}
	return nil
}

// reading is what one read of one block has tried so far.
type reading struct {
	index    int
	block    block
	age      int
	failures []failure
	renewed  bool
}

type failure struct {
	replica replica
	err     error
}

func (r *reading) tried(address string) bool {
	return slices.ContainsFunc(r.failures, func(x failure) bool { return x.replica.address == address })
}

// readBlock reads into p what one block holds of it.
func (f *file) readBlock(p []byte, off int64) (int, error) {
	index, pos, left := f.place(off)
	p = p[:min(int64(len(p)), left, f.size-off)]
	window := f.ahead(off, len(p))
	d := f.resume(index, pos)
	if d == nil {
		return f.fetch(p, off, window, nil, nil)
	}
	n, err := d.read(p)
	if err == nil {
		f.leave(index, d)
	} else {
		f.forget(d)
	}
	if n == len(p) {
		return n, nil
	}
	m, err := f.fetch(p[n:], off+int64(n), window, d, err)
	return n + m, err
}

// place gives the block of an offset, the offset within it, and how much is left of it from there.
func (f *file) place(off int64) (index int, pos, left int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	index = f.layout.find(off)
	b := &f.layout.blocks[index]
	return index, off - b.start, b.start + b.size - off
}

// fetch fills p from one block with new reads, and tries all replicas before it gives up. A read that could be
// continued, but not to the end of p, is given with its error: wrong bytes count against the replica, but not that
// the connection was gone, because it lay idle.
func (f *file) fetch(p []byte, off, window int64, before *dataConn, err error) (int, error) {
	r := f.begin(off)
	if errors.Is(err, errChecksum) {
		f.failed(&r, before.address, err)
	}
	pos := off - r.block.start
	n := 0
	for n < len(p) {
		ask := min(max(window, int64(len(p)-n)), r.block.size-pos-int64(n), f.size-off-int64(n))
		d, err := f.connect(&r, pos+int64(n), ask)
		if err != nil {
			return n, err
		}
		m, err := d.read(p[n:])
		n += m
		if err == nil {
			f.leave(r.index, d)
			break
		}
		f.forget(d)
		f.failed(&r, d.address, err)
	}
	f.reportBad(&r)
	return n, nil
}

// begin finds the block of an offset.
func (f *file) begin(off int64) reading {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.layout.find(off)
	return reading{index: i, block: f.layout.blocks[i], age: f.age}
}

// connect starts a read at the best replica that was not tried yet. When there is none, the NameNode is asked once
// for others.
func (f *file) connect(r *reading, pos, n int64) (*dataConn, error) {
	for {
		if over := f.state(); over != nil {
			return nil, over
		}
		best, ok := f.fs.health.best(&r.block, r.tried)
		if !ok {
			if r.renewed {
				return nil, r.giveUp(f.fs.URI(f.name), pos)
			}
			if err := f.renew(r); err != nil {
				return nil, err
			}
			continue
		}
		d, err := f.startAt(&r.block, best.address, pos, n)
		if err == nil {
			return d, nil
		}
		f.failed(r, best.address, err)
	}
}

// startAt starts a read on an idle connection, else on a new one. An idle one may have been closed by the datanode.
func (f *file) startAt(b *block, address string, pos, n int64) (*dataConn, error) {
	for {
		d, reused := f.fs.data.take(address)
		if !reused {
			conn, err := f.dial(address)
			if err != nil {
				return nil, err
			}
			d = newDataConn(conn, address, f.fs.o.readTimeout())
		}
		if !f.hold(d) {
			d.Close()
			return nil, fs.ErrClosed
		}
		err := d.start(b, pos, n)
		if err == nil {
			return d, nil
		}
		f.forget(d)
		var no *refusedRead
		if !reused || errors.As(err, &no) || isTimeout(err) {
			return nil, err
		}
		f.fs.data.clear(address) // the others that lie there are as old
	}
}

// hold notes a connection that Close and the end of the context must break.
func (f *file) hold(d *dataConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.cancelled() != nil {
		return false
	}
	f.live[d] = struct{}{}
	return true
}

// forget closes a connection.
func (f *file) forget(d *dataConn) {
	f.mu.Lock()
	delete(f.live, d)
	f.mu.Unlock()
	d.Close()
}

// release ends a read that was read to its end, and keeps the connection.
func (f *file) release(d *dataConn) {
	if d.finish() != nil {
		f.forget(d)
		return
	}
	f.shelve(d)
}

// drop ends a read that is not wanted any more.
func (f *file) drop(d *dataConn) {
	if d.drain() != nil {
		f.forget(d)
		return
	}
	f.shelve(d)
}

func (f *file) shelve(d *dataConn) {
	f.mu.Lock()
	delete(f.live, d)
	f.mu.Unlock()
	f.fs.data.put(d.address, d)
}

// leave parks a read that can be continued, and ends one that cannot.
func (f *file) leave(index int, d *dataConn) {
	if d == nil {
		return
	}
	if d.pos >= d.end {
		f.release(d)
		return
	}
	var old *dataConn
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		f.forget(d)
		return
	}
	if len(f.parked) == maxParked {
		old = f.parked[0]
		f.parked, f.where = slices.Delete(f.parked, 0, 1), slices.Delete(f.where, 0, 1)
	}
	d.parked = time.Now()
	f.parked, f.where = append(f.parked, d), append(f.where, index)
	f.mu.Unlock()
	if old != nil {
		f.drop(old)
	}
}

// resume takes a parked read that stands at the place.
func (f *file) resume(index int, pos int64) *dataConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, d := range f.parked {
		if f.where[i] != index || d.pos != pos {
			continue
		}
		f.parked, f.where = slices.Delete(f.parked, i, i+1), slices.Delete(f.where, i, i+1)
		if time.Since(d.parked) > maxIdle {
			delete(f.live, d)
			d.Close()
			return nil
		}
		return d
	}
	return nil
}

// ahead says how much a new read at off should ask for, when n bytes are wanted, and notes where the caller would
// read on.
func (f *file) ahead(off int64, n int) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := trail{at: off + int64(n), window: int64(n)}
	i := slices.IndexFunc(f.trails, func(t trail) bool { return t.at == off })
	switch {
	case i >= 0:
		t.steps = f.trails[i].steps + 1
		if n < bigRead || t.steps >= bigSteps {
			t.window = min(max(2*f.trails[i].window, firstWindow), lastWindow)
		}
		f.trails = slices.Delete(f.trails, i, i+1)
	case len(f.trails) == maxParked:
		f.trails = slices.Delete(f.trails, 0, 1)
	}
	f.trails = append(f.trails, t)
	return t.window
}

// failed notes that a replica did not give what it should.
func (f *file) failed(r *reading, address string, err error) {
	if f.state() != nil {
		return // broken by us
	}
	i := slices.IndexFunc(r.block.replicas, func(x replica) bool { return x.address == address })
	if i < 0 {
		return // of an older layout
	}
	r.failures = append(r.failures, failure{r.block.replicas[i], err})
	var no *refusedRead
	if !errors.As(err, &no) || no.status != statusAccessToken { // an old token is nobody's fault
		f.fs.health.failed(r.block.id, address, errors.Is(err, errChecksum))
	}
}

// renew asks the NameNode for the replicas of today: blocks move, and access tokens end.
func (f *file) renew(r *reading) error {
	r.renewed = true
	f.mu.Lock()
	known := f.age != r.age // somebody else has asked since
	f.mu.Unlock()
	if !known {
		l, err := f.locate()
		if errors.Is(err, fs.ErrNotExist) {
			return f.changed("it was removed while it was read", err)
		}
		if err != nil {
			return err
		}
		f.mu.Lock()
		if len(l.blocks) < len(f.layout.blocks) || l.size < f.size {
			f.mu.Unlock()
			return f.changed("it became shorter while it was read", nil)
		}
		if f.age == r.age {
			f.layout = l
			f.age++
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.layout.blocks[r.index]
	if b.id != r.block.id || b.start != r.block.start || b.size < r.block.size {
		return f.changed("another file has its name now", nil)
	}
	b.size = r.block.size
	r.block, r.age = b, f.age
	// Replicas with wrong bytes still have them; the others get another chance.
	r.failures = slices.DeleteFunc(r.failures, func(x failure) bool { return !errors.Is(x.err, errChecksum) })
	return nil
}

func (f *file) changed(why string, err error) error {
	cause := errors.New(why)
	if err != nil {
		cause = fmt.Errorf("%s: %w", why, fs.ErrNotExist)
	}
	return &hdfsio.Error{Op: "read", Path: f.fs.URI(f.name), Kind: hdfsio.KindChanged, Err: cause, Hint: "run again with the files as they are now"}
}

// giveUp is the error of a block of which no replica could be read.
func (r *reading) giveUp(name string, pos int64) error {
	kind, hint := hdfsio.KindUnreachable, "are the datanodes running? hdfs fsck FILE -files -blocks -locations shows where the block should be"
	var errs []error
	corrupt, silent := 0, 0
	for _, x := range r.failures {
		errs = append(errs, fmt.Errorf("%s: %w", x.replica.address, plain(x.err)))
		switch {
		case errors.Is(x.err, errNoChecksums):
			kind, hint = hdfsio.KindUnsupported, "write the file again with checksums (dfs.checksum.type=CRC32C)"
		case errors.Is(x.err, errChecksum):
			corrupt++
		case isTimeout(x.err):
			silent++
		}
	}
	switch {
	case corrupt > 0 && corrupt == len(r.failures):
		kind, hint = hdfsio.KindCorrupt, "every replica is damaged: restore the file from another copy"
	case silent > 0 && silent == len(r.failures):
		kind = hdfsio.KindTimeout
	case len(errs) == 0:
		errs = append(errs, errors.New("no running datanode holds it"))
	}
	return &hdfsio.Error{Op: "read", Path: name, Kind: kind, Hint: hint,
		Err: fmt.Errorf("block blk_%d at offset %d: %w", r.block.id, r.block.start+pos, &several{errs})}
}

// reportBad tells the NameNode of replicas with wrong bytes, once another one gave the right ones.
func (f *file) reportBad(r *reading) {
	var bad []replica
	for _, x := range r.failures {
		if errors.Is(x.err, errChecksum) && f.fs.health.report(r.block.id, x.replica.address) {
			bad = append(bad, x.replica)
		}
	}
	if len(bad) > 0 {
		f.report(&r.block, bad)
	}
}
