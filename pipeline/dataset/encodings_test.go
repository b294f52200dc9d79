package dataset_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/pipeline/pipetest"
)

// foreign writes one Parquet file as an engine on a cluster does, in the encoding asked for, and a manifest for it.
// cell gives the floats of a row; nil is NULL.
func foreign(t testing.TB, encoding string, rows, w int, props *parquet.WriterProperties, cell func(row int) []float32) fixture {
	t.Helper()
	var typ arrow.DataType = arrow.ListOf(arrow.PrimitiveTypes.Float32)
	if encoding != "list" {
		typ = arrow.BinaryTypes.Binary
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "x", Type: typ, Nullable: true},
	}, nil))
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		v := cell(i)
		if v == nil {
			b.Field(1).AppendNull()
			continue
		}
		switch encoding {
		case "list":
			l := b.Field(1).(*array.ListBuilder)
			l.Append(true)
			l.ValueBuilder().(*array.Float32Builder).AppendValues(v, nil)
		case "avro_f32":
			p := binary.AppendVarint(nil, int64(len(v)))
			for _, f := range v {
				p = binary.LittleEndian.AppendUint32(p, math.Float32bits(f))
			}
			b.Field(1).(*array.BinaryBuilder).Append(append(p, 0))
		case "u8":
			var p []byte
			for _, f := range v {
				p = append(p, byte(f))
			}
			b.Field(1).(*array.BinaryBuilder).Append(p)
		}
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	var out bytes.Buffer
	pw, err := pqarrow.NewFileWriter(rec.Schema(), &out, props, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := pw.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := pw.Close(); err != nil {
		t.Fatal(err)
	}
	store := &pipetest.MemStore{}
	store.Put("train/a.parquet", out.Bytes())
	sum := sha256.Sum256(out.Bytes())
	return fixture{store, &dataset.Manifest{
		Columns: []pipeline.ColumnInfo{{Name: "x", Role: "x", DType: "float32", Shape: []int{w}, Encoding: encoding, Scale: 1}},
		Shards: []pipeline.ShardInfo{{Split: "train", Path: "train/a.parquet", Rows: int64(rows), Bytes: int64(out.Len()),
			SHA256: hex.EncodeToString(sum[:])}},
	}}
}

func TestFeedReadsTheEncodingsOfOtherEngines(t *testing.T) {
	const rows, w = 700, 9
	cell := func(i int) []float32 {
		v := make([]float32, w)
		for j := range v {
			v[j] = float32((i*31 + j*7) % 256)
		}
		return v
	}
	for _, encoding := range []string{"list", "avro_f32", "u8"} {
		for _, codec := range []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd} {
			for _, dictionary := range []bool{true, false} {
				for _, page := range []parquet.DataPageVersion{parquet.DataPageV1, parquet.DataPageV2} {
					name := fmt.Sprintf("%s/%v/dictionary=%v/v%d", encoding, codec, dictionary, page+1)
					t.Run(name, func(t *testing.T) {
						f := foreign(t, encoding, rows, w, parquet.NewWriterProperties(parquet.WithCompression(codec), parquet.WithDictionaryDefault(dictionary),
							parquet.WithDataPageVersion(page), parquet.WithDataPageSize(500), parquet.WithBatchSize(64), parquet.WithMaxRowGroupLength(100)), cell)
						f.manifest.Columns[0].Scale, f.manifest.Columns[0].Offset = 0.5, -1
						for _, budget := range []int64{1 << 20, 12_000} {
							feed := f.feed(t, dataset.FeedOptions{BatchSize: 50, BudgetBytes: budget})
							r, err := feed.Open(t.Context(), shardsOf(t, feed)[0], pipeline.Cursor{})
							if err != nil {
								t.Fatal(err)
							}
							for at := 0; at < rows; at += 50 {
								b, err := r.Next()
								if err != nil {
									t.Fatal(err)
								}
								for i := range b.Rows {
									for j, want := range cell(at + i) {
										if got := b.X[0][i*w+j]; got != want*0.5-1 {
											t.Fatalf("row %d, place %d: %v, want %v", at+i, j, got, want*0.5-1)
										}
									}
								}
							}
							r.Close()
						}
					})
				}
			}
		}
	}
}

