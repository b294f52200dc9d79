package sparkconn

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// BenchmarkWrite compares Engine.Write of a scaled vector and a one-hot label, with all checks, with what Spark needs to
// read the same table and write it repartitioned and sorted without looking into a vector: as lists of Parquet (floor),
// and packed as Write does (packed-floor). Rounds are interleaved; the medians of ratio and packed-ratio are reported.
//
//	DKPIPE_BOX=/tmp/box go test -run '^$' -bench Write -benchtime 6x ./sparkconn
func BenchmarkWrite(b *testing.B) {
	s := dialReal(b)
	const rows, width = 70_000, 784
	dir := b.TempDir()
	table := "parquet.`" + sparkPath(filepath.Join(dir, "raw")) + "`"
	raw := fmt.Sprintf("SELECT id, transform(sequence(1, %d), i -> CAST(pmod(xxhash64(id, i), 256) AS FLOAT)) AS pixels, id %% 10 AS label FROM range(0, %d, 1, 4)", width, rows)
	if err := writeRaw(b, s, raw, filepath.Join(dir, "raw")); err != nil {
		b.Fatal(err)
	}
	p := sqlOver("SELECT * FROM " + table)
	scaled := expr.Call(expr.Add, expr.Call(expr.Mul, expr.Call(expr.Sub, expr.C("pixels"), expr.Num(0)), expr.Num(1.0/255)), expr.Num(0))
	p.Columns = pipeline.Columns{X: []string{"features"}, Y: []string{"target"}, Keep: []string{"id"}}
	p.Shards = 4
	p.Fitted = []expr.Fitted{
		{Op: "min_max", Params: []byte("{}"), Inputs: []string{"pixels"}, Guards: []expr.Guard{{Expr: expr.Call(expr.IsValid, expr.C("pixels")), Says: "NaN"}},
			Outputs: []expr.Column{{Name: "features", Type: expr.Type{Kind: expr.Float32, Width: width}, Expr: expr.To(expr.Float32, scaled)}}},
		{Op: "one_hot", Params: []byte("{}"), Inputs: []string{"label"}, Guards: []expr.Guard{{Expr: expr.Call(expr.Lt, expr.C("label"), expr.Int(10)), Says: "outside"}},
			Outputs: []expr.Column{{Name: "target", Type: expr.Type{Kind: expr.Float32, Width: 10}, Expr: expr.Hot(expr.C("label"), 10)}}},
	}
	p.Steps = make([]expr.Step, len(p.Fitted))
	floor := func(vector string) string {
		hash := "xxhash64(id, 1L)"
		return "SELECT pixels, label, id, " + partColumn + ", " + shardColumn + " FROM (SELECT * FROM (SELECT /*+ REPARTITION(8, " + partColumn + ", " + shardColumn + ") */ * FROM (SELECT " + vector +
			" AS pixels, label, id, if(pmod(" + hash + ", 10L) < 8L, 'train', 'test') AS " + partColumn + ", CAST(pmod(" + hash + ", 4L) AS INT) AS " + shardColumn + ", " + hash + " AS h FROM " + table +
			")) SORT BY " + partColumn + ", " + shardColumn + ", h)"
	}
	var took [3][]float64
	round := 0
	measure := func(i int, f func(to string) error) {
		begin := time.Now()
		if err := f(filepath.Join(dir, strconv.Itoa(round)+"-"+strconv.Itoa(i))); err != nil {
			b.Fatal(err)
		}
		took[i] = append(took[i], time.Since(begin).Seconds())
	}
	for b.Loop() {
		round++
		measure(0, func(to string) error { return writeRaw(b, s, floor("pixels"), to, partColumn, shardColumn) })
		measure(1, func(to string) error { return writeRaw(b, s, floor(toAvro("pixels")), to, partColumn, shardColumn) })
		measure(2, func(to string) error {
			_, err := Engine{Session: s}.Write(b.Context(), p, pipeline.Stage{URI: to})
			return err
		})
	}
	ratios := func(of int) float64 {
		var r []float64
		for i, x := range took[2] {
			r = append(r, x/took[of][i])
		}
		slices.Sort(r)
		return r[len(r)/2]
	}
	b.ReportMetric(ratios(0), "ratio")
	b.ReportMetric(ratios(1), "packed-ratio")
	b.ReportMetric(rows/slices.Min(took[2]), "rows/s")
}

// writeRaw has Spark write a query as Engine.Write does.
func writeRaw(b *testing.B, s *Session, query, to string, by ...string) error {
	p := newMessage("Plan")
	w := p.in("command.write_operation").set("source", "parquet").set("path", sparkPath(to)).setEnum("mode", "SAVE_MODE_ERROR_IF_EXISTS")
	sqlRelation(w.in("input"), query)
	w.append("partitioning_columns", by...)
	w.put("options", fileOptions())
	return s.execute(b.Context(), "writing", "", p, func(message) error { return nil })
}
