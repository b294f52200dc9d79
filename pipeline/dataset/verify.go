package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"

	"dkpipe/pipeline"
)

const hashChunk = 256 << 10

// verify reads a whole shard once, in file order, and compares its length and SHA-256 with the manifest. On the way
// it takes a checksum of every row group, which later reads are held against, and hands each group's bytes to visit
// (nil: nobody wants them). buf is memory to read into. What visit returned counts only when the hash is right:
// bytes that are not the promised ones explain any other trouble.
func verify(ctx context.Context, blob pipeline.Blob, s pipeline.Shard, lay *layout, buf *[]byte,
	visit func(f *footer, g int, b []byte) error) (*footer, error) {
	f, err := readFooter(blob, lay)
	var bad footerError
	if err != nil && !errors.As(err, &bad) {
		return nil, readFault(s.Path, err)
	}
	if blob.Size() != s.Bytes {
		kind := pipeline.Corrupt // cut off, say
		if err == nil {
			kind = pipeline.Changed // a whole Parquet file, but another one
		}
		return nil, &pipeline.Error{Kind: kind,
			Message: fmt.Sprintf("%s has %d bytes, the manifest says %d", s.Path, blob.Size(), s.Bytes), Hint: hintShard}
	}
	var visited error
	h := sha256.New()
	if err != nil {
		// The file has its length but is not readable: hash it all the same, to tell damage from a bad writer.
		visited, f = err, &footer{}
		visit = nil
	}
	at := int64(0)
	for g := range f.groups {
		p := &f.groups[g]
		if err := hashRange(ctx, blob, h, nil, at, p.off, buf); err != nil {
			return nil, readFault(s.Path, err)
		}
		at = p.end
		if visit == nil || visited != nil {
			if err := hashRange(ctx, blob, h, &p.sum, p.off, p.end, buf); err != nil {
				return nil, readFault(s.Path, err)
			}
			continue
		}
		b := sized(buf, p.end-p.off)
		if err := readGroup(ctx, blob, b, p.off); err != nil {
			return nil, readFault(s.Path, err)
		}
		h.Write(b)
		p.sum = checksum(b)
		visited = visit(f, g, b)
	}
	if err := hashRange(ctx, blob, h, nil, at, s.Bytes-int64(len(f.raw)), buf); err != nil {
		return nil, readFault(s.Path, err)
	}
	last := sized(buf, int64(len(f.raw)))
	if err := readAt(blob, last, s.Bytes-int64(len(last))); err != nil {
		return nil, readFault(s.Path, err)
	}
	h.Write(last)
	if sum := hex.EncodeToString(h.Sum(nil)); sum != s.SHA256 || !bytes.Equal(last, f.raw) {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt,
			Message: fmt.Sprintf("%s has SHA-256 %.12s…, the manifest says %.12s…", s.Path, sum, s.SHA256), Hint: hintShard}
	}
	if visited == nil && f.total != s.Rows {
		visited = fmt.Errorf("%d rows, the manifest says %d", f.total, s.Rows)
	}
	if visited != nil {
		return nil, unreadable(s.Path, visited)
	}
	return f, nil
}

const hintShard = "the dataset is not what was published: check the store, or prepare the dataset again"

// unreadable is the error of a shard whose hash is right and whose bytes are no good Parquet.
func unreadable(path string, err error) error {
	if _, ok := errKind(err); ok {
		return err
	}
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: path, Err: err,
		Hint: "its hash is as published, so it was written like this: prepare the dataset again"}
}

// readFault gives an error of the store its kind, when it has none.
func readFault(path string, err error) error {
	if k, ok := errKind(err); ok {
		var h interface{ ErrorHint() string }
		hint := ""
		if errors.As(err, &h) {
			hint = h.ErrorHint()
		}
		return &pipeline.Error{Kind: k, Message: path, Hint: hint, Err: err}
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return interrupted(path, err)
	case errors.Is(err, fs.ErrNotExist):
		return &pipeline.Error{Kind: pipeline.Changed, Message: path + " is gone", Err: err, Hint: hintShard}
	case errors.Is(err, fs.ErrPermission):
		return &pipeline.Error{Kind: pipeline.Denied, Message: path, Err: err}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &pipeline.Error{Kind: pipeline.Changed, Message: path + " became shorter while it was read", Hint: hintShard}
	}
	return &pipeline.Error{Kind: pipeline.Unreachable, Message: path, Err: err}
}

// changed is the error of a shard that was verified and is another one now.
func changed(path, how string) error {
	return &pipeline.Error{Kind: pipeline.Changed, Message: path + " changed while it was in use: " + how, Hint: hintShard}
}

func hashRange(ctx context.Context, blob pipeline.Blob, h hash.Hash, sum *uint32, off, end int64, buf *[]byte) error {
	for off < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := sized(buf, min(hashChunk, end-off))
		if err := readAt(blob, b, off); err != nil {
			return err
		}
		h.Write(b)
		if sum != nil {
			*sum = crc32.Update(*sum, castagnoli(), b)
		}
		off += int64(len(b))
	}
	return nil
}

// readGroup reads a row group's bytes, looking at ctx now and then.
func readGroup(ctx context.Context, blob pipeline.Blob, b []byte, off int64) error {
	for len(b) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(len(b), 8<<20)
		if err := readAt(blob, b[:n], off); err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// sized gives n bytes of *buf, which grows when it must.
func sized(buf *[]byte, n int64) []byte {
	if int64(cap(*buf)) < n {
		*buf = make([]byte, n)
	}
	*buf = (*buf)[:cap(*buf)]
	return (*buf)[:n]
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// castagnoli is the table of CRC-32C, which processors compute in hardware.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