func TestFeedRefusesRowsOfAnotherLengthAndNulls(t *testing.T) {
	for _, encoding := range []string{"list", "avro_f32", "u8"} {
		for what, cell := range map[string]func(int) []float32{
			"a short row":           func(i int) []float32 { return make([]float32, 4-i/150) },
			"a long row":            func(i int) []float32 { return make([]float32, 4+i/150) },
			"short, then long":      func(i int) []float32 { return make([]float32, 4+[]int{0, -1, 1, 0}[i%4]) },
			"an empty row":          func(i int) []float32 { return make([]float32, max(0, 4-i/150*4)) },
			"a NULL":                func(i int) []float32 { return [][]float32{{1, 2, 3, 4}, nil}[i/150] },
			"all rows of one value": func(i int) []float32 { return []float32{1} },
		} {
			f := foreign(t, encoding, 200, 4, parquet.NewWriterProperties(), cell)
			rows, err := readAll(t.Context(), f.feed(t, dataset.FeedOptions{}), 0)
			if kindOf(err) != string(pipeline.Corrupt) || rows != 0 {
				t.Errorf("%s, %s: %d rows, %v", encoding, what, rows, err)
			}
		}
	}
}

func TestFeedRefusesColumnsThatAreNotWhatTheManifestSays(t *testing.T) {
	f := makeDataset(t, 100, width, dataset.WriterOptions{})
	for what, change := range map[string]func(c *pipeline.ColumnInfo){
		"another name":     func(c *pipeline.ColumnInfo) { c.Name = "other" },
		"another width":    func(c *pipeline.ColumnInfo) { c.Shape = []int{width + 1} },
		"another encoding": func(c *pipeline.ColumnInfo) { c.Encoding = "list" },
		"a text column":    func(c *pipeline.ColumnInfo) { c.Name = "note" },
	} {
		m := *f.manifest
		m.Columns = append([]pipeline.ColumnInfo(nil), f.manifest.Columns[:4]...)
		change(&m.Columns[0])
		if _, err := readAll(t.Context(), fixture{f.store, &m}.feed(t, dataset.FeedOptions{}), 0); kindOf(err) != string(pipeline.Corrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzShard reads damaged files whose hash is nevertheless the one in the manifest, so that every byte reaches the
// Parquet decoder: an error or rows, never a panic.
func FuzzShard(f *testing.F) {
	small := makeDataset(f, 40, 2, dataset.WriterOptions{Parts: []string{"train"}, GroupBytes: 512})
	f.Add(small.store.Get(small.manifest.Shards[0].Path), int64(40))
	list := foreign(f, "list", 40, 3, parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy)), func(i int) []float32 {
		return []float32{float32(i), 1, 2}
	})
	f.Add(list.store.Get("train/a.parquet"), int64(40))
	f.Add([]byte("PAR1\x00\x00\x00\x00PAR1"), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, rows int64) {
		if rows < 0 || rows > 1000 {
			return
		}
		sum := sha256.Sum256(b)
		store := &pipetest.MemStore{}
		store.Put("train/a.parquet", b)
		shards := []pipeline.ShardInfo{{Split: "train", Path: "train/a.parquet", Rows: rows, Bytes: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}}
		for _, m := range []*dataset.Manifest{{Columns: columns(2), Shards: shards}, {Columns: list.manifest.Columns, Shards: shards}} {
			for _, budget := range []int64{1 << 20, 4000} {
				feed, err := dataset.NewFeed(store, m, dataset.FeedOptions{BatchSize: 7, BudgetBytes: budget})
				if err != nil {
					t.Fatal(err)
				}
				n, err := readAll(t.Context(), feed, 0)
				if err != nil && kindOf(err) == "" {
					t.Fatalf("an error without a kind: %v", err)
				}
				if err == nil && n != rows {
					t.Fatalf("%d rows of %d", n, rows)
				}
			}
		}
	})
}
