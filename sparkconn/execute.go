package sparkconn

import (
	"context"
	"errors"
	"io"
	"strings"

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

	stream grpc.ClientStream
	last   string // id of the last response
	began  bool   // a response has come
	fresh  bool   // a response has come on this stream

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
	c := &call{s: s, req: req, op: uuid.NewString(), what: what, wait: newBackoff(s.patience)}
	req.set("operation_id", c.op)
	if tag != "" {
		req.append("tags", tag)
	}
	req.add("request_options").in("reattach_options").setBool("reattachable", true)
	req.Set(req.field("plan"), protoreflect.ValueOfMessage(plan.Message))
	err := c.run(ctx, on)
	if c.began || err != nil {
		c.release(ctx)
	}
	return withStatement(err, plan)
}

func (c *call) run(ctx context.Context, on func(message) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the last stream
	if err := c.start(ctx); err != nil {
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
func (c *call) start(ctx context.Context) error { return c.open(ctx, "ExecutePlan", c.req) }

// reattach continues behind the last response.
func (c *call) reattach(ctx context.Context) error {
	req := c.s.request("ReattachExecuteRequest").set("operation_id", c.op)
	if c.last != "" {
		req.set("last_response_id", c.last)
	}
	return c.open(ctx, "ReattachExecute", req)
}

func (c *call) open(ctx context.Context, method string, req message) error {
	stream, err := c.s.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ServerStreams: true}, service+method)
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
		if err = next(ctx); err == nil {
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
// failure does not matter: the server drops what nobody is attached to after five minutes.
func (c *call) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
	defer cancel()
	req := c.s.request("ReleaseExecuteRequest").set("operation_id", c.op)
	req.in("release_all")
	_ = c.s.conn.Invoke(ctx, service+"ReleaseExecute", req.wire(), newMessage("ReleaseExecuteResponse").wire())
}
