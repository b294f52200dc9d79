package psrpc

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

// chop cuts bytes into buffers of n, as the transport does.
func chop(b []byte, n int) mem.BufferSlice {
	var out mem.BufferSlice
	for part := range slices.Chunk(b, n) {
		out = append(out, mem.SliceBuffer(part))
	}
	return out
}

// A vector arrives as it was sent, whatever pieces the transport makes of it, with and without a copy on the way.
func TestVectorCrossesTheWire(t *testing.T) {
	x := make([]float32, 1000)
	for i := range x {
		x[i] = float32(i)*0.3 - 7
	}
	x[17] = float32(math.NaN())
	for _, pool := range []*framePool{nil, new(framePool)} {
		for _, size := range []int{1, 3, 9, 10, 64, 5000} {
			in := incoming{vector: make([]float32, len(x))}
			for lo := 0; lo < len(x); lo += 300 {
				b, err := codec{}.Marshal(&outgoing{offset: lo, floats: x[lo:min(lo+300, len(x))], pool: pool})
				if err != nil {
					t.Fatal(err)
				}
				if err := (codec{}).Unmarshal(chop(b.Materialize(), size), &in); err != nil {
					t.Fatal(err)
				}
				b.Free()
			}
			for i := range x {
				if math.Float32bits(x[i]) != math.Float32bits(in.vector[i]) {
					t.Fatalf("buffers of %d: element %d is %v, was %v", size, i, in.vector[i], x[i])
				}
			}
		}
	}
}

