package sparkconn

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"dkpipe/pipeline"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Release pacing: after so many responses or bytes the server is told that it may forget what was received. Spark
// forgets by itself beyond 10 MiB; others keep a fixed number of batches.
const (
	releaseEvery = 64
	releaseBytes = 8 << 20
)

// call is one operation on the server: a plan that is executed once, over as many streams as it takes.
type call struct {
	s    *Session
	req  message
	op   string
	what string

	streams context.Context // of all streams: ends after the operation was released
	stream  grpc.ClientStream
	last    string // id of the last response
	began   bool   // a response has come
	works   bool   // and says that the plan's job runs; atWork is closed
	atWork  chan struct{}
	fresh   bool // a response has come on this stream

	responses, bytes int // since the last release
	wait             *backoff
}

// execute runs a plan. on is called with every response, in order, in this goroutine; the message belongs to on. Only a nil error
// means that the server has completed the operation: whatever on saw before another error is no result.
//
// The operation is reattachable: a stream that breaks, or that the server ends after its limit of time or bytes, is
// continued where it stopped. When the context ends or on fails, the operation is released, which ends its job.
func (s *Session) execute(ctx context.Context, what, tag string, plan message, on func(message) error) error {
	req := s.request("ExecutePlanRequest")
	c := &call{s: s, req: req, op: uuid.NewString(), what: what, wait: newBackoff(s.patience), atWork: make(chan struct{})}
	req.set("operation_id", c.op)
	if tag != "" {
		req.append("tags", tag)
	}
	req.add("request_options").in("reattach_options").setBool("reattachable", true)
	req.Set(req.field("plan"), protoreflect.ValueOfMessage(plan.Message))
	if ctx.Err() != nil {
		return ended(ctx, what)
	}
	on = watched(ctx, what, on)
	streams, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	given := make(chan bool, 1)
	stop := context.AfterFunc(ctx, func() {
		given <- c.giveUp(streams)
		end()
	})
	err := c.run(ctx, streams, on)
	end()
	if released := !stop() && <-given; !released && (c.began || err != nil) {
		_, _ = c.release(ctx)
	}
	return withStatement(err, plan)
}

// jobWait is how long an operation that shall end may take to show its job, blindWait how long where the server shows none
// (Spark 3.5), giveUpTime how long it is tried to end one
// that the server does not know yet, and giveUpWait the time between tries.
const (
	jobWait    = 5 * time.Second
	blindWait  = time.Second
	giveUpTime = 10 * time.Second
	giveUpWait = 20 * time.Millisecond
)

// giveUp releases the operation of a caller whose context is over, while its stream is still open. It gives false when
// the server never knew the operation, or does not any more.
//
// A server can be asked once to end an operation. Asked before it knows the operation it does nothing, and asked while
// it plans the job it was seen to lose the interrupt in one of two cases: then the job runs to its end for nobody. A job
// that runs ends at once. So giveUp waits, for a while, until the server reports on the job.
func (c *call) giveUp(streams context.Context) bool {
	wait := jobWait
	if strings.HasPrefix(c.s.version, "3.") {
		wait = blindWait
	}
	limit := time.NewTimer(min(wait, c.s.patience))
	defer limit.Stop()
	select {
	case <-c.atWork:
	case <-streams.Done():
	case <-limit.C:
	}
	until := time.Now().Add(giveUpTime)
	for {
		known, err := c.release(streams)
		slow := status.Code(err) == codes.DeadlineExceeded
		if known || err != nil && !slow || streams.Err() != nil || time.Now().After(until) {
			return known
		}
		t := time.NewTimer(giveUpWait)
		select {
		case <-t.C:
		case <-streams.Done():
		}
		t.Stop()
	}
}

// run plays the operation to its end. Its streams have a context of their own, which outlives the caller's: see giveUp.
func (c *call) run(ctx, streams context.Context, on func(message) error) error {
	c.streams = streams
	if err := c.start(); err != nil {
		if err := c.repair(ctx, err); err != nil {
			return err
		}
	}
	for {
		rep := newMessage("ExecutePlanResponse")
		err := c.stream.RecvMsg(rep.wire())
		if err == nil {
			done, err := c.take(ctx, rep, on)
			if done || err != nil {
				return err
			}
			continue
		}
		if err := c.repair(ctx, err); err != nil {
			return err
		}
	}
}

