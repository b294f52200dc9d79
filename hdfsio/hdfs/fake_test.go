package hdfs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"dkpipe/hdfsio"
)

// fakeDatanode serves one block, with the faults that a real one cannot be made to have.
type fakeDatanode struct {
	data   []byte
	chunk  int                    // 0: 512
	kind   uint64                 // of the checksum
	packet int                    // bytes of data in a packet; 0: 64 KiB
	cut    int                    // close the connection after so many bytes sent; 0: never
	bad    func(sent []byte)      // may change what is sent
	stall  chan struct{}          // wait for it after the answer
	asked  chan struct{}          // is closed by the first request; nil: nobody waits
	answer func(ok []byte) []byte // may replace the answer to the request

	address string
	reads   atomic.Int64 // requests
	conns   atomic.Int64
	kept    atomic.Int64 // reads that ended with CHECKSUM_OK
}

// start serves until the test ends.
func (f *fakeDatanode) start(t testing.TB) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.conns.Add(1)
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for f.serve(conn, in) == nil {
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// readMessage reads a message with its length.
func readMessage(in *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, err
	}
	msg := make([]byte, n)
	_, err = io.ReadFull(in, msg)
	return msg, err
}

// serve answers one request.
func (f *fakeDatanode) serve(out net.Conn, in *bufio.Reader) error {
	head := make([]byte, 3)
	if _, err := io.ReadFull(in, head); err != nil {
		return err
	}
	if !bytes.Equal(head, []byte{0, 28, 81}) {
		return errors.New("no read of a block")
	}
	msg, err := readMessage(in)
	if err != nil {
		return err
	}
	if f.reads.Add(1) == 1 && f.asked != nil {
		close(f.asked)
	}
	var off, n int
	if err := scan(msg, func(num protowire.Number, v uint64, _ []byte) error {
		switch num {
		case 2:
			off = int(v)
		case 3:
			n = int(v)
		}
		return nil
	}); err != nil {
		return err
	}
	chunk, packet := f.chunk, f.packet
	if chunk == 0 {
		chunk = 512
	}
	if packet == 0 {
		packet = 64 << 10
	}
	begin := off / chunk * chunk
	end := min((off+n+chunk-1)/chunk*chunk, len(f.data))
	sum := appendNumber(appendNumber(nil, 1, f.kind), 2, uint64(chunk))
	ok := appendNumber(nil, 1, 0)
	ok = appendBytes(ok, 4, appendNumber(appendBytes(nil, 1, sum), 2, uint64(begin)))
	if f.answer != nil {
		ok = f.answer(ok)
	}
	sent := protowire.AppendBytes(nil, ok)
	if f.stall != nil {
		if _, err := out.Write(sent); err != nil {
			return err
		}
		<-f.stall
		sent = nil
	}
	head0 := len(sent)
	for at := begin; at < end; at += packet {
		sent = appendPacket(sent, int64(at), f.data[at:min(at+packet, end)], chunk, f.kind, false)
	}
	sent = appendPacket(sent, int64(end), nil, chunk, f.kind, true)
	if f.bad != nil {
		f.bad(sent[head0:])
	}
	if f.cut > 0 && f.cut < len(sent) {
		_, err := out.Write(sent[:f.cut])
		return errors.Join(err, io.EOF)
	}
	if _, err := out.Write(sent); err != nil {
		return err
	}
	status, err := readMessage(in)
	if err == nil && bytes.Equal(status, []byte{8, statusChecksumOK}) {
		f.kept.Add(1)
	}
	return err
}

