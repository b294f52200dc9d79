package trainers

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"dkpipe/pipeline"
	"dkpipe/ps"
)

// An order log says in which order a parameter server took the calls of its workers: all that an asynchronous run has of
// chance. It is a line of text, then records:
//
//	tag                 uvarint: kind + 8 (worker + 1)
//	steps, staleness    uvarints, of a commit
//	rate, epochs        float64 little-endian and uvarint, of what all workers are told: a pull of no worker
//
// and at the end a record of kind 0 with the version (uvarint) and the digest of the centre. A commit takes four bytes as a
// rule, a pull or a unit of data one or two.
const orderMagic = "dkpipe-order/1\n"

const (
	orderEnd = iota
	orderPull
	orderCommit
	orderNext
	orderWithdraw
	orderStop
	orderJoin
	orderLeave
	orderSteer // only here: in the log it is a pull of no worker
)

// order is one record.
type order struct {
	kind      uint8
	worker    ps.Worker // -1: of no worker
	steps     int
	staleness uint64
	steering  ps.Steering
}

func (o order) String() string {
	name := []string{"the end", "a pull", "a commit", "a call for data", "a call taken back", "the stop of the run", "joining", "leaving", "a change of the learning rate"}[o.kind]
	switch {
	case o.worker < 0:
		return name
	case o.kind == orderCommit:
		return fmt.Sprintf("a commit of worker %d, %d steps, staleness %d", o.worker, o.steps, o.staleness)
	}
	return fmt.Sprintf("%s of worker %d", name, o.worker)
}

// orderLog writes an order log beside another observer. Its methods are called under the server's lock, but for finish.
type orderLog struct {
	ps.Observer
	mu  sync.Mutex
	end bool // what comes after the end, such as a decision about the last epoch, changes nothing any more
	out *bufio.Writer
	buf []byte
	err error // of the first write that failed; nothing is written after it
}

var (
	_ ps.Recorder = (*orderLog)(nil)
	_ ps.Rewinder = (*orderLog)(nil)
)

func newOrderLog(w io.Writer, beside ps.Observer) *orderLog {
	l := &orderLog{Observer: beside, out: bufio.NewWriterSize(w, 1<<15)}
	_, l.err = l.out.WriteString(orderMagic)
	return l
}

// kinds of the server's calls in the log.
func orderKind(k ps.CallKind) uint8 {
	switch k {
	case ps.CallPull:
		return orderPull
	case ps.CallCommit:
		return orderCommit
	case ps.CallNext:
		return orderNext
	case ps.CallWithdraw:
		return orderWithdraw
	case ps.CallSteer:
		return orderSteer
	}
	return orderStop
}

// Took implements ps.Recorder.
func (l *orderLog) Took(c ps.Call) {
	l.write(order{kind: orderKind(c.Kind), worker: c.Worker, steps: c.Steps, staleness: c.Staleness, steering: c.Steering})
}

// Membership implements ps.Observer.
func (l *orderLog) Membership(w ps.Worker, incarnation uint64, joined bool, why string) {
	o := order{kind: orderLeave, worker: w}
	if joined {
		o.kind = orderJoin
	}
	l.write(o)
	l.Observer.Membership(w, incarnation, joined, why)
}

// Rewound implements ps.Rewinder. An order log has no way to say it.
func (l *orderLog) Rewound(to *ps.Snapshot) {
	if l.err == nil {
		l.err = errWentBack
	}
	if r, ok := l.Observer.(ps.Rewinder); ok {
		r.Rewound(to)
	}
}

func (l *orderLog) write(o order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.end {
		l.put(o)
	}
}

// put writes a record; l is locked.
func (l *orderLog) put(o order) {
	if l.err != nil {
		return
	}
	if o.kind == orderSteer {
		l.buf = binary.AppendUvarint(l.buf[:0], orderPull)
		l.buf = binary.LittleEndian.AppendUint64(l.buf, math.Float64bits(o.steering.Rate))
		l.buf = binary.AppendUvarint(l.buf, uint64(max(0, o.steering.Epochs)))
		_, l.err = l.out.Write(l.buf)
		return
	}
	l.buf = binary.AppendUvarint(l.buf[:0], uint64(o.kind)+8*uint64(o.worker+1))
	if o.kind == orderCommit {
		l.buf = binary.AppendUvarint(l.buf, uint64(max(0, o.steps)))
		l.buf = binary.AppendUvarint(l.buf, o.staleness)
	}
	_, l.err = l.out.Write(l.buf)
}

