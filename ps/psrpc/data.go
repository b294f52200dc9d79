package psrpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"dkpipe/ps"
	"dkpipe/ps/pspb"
)

const (
	dataService = "dkpipe.ps.v1.DataServer"
	methodWork  = "/" + dataService + "/Work"
	methodKeep  = "/" + dataService + "/Keep"
)

// maxElements bounds the parameters that a data server takes memory for: 16 GiB.
const maxElements = 1 << 32

// DataOptions say whom a DataServer lets in.
type DataOptions struct {
	Ticket        Ticket   // as for Server
	Identity      Identity // as for Server
	InsecureNoTLS bool     // as for Server
	// Rule makes the rule from what the coordinator says about its job (KeeperOptions.Job). It is for a server that is made
	// without one.
	Rule func(job []byte) (ps.Rule, error)
}

// DataServer serves a ps.Store: to the coordinator, which fills it and tells it what to apply (Keeper), and to workers. It
// belongs to the run that loads it until that run ends or is silent for long.
type DataServer struct {
	opts  DataOptions
	rule  ps.Rule // that it was made with, or nil
	grpc  *grpc.Server
	conns atomic.Uint64

	mu    sync.Mutex
	store *ps.Store // nil before there is a rule
	slots int       // of the rule, for each parameter
	load  []byte    // names what the store was loaded with
	run   []byte    // whose store it is
	heard bool      // of its coordinator, since somebody looked
	quiet int       // looks in a row without
	talks int       // orders that are being received or answered
	ended chan struct{}
	over  bool // ended is closed
}

// NewDataServer puts an empty store for a rule behind gRPC. Serve has yet to be called, and Close in the end. rule may be nil
// when there is DataOptions.Rule.
func NewDataServer(rule ps.Rule, o DataOptions) (*DataServer, error) {
	if err := admission(o.Ticket, o.Identity); err != nil {
		return nil, err
	}
	if !littleEndian() {
		return nil, bigEndian()
	}
	s := &DataServer{opts: o, rule: rule, grpc: newGRPC(o.Ticket, o.Identity), ended: make(chan struct{})}
	if rule != nil || o.Rule == nil {
		if err := s.empty(rule); err != nil {
			return nil, err
		}
	}
	s.grpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: dataService, HandlerType: (*any)(nil), Metadata: "ps.proto",
		Streams: []grpc.StreamDesc{dataStream("Work", (*DataServer).work), dataStream("Keep", (*DataServer).keep)},
	}, s)
	return s, nil
}

func dataStream(name string, call func(*DataServer, grpc.ServerStream) error) grpc.StreamDesc {
	handler := func(srv any, s grpc.ServerStream) error { return call(srv.(*DataServer), s) }
	return grpc.StreamDesc{StreamName: name, Handler: handler, ServerStreams: true, ClientStreams: true}
}

// Serve takes connections from l until Close; see Server.Serve.
func (s *DataServer) Serve(l net.Listener) error {
	return serveGRPC(s.grpc, l, !s.opts.Identity.Zero() || s.opts.InsecureNoTLS)
}

// Close ends all connections and waits for their goroutines.
func (s *DataServer) Close() { s.grpc.Stop() }

// work serves one worker. Its delta is received into a vector that then belongs to the store, and one that the store does not
// need takes its place: nothing is copied.
func (s *DataServer) work(ss grpc.ServerStream) error {
	conn := s.conns.Add(1)
	var vector []float32
	var in incoming
	var pool framePool
	for {
		var task pspb.Task
		if err := ss.RecvMsg(&incoming{control: &task}); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		t := ps.Task{Worker: ps.Worker(task.Worker), Incarnation: task.Incarnation, Seq: task.Seq, Decree: task.Decree, Epoch: task.Epoch, Conn: conn}
		if t.Worker < 0 || t.Worker > maxWorker || t.Incarnation == 0 {
			return toStatus(malformed("a task of worker %d, incarnation %d", t.Worker, t.Incarnation))
		}
		// A delta that does not fit, because the table changed, cannot even be received: the stream ends with that error.
		store, _ := s.current()
		if store == nil {
			return status.Error(codesUnavailable, "the data server has not got its parameters yet")
		}
		n, epoch := store.Size()
		if epoch != 0 && t.Epoch < epoch {
			return toStatus(store.Fetch(ss.Context(), t, nil)) // fenced
		}
		if epoch != t.Epoch {
			return status.Error(codesUnavailable, "the data server has not got its parameters yet")
		}
		if len(vector) != n || vector == nil {
			vector = make([]float32, n)
		}
		result := new(pspb.Result)
		if task.Stage {
			if err := receive(ss, vector, &in); err != nil {
				return err
			}
			spare, bad, err := store.Take(ss.Context(), t, vector)
			vector, result.Bad = spare, int64(bad+1)
			if errors.Is(err, ps.ErrSuperseded) { // this stream was given up, or began later than one that was: another one is newer
				return status.Error(codesUnavailable, err.Error())
			}
			if err != nil {
				result.Fault = toFault(err)
			}
		} else if err := store.Fetch(ss.Context(), t, vector); err != nil {
			result.Fault = toFault(err)
		}
		if ss.Context().Err() != nil {
			return status.FromContextError(ss.Context().Err()).Err()
		}
		if err := ss.SendMsg(&outgoing{control: result}); err != nil {
			return err
		}
		if !task.Stage && result.Fault == nil {
			if err := reply(ss, vector, Codec(task.ReplyCodec), &pool); err != nil {
				return err
			}
		}
	}
}

