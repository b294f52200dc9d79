package psrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

// upstream is the stream that a worker's commits go over, one after the other.
type upstream struct {
	stream grpc.ClientStream
	cancel context.CancelFunc
	pool   *framePool
	in     incoming
	wait   time.Duration // that a call lasts without a message in either direction until the stream is given up; see patient
	late   *time.Timer   // of the call that goes on; nil: it may last
}

func (u *upstream) close() {
	if u != nil {
		u.cancel()
	}
}

// patient runs a call that is given up when nothing moves for wait: a vector may take its time on a slow link. It says whether the
// stream can be used for another call.
func (u *upstream) patient(ctx context.Context, wait time.Duration, call func() error) (again bool, err error) {
	stop := context.AfterFunc(ctx, u.cancel)
	u.wait, u.late = wait, time.AfterFunc(wait, u.cancel)
	err = call()
	inTime := u.late.Stop()
	return stop() && inTime && err == nil, err
}

// SendMsg is that of the stream.
func (u *upstream) SendMsg(m any) error {
	err := u.stream.SendMsg(m)
	u.moved()
	return err
}

// RecvMsg is that of the stream.
func (u *upstream) RecvMsg(m any) error {
	err := u.stream.RecvMsg(m)
	u.moved()
	return err
}

func (u *upstream) moved() {
	if u.late != nil && u.late.Stop() { // else it is given up
		u.late.Reset(u.wait)
	}
}

// Exchange pushes a commit and fills dst with the reply; see ps.Server.Exchange. c.Delta and dst may be the same slice only
// when the caller does not want to repeat the commit after an error.
func (c *Client) Exchange(ctx context.Context, commit ps.Commit, dst []float32) (ps.Ack, error) {
	c.exchange.Lock()
	defer c.exchange.Unlock()
	if err := c.mine(commit.Worker, commit.Incarnation); err != nil {
		return ps.Ack{}, err
	}
	if n := c.Len(); len(dst) != n || commit.Delta != nil && len(commit.Delta) != n {
		return ps.Ack{}, &ps.Error{Kind: "internal", Err: ps.ErrLength, Hint: "worker and server must be given the same model",
			Message: fmt.Sprintf("worker %d: delta of %d and reply buffer of %d elements, the server has %d parameters", commit.Worker, len(commit.Delta), len(dst), n)}
	}
	if c.sharded != nil {
		return c.spread(ctx, commit, dst)
	}
	commit.Report.Wire = ps.Wire{Codec: c.packer.name(), Link: c.packer.link} // the server counts
	return c.whole(ctx, toPush(commit), commit.Delta, dst)
}

// spread exchanges with the data servers. They do not know when a life is over and wait for decrees that never come: the end of
// the session ends that, whether it comes before the exchange or during it.
func (c *Client) spread(ctx context.Context, commit ps.Commit, dst []float32) (ps.Ack, error) {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.abort = cancel
	if c.over || c.closed {
		cancel()
	}
	c.mu.Unlock()
	ack, err := c.sharded.Exchange(within, commit, dst, c.decide)
	c.mu.Lock()
	c.abort = nil
	closed := c.closed
	c.mu.Unlock()
	if err == nil || ctx.Err() != nil || closed || within.Err() == nil && !unreachable(err) {
		return ack, err
	}
	// Ask the coordinator what is wrong. It answers when a lost data server has been replaced.
	if _, why := c.whole(ctx, &pspb.Push{Worker: int32(commit.Worker), Incarnation: commit.Incarnation}, nil, nil); why != nil {
		return ps.Ack{}, why
	}
	return ack, err
}

func unreachable(err error) bool {
	var e *ps.Error
	return errors.As(err, &e) && e.Kind == "unreachable"
}

// decide asks the coordinator about a commit whose delta is at the data servers.
func (c *Client) decide(ctx context.Context, commit ps.Commit, rejected string) (ps.Ack, error) {
	commit.Report.Wire = c.wire()
	push := toPush(commit)
	push.Staged, push.Rejected, push.HasDelta = push.HasDelta, rejected, false
	return c.whole(ctx, push, nil, nil)
}

// whole makes one exchange with the server that was joined.
func (c *Client) whole(ctx context.Context, push *pspb.Push, delta, dst []float32) (ps.Ack, error) {
	var ack ps.Ack
	err := c.retry(ctx, func() (err error) {
		ack, err = c.try(ctx, push, delta, dst)
		return err
	})
	return ack, err
}

// try makes the exchange once, on the open stream or a new one. After an error of the connection the stream is gone.
func (c *Client) try(ctx context.Context, push *pspb.Push, delta, dst []float32) (ps.Ack, error) {
	if c.up == nil {
		var err error
		if c.up, err = open(ctx, c.conn, methodExchange); err != nil {
			return ps.Ack{}, err
		}
	}
	var pull *pspb.Pull
	again, err := c.up.patient(ctx, c.opts.resend(), func() (err error) { // retry sends it again, and it still counts once
		pull, err = c.up.exchange(push, delta, dst, &c.packer)
		return err
	})
	if !again {
		c.up.close()
		c.up = nil
	}
	if err != nil {
		return ps.Ack{}, err
	}
	return fromPull(pull)
}

// exchange sends the commit and receives the answer. An error means that the stream cannot be used any more.
func (u *upstream) exchange(push *pspb.Push, delta, dst []float32, p *packer) (*pspb.Pull, error) {
	push.ReplyCodec = uint32(p.reply())
	err := u.SendMsg(&outgoing{control: push})
	if err == nil {
		err = p.send(u, push.Seq, delta, u.pool)
	}
	if err != nil && err != io.EOF { // io.EOF: the server ended the stream; RecvMsg gives the reason
		return nil, err
	}
	pull := new(pspb.Pull)
	if err := u.RecvMsg(&incoming{control: pull}); err != nil {
		if err == io.EOF {
			err = status.Error(codes.Unavailable, "the server ended the stream")
		}
		return nil, err
	}
	if pull.Fault == nil {
		if err := p.timed(u, dst); err != nil {
			return nil, err
		}
	}
	return pull, nil
}

// wire says how the deltas that were staged last have travelled, and how the reply will.
func (c *Client) wire() ps.Wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	var w ps.Wire
	for _, b := range c.blocks {
		w.Sent += b.packer.sent
		b.packer.sent = 0
		w.Received += replySize(b.size, b.packer.reply())
		if name := b.packer.name(); w.Codec == "" {
			w.Codec = name
		} else if !strings.Contains(w.Codec, name) { // links differ, and so do the choices
			w.Codec += "+" + name
		}
		if l := b.packer.link; l > 0 && (w.Link == 0 || l < w.Link) {
			w.Link = l
		}
	}
	return w
}
