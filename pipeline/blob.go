package pipeline

import (
	"context"
	"io"
)

// Blob is an open file for reading at any offset. ReadAt may be called concurrently. Cancelling the context that
// was given to Open makes ReadAt fail.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Opener opens files of one store for reading. Errors satisfy errors.Is(err, fs.ErrNotExist) when the file is absent.
type Opener interface {
	Open(ctx context.Context, name string) (Blob, error)
}
