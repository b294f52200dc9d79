//go:build ignore

// Ours is the side of dkpipe in the comparison of peers.py:
//
//	go run ours.go -net cnn -batch 128
//
// It says "ready" once it has taken its first steps. For every number of seconds that it reads from its standard input
// it takes steps for that long and writes one line of JSON: how many, and the milliseconds of the fastest, of the
// median one and of the mean in processor time.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

func layer(kind string) model.Op {
	op, err := model.NewOp(kind)
	if err != nil {
		log.Fatal(err)
	}
	return op
}

func dense(units int, activation string) model.Op {
	d := layer("dense").(*model.Dense)
	d.Units, d.Activation = units, activation
	return d
}

func conv() model.Op {
	c := layer("conv2d").(*model.Conv2D)
	c.Filters, c.KernelSize, c.Activation = 32, model.Pair{3, 3}, "relu"
	return c
}

func network(name string, set kernel.Set, batch int) *model.Network {
	input, ops := []int{784}, []model.Op{dense(500, "relu"), dense(300, "relu"), dense(10, "softmax")}
	switch name {
	case "wide":
		ops[1] = dense(500, "relu")
	case "cnn":
		input = []int{28, 28, 1}
		ops = []model.Op{conv(), conv(), layer("max_pooling2d"), layer("flatten"), dense(225, "relu"), dense(10, "softmax")}
	}
	def := &model.Definition{Name: name, Inputs: []model.Input{{Name: "x", Shape: input}}}
	from := "x"
	for i, op := range ops {
		l := model.Layer{Name: fmt.Sprint(op.Kind(), i), From: []string{from}, Op: op}
		def.Layers, from = append(def.Layers, l), l.Name
	}
	def.Outputs = []string{from}
	n, err := model.Compile(def, model.Config{Kernel: set, Batch: batch, Loss: "categorical_crossentropy"})
	if err != nil {
		log.Fatal(err)
	}
	n.Init(1)
	return n
}

// replica gives a function that takes one step.
func replica(name string, set kernel.Set, batch int) func() {
	n := network(name, set, batch)
	opt, err := optim.New("sgd", func(into any) error {
		s := into.(*optim.SGD)
		s.LearningRate = optim.Constant(0.05)
		if name != "wide" {
			s.Momentum = 0.9
		}
		return nil
	}, len(n.Params()))
	if err != nil {
		log.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	b := &pipeline.Batch{Rows: batch, X: [][]float32{make([]float32, batch*784)}, Y: [][]float32{make([]float32, batch*10)}}
	for i := range b.X[0] {
		b.X[0][i] = r.Float32()
	}
	for i := range batch {
		b.Y[0][i*10+r.IntN(10)] = 1
	}
	pieces, params := optim.Pieces(opt), n.Params() // as a worker takes its steps
	update := func(at int, grads []float32) { pieces.Update(at, params[at:at+len(grads)], grads) }
	return func() {
		pieces.Begin()
		if _, err := n.Descend(b, pieces.Lazy(), update); err != nil {
			log.Fatal(err)
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		log.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// run takes steps for so many seconds.
func run(step func(), seconds float64) []float64 {
	var times []float64
	for start := time.Now(); len(times) < 3 || time.Since(start).Seconds() < seconds; {
		t := time.Now()
		step()
		times = append(times, 1e3*time.Since(t).Seconds())
	}
	return times
}

func main() {
	net := flag.String("net", "mlp", "mlp, wide or cnn")
	batch := flag.Int("batch", 128, "rows of a batch")
	replicas := flag.Int("replicas", 1, "replicas, each on a thread of its own")
	kernels := flag.String("kernel", "auto", "kernel set")
	profile := flag.String("cpuprofile", "", "file for a profile")
	flag.Parse()
	set, err := kernel.Select(*kernels)
	if err != nil {
		log.Fatal(err)
	}
	var steps []func()
	for range *replicas {
		step := replica(*net, set, *batch)
		step()
		step()
		steps = append(steps, step)
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			log.Fatal(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			log.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		seconds, err := strconv.ParseFloat(lines.Text(), 64)
		if err != nil {
			log.Fatal(err)
		}
		used, all := cpu(), make([][]float64, len(steps))
		var wg sync.WaitGroup
		for i, step := range steps {
			wg.Go(func() { all[i] = run(step, seconds) })
		}
		wg.Wait()
		used = cpu() - used
		times := slices.Sorted(slices.Values(slices.Concat(all...)))
		report, err := json.Marshal(map[string]float64{"steps": float64(len(times)), "best_ms": times[0], "median_ms": times[len(times)/2],
			"cpu_ms": 1e3 * used.Seconds() / float64(len(times))})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(report))
	}
}
