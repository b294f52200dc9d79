package dataset

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"dkpipe/pipeline"
)

// maxGroupRows bounds a row group of narrow rows, so that what is kept per row stays small too.
const maxGroupRows = 64 << 10

// shardWriter writes shards one after the other and keeps its buffers between them.
type shardWriter struct {
	schema *rowSchema
	bytes  int    // of a row group
	buf    []byte // rows of the group
	ends   []int  // where each row ends in buf
	fixed  []parquet.FixedLenByteArray
	def    []int16
	texts  []parquet.ByteArray
	ints   []int64
	floats []float64
	at     []int // of each row: where the next keep cell begins
}

func newShardWriter(s *rowSchema, groupBytes int64) *shardWriter {
	return &shardWriter{schema: s, bytes: int(groupBytes)}
}

// write writes one shard into out and closes it. take gives the shard's current row, step goes to the next one.
func (w *shardWriter) write(ctx context.Context, out Output, path string,
	take func() ([]byte, bool, error), step func(), progress func(int64)) (info pipeline.ShardInfo, err error) {
	sum := &hashWriter{w: out, h: sha256.New()}
	defer func() {
		if r := recover(); r != nil {
			err = &pipeline.Error{Kind: pipeline.Internal, Message: path, Err: fmt.Errorf("parquet writer: %v", r)}
		}
		if sum.err != nil {
			err = sum.err
		}
	}()
	node, err := w.schema.parquet()
	if err != nil {
		return info, &pipeline.Error{Kind: pipeline.Internal, Message: path, Err: err}
	}
	buffered := bufio.NewWriterSize(sum, 128<<10)
	pw, err := file.NewParquetWriterWithError(buffered, node, file.WithWriterProps(parquet.NewWriterProperties(
		parquet.WithVersion(parquet.V2_LATEST), parquet.WithDataPageVersion(parquet.DataPageV1),
		parquet.WithDictionaryDefault(false), parquet.WithStats(false), parquet.WithCompression(compress.Codecs.Uncompressed),
		parquet.WithEncoding(parquet.Encodings.Plain), parquet.WithDataPageSize(pageBytes), parquet.WithBatchSize(w.pageRows()),
		parquet.WithCreatedBy("dkpipe"))))
	if err != nil {
		return info, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return info, interrupted(path, context.Cause(ctx))
		}
		if err := w.fill(take, step); err != nil {
			return info, err
		}
		if len(w.ends) == 0 {
			break
		}
		if err := w.flush(pw); err != nil {
			return info, err
		}
		info.Rows += int64(len(w.ends))
		progress(int64(len(w.ends)))
	}
	if err := pw.Close(); err != nil {
		return info, err
	}
	if err := buffered.Flush(); err != nil {
		return info, err
	}
	if err := out.Close(); err != nil {
		return info, err
	}
	info.Bytes, info.SHA256 = sum.n, hex.EncodeToString(sum.h.Sum(nil))
	return info, nil
}

// pageBytes is the size of a page: small enough to stay in a core's cache between two copies.
const pageBytes = 256 << 10

// pageRows is how many values arrow-go writes before it looks at the page's size.
func (w *shardWriter) pageRows() int64 {
	widest := 1
	for _, v := range w.schema.vectors {
		widest = max(widest, 4*v.width)
	}
	return int64(min(max(1, pageBytes/widest), 1024))
}

// fill copies the rows of the next group into buf.
func (w *shardWriter) fill(take func() ([]byte, bool, error), step func()) error {
	w.buf, w.ends = w.buf[:0], w.ends[:0]
	for len(w.ends) < maxGroupRows {
		row, ok, err := take()
		if err != nil {
			return err
		}
		if !ok || (len(w.ends) > 0 && len(w.buf)+len(row) > w.bytes) {
			return nil
		}
		w.buf = append(w.buf, row...)
		w.ends = append(w.ends, len(w.buf))
		step()
	}
	return nil
}