// appendPacket makes a packet as a datanode does.
func appendPacket(b []byte, at int64, data []byte, chunk int, kind uint64, last bool) []byte {
	var header []byte
	header = protowire.AppendFixed64(protowire.AppendTag(header, 1, protowire.Fixed64Type), uint64(at))
	header = protowire.AppendFixed64(protowire.AppendTag(header, 2, protowire.Fixed64Type), 7)
	header = appendNumber(header, 3, protowire.EncodeBool(last))
	header = protowire.AppendFixed32(protowire.AppendTag(header, 4, protowire.Fixed32Type), uint32(len(data)))
	var sums []byte
	for i := 0; i < len(data); i += chunk {
		c := data[i:min(i+chunk, len(data))]
		if kind == 2 {
			sums = binary.BigEndian.AppendUint32(sums, crc32.Checksum(c, castagnoli))
		} else {
			sums = binary.BigEndian.AppendUint32(sums, crc32.ChecksumIEEE(c))
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(sums)+len(data)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(header)))
	b = append(b, header...)
	b = append(b, sums...)
	return append(b, data...)
}

// openFake opens a file of one block that the given datanodes hold; there is no NameNode.
func openFake(t testing.TB, ctx context.Context, silence time.Duration, nodes ...*fakeDatanode) *file {
	f := &FS{o: Options{Service: "fake", Namenodes: []string{"127.0.0.1:1"}, User: "u", Retry: -1, Timeout: time.Second, RPCTimeout: time.Second, DataTimeout: silence}}
	f.clients.keep, f.clients.most = keepClients, maxClients
	f.data.keep, f.data.most = keepData, maxData
	n := int64(len(nodes[0].data))
	b := block{id: 1, size: n, raw: []byte{}}
	for _, d := range nodes {
		d.start(t)
		b.replicas = append(b.replicas, replica{address: d.address})
	}
	o := f.open(ctx, "/fake", layout{size: n, blocks: []block{b}})
	o.locate = func() (layout, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.layout, nil
	}
	o.report = func(*block, []replica) {}
	t.Cleanup(func() {
		o.Close()
		f.Close()
	})
	return o
}

func TestEveryKindOfChecksumAndChunkIsRead(t *testing.T) {
	data := noise(300_001)
	for _, kind := range []uint64{1, 2} {
		for _, chunk := range []int{512, 4096, 100} {
			for _, packet := range []int{0, 10} { // chunks in a packet; 0: as much as fits in 64 KiB
				d := &fakeDatanode{data: data, kind: kind, chunk: chunk, packet: packet * chunk}
				if packet == 0 {
					d.packet = 65536 / chunk * chunk
				}
				same(t, openFake(t, t.Context(), 0, d), data)
			}
		}
	}
}

func TestAFileWithoutChecksumsIsRefused(t *testing.T) {
	o := openFake(t, t.Context(), 0, &fakeDatanode{data: noise(1000), kind: 0})
	n, err := o.ReadAt(make([]byte, 10), 0)
	if n != 0 {
		t.Errorf("%d bytes", n)
	}
	want(t, err, hdfsio.KindUnsupported, "/fake")
}

func TestAConnectionThatEndsAnywhereIsContinuedAtTheNextReplica(t *testing.T) {
	data := noise(40_000)
	whole := len(appendPacket(nil, 0, data, 512, 2, false))
	for cut := 1; cut < whole+40; cut += 1 + cut/7 {
		first := &fakeDatanode{data: data, kind: 2, packet: 5120, cut: cut}
		second := &fakeDatanode{data: data, kind: 2}
		o := openFake(t, t.Context(), 0, first, second)
		p := make([]byte, len(data))
		if n, err := o.ReadAt(p, 0); n != len(p) || err != nil || !bytes.Equal(p, data) {
			t.Fatalf("cut after %d: %d, %v", cut, n, err)
		}
		if first.reads.Load() > 2 {
			t.Fatalf("cut after %d: the broken datanode was asked %d times", cut, first.reads.Load())
		}
	}
}

func TestAnyFlippedBitOfAPacketIsNoticed(t *testing.T) {
	data := noise(3000)
	size := len(appendPacket(nil, 0, data, 512, 2, false))
	for i := range size * 8 {
		if i%7 != 0 && i > 200 {
			continue
		}
		bad := &fakeDatanode{data: data, kind: 2, bad: func(b []byte) { b[i/8] ^= 1 << (i % 8) }}
		o := openFake(t, t.Context(), 200*time.Millisecond, bad)
		p := make([]byte, len(data))
		n, err := o.ReadAt(p, 0)
		if !bytes.Equal(p[:n], data[:n]) {
			t.Fatalf("bit %d: wrong bytes (%v)", i, err)
		}
		if n < len(p) && err == nil {
			t.Fatalf("bit %d: %d bytes and no error", i, n)
		}
		o.Close()
	}
}

