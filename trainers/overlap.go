package trainers

import (
	"context"
	"time"

	"dkpipe/ps"
)

// ahead is what a worker needs to go on with its next window while the commit of the last one is on its way: a sender,
// and second copies of what is on the way. One commit is under way at most.
//
// A worker that goes on does not know the reply yet. It starts the next window from where its own commit alone would bring
// the centre; what others did is put under it when the reply arrives, and what the open window has learned in between is
// kept:
//
//	send:  u = Delta(x, base);  x = base = base + u
//	land:  x = reply + (x - base);  base = reply
//
// The open window's delta still started from the centre before, so its commit carries that version, and the staleness that
// the server sees is the true one.
type ahead struct {
	sender    sender
	flying    bool          // a commit is on its way
	flown     bool          // the last commit was sent this way
	reply     []float32     // the sender's while a commit is flying
	positions []ps.Position // of it
	cursors   []byte        // of them
}

// sender takes a commit to the server and brings the reply while somebody else computes.
type sender interface {
	fly(c ps.Commit, dst []float32)
	land() landing // of the commit that flew last
}

// landing is the end of an exchange.
type landing struct {
	ack  ps.Ack
	err  error
	took time.Duration
}

// start makes the sender: a goroutine, unless the server has one of its own. The function that it gives ends it, and the
// exchange that it is in.
func (a *ahead) start(ctx context.Context, srv Server) (stop func()) {
	if s, ok := srv.(sender); ok {
		a.sender = s
		return func() {}
	}
	p := &post{out: make(chan flight), in: make(chan landing, 1)}
	a.sender = p
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		for f := range p.out {
			start := time.Now()
			ack, err := srv.Exchange(ctx, f.commit, f.dst)
			p.in <- landing{ack, err, time.Since(start)} // has room: one is flying at most
		}
	}()
	return func() {
		cancel()
		close(p.out)
		<-ended
	}
}

// post is the sender that is a goroutine.
type post struct {
	out chan flight
	in  chan landing
}

type flight struct {
	commit ps.Commit
	dst    []float32
}

func (p *post) fly(c ps.Commit, dst []float32) { p.out <- flight{c, dst} }

func (p *post) land() landing { return <-p.in }

// commitAhead sends the open window off and starts the next one. It waits for the commit before.
func (w *worker) commitAhead(ctx context.Context) error {
	if err := w.land(); err != nil {
		return err
	}
	if w.stopped || w.steps == 0 { // the last one; or what it had went with a rejected one before
		return w.commit(ctx)
	}
	a := w.ahead
	w.seal()
	w.positions, a.positions = a.positions[:0], w.sent.Positions
	w.cursors, a.cursors = a.cursors[:0], w.cursors
	x, base := w.x, w.base[:len(w.x)]
	var zero float32 // unless some number is not finite
	for i, u := range w.delta[:len(x)] {
		v := base[i] + u
		x[i], base[i] = v, v
		zero += v - v
	}
	if zero != 0 { // the server will refuse it, and there is nothing to go on from before it has
		a.flown = false
		return w.send(ctx)
	}
	w.version = w.under
	a.flying, a.flown = true, true
	a.sender.fly(w.sent, a.reply)
	return nil
}

// land waits for the commit that is on its way, if there is one, and puts what others did under the open window.
func (w *worker) land() error {
	a := w.ahead
	if a == nil || !a.flying {
		return nil
	}
	start := w.cfg.clock()
	l := a.sender.land()
	w.waited(start)
	w.exchange += l.took
	a.flying = false
	if l.err != nil {
		return l.err
	}
	return w.rebase(l.ack)
}

// rebase goes on from the reply to a commit that was sent off.
func (w *worker) rebase(ack ps.Ack) error {
	reply := w.ahead.reply
	_, err := w.answered(ack)
	if ack.Rejected != "" { // whatever was wrong with it is in x as well: the open window is spent with it
		w.steps, w.samples, w.lossSum = 0, 0, 0
	}
	w.under = ack.Version
	if w.steps == 0 {
		w.version = ack.Version
		copy(w.x, reply)
	} else {
		x, base := w.x, w.base[:len(w.x)]
		for i, c := range reply[:len(x)] {
			x[i] = c + (x[i] - base[i])
		}
	}
	copy(w.base, reply)
	return err
}

// again sends a commit that was not answered once more, after the run was asked to stop.
func (w *worker) again(ctx context.Context) error {
	a := w.ahead
	if a == nil || !a.flown {
		return w.send(ctx)
	}
	if a.flying { // its exchange ends with the context that it has
		l := a.sender.land()
		a.flying = false
		if l.err == nil {
			return w.rebase(l.ack)
		}
	}
	ack, err := w.cfg.Server.Exchange(ctx, w.sent, a.reply)
	if err != nil {
		return err
	}
	return w.rebase(ack)
}