// keep serves the coordinator.
func (s *DataServer) keep(ss grpc.ServerStream) error {
	for {
		var order pspb.Order
		if err := ss.RecvMsg(&incoming{control: &order}); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := s.answer(ss, &order); err != nil {
			return err
		}
	}
}

// answer does what the coordinator says and tells it so. It is heard of all the while: a state takes its time on a slow link.
func (s *DataServer) answer(ss grpc.ServerStream, order *pspb.Order) error {
	defer s.listen()()
	kept := new(pspb.Kept)
	save, err := s.heed(ss, order)
	if err != nil {
		if _, broken := status.FromError(err); broken {
			return err
		}
		kept.Fault, save = toFault(err), nil
	}
	if save != nil {
		kept.State = &pspb.State{Version: save.Version, Elements: uint64(len(save.Centre)), Slots: uint64(len(save.Slots)), Block: uint64(save.Block)}
	}
	if err := ss.SendMsg(&outgoing{control: kept}); err != nil || save == nil {
		return err
	}
	if err := send(ss, save.Centre, FP32, nil); err != nil {
		return err
	}
	return send(ss, save.Slots, FP32, nil)
}

// heed does what the coordinator says, and gives the state that it asked for.
func (s *DataServer) heed(ss grpc.ServerStream, order *pspb.Order) (save *ps.State, err error) {
	store, err := s.belongs(order)
	if err != nil {
		if order.Load != nil {
			return nil, toStatus(err) // its vectors are not received
		}
		return nil, err
	}
	switch {
	case order.End:
		s.finish()
		return nil, nil
	case store == nil: // a sign of life before anything was loaded
		return nil, nil
	case order.Load != nil:
		return nil, s.fill(ss, store, order)
	}
	if _, epoch := store.Size(); order.Epoch != 0 && epoch != order.Epoch {
		return nil, &ps.Error{Kind: "timeout", Message: fmt.Sprintf("the data server has not the parameters of table %d", order.Epoch), Err: ps.ErrFenced}
	}
	for _, d := range order.Decrees {
		if err := store.Apply(order.Epoch, fromDecree(d)); err != nil {
			return nil, err
		}
	}
	if order.Save == nil {
		return nil, nil
	}
	return s.save(store, order)
}

func (s *DataServer) fill(ss grpc.ServerStream, store *ps.Store, order *pspb.Order) error {
	l, slots := order.Load, uint64(s.width())
	if len(order.Id) != 16 || l.Elements > maxElements || l.Slots != l.Elements*slots || l.Block == 0 || l.Block > maxElements {
		return toStatus(malformed("a state of %d parameters and %d state elements in blocks of %d, the rule keeps %d each", l.Elements, l.Slots, l.Block, slots))
	}
	st := ps.State{Epoch: order.Epoch, Version: l.Version, Block: int(l.Block), Centre: make([]float32, l.Elements), Slots: make([]float32, l.Slots)}
	var in incoming
	if err := receive(ss, st.Centre, &in); err != nil {
		return err
	}
	if err := receive(ss, st.Slots, &in); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store != store {
		return &ps.Error{Kind: "busy", Message: "the data server was taken by another run meanwhile", Hint: "give each run data servers of its own"}
	}
	if bytes.Equal(s.load, order.Id) {
		return nil // a repeat: the answer got lost
	}
	if _, epoch := store.Size(); order.Epoch <= epoch {
		return &ps.Error{Kind: "busy", Message: fmt.Sprintf("the data server has the parameters of table %d, those of table %d do not come after them", epoch, order.Epoch),
			Hint: "another coordinator has it, or had it: start the data server again"}
	}
	if err := store.Load(st); err != nil {
		return err
	}
	s.load = bytes.Clone(order.Id)
	return nil
}

func (s *DataServer) save(store *ps.Store, order *pspb.Order) (*ps.State, error) {
	n, _ := store.Size()
	slots := s.width()
	if order.Save.Elements != uint64(n) || order.Save.Slots != 0 && order.Save.Slots != uint64(n*slots) {
		return nil, malformed("a state of %d parameters and %d state elements is asked for, there are %d", order.Save.Elements, order.Save.Slots, n)
	}
	st := &ps.State{Epoch: order.Epoch, Centre: make([]float32, n)}
	if order.Save.Slots != 0 {
		st.Slots = make([]float32, n*slots)
	}
	return st, store.Save(st)()
}

