package local

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// memFiles opens files that a test holds in memory.
type memFiles map[string][]byte

func (m memFiles) Open(_ context.Context, name string) (pipeline.Blob, error) {
	b, ok := m[name]
	if !ok {
		return nil, notExist(name)
	}
	return blob{bytes.NewReader(b)}, nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

// imageCSV makes rows of a label and width small integers, most of them 0, as images have.
func imageCSV(rows, width int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b []byte
	b = append(b, "label"...)
	for i := range width {
		b = fmt.Appendf(b, ",p%d", i)
	}
	b = append(b, '\n')
	for range rows {
		b = strconv.AppendInt(b, rng.Int64N(10), 10)
		for range width {
			b = append(b, ',')
			v := int64(0)
			if rng.IntN(2) == 0 {
				v = rng.Int64N(256)
			}
			b = strconv.AppendInt(b, v, 10)
		}
		b = append(b, '\n')
	}
	return b
}

type nullSink struct {
	rows int
	sum  float64
}

func (s *nullSink) Start([]pipeline.ColumnInfo) error { return nil }
func (s *nullSink) Write(_ context.Context, r *pipeline.Rows) error {
	s.rows += r.N
	s.sum += float64(r.Vectors[0][0])
	return nil
}
func (s *nullSink) Finish(context.Context) ([]pipeline.ShardInfo, error) { return nil, nil }

func benchPlan(width int, fitted bool) pipeline.Plan {
	var pixels []string
	for i := range width {
		pixels = append(pixels, fmt.Sprintf("p%d", i))
	}
	return pipeline.Plan{
		Source:  pipeline.Source{Format: pipeline.CSV, Files: []string{"images.csv"}},
		Steps:   []expr.Step{assembleStep{pixels, "pixels"}, minMaxStep{"pixels", "features", fitted}, oneHotStep{"label", "target", 10}},
		Columns: pipeline.Columns{X: []string{"features"}, Y: []string{"target"}},
	}
}

func benchPreprocess(b *testing.B, fitted bool) {
	const rows, width = 6000, 784
	data := imageCSV(rows, width)
	e := Engine{Open: memFiles{"images.csv": data}}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	since := cpuSeconds()
	for b.Loop() {
		p, err := e.Fit(b.Context(), benchPlan(width, fitted))
		if err != nil {
			b.Fatal(err)
		}
		s := &nullSink{}
		if _, err := e.Write(b.Context(), p, pipeline.Stage{Sink: s}); err != nil || s.rows != rows {
			b.Fatal(err, s.rows)
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	cpu(b, since, int64(len(data)))
}

// cpuSeconds is the processor time of the process so far.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// cpu reports bytes a second of processor time: on a busy machine it says more than the clock does.
func cpu(b *testing.B, since float64, size int64) {
	if used := cpuSeconds() - since; used > 0 {
		b.ReportMetric(float64(size)*float64(b.N)/1e6/used, "MB/cpu-s")
	}
}

func BenchmarkPreprocessGivenRange(b *testing.B)  { benchPreprocess(b, false) }
func BenchmarkPreprocessFittedRange(b *testing.B) { benchPreprocess(b, true) }

func BenchmarkReadCSV(b *testing.B) {
	for _, kind := range []string{"ints", "floats"} {
		b.Run(kind, func(b *testing.B) {
			data := imageCSV(6000, 784)
			if kind == "floats" {
				data = floatCSV(100_000, 20)
			}
			open := memFiles{"x.csv": data}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			since := cpuSeconds()
			for b.Loop() {
				t, err := OpenTable(b.Context(), open, pipeline.Source{Format: pipeline.CSV, Files: []string{"x.csv"}})
				if err != nil {
					b.Fatal(err)
				}
				for err = nil; err == nil; {
					_, err = t.next(b.Context())
				}
			}
			cpu(b, since, int64(len(data)))
		})
	}
}

func floatCSV(rows, width int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for i := range width {
		b = fmt.Appendf(b, "f%d,", i)
	}
	b[len(b)-1] = '\n'
	for range rows {
		for i := range width {
			b = strconv.AppendFloat(b, rng.NormFloat64(), 'g', 6+i%12, 64)
			b = append(b, ',')
		}
		b[len(b)-1] = '\n'
	}
	return b
}
