package psrpc

import (
	"context"
	"fmt"
	"io"
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
}

func (u *upstream) close() {
	if u != nil {
		u.cancel()
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
	var ack ps.Ack
	err := c.retry(ctx, func() (err error) {
		ack, err = c.try(ctx, commit, dst)
		return err
	})
	return ack, err
}

// try makes the exchange once, on the open stream or a new one. After an error of the connection the stream is gone.
func (c *Client) try(ctx context.Context, commit ps.Commit, dst []float32) (ps.Ack, error) {
	if c.up == nil {
		// The stream outlives this call, so it cannot run on its ctx.
		long, cancel := context.WithCancel(context.WithoutCancel(ctx))
		stop := context.AfterFunc(ctx, cancel)
		s, err := c.conn.NewStream(long, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, methodExchange)
		if !stop() || err != nil {
			cancel()
			if err == nil {
				err = ctx.Err()
			}
			return ps.Ack{}, err
		}
		c.up = &upstream{stream: s, cancel: cancel, pool: new(framePool)}
	}
	up := c.up
	stop := context.AfterFunc(ctx, up.cancel)
	pull, err := up.exchange(commit, dst, &c.packer)
	if !stop() || err != nil {
		up.close()
		c.up = nil
	}
	if err != nil {
		return ps.Ack{}, err
	}
	return fromPull(pull)
}

// exchange sends the commit and receives the answer. An error means that the stream cannot be used any more.
func (u *upstream) exchange(commit ps.Commit, dst []float32, p *packer) (*pspb.Pull, error) {
	push := toPush(commit)
	push.ReplyCodec = uint32(p.reply())
	err := u.stream.SendMsg(&outgoing{control: push})
	if err == nil {
		err = p.send(u.stream, commit.Seq, commit.Delta, u.pool)
	}
	if err != nil && err != io.EOF { // io.EOF: the server ended the stream; RecvMsg gives the reason
		return nil, err
	}
	pull := new(pspb.Pull)
	if err := u.stream.RecvMsg(&incoming{control: pull}); err != nil {
		if err == io.EOF {
			err = status.Error(codes.Unavailable, "the server ended the stream")
		}
		return nil, err
	}
	if pull.Fault == nil {
		start := time.Now()
		if err := receive(u.stream, dst, &u.in); err != nil {
			return nil, err
		}
		p.measured(len(dst), time.Since(start))
	}
	return pull, nil
}
