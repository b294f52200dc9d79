package psrpc

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

func toPush(c ps.Commit) *pspb.Push {
	p := &pspb.Push{
		Worker: int32(c.Worker), Incarnation: c.Incarnation, Seq: c.Seq, Base: c.Base, Steps: int64(c.Steps), Samples: c.Samples,
		HasDelta: c.Delta != nil,
	}
	if c.Seq == 0 {
		return p
	}
	for _, q := range c.Positions {
		p.Positions = append(p.Positions, &pspb.Position{Unit: int64(q.Unit), Cursor: q.Cursor, Done: q.Done})
	}
	r := c.Report
	p.Report = &pspb.Report{Epoch: int64(r.Epoch), Loss: r.Loss, Metrics: r.Metrics, ComputeS: r.ComputeS, WaitS: r.WaitS, FeedS: r.FeedS,
		Sent: r.Wire.Sent, Received: r.Wire.Received, Codec: r.Wire.Codec, Link: r.Wire.Link}
	return p
}

func fromPush(p *pspb.Push) ps.Commit {
	c := ps.Commit{
		Worker: ps.Worker(p.Worker), Incarnation: p.Incarnation, Seq: p.Seq, Base: p.Base, Steps: int(p.Steps), Samples: p.Samples,
	}
	for _, q := range p.Positions {
		c.Positions = append(c.Positions, ps.Position{Unit: int(q.GetUnit()), Cursor: q.GetCursor(), Done: q.GetDone()})
	}
	r := p.GetReport()
	c.Report = ps.Report{Epoch: int(r.GetEpoch()), Loss: r.GetLoss(), Metrics: r.GetMetrics(), ComputeS: r.GetComputeS(), WaitS: r.GetWaitS(), FeedS: r.GetFeedS(),
		Wire: ps.Wire{Sent: r.GetSent(), Received: r.GetReceived(), Codec: clip(r.GetCodec()), Link: r.GetLink()}}
	return c
}

func toPull(a ps.Ack, err error) *pspb.Pull {
	if err != nil {
		return &pspb.Pull{Fault: toFault(err)}
	}
	return &pspb.Pull{Version: a.Version, Staleness: a.Staleness, Duplicate: a.Duplicate, Rejected: a.Rejected, Dropped: a.Dropped, Window: int64(a.Window), Rate: a.Rate, Stop: a.Stop, Decree: a.Decree}
}

func fromPull(p *pspb.Pull) (ps.Ack, error) {
	if p.Fault != nil {
		return ps.Ack{}, fromFault(p.Fault)
	}
	return ps.Ack{Version: p.Version, Staleness: p.Staleness, Duplicate: p.Duplicate, Rejected: p.Rejected, Dropped: p.Dropped, Window: int(p.Window), Rate: p.Rate, Stop: p.Stop, Decree: p.Decree}, nil
}

func toNext(u ps.Unit, t ps.Turn) *pspb.NextReply {
	r := &pspb.NextReply{Unit: int64(u.ID), Epoch: int32(u.Epoch), Shard: int32(u.Shard), Cursor: u.Cursor, Pull: u.Pull, Rate: u.Rate}
	switch t {
	case ps.Work:
		r.Turn = pspb.NextReply_WORK
	case ps.Flush:
		r.Turn = pspb.NextReply_FLUSH
	default:
		r.Turn = pspb.NextReply_DONE
	}
	return r
}

func fromNext(r *pspb.NextReply) (ps.Unit, ps.Turn, error) {
	u := ps.Unit{ID: int(r.Unit), Epoch: int(r.Epoch), Shard: int(r.Shard), Pull: r.Pull, Rate: r.Rate}
	if len(r.Cursor) > 0 {
		u.Cursor = r.Cursor
	}
	switch r.Turn {
	case pspb.NextReply_WORK:
		return u, ps.Work, nil
	case pspb.NextReply_FLUSH:
		return u, ps.Flush, nil
	case pspb.NextReply_DONE:
		return u, ps.Done, nil
	}
	return u, ps.Done, malformed("turn %d", r.Turn)
}

// causes are the errors that a caller looks for with errors.Is, on either side of the wire.
func causes() map[pspb.Fault_Cause]error {
	return map[pspb.Fault_Cause]error{
		pspb.Fault_FENCED:     ps.ErrFenced,
		pspb.Fault_LENGTH:     ps.ErrLength,
		pspb.Fault_PROTOCOL:   ps.ErrProtocol,
		pspb.Fault_SUPERSEDED: ps.ErrSuperseded,
	}
}

func toFault(err error) *pspb.Fault {
	f := &pspb.Fault{Kind: "internal", Message: err.Error()}
	var k interface{ ErrorKind() string }
	if errors.As(err, &k) {
		f.Kind = k.ErrorKind()
	}
	var h interface{ ErrorHint() string }
	if errors.As(err, &h) {
		f.Hint = h.ErrorHint()
	}
	for code, cause := range causes() {
		if errors.Is(err, cause) {
			f.Cause = code
		}
	}
	defer func() { // names of files and the like need not be UTF-8, messages of protobuf have to be
		f.Kind, f.Message, f.Hint = strings.ToValidUTF8(f.Kind, "?"), strings.ToValidUTF8(f.Message, "?"), strings.ToValidUTF8(f.Hint, "?")
	}()
	var e *ps.Error
	if f.Cause != pspb.Fault_OTHER && errors.As(err, &e) {
		f.Message = e.Message // the other side puts the cause behind it again
	}
	return f
}

func fromFault(f *pspb.Fault) error {
	return &ps.Error{Kind: f.Kind, Message: f.Message, Hint: f.Hint, Err: causes()[f.Cause]}
}

// toStatus is an error of a call that has no field for faults.
func toStatus(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, ps.ErrSuspended):
		return status.Error(codesUnavailable, err.Error())
	}
	code := codes.FailedPrecondition
	f := toFault(err)
	switch {
	case f.Cause == pspb.Fault_FENCED:
		code = codes.Aborted
	case f.Kind == "denied":
		code = codes.Unauthenticated
	}
	s := status.New(code, err.Error())
	if detailed, derr := s.WithDetails(f); derr == nil {
		s = detailed
	}
	return s.Err()
}

// fromStatus gives the error that the other side had, or the status itself.
func fromStatus(err error) error {
	for _, d := range status.Convert(err).Details() {
		if f, ok := d.(*pspb.Fault); ok {
			return fromFault(f)
		}
	}
	return err
}
