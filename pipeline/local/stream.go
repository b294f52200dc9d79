package local

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"

	"dkpipe/pipeline"
)

// stream is a file read from start to end, unpacked when it is gzip.
type stream struct {
	name string
	blob pipeline.Blob
	file *io.SectionReader // all of blob
	r    io.Reader
	zip  bool
}

// openBlob opens a source's file; what is absent or empty is an error that says what to do.
func openBlob(ctx context.Context, open pipeline.Opener, name string) (pipeline.Blob, error) {
	blob, err := open.Open(ctx, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &pipeline.Error{Kind: pipeline.Data, Message: name + ": there is no such file",
				Hint: "check the path in source; relative paths start at the spec's folder", Err: fs.ErrNotExist}
		}
		return nil, err
	}
	if blob.Size() == 0 {
		return nil, errors.Join(dataErr("remove the file from source, or write it again",
			"%s is empty (0 bytes)", name), blob.Close())
	}
	return blob, nil
}

// head gives up to n first bytes of a blob.
func head(name string, blob pipeline.Blob, n int) ([]byte, error) {
	b := make([]byte, min(int64(n), blob.Size()))
	m, err := blob.ReadAt(b, 0)
	if m == len(b) {
		return b, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, ioErr(name, err)
}

// ioErr keeps an error that already has a kind and makes any other one Corrupt.
func ioErr(name string, err error) error {
	var kind interface{ ErrorKind() string }
	if errors.As(err, &kind) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return corruptErr(err, "read the file with another program; write it again if that fails too", "%s cannot be read", name)
}

var magics = []struct {
	magic  string
	format pipeline.Format
}{{"PAR1", pipeline.Parquet}, {"ARROW1", pipeline.Arrow}}

// openText opens a text file and refuses what is plainly another format.
func openText(ctx context.Context, open pipeline.Opener, name string) (*stream, error) {
	blob, err := openBlob(ctx, open, name)
	if err != nil {
		return nil, err
	}
	s, err := newStream(name, blob)
	if err != nil {
		return nil, errors.Join(err, blob.Close())
	}
	if err := s.refuseOther(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func newStream(name string, blob pipeline.Blob) (*stream, error) {
	s := &stream{name: name, blob: blob, file: io.NewSectionReader(blob, 0, blob.Size())}
	s.r = s.file
	h, err := head(name, blob, 2)
	if err != nil {
		return nil, err
	}
	if len(h) == 2 && h[0] == 0x1f && h[1] == 0x8b {
		z, err := gzip.NewReader(s.r)
		if err != nil {
			return nil, s.err(err)
		}
		s.r, s.zip = z, true
	}
	return s, nil
}

func (s *stream) refuseOther() error {
	h, err := head(s.name, s.blob, 8)
	if err != nil {
		return err
	}
	for _, m := range magics {
		if bytes.HasPrefix(h, []byte(m.magic)) {
			return corruptErr(nil, "name it as source: {"+string(m.format)+": ...}", "%s is not text: it starts like a %s file", s.name, m.format)
		}
	}
	if bytes.HasPrefix(h, []byte{0xff, 0xfe}) || bytes.HasPrefix(h, []byte{0xfe, 0xff}) {
		return corruptErr(nil, "convert it to UTF-8, for example with iconv", "%s is UTF-16 text", s.name)
	}
	return nil
}

// Read reads unpacked bytes. Errors other than io.EOF name the file.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = s.err(err)
	}
	return n, err
}

func (s *stream) err(err error) error {
	if s.zip || errors.Is(err, gzip.ErrHeader) {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
			return corruptErr(err, "copy or make the file again", "%s: the gzip data is damaged or cut off", s.name)
		}
	}
	return ioErr(s.name, err)
}

// share is the part of the file that was read, 0 to 1.
func (s *stream) share() float64 {
	at, err := s.file.Seek(0, io.SeekCurrent)
	if err != nil || s.file.Size() == 0 {
		return 0
	}
	return float64(at) / float64(s.file.Size())
}

// Close closes the file.
func (s *stream) Close() error { return s.blob.Close() }
