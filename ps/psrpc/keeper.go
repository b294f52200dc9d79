package psrpc

import (
	"context"
	"crypto/rand"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

// KeeperOptions say where a data server is.
type KeeperOptions struct {
	Address       string
	Ticket        Ticket
	InsecureNoTLS bool // as for ClientOptions
	// Retry is how long a data server may be silent before it is lost. 0 means 30 s.
	Retry time.Duration
	// Lost is told once when the data server cannot be reached for Retry, or has not the parameters that it should have,
	// because it was started again. It may call ps.Server.Abort, or load another server and call Rollback.
	Lost func(error)
	// Run names the coordinator's run: a data server heeds one at a time. It is a secret of the coordinator's, such as 16 random
	// bytes: workers have the ticket, too, and must not command data servers. Job is what it makes its rule from (DataOptions.Rule).
	// Both may be empty for a server that was made with a rule.
	Run, Job []byte
}

// pingEvery is how often a data server hears of its coordinator when there is nothing to say, and the other way round.
const pingEvery = time.Second

// Keeper is the coordinator's way to one DataServer (ps.Keeper). Decrees go out in the order in which they come, as many
// together as have gathered, and again when the connection broke. Close it.
type Keeper struct {
	client   Client // its connection, and how it retries
	lost     func(error)
	run, job []byte
	epoch    uint64 // of what was loaded; 0: nothing yet

	mu    sync.Mutex
	queue []*order
	err   error         // of a lost server
	wake  chan struct{} // has room for one
	end   context.CancelFunc
	ended chan struct{}

	closing sync.Once
	closed  error // of closing
}

// order is a decree, or a load or a save that somebody waits for.
type order struct {
	epoch  uint64
	decree *pspb.Decree
	load   *ps.State
	id     []byte // of the load
	save   *ps.State
	end    bool
	done   chan error
}

var _ ps.Keeper = (*Keeper)(nil)

// DialKeeper prepares the way to a data server; the first order connects.
func DialKeeper(o KeeperOptions) (*Keeper, error) {
	if o.Retry <= 0 {
		o.Retry = defaultRetry
	}
	co := ClientOptions{Address: o.Address, Ticket: o.Ticket, InsecureNoTLS: o.InsecureNoTLS, Retry: o.Retry}
	conn, err := connect(co.target(o.Address))
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	k := &Keeper{lost: o.Lost, run: o.Run, job: o.Job, wake: make(chan struct{}, 1), end: end, ended: make(chan struct{})}
	k.client.opts, k.client.conn = co, conn
	go k.loop(ctx)
	return k, nil
}

// Load fills the data server.
func (k *Keeper) Load(s ps.State) error {
	o := &order{epoch: s.Epoch, load: &s, id: make([]byte, 16)}
	_, _ = rand.Read(o.id) // never fails
	return k.say(o)
}

// Apply queues a decree. At most one commit of each worker is in the queue, so that it does not grow beyond their number.
func (k *Keeper) Apply(epoch uint64, d ps.Decree) error {
	return k.add(&order{epoch: epoch, decree: toDecree(d)})
}

// Save puts an order for the state behind the decrees before it; wait waits for it.
func (k *Keeper) Save(s *ps.State) (wait func() error) {
	return k.order(&order{epoch: s.Epoch, save: s})
}

// Reach waits until the data server answers, whether or not it has parameters.
func (k *Keeper) Reach() error { return k.say(&order{}) }

// Dismiss tells the data server that the run is over, unless it takes longer than wait, and closes the keeper.
func (k *Keeper) Dismiss(wait time.Duration) error {
	said := make(chan error, 1)
	go func() { said <- k.say(&order{end: true}) }() // ends with Close at the latest
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-said:
	case <-t.C:
	}
	return k.Close()
}

// Fail gives the data server up: orders get err, those that wait and later ones.
func (k *Keeper) Fail(err error) {
	k.mu.Lock()
	if k.err == nil {
		k.err = err
	}
	k.mu.Unlock()
	k.end()
}

// say makes an order and waits for the answer.
func (k *Keeper) say(o *order) error { return k.order(o)() }

// order makes an order, and gives what waits for the answer.
func (k *Keeper) order(o *order) (wait func() error) {
	o.done = make(chan error, 1)
	if err := k.add(o); err != nil {
		return func() error { return err }
	}
	return func() error { return <-o.done }
}

func (k *Keeper) add(o *order) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	k.queue = append(k.queue, o)
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return nil
}

// Close ends the connection; orders that wait get an error. It may be called twice.
func (k *Keeper) Close() error {
	k.end()
	<-k.ended
	k.closing.Do(func() { k.closed = k.client.conn.Close() })
	return k.closed
}