// finish writes the end, of a run that came to one.
func (l *orderLog) finish(version uint64, centre []float32) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(order{kind: orderEnd, worker: -1})
	l.end = true
	if l.err == nil {
		l.buf = binary.AppendUvarint(l.buf[:0], version)
		_, l.err = l.out.Write(append(l.buf, digest(centre)...))
	}
	if l.err == nil {
		l.err = l.out.Flush()
	}
	if l.err == errWentBack {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: "the order log of the run is of no use", Err: l.err,
			Hint: "run again to have one; the model is not affected"}
	}
	if l.err != nil {
		return &pipeline.Error{Kind: pipeline.NoSpace, Message: "the order log of the run could not be written", Err: l.err,
			Hint: "make room, or run without it; the model is not affected"}
	}
	return nil
}

var errWentBack = errors.New("the run lost a data server and went back to an earlier state")

// digest is the SHA-256 of the bits of a vector.
func digest(x []float32) []byte {
	h := sha256.New()
	var block [4096]byte
	for len(x) > 0 {
		n := min(len(x), len(block)/4)
		for i, v := range x[:n] {
			binary.LittleEndian.PutUint32(block[4*i:], math.Float32bits(v))
		}
		_, _ = h.Write(block[:4*n]) // never fails
		x = x[n:]
	}
	return h.Sum(nil)
}

// orders is an order log that was read.
type orders struct {
	all     []order
	version uint64
	digest  []byte
}

// readOrders reads an order log. It trusts nothing about the bytes.
func readOrders(r io.Reader) (orders, error) {
	bad := func(format string, args ...any) (orders, error) {
		return orders{}, &pipeline.Error{Kind: pipeline.Corrupt, Message: "order log: " + fmt.Sprintf(format, args...),
			Hint: "only a run that came to its end has a whole log"}
	}
	in := bufio.NewReader(r)
	magic := make([]byte, len(orderMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != orderMagic {
		return bad("it does not begin with %q", orderMagic)
	}
	var log orders
	for {
		tag, err := binary.ReadUvarint(in)
		if err != nil {
			return bad("it breaks off after %d records", len(log.all))
		}
		o := order{kind: uint8(tag % 8), worker: ps.Worker(tag/8) - 1}
		if tag == orderPull {
			o.kind = orderSteer
		}
		if tag/8 > math.MaxInt32 || (o.worker < 0) != (o.kind == orderEnd || o.kind == orderStop || o.kind == orderSteer) {
			return bad("record %d has kind %d and worker %d", len(log.all), o.kind, o.worker)
		}
		switch o.kind {
		case orderEnd:
			if log.version, err = binary.ReadUvarint(in); err != nil {
				return bad("it breaks off in its last record")
			}
			log.digest = make([]byte, sha256.Size)
			if _, err := io.ReadFull(in, log.digest); err != nil {
				return bad("it breaks off in its last record")
			}
			if _, err := in.ReadByte(); err != io.EOF {
				return bad("it goes on after its end")
			}
			return log, nil
		case orderCommit:
			steps, err := binary.ReadUvarint(in)
			if err == nil {
				o.staleness, err = binary.ReadUvarint(in)
			}
			if err != nil || steps > math.MaxInt32 {
				return bad("it breaks off after %d records", len(log.all))
			}
			o.steps = int(steps)
		case orderSteer:
			var rate [8]byte
			_, err := io.ReadFull(in, rate[:])
			var epochs uint64
			if err == nil {
				epochs, err = binary.ReadUvarint(in)
			}
			o.steering = ps.Steering{Rate: math.Float64frombits(binary.LittleEndian.Uint64(rate[:])), Epochs: int(min(epochs, math.MaxInt32))}
			if r := o.steering.Rate; err != nil || epochs > math.MaxInt32 || !(r >= 0) || math.IsInf(r, 1) {
				return bad("it breaks off after %d records, or tells workers what cannot be", len(log.all))
			}
		}
		log.all = append(log.all, o)
	}
}
