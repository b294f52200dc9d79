package pipeline

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Batch is a block of training rows, row-major float32. A reader owns the memory of the batches it gives out:
// a batch is valid until the next call of Next or Close, and its consumer must not keep or change it.
type Batch struct {
	Rows   int
	X, Y   [][]float32 // one slice a model input / output, Rows × width of that column
	Weight []float32   // Rows sample weights, or nil when the dataset has none
}

// Shard is one part of a dataset's split: plain data that may be sent to another process.
type Shard struct {
	ID     int    `json:"id"`   // position in Feed.Shards, from 0
	Path   string `json:"path"` // relative to the dataset version's folder
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Cursor is the position of the next batch inside one shard. It rides with every commit to the parameter
// server, so a run resumes where its last acknowledged commit ended, on any worker.
type Cursor struct {
	Epoch int   // the order of the rows depends on it
	Row   int64 // rows of this epoch's order that were already delivered
}

// Append appends the cursor's wire form (two varints) to b.
func (c Cursor) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.Epoch))
	return binary.AppendUvarint(b, uint64(c.Row))
}

// ParseCursor reads the wire form made by Append.
func ParseCursor(b []byte) (Cursor, error) {
	epoch, n := binary.Uvarint(b)
	if n <= 0 || epoch > 1<<31 {
		return Cursor{}, fmt.Errorf("cursor of %d bytes: bad epoch", len(b))
	}
	row, m := binary.Uvarint(b[n:])
	if m <= 0 || row > 1<<62 || n+m != len(b) {
		return Cursor{}, fmt.Errorf("cursor of %d bytes: bad row", len(b))
	}
	return Cursor{Epoch: int(epoch), Row: int64(row)}, nil
}

// BatchReader gives one shard's batches for one epoch to one goroutine.
type BatchReader interface {
	// Next gives the next batch, io.EOF at the end of the epoch. The last batch may be short, never empty.
	// Errors are sticky and name the shard and the offset.
	Next() (*Batch, error)
	// Cursor is the position of the batch that the next call of Next will give.
	Cursor() Cursor
	// Close gives the reader's memory and files back. It is safe to call twice.
	Close() error
}

// Feed gives the batches of one split of one dataset. Files (pipeline/dataset) and live streams (sparkconn)
// implement it. A Feed may be used from several goroutines; its readers may not.
type Feed interface {
	// Shards lists the split's shards; order and count do not depend on the number of workers.
	Shards(ctx context.Context) ([]Shard, error)
	// Open starts reading a shard at a position. Cancelling ctx makes Next fail. An error of kind Changed or
	// Corrupt means that the shard is not the one that the manifest describes.
	Open(ctx context.Context, s Shard, from Cursor) (BatchReader, error)
}
