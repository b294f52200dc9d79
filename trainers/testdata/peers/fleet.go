//go:build ignore

// Fleet is the side of dkpipe in the comparison of fleet.py: workers in one process that train 784-500-300-10 on Fashion-MNIST.
//
//	go run fleet.go -trainer agn -window 10 -workers 2
//
// It says "ready" once it has trained for an epoch. For every number of epochs that it reads from its standard input it
// trains for so many and writes one line of JSON: samples and seconds. With -trace it is ready at once, copies the centre
// every 52 steps, and writes the accuracy of the copies with their times since DKPIPE_START.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
	"dkpipe/trainers/trainertest"
)

const every = 52 // steps between two copies

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func fashion(part string) *trainertest.Feed {
	f, err := trainertest.Fashion(part)
	check(err)
	return f
}

func network(seed uint64) *model.Network {
	n, err := trainertest.FashionMLP(seed, 500, 300)
	check(err)
	return n
}

// slowed is a replica that takes so many times as long, and leaves the processor to others meanwhile.
type slowed struct {
	*model.Network
	times float64
}

func (s slowed) Step(b *pipeline.Batch) (float32, error) {
	start := time.Now()
	loss, err := s.Network.Step(b)
	time.Sleep(time.Duration((s.times - 1) * float64(time.Since(start))))
	return loss, err
}

// fleet is a training that can be repeated.
type fleet struct {
	config trainers.Config
	slow   float64
	trace  *trace // nil: nobody looks
}

// trace copies the centre every so many steps of all workers.
type trace struct {
	since time.Time
	first float64
	steps chan int64
	done  sync.WaitGroup
	once  sync.Once
	times []float64
	taken [][]float32
}

func (t *trace) Progress(p trainers.Progress) {
	if t.first == 0 {
		t.first = time.Since(t.since).Seconds()
	}
	select {
	case t.steps <- p.Steps:
	default: // a copy is being made
	}
}

func (t *trace) EpochDone(trainers.Epoch, []float32) {}

func (t *trace) WorkerLost(_ ps.Worker, err error) { log.Fatal(err) }

// watch makes the copies of a server's centre.
func (t *trace) watch(srv *ps.Server) {
	t.done.Go(func() {
		for n := range t.steps {
			if int(n)/every > len(t.times) {
				c := make([]float32, srv.Len())
				_, err := srv.Centre(c)
				check(err)
				t.times, t.taken = append(t.times, time.Since(t.since).Seconds()), append(t.taken, c)
			}
		}
	})
}

// launch runs a worker as Train does, and has the server watched.
func (f *fleet) launch(ctx context.Context, srv *ps.Server, w ps.Worker) error {
	if f.trace != nil {
		f.trace.once.Do(func() { f.trace.watch(srv) })
	}
	var replica model.Replica = network(1 + uint64(w))
	if w == 0 && f.slow > 1 {
		replica = slowed{replica.(*model.Network), f.slow}
	}
	opt, err := f.config.Optimizer(len(replica.Params()))
	if err != nil {
		return err
	}
	life, err := srv.Join(w)
	if err != nil {
		return err
	}
	_, err = trainers.Work(ctx, trainers.WorkerConfig{Algorithm: f.config.Algorithm, Server: srv, Worker: w, Incarnation: life,
		Workers: f.config.Workers, Window: f.config.Window, Feed: f.config.Feed, Replica: replica, Optimizer: opt})
	return err
}

func (f *fleet) train(epochs int) map[string]any {
	f.config.Epochs = epochs
	if f.trace != nil {
		f.config.Observer = f.trace
	}
	r, err := trainers.Train(context.Background(), f.config)
	check(err)
	if f.trace == nil {
		return map[string]any{"samples": r.Samples, "seconds": r.Seconds}
	}
	t, end := f.trace, time.Since(f.trace.since).Seconds()
	close(t.steps)
	t.done.Wait()
	test, replicas := fashion("t10k"), []model.Replica{network(1), network(2)}
	points := [][2]float64{}
	for i, c := range t.taken {
		e, err := trainers.Evaluate(context.Background(), trainers.EvalConfig{Feed: test, Replicas: replicas, Params: c,
			Loss: "categorical_crossentropy", Metrics: []string{"accuracy"}})
		check(err)
		accuracy, _ := e.Metrics.Get("accuracy")
		points = append(points, [2]float64{t.times[i], accuracy})
	}
	return map[string]any{"first_step": t.first, "seconds": end, "points": points}
}

// began is when the command was started, as who started it says.
func began() time.Time {
	seconds, err := strconv.ParseFloat(os.Getenv("DKPIPE_START"), 64)
	if err != nil {
		return time.Now()
	}
	return time.UnixMicro(int64(1e6 * seconds))
}

func main() {
	name := flag.String("trainer", "agn", "trainer")
	fields := flag.String("fields", "{}", "of the trainer, as in a job file")
	window := flag.Int("window", 10, "steps")
	workers := flag.Int("workers", 2, "in this process")
	rate := flag.Float64("rate", 0.05, "of sgd, with momentum 0.9")
	slow := flag.Float64("slow", 1, "how many times as long worker 0 takes for a step")
	seed := flag.Uint64("seed", 1, "of parameters and the order of rows")
	traced := flag.Bool("trace", false, "copy the centre every 52 steps")
	flag.Parse()
	a, err := trainers.New(*name, func(into any) error { return yaml.UnmarshalWithOptions([]byte(*fields), into, yaml.Strict()) })
	check(err)
	feed := fashion("train")
	feed.Seed = *seed
	f := &fleet{slow: *slow}
	f.config = trainers.Config{Algorithm: a, Workers: *workers, Window: *window, Feed: feed, Launch: f.launch,
		Replica: func(ps.Worker) (model.Replica, error) { return network(*seed), nil },
		Optimizer: func(n int) (optim.Optimizer, error) {
			return optim.New("sgd", func(into any) error {
				s := into.(*optim.SGD)
				if s.LearningRate = optim.Constant(*rate); *name != "eamsgd" { // which has its own momentum
					s.Momentum = 0.9
				}
				return nil
			}, n)
		}}
	if *traced {
		f.trace = &trace{since: began(), steps: make(chan int64, 1)}
	} else {
		f.train(1)
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		epochs, err := strconv.Atoi(lines.Text())
		check(err)
		report, err := json.Marshal(f.train(epochs))
		check(err)
		fmt.Println(string(report))
	}
}
