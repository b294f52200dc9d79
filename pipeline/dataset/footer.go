package dataset

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"dkpipe/pipeline"
)

const (
	maxFooter    = 256 << 20
	parquetMagic = "PAR1"
)

// footer is what the end of a Parquet file says, checked against the file's size and the layout. It is shared by all
// readers of a shard and not changed.
type footer struct {
	raw    []byte // from the metadata to the last byte of the file
	meta   *metadata.FileMetaData
	leaf   []int // of each column of the layout: its number in the file
	groups []group
	rows   []int64 // of each group
	total  int64
	widest int64 // bytes of the largest group
}

// group is where a row group's bytes lie in the file.
type group struct {
	off, end int64
	sum      uint32 // CRC-32C of the bytes, computed while the shard's SHA-256 was checked
}

// footerError says what is wrong with a footer that could be read.
type footerError struct{ error }

func badFooter(format string, args ...any) error { return footerError{fmt.Errorf(format, args...)} }

// readFooter reads and checks a footer. What is wrong with it is a footerError, everything else came from the store.
func readFooter(blob pipeline.Blob, lay *layout) (*footer, error) {
	size := blob.Size()
	var tail [8]byte
	if size < int64(len(parquetMagic)+len(tail)) {
		return nil, badFooter("%d bytes are too few for a Parquet file", size)
	}
	if err := readAt(blob, tail[:], size-8); err != nil {
		return nil, err
	}
	if string(tail[4:]) != parquetMagic {
		return nil, badFooter("not a Parquet file: it ends with % x", tail[4:])
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4]))
	if n > maxFooter || n+8 > size-int64(len(parquetMagic)) {
		return nil, badFooter("a footer of %d bytes in a file of %d", n, size)
	}
	f := &footer{raw: make([]byte, n+8)}
	if err := readAt(blob, f.raw, size-n-8); err != nil {
		return nil, err
	}
	if err := f.parse(size, lay); err != nil {
		return nil, badFooter("Parquet footer: %w", err)
	}
	return f, nil
}

func (f *footer) parse(size int64, lay *layout) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	f.meta, err = metadata.NewFileMetaData(f.raw[:len(f.raw)-8], nil)
	if err != nil {
		return err
	}
	f.meta.SetSourceFileSize(size)
	if f.meta.IsSetEncryptionAlgorithm() {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: "the file is encrypted"}
	}
	for _, c := range lay.cols {
		i, err := findColumn(f.meta, c)
		if err != nil {
			return err
		}
		f.leaf = append(f.leaf, i)
	}
	end := int64(len(parquetMagic))
	for i := range f.meta.RowGroups {
		g, rows, err := groupSpan(f.meta, i)
		if err != nil {
			return fmt.Errorf("row group %d: %w", i, err)
		}
		if g.off < end || g.end > size-int64(len(f.raw)) {
			return fmt.Errorf("row group %d: bytes %d to %d overlap something else", i, g.off, g.end)
		}
		end = g.end
		f.groups = append(f.groups, g)
		f.rows = append(f.rows, rows)
		f.total += rows
		f.widest = max(f.widest, g.end-g.off)
	}
	if f.total != f.meta.NumRows {
		return fmt.Errorf("%d rows in all, the row groups have %d", f.meta.NumRows, f.total)
	}
	return nil
}

// groupSpan gives the bytes that a row group's columns cover.
func groupSpan(meta *metadata.FileMetaData, i int) (group, int64, error) {
	rg := meta.RowGroup(i)
	rows := rg.NumRows()
	if rows < 0 || rows > maxWindowRows {
		return group{}, 0, fmt.Errorf("%d rows", rows)
	}
	if rg.NumColumns() != meta.Schema.NumColumns() {
		return group{}, 0, fmt.Errorf("%d columns, the schema has %d", rg.NumColumns(), meta.Schema.NumColumns())
	}
	g := group{off: -1}
	for c := 0; c < rg.NumColumns(); c++ {
		cc, err := rg.ColumnChunk(c)
		if err != nil {
			return group{}, 0, err
		}
		off := cc.DataPageOffset()
		if cc.HasDictionaryPage() && cc.DictionaryPageOffset() > 0 {
			off = min(off, cc.DictionaryPageOffset())
		}
		n := cc.TotalCompressedSize()
		if off < 0 || n < 0 || off > 1<<56 || n > 1<<40 {
			return group{}, 0, fmt.Errorf("column %d: %d bytes at %d", c, n, off)
		}
		if g.off < 0 || off < g.off {
			g.off = off
		}
		g.end = max(g.end, off+n)
	}
	return g, rows, nil
}

// findColumn finds a layout's column in a file and checks its physical type.
func findColumn(meta *metadata.FileMetaData, c column) (int, error) {
	s := meta.Schema
	for i := 0; i < s.NumColumns(); i++ {
		d := s.Column(i)
		if d.ColumnPath()[0] != c.name {
			continue
		}
		t, rep, def := d.PhysicalType(), d.MaxRepetitionLevel(), d.MaxDefinitionLevel()
		var want []parquet.Type
		switch c.encoding {
		case EncodingF32LE:
			want = []parquet.Type{parquet.Types.FixedLenByteArray}
		case EncodingList:
			want = []parquet.Type{parquet.Types.Float}
		case EncodingAvro:
			want = []parquet.Type{parquet.Types.ByteArray}
		case EncodingU8:
			want = []parquet.Type{parquet.Types.ByteArray, parquet.Types.FixedLenByteArray}
		}
		bytesWide := map[string]int{EncodingF32LE: 4 * c.width, EncodingU8: c.width}[c.encoding]
		switch {
		case !slices.Contains(want, t):
			return 0, fmt.Errorf("column %q is stored as %s, the manifest says %s", c.name, t, c.encoding)
		case t == parquet.Types.FixedLenByteArray && d.TypeLength() != bytesWide:
			return 0, fmt.Errorf("column %q has %d bytes a row, the manifest says %d", c.name, d.TypeLength(), bytesWide)
		case c.encoding == EncodingList && (rep > 1 || def > 3 || rep == 0 && c.width != 1):
			return 0, fmt.Errorf("column %q is nested %d deep, want a list of floats", c.name, rep)
		case c.encoding != EncodingList && (rep != 0 || def > 1):
			return 0, fmt.Errorf("column %q is nested, want plain values", c.name)
		}
		return i, nil
	}
	return 0, fmt.Errorf("there is no column %q, which the manifest lists", c.name)
}

// readAt fills p or fails; a file that ends too early is io.ErrUnexpectedEOF.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
