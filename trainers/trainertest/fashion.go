package trainertest

import (
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dkpipe/trainers/model"
)

// FashionFolder is where the Debian package dataset-fashion-mnist puts its files.
const FashionFolder = "/usr/share/datasets/fashion-mnist"

// Fashion reads a part of Fashion-MNIST, "train" (60,000 rows) or "t10k" (10,000): 784 pixels between 0 and 1, ten classes,
// four shards, batches of 128.
func Fashion(part string) (*Feed, error) {
	pixels, err := idx(part+"-images-idx3-ubyte.gz", 16)
	if err != nil {
		return nil, err
	}
	labels, err := idx(part+"-labels-idx1-ubyte.gz", 8)
	if err != nil {
		return nil, err
	}
	f := &Feed{Inputs: 784, Outputs: 10, NumShards: 4, BatchSize: 128, X: make([]float32, len(pixels)), Y: make([]float32, 10*len(labels))}
	for i, v := range pixels {
		f.X[i] = float32(v) / 255
	}
	for i, v := range labels {
		f.Y[10*i+int(v)] = 1
	}
	return f, nil
}

// FashionMLP makes a perceptron of 784 inputs, hidden layers of rectifiers and 10 classes, for batches of at most 128 rows. Equal
// seeds give equal parameters.
func FashionMLP(seed uint64, hidden ...int) (*model.Network, error) {
	var items []model.LayerItem
	dense := func(units int, activation string) {
		items = append(items, model.LayerItem{Name: "dense", Decode: func(into any) error {
			d := into.(*model.Dense)
			d.Units, d.Activation = units, activation
			return nil
		}})
	}
	for _, units := range hidden {
		dense(units, "relu")
	}
	dense(10, "softmax")
	d, err := model.FromLayers(items, []model.Input{{Shape: []int{784}}})
	if err != nil {
		return nil, err
	}
	n, err := model.Compile(d, model.Config{Batch: 128, Loss: "categorical_crossentropy", Seed: seed})
	if err != nil {
		return nil, err
	}
	n.Init(seed)
	return n, nil
}

// idx reads the bytes of an IDX file behind its header, whose second word is the number of rows.
func idx(name string, header int) ([]byte, error) {
	f, err := os.Open(filepath.Join(FashionFolder, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	if len(b) < header {
		return nil, fmt.Errorf("%s ends in its header", name)
	}
	if rows := int(binary.BigEndian.Uint32(b[4:])); rows == 0 || (len(b)-header)%rows != 0 {
		return nil, fmt.Errorf("%s has %d bytes for %d rows", name, len(b)-header, rows)
	}
	return b[header:], nil
}
