// Command optimizer shows how a Go program trains with a method that dkpipe has not: slowmo.go is the whole of it.
//
//	dkpipe preprocess -f examples/quickstart/job.yaml
//	go run ./examples/optimizer examples/quickstart/out/dataset/v000001
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: optimizer DATASET/VERSION")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, a := range []trainers.Algorithm{trainers.LocalSGD{}, SlowMo{Alpha: 1, Beta: 0.5}} {
		accuracy, err := run(ctx, folder(os.Args[1]), a)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%-10s accuracy %.4f\n", a.Name(), accuracy)
	}
}

// folder is a version of a dataset on this machine: what a feed reads its shards from. With hdfsio it may lie on HDFS.
type folder string

// Open implements pipeline.Opener.
func (f folder) Open(ctx context.Context, name string) (pipeline.Blob, error) {
	return new(hdfsio.Local).Open(ctx, path.Join(string(f), name))
}

// run trains a small network with four workers in this process and gives its accuracy on the test rows.
func run(ctx context.Context, data folder, a trainers.Algorithm) (float64, error) {
	b, err := os.ReadFile(path.Join(string(data), dataset.ManifestName))
	if err != nil {
		return 0, err
	}
	manifest, err := dataset.Decode(string(data), b)
	if err != nil {
		return 0, err
	}
	rows, err := dataset.NewFeed(data, manifest, dataset.FeedOptions{Split: "train", BatchSize: 32, Shuffle: true, Seed: 1})
	if err != nil {
		return 0, err
	}
	x, y := manifest.Columns[0].Width(), manifest.Columns[1].Width()
	r, err := trainers.Train(ctx, trainers.Config{
		Algorithm: a, Workers: 4, Window: 4, Epochs: 10, Feed: rows,
		Replica: func(w ps.Worker) (model.Replica, error) { return network(x, y, uint64(w)) },
		Optimizer: func(params int) (optim.Optimizer, error) {
			return optim.New("sgd", func(into any) error {
				into.(*optim.SGD).LearningRate = optim.Constant(0.05)
				return nil
			}, params)
		},
	})
	if err != nil {
		return 0, err
	}
	replica, err := network(x, y, 0)
	if err != nil {
		return 0, err
	}
	test, err := dataset.NewFeed(data, manifest, dataset.FeedOptions{Split: "test", BatchSize: 32})
	if err != nil {
		return 0, err
	}
	e, err := trainers.Evaluate(ctx, trainers.EvalConfig{Feed: test, Replicas: []model.Replica{replica}, Params: r.Params,
		Loss: "categorical_crossentropy", Metrics: []string{"accuracy"}})
	if err != nil {
		return 0, err
	}
	accuracy, _ := e.Metrics.Get("accuracy")
	return accuracy, nil
}

// network is a perceptron x - 32 - y.
func network(x, y int, seed uint64) (*model.Network, error) {
	dense := func(units int, activation string) model.LayerItem {
		return model.LayerItem{Name: "dense", Decode: func(into any) error {
			d := into.(*model.Dense)
			d.Units, d.Activation = units, activation
			return nil
		}}
	}
	d, err := model.FromLayers([]model.LayerItem{dense(32, "relu"), dense(y, "softmax")}, []model.Input{{Shape: []int{x}}})
	if err != nil {
		return nil, err
	}
	kernels, err := kernel.Select("auto")
	if err != nil {
		return nil, err
	}
	n, err := model.Compile(d, model.Config{Kernel: kernels, Batch: 32, Loss: "categorical_crossentropy", Seed: seed})
	if err != nil {
		return nil, err
	}
	n.Init(1)
	return n, nil
}
