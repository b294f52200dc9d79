package sparkconn

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/pipetest"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

func TestEngineKeepsItsPromises(t *testing.T) {
	s := dialReal(t)
	pipetest.TestEngine(t, func(t *testing.T, files []pipetest.File) pipetest.EngineCase {
		dir := t.TempDir()
		c := pipetest.EngineCase{Engine: Engine{Session: s}}
		for _, f := range files {
			name := filepath.Join(dir, f.Name)
			if err := os.WriteFile(name, f.Bytes, 0o644); err != nil {
				t.Fatal(err)
			}
			c.Files = append(c.Files, name)
		}
		c.Stage = stageIn
		c.Names = func() []string {
			var names []string
			_ = filepath.Walk(dir, func(p string, _ os.FileInfo, _ error) error { names = append(names, p); return nil })
			return names
		}
		return c
	})
}

// stageIn gives a stage in a folder that the server of this machine can write to, and a reader of what it wrote.
func stageIn(t *testing.T, parts []string) (pipeline.Stage, func(pipeline.Written) ([]pipetest.Row, error)) {
	dir := t.TempDir()
	return pipeline.Stage{URI: dir}, func(w pipeline.Written) ([]pipetest.Row, error) { return readShards(dir, parts, w) }
}

// readShards reads all rows of what Write returned, shard after shard.
func readShards(dir string, parts []string, w pipeline.Written) ([]pipetest.Row, error) {
	var rows []pipetest.Row
	for _, s := range w.Shards {
		info, err := os.Stat(filepath.Join(dir, s.Path))
		if err != nil {
			return nil, err
		}
		if info.Size() != s.Bytes {
			return nil, fmt.Errorf("%s has %d bytes, Write says %d", s.Path, info.Size(), s.Bytes)
		}
		got, err := readShard(filepath.Join(dir, s.Path), w.Columns)
		if err != nil {
			return nil, err
		}
		if int64(len(got)) != s.Rows {
			return nil, fmt.Errorf("%s has %d rows, Write says %d", s.Path, len(got), s.Rows)
		}
		for i := range got {
			got[i].Part = uint8(slices.Index(parts, s.Split))
		}
		rows = append(rows, got...)
	}
	return rows, nil
}

func readShard(name string, columns []pipeline.ColumnInfo) ([]pipetest.Row, error) {
	r, err := file.OpenParquetFile(name, false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	t, err := fr.ReadTable(context.Background())
	if err != nil {
		return nil, err
	}
	defer t.Release()
	rows := make([]pipetest.Row, t.NumRows())
	for i, c := range columns {
		at := 0
		for _, chunk := range t.Column(i).Data().Chunks() {
			for k := range chunk.Len() {
				row := &rows[at]
				at++
				if c.Role == "keep" {
					row.Keep = append(row.Keep, keepAt(chunk.(interface {
						IsNull(int) bool
					}), k, chunk))
					continue
				}
				v, err := floatsAt(chunk, k)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", c.Name, err)
				}
				row.Vectors = append(row.Vectors, v)
			}
		}
	}
	return rows, nil
}

func keepAt(n interface{ IsNull(int) bool }, k int, a any) any {
	if n.IsNull(k) {
		return nil
	}
	switch a := a.(type) {
	case *array.Int64:
		return a.Value(k)
	case *array.Float64:
		return a.Value(k)
	case *array.String:
		return a.Value(k)
	}
	return fmt.Sprintf("%T", a)
}

func floatsAt(a any, k int) ([]float32, error) {
	switch a := a.(type) {
	case *array.List:
		from, to := a.ValueOffsets(k)
		return slices.Clone(a.ListValues().(*array.Float32).Float32Values()[from:to]), nil
	case *array.Binary:
		b := a.Value(k)
		n, used := binary.Varint(b)
		out := make([]float32, n)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[used+4*i:]))
		}
		return out, nil
	}
	return nil, fmt.Errorf("type %T", a)
}

func TestWriteIntoHDFS(t *testing.T) {
	where := realServers(t)
	if where.HDFS == "" {
		t.Skip("the box has no HDFS")
	}
	s := dialReal(t)
	p := livePlan()
	adopted := 0
	e := Engine{Session: s, Adopt: func(_ context.Context, path string) (int64, string, error) {
		adopted++
		return 7, "hash of " + path, nil
	}}
	stage := pipeline.Stage{URI: where.HDFS + "/sparkconn-test/" + s.ID()}
	w, err := e.Write(t.Context(), p, stage)
	if err != nil {
		t.Fatal(err)
	}
	rows := int64(0)
	for _, sh := range w.Shards {
		rows += sh.Rows
		if sh.Bytes != 7 || sh.SHA256 != "hash of "+sh.Path {
			t.Errorf("%+v was not adopted", sh)
		}
	}
	if rows != 700 || adopted != 6 {
		t.Errorf("%d rows, %d shards", rows, adopted)
	}
	_, err = e.Write(t.Context(), p, stage)
	wantError(t, err, pipeline.BadSpec, "PATH_ALREADY_EXISTS")
}