// Frames that are out of order, too long, broken or of the wrong kind are refused with kind corrupt and change nothing
// beyond the vector.
func TestBadFramesAreRefused(t *testing.T) {
	frame := func(offset, floats int) []byte {
		b, err := codec{}.Marshal(&outgoing{offset: offset, floats: make([]float32, floats)})
		if err != nil {
			t.Fatal(err)
		}
		return b.Materialize()
	}
	control, err := codec{}.Marshal(&outgoing{control: &pspb.Pull{Version: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":        {},
		"head only":    frame(0, 1)[:dataHead],
		"cut":          frame(0, 2)[:dataHead+5],
		"short head":   frame(0, 1)[:4],
		"too long":     frame(0, 9),
		"wrong offset": frame(3, 1),
		"control":      append(control.Materialize(), make([]byte, 20)...),
	} {
		in := incoming{vector: make([]float32, 8)}
		err := codec{}.Unmarshal(chop(b, 7), &in)
		if in.filled != 0 {
			t.Errorf("%s: %d elements taken", name, in.filled)
		}
		kind(t, err, "corrupt")
	}
	kind(t, codec{}.Unmarshal(chop(frame(0, 1), 7), &incoming{control: &pspb.Pull{}}), "corrupt")
	if _, err := (codec{}).Marshal(7); err == nil {
		t.Error("the codec takes anything")
	}
	if err := (codec{}).Unmarshal(nil, new(int)); err == nil {
		t.Error("the codec gives anything")
	}
}

func FuzzIncoming(f *testing.F) {
	b, err := codec{}.Marshal(&outgoing{floats: []float32{1, 2, 3}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Materialize(), 5, false)
	b, err = codec{}.Marshal(&outgoing{control: toPush(ps.Commit{Seq: 3, Positions: []ps.Position{{Unit: 1, Cursor: []byte{1}}}})})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Materialize(), 3, true)
	for _, codec := range lossy() {
		fb := &feedback{codec: codec}
		fb.begin(1, 10)
		frame := &outgoing{codec: codec, count: 10, packed: fb.piece(0, make([]float32, 10)), pool: new(framePool)}
		f.Add(frame.coded().Materialize(), 5, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, size int, control bool) {
		in := incoming{vector: make([]float32, 10)}
		var push pspb.Push
		if control {
			in.control = &push
		}
		err := codec{}.Unmarshal(chop(b, max(1, min(size, 1<<16))), &in)
		if err == nil && control {
			fromPush(&push)
		}
		if in.filled > len(in.vector) || err == nil && !control && in.filled == 0 {
			t.Errorf("%d elements taken, %v", in.filled, err)
		}
	})
}

// FuzzMessages hands on what the other side may say, whatever it is: nothing panics, and what is passed on can be sent.
func FuzzMessages(f *testing.F) {
	for _, m := range []proto.Message{
		&pspb.JoinReply{Incarnation: 1, HeartbeatMs: math.MaxInt64 / 2}, &pspb.JoinReply{Incarnation: 1, HeartbeatMs: 2000, Parameters: 3},
		toPush(ps.Commit{Seq: 3, Delta: []float32{1}, Positions: []ps.Position{{Unit: 1, Cursor: []byte{1}}}}), toPull(ps.Ack{Version: 1}, nil),
		toNext(ps.Unit{ID: 1}, ps.Work), toFault(ps.ErrFenced), &pspb.LeaveRequest{Worker: 1, Why: "a" + strings.Repeat("é", 150)},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	sendable := func(t *testing.T, m proto.Message) {
		if _, err := proto.Marshal(m); err != nil {
			t.Errorf("%v: %v", m, err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var life pspb.JoinReply
		if proto.Unmarshal(b, &life) == nil && credible(&life) == nil {
			time.NewTicker(time.Duration(life.HeartbeatMs) * time.Millisecond).Stop()
		}
		var push pspb.Push
		if proto.Unmarshal(b, &push) == nil {
			sendable(t, toPush(fromPush(&push)))
			sendable(t, toPull(ps.Ack{Rejected: clip(push.Rejected)}, nil))
		}
		var pull pspb.Pull
		if proto.Unmarshal(b, &pull) == nil {
			sendable(t, toPull(fromPull(&pull)))
		}
		var next pspb.NextReply
		if proto.Unmarshal(b, &next) == nil {
			if u, turn, err := fromNext(&next); err == nil {
				sendable(t, toNext(u, turn))
			}
		}
		var leave pspb.LeaveRequest
		if proto.Unmarshal(b, &leave) == nil {
			sendable(t, &pspb.Fault{Message: clip(leave.Why)})
		}
		sendable(t, toFault(errors.New(string(b))))
	})
}

// A commit, an ack, a unit and an error come out of the wire as they went in.
func TestMessagesKeepEverything(t *testing.T) {
	c := ps.Commit{Worker: 3, Incarnation: 1 << 40, Seq: 5, Base: 6, Steps: 7, Samples: 8,
		Positions: []ps.Position{{Unit: 9, Cursor: []byte{1, 2}}, {Unit: 10, Done: true}},
		Report:    ps.Report{Epoch: 1, Loss: 0.5, Metrics: []float64{1, 2}, ComputeS: 3, WaitS: 4, FeedS: 5}}
	got := fromPush(toPush(c))
	if !slices.EqualFunc(got.Positions, c.Positions, func(a, b ps.Position) bool {
		return a.Unit == b.Unit && a.Done == b.Done && slices.Equal(a.Cursor, b.Cursor)
	}) || !slices.Equal(got.Report.Metrics, c.Report.Metrics) {
		t.Errorf("got %+v", got)
	}
	got.Positions, c.Positions, got.Report.Metrics, c.Report.Metrics = nil, nil, nil, nil
	if got.Worker != c.Worker || got.Incarnation != c.Incarnation || got.Seq != c.Seq || got.Base != c.Base || got.Steps != c.Steps ||
		got.Samples != c.Samples || got.Report.Loss != c.Report.Loss || got.Report.FeedS != c.Report.FeedS || got.Report.Epoch != c.Report.Epoch {
		t.Errorf("got %+v, want %+v", got, c)
	}
	a := ps.Ack{Version: 1, Staleness: 2, Duplicate: true, Rejected: "NaN", Stop: true}
	if got, err := fromPull(toPull(a, nil)); got != a || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	u := ps.Unit{ID: 5, Epoch: 1, Shard: 2, Cursor: []byte{1}, Pull: true}
	for _, turn := range []ps.Turn{ps.Work, ps.Flush, ps.Done} {
		v, got, err := fromNext(toNext(u, turn))
		if v.ID != u.ID || v.Epoch != u.Epoch || v.Shard != u.Shard || !v.Pull || !slices.Equal(v.Cursor, u.Cursor) || got != turn || err != nil {
			t.Errorf("got %+v, %d, %v", v, got, err)
		}
	}
}

// Printing a ticket shows nothing of it; Text does, and reads back.
func TestTicketHidesItself(t *testing.T) {
	k := NewTicket()
	back, err := ParseTicket(k.Text())
	if err != nil || back != k || k == NewTicket() {
		t.Errorf("%v", err)
	}
	text, err := k.MarshalText()
	if err != nil || k.String() != "[ticket]" || k.GoString() != "[ticket]" || string(text) != "[ticket]" {
		t.Errorf("it shows")
	}
	for _, bad := range []string{"", "00", k.Text() + "00", "zz" + k.Text()[2:]} {
		_, err := ParseTicket(bad)
		kind(t, err, "denied")
	}
}
