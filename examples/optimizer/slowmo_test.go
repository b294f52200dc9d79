package main

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/trainers"
	"dkpipe/trainers/trainertest"
)

func TestSlowMoPassesTheSuiteForTrainers(t *testing.T) {
	trainertest.Run(t, trainertest.Case{Algorithm: SlowMo{Alpha: 1, Beta: 0.5}, Window: 3, Rate: 0.05})
}

// TestSlowMoIsOneShortFile: at most 40 lines, blank lines and comments included.
func TestSlowMoIsOneShortFile(t *testing.T) {
	text, err := os.ReadFile("slowmo.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 40 {
		t.Errorf("slowmo.go has %d lines", n)
	}
}

// TestSlowMoIsThatOfThePaper: three rounds by hand.
func TestSlowMoIsThatOfThePaper(t *testing.T) {
	trainertest.Golden(t, SlowMo{Alpha: 0.5, Beta: 0.5}, []byte(`{
  "algorithm": "slowmo", "workers": 2,
  "equation": "u = beta u + mean(x_i - c);  c = c + alpha u",
  "source": "Wang, Tantia, Ballas, Rabbat, SlowMo, ICLR 2020, arXiv 1910.00643, algorithm 1, line 8 and 9; u goes 2, 3, -2.5",
  "centre": [1],
  "steps": [
    {"worker": 0, "steps": 8, "base": [1], "x": [4], "others": [[1]], "delta": [3], "centre": [2], "x_after": [2], "base_after": [2]},
    {"worker": 0, "steps": 8, "base": [2], "x": [4], "others": [[2]], "delta": [2], "centre": [3.5], "x_after": [3.5], "base_after": [3.5]},
    {"worker": 0, "steps": 8, "base": [3.5], "x": [-0.5], "delta": [-4], "centre": [2.25], "x_after": [2.25], "base_after": [2.25]}
  ]}`))
}

// TestTheProgramTrains writes a dataset as dkpipe preprocess does, of points in the plane whose class is their quadrant.
func TestTheProgramTrains(t *testing.T) {
	dir := t.TempDir()
	columns := []pipeline.ColumnInfo{{Name: "point", Role: "x", DType: "float32", Shape: []int{2}, Encoding: "f32le", Scale: 1},
		{Name: "quadrant", Role: "y", DType: "float32", Shape: []int{4}, Encoding: "f32le", Scale: 1}}
	w, err := dataset.NewWriter(dataset.CreateFunc(func(ctx context.Context, name string) (dataset.Output, error) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			return nil, err
		}
		return new(hdfsio.Local).Create(ctx, filepath.Join(dir, name))
	}), dataset.WriterOptions{Parts: []string{"train", "test"}, Shards: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Start(columns); err != nil {
		t.Fatal(err)
	}
	const n = 2000
	rows := &pipeline.Rows{N: n, Part: make([]uint8, n), Hash: make([]uint64, n), Vectors: [][]float32{make([]float32, 2*n), make([]float32, 4*n)}}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		x, y := rnd.NormFloat64(), rnd.NormFloat64()
		quadrant := 0
		if x < 0 {
			quadrant++
		}
		if y < 0 {
			quadrant += 2
		}
		rows.Part[i], rows.Hash[i] = uint8(i%5/4), rnd.Uint64()
		rows.Vectors[0][2*i], rows.Vectors[0][2*i+1], rows.Vectors[1][4*i+quadrant] = float32(x), float32(y), 1
	}
	if err := w.Write(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	shards, err := w.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := &dataset.Manifest{Version: 1, Engine: "local", Columns: columns, Shards: shards, Source: dataset.Source{Format: pipeline.CSV},
		SpecSHA256: strings.Repeat("0", 64), Split: dataset.Split{Parts: dataset.Parts{{Name: "train", Fraction: 0.8}, {Name: "test", Fraction: 0.2}}}}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, dataset.ManifestName), b, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, a := range []trainers.Algorithm{trainers.LocalSGD{}, SlowMo{Alpha: 1, Beta: 0.5}} {
		accuracy, err := run(t.Context(), folder(dir), a)
		if err != nil || accuracy < 0.9 {
			t.Errorf("%s: accuracy %.4f, %v", a.Name(), accuracy, err)
		}
	}
}