func TestASilentDatanodeIsGivenUpForTheNext(t *testing.T) {
	data := noise(10_000)
	stall := make(chan struct{})
	defer close(stall)
	slow := &fakeDatanode{data: data, kind: 2, stall: stall}
	good := &fakeDatanode{data: data, kind: 2}
	o := openFake(t, t.Context(), 50*time.Millisecond, slow, good)
	p := make([]byte, len(data))
	if n, err := o.ReadAt(p, 0); n != len(p) || err != nil || !bytes.Equal(p, data) {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := o.ReadAt(p, 0); n != len(p) || err != nil || slow.reads.Load() != 1 {
		t.Errorf("%d, %v; the silent one was asked %d times", n, err, slow.reads.Load())
	}
}

func TestOnlySilentDatanodesGiveATimeout(t *testing.T) {
	stall := make(chan struct{})
	defer close(stall)
	o := openFake(t, t.Context(), 20*time.Millisecond, &fakeDatanode{data: noise(10), kind: 2, stall: stall})
	_, err := o.ReadAt(make([]byte, 10), 0)
	want(t, err, hdfsio.KindTimeout, "/fake")
}

func TestCancellingWakesAReadAtOnce(t *testing.T) {
	stall := make(chan struct{})
	d := &fakeDatanode{data: noise(10), kind: 2, stall: stall, asked: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	o := openFake(t, ctx, time.Hour, d)
	done := make(chan error)
	go func() {
		_, err := o.ReadAt(make([]byte, 10), 0)
		done <- err
	}()
	<-d.asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || hdfsio.KindOf(err) != hdfsio.KindInterrupted {
		t.Errorf("%v of kind %s", err, hdfsio.KindOf(err))
	}
	close(stall)
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	data := noise(1 << 20)
	d := &fakeDatanode{data: data, kind: 2}
	o := openFake(t, t.Context(), 0, d)
	p := make([]byte, 10_000)
	for i := range 50 {
		off := i * 7919 * 13 % (len(data) - len(p))
		if n, err := o.ReadAt(p, int64(off)); n != len(p) || err != nil || !bytes.Equal(p, data[off:off+n]) {
			t.Fatalf("at %d: %d, %v", off, n, err)
		}
	}
	if c := d.conns.Load(); c != 1 {
		t.Errorf("%d connections for 50 reads", c)
	}
	if k := d.kept.Load(); k < 49 {
		t.Errorf("%d of 50 reads told the datanode that the connection goes on", k)
	}
}

func TestReadingOnInSmallPiecesTakesFewRequests(t *testing.T) {
	data := noise(8 << 20)
	d := &fakeDatanode{data: data, kind: 2}
	o := openFake(t, t.Context(), 0, d)
	got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if r := d.reads.Load(); r > 12 {
		t.Errorf("%d requests", r)
	}
	if c := d.conns.Load(); c > 2 {
		t.Errorf("%d connections", c)
	}
}

func TestReadingDoesNotAllocateForEveryPacket(t *testing.T) {
	data := noise(4 << 20)
	o := openFake(t, t.Context(), 0, &fakeDatanode{data: data, kind: 2})
	p := make([]byte, len(data))
	if _, err := o.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	d := newDataConn(nil, "", 0)
	d.chunk, d.table = 512, castagnoli
	packet := appendPacket(nil, 0, data[:64<<10], 512, 2, false)
	var in bytes.Reader
	d.conn = nopConn{}
	d.r = bufio.NewReaderSize(&in, dataBuffer)
	if n := testing.AllocsPerRun(50, func() {
		in.Reset(packet)
		d.r.Reset(&in)
		d.pos, d.next, d.end = 0, 0, 64<<10
		if n, err := d.read(p); n != 64<<10 || err != nil {
			t.Fatal(n, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a packet", n)
	}
}

// nopConn is a connection whose deadlines do nothing.
type nopConn struct{ net.Conn }

func (nopConn) SetDeadline(time.Time) error     { return nil }
func (nopConn) SetReadDeadline(time.Time) error { return nil }
func (nopConn) Write(p []byte) (int, error)     { return len(p), nil }
func (nopConn) Close() error                    { return nil }

func TestARefusalOfADatanodeIsTold(t *testing.T) {
	o := openFake(t, t.Context(), 0, &fakeDatanode{data: noise(10), kind: 2, answer: func([]byte) []byte {
		return appendText(appendNumber(nil, 1, 1), 5, "Replica not found")
	}})
	_, err := o.ReadAt(make([]byte, 10), 0)
	want(t, err, hdfsio.KindUnreachable, "/fake")
	if !strings.Contains(err.Error(), "Replica not found") {
		t.Error(err)
	}
}

func TestWhatIsNoNameNodeIsSaidSo(t *testing.T) {
	for _, c := range []struct {
		answer string
		says   string
		kind   hdfsio.Kind
	}{
		{"HTTP/1.1 400 Bad Request\r\n\r\n", "web server", hdfsio.KindUnreachable},
		{"\xff\xff\xff\xff\x00", "not a NameNode", hdfsio.KindUnreachable},
		{"", "", hdfsio.KindUnreachable},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(conn, c.answer)
				if c.answer != "" {
					io.Copy(io.Discard, conn) // the client ends it
				}
				conn.Close()
			}
		})
		o := Options{Namenodes: []string{l.Addr().String()}, User: "u", Timeout: 5 * time.Second, Retry: 200 * time.Millisecond}
		_, err = Dial(t.Context(), o)
		if hdfsio.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v of kind %s", c.answer, err, hdfsio.KindOf(err))
		}
		l.Close()
		wg.Wait()
	}
}

func TestABadAcknowledgementIsNoticedInAnyPieces(t *testing.T) {
	good := appendNumber(appendNumber(appendNumber(nil, 1, protowire.EncodeZigZag(1)), 2, 0), 2, 0)
	bad := appendNumber(appendNumber(appendNumber(nil, 1, protowire.EncodeZigZag(2)), 2, 0), 2, 1)
	packed := appendBytes(appendNumber(nil, 1, protowire.EncodeZigZag(2)), 2, []byte{0, 1})
	node := func(port uint64) []byte {
		return appendBytes(nil, 1, appendNumber(appendText(appendText(nil, 1, "10.0.0.2"), 2, "h"), 4, port))
	}
	request := protowire.AppendBytes(slices.Clone(writeOp), appendBytes(appendBytes(appendBytes(nil, 1, nil), 2, node(9866)), 2, node(9867)))
	taken := appendNumber(nil, 1, 0)
	for name, c := range map[string]struct {
		request []byte
		answers [][]byte
		want    string
	}{
		"all is well":                {request, [][]byte{taken, good, good, good}, ""},
		"the second":                 {request, [][]byte{taken, good, good, bad}, "datanode 10.0.0.2:9866 did not store the data: ERROR"},
		"the second, packed":         {request, [][]byte{taken, good, good, packed}, "datanode 10.0.0.2:9866 did not store the data: ERROR"},
		"no names":                   {nil, [][]byte{taken, good, bad}, "datanode 2 of the pipeline did not store the data: ERROR"},
		"a request that is torn":     {request[:10], [][]byte{taken, good, packed}, "datanode 2 of the pipeline did not store the data: ERROR"},
		"not taken, with a bad link": {request, [][]byte{appendText(appendNumber(nil, 1, 1), 2, "10.0.0.2:9867")}, "datanode 10.0.0.2:9867 does not take the block: ERROR"},
		"not taken by the first":     {request, [][]byte{appendText(appendNumber(nil, 1, 1), 5, "no room\n\tat org.apache")}, "datanode 10.0.0.1:9866 does not take the block: ERROR: no room"},
	} {
		var all []byte
		for _, m := range c.answers {
			all = protowire.AppendBytes(all, m)
		}
		for size := 1; size <= len(all); size++ {
			a := &acks{nodes: []string{"10.0.0.1:9866"}}
			if c.request != nil {
				a.ask(c.request)
			}
			a.ask([]byte("a packet"))
			var err error
			for rest := all; len(rest) > 0 && err == nil; rest = rest[min(size, len(rest)):] {
				err = a.look(rest[:min(size, len(rest))])
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want || hdfsio.KindOf(err) != hdfsio.KindUnreachable) {
				t.Fatalf("%s, pieces of %d: %v, want %q", name, size, err, c.want)
			}
		}
	}
}

func FuzzDatanodeAnswer(f *testing.F) {
	sum := appendNumber(appendNumber(nil, 1, 2), 2, 512)
	ok := appendBytes(appendNumber(nil, 1, 0), 4, appendNumber(appendBytes(nil, 1, sum), 2, 0))
	seed := protowire.AppendBytes(nil, ok)
	seed = appendPacket(seed, 0, noise(1500), 512, 2, false)
	f.Add(appendPacket(seed, 1500, nil, 512, 2, true), 0, 1500)
	f.Add(seed, 100, 1000)
	f.Add(protowire.AppendBytes(nil, appendText(appendNumber(nil, 1, 1), 5, "no")), 0, 1)
	data := noise(1500)
	f.Fuzz(func(t *testing.T, in []byte, off, n int) {
		if off < 0 || n <= 0 || off > 1<<20 || n > 1<<20 {
			return
		}
		d := newDataConn(nopConn{}, "", time.Second)
		d.r.Reset(bytes.NewReader(in))
		if err := d.start(&block{}, int64(off), int64(n)); err != nil {
			return
		}
		p := make([]byte, n)
		m, err := d.read(p)
		if m > n || err == nil && m < n && d.pos < d.end {
			t.Fatalf("%d of %d, %v", m, n, err)
		}
		if bytes.HasPrefix(in, seed) && off+m <= len(data) && !bytes.Equal(p[:m], data[off:off+m]) {
			t.Fatal("wrong bytes")
		}
		if err == nil {
			_ = d.finish()
		}
	})
}

func FuzzNameNodeAnswer(f *testing.F) {
	ext := appendNumber(appendNumber(appendText(nil, 1, "pool"), 2, 7), 4, 100)
	id := appendNumber(appendText(appendText(nil, 1, "127.0.0.1"), 2, "h"), 4, 9866)
	b := appendBytes(appendNumber(appendBytes(nil, 1, ext), 2, 0), 3, appendBytes(nil, 1, id))
	l := appendBytes(nil, 1, appendBytes(appendNumber(nil, 1, 100), 2, b))
	answer := protowire.AppendBytes(protowire.AppendBytes(nil, appendNumber(appendNumber(nil, 1, 1), 2, 0)), l)
	f.Add(answer)
	f.Add(protowire.AppendBytes(nil, appendText(appendText(appendNumber(nil, 2, 1), 4, "x.FileNotFoundException"), 5, "no\nstack")))
	f.Fuzz(func(t *testing.T, in []byte) {
		body, err := parseAnswer("m", 1, in)
		if err != nil {
			if hdfsio.KindOf(wrap("open", "/f", "u", err)) == "" {
				t.Fatal("no kind")
			}
			return
		}
		l, err := parseLayout(body, false)
		if err != nil {
			return
		}
		next := int64(0)
		for i, b := range l.blocks {
			if b.start != next || b.size < 0 {
				t.Fatalf("block %d begins at %d, not %d", i, b.start, next)
			}
			next += b.size
		}
		if next < l.size {
			t.Fatal("the blocks do not cover the file")
		}
		if l.size > 0 {
			if i := l.find(l.size - 1); i >= len(l.blocks) {
				t.Fatal("the last byte has no block")
			}
		}
	})
}