func toDecree(d ps.Decree) *pspb.Decree {
	p := &pspb.Decree{Number: d.Number, Version: d.Version, Read: d.Read, Mean: d.Mean, Share: int64(d.Share), Steps: int64(d.Commit.Steps),
		Samples: d.Commit.Samples, Base: d.Commit.Base, Staleness: d.Commit.Staleness, Peers: int64(d.Commit.Peers), Rate: d.Commit.Rate}
	for _, q := range d.Parts {
		p.Parts = append(p.Parts, &pspb.Part{Worker: int32(q.Worker), Incarnation: q.Incarnation, Seq: q.Seq, Scale: q.Scale})
	}
	return p
}

func fromDecree(p *pspb.Decree) ps.Decree {
	d := ps.Decree{Number: p.Number, Version: p.Version, Read: p.Read, Mean: p.Mean, Share: int(p.Share)}
	for _, q := range p.Parts {
		d.Parts = append(d.Parts, ps.Part{Worker: ps.Worker(q.GetWorker()), Incarnation: q.GetIncarnation(), Seq: q.GetSeq(), Scale: q.GetScale()})
	}
	d.Commit = ps.Commit{Worker: -1, Scale: 1, Steps: int(p.Steps), Samples: p.Samples, Base: p.Base, Staleness: p.Staleness, Peers: int(p.Peers), Rate: p.Rate}
	if !d.Mean && len(d.Parts) == 1 {
		d.Commit.Worker, d.Commit.Incarnation, d.Commit.Seq, d.Commit.Scale = d.Parts[0].Worker, d.Parts[0].Incarnation, d.Parts[0].Seq, d.Parts[0].Scale
	}
	return d
}

// blocks is a worker's way to one data server (ps.Blocks), over one stream.
type blocks struct {
	client *Client
	conn   *grpc.ClientConn
	up     *upstream
	packer packer
	size   int // parameters that it holds
}

func (b *blocks) Stage(ctx context.Context, t ps.Task, delta []float32) (int, error) {
	result, err := b.ask(ctx, t, true, delta)
	if err != nil {
		return -1, err
	}
	return int(result.Bad) - 1, nil
}

func (b *blocks) Fetch(ctx context.Context, t ps.Task, dst []float32) error {
	_, err := b.ask(ctx, t, false, dst)
	return err
}

// ask makes a task, and again over a new stream when the connection broke.
func (b *blocks) ask(ctx context.Context, t ps.Task, stage bool, vector []float32) (*pspb.Result, error) {
	var result *pspb.Result
	err := b.client.retry(ctx, func() (err error) {
		if b.up == nil {
			if b.up, err = open(ctx, b.conn, methodWork); err != nil {
				return err
			}
		}
		again, err := b.up.patient(ctx, b.client.opts.resend(), func() (err error) { // as in Client.try: a task may be asked twice
			result, err = b.up.ask(t, stage, vector, &b.packer)
			return err
		})
		if !again {
			b.up.close()
			b.up = nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if result.Fault != nil {
		return nil, fromFault(result.Fault)
	}
	return result, nil
}

func (u *upstream) ask(t ps.Task, stage bool, vector []float32, p *packer) (*pspb.Result, error) {
	task := &pspb.Task{Worker: int32(t.Worker), Incarnation: t.Incarnation, Seq: t.Seq, Decree: t.Decree, Epoch: t.Epoch, Stage: stage, ReplyCodec: uint32(p.reply())}
	err := u.SendMsg(&outgoing{control: task})
	if err == nil && stage {
		err = p.send(u, t.Seq, vector, u.pool)
	}
	if err != nil && err != io.EOF { // io.EOF: the server ended the stream; RecvMsg gives the reason
		return nil, err
	}
	result := new(pspb.Result)
	if err := u.RecvMsg(&incoming{control: result}); err != nil {
		if err == io.EOF {
			err = status.Error(codesUnavailable, "the data server ended the stream")
		}
		return nil, err
	}
	if stage || result.Fault != nil {
		return result, nil
	}
	return result, p.timed(u, vector)
}

// shard connects a life to the data servers of its table.
func (c *Client) shard(life *pspb.JoinReply, codec Codec) (*ps.Sharded, []*blocks, error) {
	t := life.Table
	if t == nil {
		return nil, nil, nil
	}
	if t.Block == 0 || t.Block > maxElements || len(t.Servers) == 0 || len(t.Servers) > 1<<12 {
		return nil, nil, malformed("a table of %d data servers and blocks of %d", len(t.Servers), t.Block)
	}
	var all []*blocks
	var sides []ps.Blocks
	for _, address := range t.Servers {
		conn, err := connect(c.opts.target(address))
		if err != nil {
			return nil, all, &ps.Error{Kind: "unreachable", Message: fmt.Sprintf("data server at %q", address), Hint: "advertise an address that workers can reach", Err: err}
		}
		b := &blocks{client: c, conn: conn, packer: packer{codec: codec}}
		all, sides = append(all, b), append(sides, b)
	}
	part, err := ps.NewPartition(int(life.Parameters), int(t.Block), len(all))
	if err != nil {
		return nil, all, err
	}
	for i, b := range all {
		b.size = part.Size(i)
	}
	s, err := ps.NewSharded(int(life.Parameters), ps.Table{Epoch: t.Epoch, Block: int(t.Block), Servers: len(t.Servers), Decree: t.Decree}, sides)
	return s, all, err
}
