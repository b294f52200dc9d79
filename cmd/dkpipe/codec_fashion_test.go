package main

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dkpipe/ps"
	"dkpipe/ps/psrpc"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

// countedListener counts the bytes that come in.
type countedListener struct {
	net.Listener
	up *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, l.up}, err
}

type countedConn struct {
	net.Conn
	up *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.up.Add(int64(n))
	return n, err
}

// codedRun trains two workers for five epochs over sockets and gives the accuracy, in per cent, and the bytes of their commits.
func codedRun(t *testing.T, codec psrpc.Codec, train, test *trainertest.Feed, seed uint64) (accuracy float64, up int64) {
	t.Helper()
	feed := *train
	feed.Seed = seed
	sgd := func(n int) (optim.Optimizer, error) {
		return optim.New("sgd", func(into any) error {
			s := into.(*optim.SGD)
			s.LearningRate, s.Momentum = optim.Constant(0.05), 0.9
			return nil
		}, n)
	}
	ticket := psrpc.NewTicket()
	l, err := psrpc.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var count atomic.Int64
	var start sync.Once
	var server *psrpc.Server
	var failed error
	served := make(chan error, 1)
	cfg := trainers.Config{Algorithm: trainers.DynSGD{}, Workers: 2, Window: 5, Epochs: 5, Feed: &feed, Optimizer: sgd,
		Replica: func(ps.Worker) (model.Replica, error) { return trainertest.FashionMLP(seed, 500, 300) }}
	cfg.Launch = func(ctx context.Context, srv *ps.Server, w ps.Worker) error {
		start.Do(func() {
			if server, failed = psrpc.NewServer(srv, psrpc.ServerOptions{Ticket: ticket, Codec: codec}); failed == nil {
				go func() { served <- server.Serve(countedListener{l, &count}) }()
			}
		})
		if failed != nil {
			return failed
		}
		client, err := psrpc.Join(ctx, psrpc.ClientOptions{Address: l.Addr().String(), Ticket: ticket, Worker: w})
		if err != nil {
			return err
		}
		defer client.Close()
		replica, err := trainertest.FashionMLP(seed, 500, 300)
		if err != nil {
			return err
		}
		opt, err := sgd(len(replica.Params()))
		if err != nil {
			return err
		}
		_, err = trainers.Work(ctx, trainers.WorkerConfig{Algorithm: cfg.Algorithm, Server: client, Worker: w, Incarnation: client.Incarnation(),
			Workers: 2, Window: cfg.Window, Feed: &feed, Replica: replica, Optimizer: opt})
		return err
	}
	result, err := trainers.Train(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	server.Close(t.Context())
	if err := <-served; err != nil {
		t.Error(err)
	}
	judge, err := trainertest.FashionMLP(1, 500, 300)
	if err != nil {
		t.Fatal(err)
	}
	e, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: test, Replicas: []model.Replica{judge}, Params: result.Params,
		Loss: "categorical_crossentropy", Metrics: []string{"accuracy"}})
	if err != nil {
		t.Fatal(err)
	}
	accuracy, _ = e.Metrics.Get("accuracy")
	return 100 * accuracy, count.Load()
}

// TestInt8CommitsLoseNothing: Fashion-MNIST with two workers over sockets, commits as float32 and as int8 with error feedback,
// five seeds each: at least 3.9 times fewer bytes, and at most half a point of accuracy less.
func TestInt8CommitsLoseNothing(t *testing.T) {
	if os.Getenv("DKPIPE_FULL") == "" {
		t.Skip("takes minutes: make test-full (DKPIPE_FULL=1)")
	}
	train, err := trainertest.Fashion("train")
	if err != nil {
		if strings.Contains(os.Getenv("DKPIPE_REQUIRE"), "fashion") {
			t.Fatal(err)
		}
		t.Skip("needs Fashion-MNIST (Debian, Ubuntu: apt-get install dataset-fashion-mnist)")
	}
	test, err := trainertest.Fashion("t10k")
	if err != nil {
		t.Fatal(err)
	}
	const seeds = 5
	var accuracy [2]float64
	var up [2]int64
	for seed := range uint64(seeds) {
		for i, codec := range []psrpc.Codec{psrpc.FP32, psrpc.Int8} {
			a, n := codedRun(t, codec, train, test, seed+1)
			accuracy[i] += a / seeds
			up[i] += n
			t.Logf("%v, seed %d: %.2f %%, %.1f MB of commits", codec, seed+1, a, float64(n)/1e6)
		}
	}
	fewer, loss := float64(up[0])/float64(up[1]), accuracy[0]-accuracy[1]
	t.Logf("float32 %.2f %%, int8 %.2f %%: %.2f points less, %.2f times fewer bytes", accuracy[0], accuracy[1], loss, fewer)
	if fewer < 3.9 || loss > 0.5 {
		t.Errorf("int8 sends %.2f times fewer bytes and loses %.2f points; 3.9 and at most 0.5 are promised", fewer, loss)
	}
}
