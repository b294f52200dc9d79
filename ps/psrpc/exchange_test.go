package psrpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

// slowStream is a stream whose messages take long, in both directions, and whose server takes long to answer.
type slowStream struct {
	grpc.ClientStream
	ctx           context.Context
	frame, answer time.Duration
}

func (s *slowStream) pass(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

func (s *slowStream) SendMsg(any) error { return s.pass(s.frame) }

func (s *slowStream) RecvMsg(m any) error {
	in := m.(*incoming)
	if in.control != nil {
		return s.pass(s.answer)
	}
	in.filled = min(in.filled+frameFloats, len(in.vector))
	return s.pass(s.frame)
}

// A commit on a slow link takes longer than a server may take to answer it, and is not sent again and again for that: only what
// does not move is given up.
func TestASlowLinkIsNotTakenForASilentOne(t *testing.T) {
	for _, c := range []struct {
		frame, answer time.Duration
		lost          bool
	}{{40 * time.Second, 50 * time.Second, false}, {time.Second, 61 * time.Second, true}, {61 * time.Second, time.Second, true}} {
		synctest.Test(t, func(t *testing.T) {
			const n = 3*frameFloats + 1
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			worker := &Client{}
			link := &slowStream{ctx: ctx, frame: c.frame, answer: c.answer}
			worker.up = &upstream{stream: link, cancel: cancel, pool: new(framePool)}
			start := time.Now()
			_, err := worker.try(t.Context(), &pspb.Push{HasDelta: true}, make([]float32, n), make([]float32, n))
			if lost := status.Code(err) == codes.Canceled && worker.up == nil; lost != c.lost || err != nil && !lost {
				t.Errorf("pieces of %v, an answer after %v: %v after %v", c.frame, c.answer, err, time.Since(start))
			}

			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			link.ctx = ctx
			data := &blocks{client: &Client{opts: ClientOptions{Retry: time.Nanosecond}}, up: &upstream{stream: link, cancel: cancel, pool: new(framePool)}}
			_, err = data.Stage(t.Context(), ps.Task{}, make([]float32, n))
			if (err != nil) != c.lost {
				t.Errorf("pieces of %v, an answer after %v: a data server: %v", c.frame, c.answer, err)
			}
		})
	}
}