func (k *Keeper) loop(ctx context.Context) {
	defer close(k.ended)
	var up *upstream
	defer func() { up.close() }()
	for {
		batch := k.next(ctx)
		if batch == nil {
			k.fail(batch, &ps.Error{Kind: "interrupted", Message: "data server at " + k.client.opts.Address + ": closed"})
			return
		}
		err := k.client.retry(ctx, func() (err error) {
			if up == nil {
				if up, err = open(ctx, k.client.conn, methodKeep); err != nil {
					return err
				}
			}
			stop := context.AfterFunc(ctx, up.cancel)
			err = up.tell(batch, k.run, k.job)
			if !stop() || err != nil {
				up.close()
				up = nil
			}
			return err
		})
		if given := k.failure(); given != nil && err != nil {
			err = given
		}
		last := batch[len(batch)-1]
		if err == nil && last.load != nil {
			k.epoch = last.epoch
		}
		if last.done != nil {
			last.done <- err
		}
		// What somebody waits for is his to judge, unless the server is not there at all; a decree must not be lost.
		if err != nil && last.done == nil {
			k.fail(batch, err)
			if ctx.Err() == nil && k.lost != nil {
				k.lost(err)
			}
			return
		}
	}
}

func (k *Keeper) failure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// fail ends everything that waits, now and later.
func (k *Keeper) fail(batch []*order, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.err = err
	}
	for _, o := range append(batch, k.queue...) {
		if o.done != nil {
			o.done <- k.err
		}
	}
	k.queue = nil
}

// next waits for orders and takes the decrees at the front together, or the one load or save that is there. nil: the end.
func (k *Keeper) next(ctx context.Context) []*order {
	const most = 256
	for {
		k.mu.Lock()
		n, idle := 0, len(k.queue) == 0
		for n < len(k.queue) && n < most && k.queue[n].decree != nil && k.queue[n].epoch == k.queue[0].epoch {
			n++
		}
		if n == 0 && len(k.queue) > 0 {
			n = 1
		}
		batch := k.queue[:n:n]
		k.queue = k.queue[n:]
		k.mu.Unlock()
		if !idle {
			return batch
		}
		var ping <-chan time.Time
		if k.epoch > 0 {
			ping = time.After(pingEvery)
		}
		select {
		case <-k.wake:
		case <-ping:
			return []*order{{epoch: k.epoch}}
		case <-ctx.Done():
			return nil
		}
	}
}

// tell sends a batch and receives the answer to it.
func (u *upstream) tell(batch []*order, run, job []byte) error {
	first := batch[0]
	msg := &pspb.Order{Epoch: first.epoch, Run: run, End: first.end}
	switch {
	case first.load != nil:
		l := first.load
		msg.Job, msg.Id = job, first.id
		msg.Load = &pspb.State{Version: l.Version, Elements: uint64(len(l.Centre)), Slots: uint64(len(l.Slots)), Block: uint64(l.Block)}
	case first.save != nil:
		msg.Save = &pspb.State{Elements: uint64(len(first.save.Centre)), Slots: uint64(len(first.save.Slots))}
	case first.decree != nil:
		for _, o := range batch {
			msg.Decrees = append(msg.Decrees, o.decree)
		}
	}
	err := u.stream.SendMsg(&outgoing{control: msg})
	if err == nil && first.load != nil {
		if err = send(u.stream, first.load.Centre, FP32, nil); err == nil {
			err = send(u.stream, first.load.Slots, FP32, nil)
		}
	}
	if err != nil && err != io.EOF {
		return err
	}
	kept := new(pspb.Kept)
	if err := u.stream.RecvMsg(&incoming{control: kept}); err != nil {
		if err == io.EOF {
			err = status.Error(codesUnavailable, "the data server ended the stream")
		}
		return err
	}
	if kept.Fault != nil {
		return fromFault(kept.Fault)
	}
	if first.save != nil {
		if kept.State == nil {
			return malformed("a state was due")
		}
		first.save.Version, first.save.Block = kept.State.Version, int(kept.State.Block)
		if err := receive(u.stream, first.save.Centre, &u.in); err != nil {
			return err
		}
		return receive(u.stream, first.save.Slots, &u.in)
	}
	return nil
}

// open starts a stream that outlives the call it is made in.
func open(ctx context.Context, conn *grpc.ClientConn, method string) (*upstream, error) {
	long, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	s, err := conn.NewStream(long, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if !stop() || err != nil {
		cancel()
		if err == nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return &upstream{stream: s, cancel: cancel, pool: new(framePool)}, nil
}