// take handles one response; done says that the operation is complete.
func (c *call) take(ctx context.Context, rep message, on func(message) error) (done bool, err error) {
	if op := rep.str("operation_id"); op != "" && op != c.op {
		return false, &pipeline.Error{Kind: pipeline.Internal, Message: c.what + ": Spark at " + c.s.remote.String() + " answered for another operation"}
	}
	if err := c.s.sameServer(rep); err != nil {
		return false, err
	}
	c.began, c.fresh = true, true
	c.wait.reset()
	if id := rep.str("response_id"); id != "" {
		c.last = id
	}
	kind := rep.choice("response_type")
	if _, reports := progressOf(rep, 0); !c.works && (reports || kind == "arrow_batch") {
		c.works = true
		close(c.atWork)
	}
	if kind == "result_complete" {
		return true, nil
	}
	if kind == "arrow_batch" {
		batch, _ := rep.has("arrow_batch")
		c.bytes += len(batch.Get(batch.field("data")).Bytes())
	}
	if err := on(rep); err != nil {
		return false, err
	}
	if c.responses++; c.responses >= releaseEvery || c.bytes >= releaseBytes {
		c.responses, c.bytes = 0, 0
		c.releaseUntil(ctx)
	}
	return false, nil
}

// start sends the plan.
func (c *call) start() error { return c.open("ExecutePlan", c.req) }

// reattach continues behind the last response.
func (c *call) reattach() error {
	req := c.s.request("ReattachExecuteRequest").set("operation_id", c.op)
	if c.last != "" {
		req.set("last_response_id", c.last)
	}
	return c.open("ReattachExecute", req)
}

func (c *call) open(method string, req message) error {
	stream, err := c.s.conn.NewStream(c.streams, &grpc.StreamDesc{StreamName: method, ServerStreams: true}, service+method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req.wire()); err != nil && err != io.EOF { // io.EOF: RecvMsg says why
		return err
	}
	c.stream, c.fresh = stream, false
	return stream.CloseSend()
}

// repair opens a new stream after err, or gives the error that ends the operation.
func (c *call) repair(ctx context.Context, err error) error {
	for {
		if ctx.Err() != nil {
			return c.s.fail(ctx, c.what, err)
		}
		next := c.reattach
		switch {
		case errors.Is(err, io.EOF): // the server's limit for one stream
			if !c.fresh && !c.wait.pause(ctx, err) {
				return c.s.fail(ctx, c.what, status.Error(codes.Unavailable, "stream after stream ends without a response"))
			}
		case lost(err):
			if c.began {
				return &pipeline.Error{Kind: pipeline.Unreachable, Message: c.what + ": Spark at " + c.s.remote.String() + " has lost the operation in the middle",
					Hint: "run again; a server that was restarted or short of memory forgets what it was doing", Err: parse(err)}
			}
			if !c.wait.pause(ctx, err) {
				return c.s.fail(ctx, c.what, err)
			}
			next = c.start
		case status.Code(err) == codes.Unavailable, strings.Contains(err.Error(), "INVALID_CURSOR.DISCONNECTED"):
			if !c.wait.pause(ctx, err) {
				return c.s.fail(ctx, c.what, err)
			}
		default:
			return c.s.fail(ctx, c.what, err)
		}
		if err = next(); err == nil {
			return nil
		}
	}
}

// lost reports whether the server does not know the operation: by Spark's error class, or in the words of Sail.
func lost(err error) bool {
	s := err.Error()
	return strings.Contains(s, "INVALID_HANDLE.OPERATION_NOT_FOUND") || strings.Contains(s, "INVALID_HANDLE.SESSION_NOT_FOUND") ||
		strings.Contains(s, "operation not found")
}

// releaseUntil lets the server forget what was received. A failure does not matter: the next one frees more.
func (c *call) releaseUntil(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, detachedTimeout)
	defer cancel()
	req := c.s.request("ReleaseExecuteRequest").set("operation_id", c.op)
	req.in("release_until").set("response_id", c.last)
	_ = c.s.conn.Invoke(ctx, service+"ReleaseExecute", req.wire(), newMessage("ReleaseExecuteResponse").wire())
}

// release lets the server forget the operation, which also ends its job. It goes out although the context is over. A
// failure does not matter much: the server drops what nobody is attached to after five minutes. known says whether the
// server knew it.
func (c *call) release(ctx context.Context) (known bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
	defer cancel()
	req := c.s.request("ReleaseExecuteRequest").set("operation_id", c.op)
	req.in("release_all")
	rep := newMessage("ReleaseExecuteResponse")
	err = c.s.conn.Invoke(ctx, service+"ReleaseExecute", req.wire(), rep.wire())
	return err == nil && rep.str("operation_id") != "", err
}