func (w *shardWriter) flush(pw *file.Writer) error {
	g, err := pw.AppendRowGroupChecked()
	if err != nil {
		return err
	}
	for _, v := range w.schema.vectors {
		c, err := g.NextColumn()
		if err != nil {
			return err
		}
		w.fixed = w.fixed[:0]
		start := 0
		for _, end := range w.ends {
			w.fixed = append(w.fixed, parquet.FixedLenByteArray(w.buf[start+v.off:start+v.off+4*v.width]))
			start = end
		}
		cw, ok := c.(*file.FixedLenByteArrayColumnChunkWriter)
		if !ok {
			return fmt.Errorf("column %q: unexpected writer %T", v.name, c)
		}
		if _, err := cw.WriteBatch(w.fixed, nil, nil); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	w.at = w.at[:0]
	start := 0
	for _, end := range w.ends {
		w.at = append(w.at, start+w.schema.fixed)
		start = end
	}
	for _, k := range w.schema.keeps {
		c, err := g.NextColumn()
		if err != nil {
			return err
		}
		if err := w.flushKeep(k, c); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return g.Close()
}

func (w *shardWriter) flushKeep(k keep, c file.ColumnChunkWriter) error {
	w.def, w.texts, w.ints, w.floats = w.def[:0], w.texts[:0], w.ints[:0], w.floats[:0]
	for i, end := range w.ends {
		value, valid, rest := k.cell(w.buf[w.at[i]:end])
		w.at[i] = end - len(rest)
		if !valid {
			w.def = append(w.def, 0)
			continue
		}
		w.def = append(w.def, 1)
		switch k.dtype {
		case "int64":
			w.ints = append(w.ints, int64(binary.LittleEndian.Uint64(value)))
		case "float64":
			w.floats = append(w.floats, math.Float64frombits(binary.LittleEndian.Uint64(value)))
		default:
			w.texts = append(w.texts, parquet.ByteArray(value))
		}
	}
	var err error
	switch cw := c.(type) {
	case *file.Int64ColumnChunkWriter:
		_, err = cw.WriteBatch(w.ints, w.def, nil)
	case *file.Float64ColumnChunkWriter:
		_, err = cw.WriteBatch(w.floats, w.def, nil)
	case *file.ByteArrayColumnChunkWriter:
		_, err = cw.WriteBatch(w.texts, w.def, nil)
	default:
		err = fmt.Errorf("column %q: unexpected writer %T", k.name, c)
	}
	return err
}

// parquet is the schema of a shard: vectors required and without levels, keep columns nullable.
func (s *rowSchema) parquet() (*schema.GroupNode, error) {
	var fields schema.FieldList
	for _, v := range s.vectors {
		n, err := schema.NewPrimitiveNode(v.name, parquet.Repetitions.Required, parquet.Types.FixedLenByteArray, -1, int32(4*v.width))
		if err != nil {
			return nil, err
		}
		fields = append(fields, n)
	}
	for _, k := range s.keeps {
		var n *schema.PrimitiveNode
		var err error
		switch k.dtype {
		case "int64":
			n, err = schema.NewPrimitiveNode(k.name, parquet.Repetitions.Optional, parquet.Types.Int64, -1, -1)
		case "float64":
			n, err = schema.NewPrimitiveNode(k.name, parquet.Repetitions.Optional, parquet.Types.Double, -1, -1)
		default:
			n, err = schema.NewPrimitiveNodeLogical(k.name, parquet.Repetitions.Optional, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1)
		}
		if err != nil {
			return nil, err
		}
		fields = append(fields, n)
	}
	return schema.NewGroupNode("schema", parquet.Repetitions.Required, fields, -1)
}

// hashWriter hashes and counts what goes through it.
type hashWriter struct {
	w   io.Writer
	h   hash.Hash
	n   int64
	err error // the first one: what stands above may have dressed it
}

func (w *hashWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.w.Write(p)
	w.h.Write(p[:n])
	w.n += int64(n)
	w.err = err
	return n, err
}
