package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/local"
	"dkpipe/pipeline/spec"
)

// csvBench makes datasets of a CSV file with the embedded engine, as dkpipe preprocess does.
type csvBench struct {
	rows, width int
	dir         string
	csv         int64 // bytes of the file
	shards      int64 // bytes of the dataset that was made last
	made        int   // names the next one
}

// benchPreprocess measures 20,000 rows of a class and 784 pixels.
func benchPreprocess(ctx context.Context, rounds int) ([]benchCase, error) {
	b := &csvBench{rows: benchRows, width: benchWidth}
	return b.run(ctx, rounds)
}

func (b *csvBench) run(ctx context.Context, rounds int) (cases []benchCase, err error) {
	if b.dir, err = os.MkdirTemp("", "dkpipe-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.writeCSV(); err != nil {
		return nil, err
	}
	given, fitted := b.work(ctx, "from: [0, 255]"), b.work(ctx, "to: [0, 1]")
	if err := given(); err != nil { // tells the size of the shards
		return nil, err
	}
	read, write := float64(b.csv)/1e6, float64(b.shards)/1e6
	return compete(ctx, rounds, []contest{
		{name: "range given, against reading the CSV", unit: "MB/s of CSV", amount: read, work: given, limit: b.readPlain},
		{name: "range given, against writing the shards", unit: "MB/s of shards", amount: write, work: given, limit: b.writePlain},
		{name: "range fitted (two passes), against reading", unit: "MB/s of CSV", amount: read, work: fitted, limit: b.readPlain},
	})
}

func (b *csvBench) file() string { return filepath.Join(b.dir, "rows.csv") }

// writeCSV makes the rows: half of the pixels are 0, as in images.
func (b *csvBench) writeCSV() error {
	f, err := os.Create(b.file())
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	w.WriteString("label") // errors stay with the writer until Flush
	for k := range b.width {
		fmt.Fprintf(w, ",p%d", k)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var line []byte
	for range b.rows {
		line = strconv.AppendInt(append(line[:0], '\n'), rng.Int64N(benchOut), 10)
		for range b.width {
			line = strconv.AppendInt(append(line, ','), max(0, rng.Int64N(512)-256), 10)
		}
		w.Write(line)
	}
	w.WriteString("\n")
	if err := w.Flush(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b.csv = info.Size()
	return nil
}

// work gives a function that makes a new dataset of the file and removes it; scale is what min_max is told.
func (b *csvBench) work(ctx context.Context, scale string) func() error {
	return func() error {
		s, err := spec.Read("bench", fmt.Appendf(nil, `
source: {csv: rows.csv}
transform:
  - assemble: {inputs: "p*", output: pixels}
  - min_max: {input: pixels, output: features, %s}
  - one_hot: {input: label, output: target, size: %d}
columns: {x: [features], y: [target]}
dataset: {path: out, shards: 4}
`, scale, benchOut), spec.Options{Need: spec.ForPreprocess})
		if err != nil {
			return err
		}
		plan, err := buildPlan(s, []string{"rows.csv"})
		if err != nil {
			return err
		}
		at := place{fs: &hdfsio.Local{}, path: b.dir}
		engine := &local.Engine{Open: folder{at}}
		if plan, err = engine.Fit(ctx, plan); err != nil {
			return err
		}
		b.made++
		out := at.join(strconv.Itoa(b.made))
		w, err := dataset.NewWriter(creator(func(ctx context.Context, name string) (hdfsio.Writer, error) {
			p := out.join(name)
			if err := p.fs.Mkdir(ctx, filepath.Dir(p.path)); err != nil {
				return nil, err
			}
			return p.fs.Create(ctx, p.path)
		}), dataset.WriterOptions{Parts: partNames(plan), Shards: plan.Shards, BudgetBytes: sortBudget, GroupBytes: 256 << 10, TempDir: b.dir})
		if err != nil {
			return err
		}
		defer w.Close()
		written, err := engine.Write(ctx, plan, pipeline.Stage{Sink: w})
		if err != nil {
			return err
		}
		rows := int64(0)
		b.shards = 0
		for _, s := range written.Shards {
			rows, b.shards = rows+s.Rows, b.shards+s.Bytes
		}
		if rows != int64(b.rows) {
			return fmt.Errorf("the dataset has %d rows of %d", rows, b.rows)
		}
		return out.fs.Remove(ctx, out.path)
	}
}

// readPlain reads the file and does nothing with it.
func (b *csvBench) readPlain() error {
	f, err := os.Open(b.file())
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Read(buf)
	}
	if err != io.EOF {
		return err
	}
	return nil
}

// writePlain writes as many bytes as the shards have to one file and, as they are, to the disk.
func (b *csvBench) writePlain() error {
	f, err := os.Create(filepath.Join(b.dir, "plain"))
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for left := b.shards; left > 0 && err == nil; left -= int64(len(buf)) {
		_, err = f.Write(buf[:min(left, int64(len(buf)))])
	}
	return errors.Join(err, f.Sync(), os.Remove(f.Name()))
}
