package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/kerasjson"
	"dkpipe/trainers/model/formats/safetensors"
)

// Blob is an open file for reading at any offset.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Opener opens the files of one folder by their bare names.
type Opener interface {
	Open(ctx context.Context, name string) (Blob, error)
}

// Bounds on what is read into memory as one piece.
const (
	maxIndex = 1 << 20
	maxText  = 256 << 20
)

// Load reads a bundle and verifies length and hash of every file. where is the folder's name for errors. A file that
// is not what bundle.json promises is an error of kind corrupt that names it; errors of the opener are passed on with
// their kind, so a missing file satisfies errors.Is(err, fs.ErrNotExist).
func Load(ctx context.Context, o Opener, where string) (*Bundle, error) {
	l := loader{o: o, where: where}
	head, err := l.readAll(ctx, Name, nil, maxIndex)
	if err != nil {
		return nil, err
	}
	var x index
	if err := json.Unmarshal(head, &x); err != nil {
		return nil, l.corrupt(Name, "it is not JSON as expected: %v", err)
	}
	if x.Format != Format && x.Format != EnsembleFormat {
		return nil, &Error{Kind: "unsupported", Message: fmt.Sprintf("%s has format %.40q, this program reads %s", l.path(Name), x.Format, Format),
			Hint: "use a newer dkpipe"}
	}
	members, err := l.members(x)
	if err != nil {
		return nil, err
	}
	l.sums = map[string]fileSum{}
	for _, f := range x.Files {
		l.sums[f.Name] = f
	}
	for _, name := range files(members) {
		if _, ok := l.sums[name]; !ok {
			return nil, l.corrupt(Name, "it does not list %s", name)
		}
	}
	b := &Bundle{X: x.X, Y: x.Y, TransformSHA256: x.TransformSHA256, Info: x.Info}
	if err := l.texts(ctx, b); err != nil {
		return nil, err
	}
	if b.Layout, err = b.Model.Layout(); err != nil {
		return nil, l.in(ModelName, err)
	}
	total := 0
	for _, p := range b.Layout {
		total += p.Len
	}
	if total != x.Parameters {
		return nil, l.corrupt(ModelName, "it has %d parameters, %s says %d", total, Name, x.Parameters)
	}
	if members == 0 {
		b.Params, b.State, err = l.weights(ctx, WeightsName, b.Layout, total)
		return b, err
	}
	b.Ensemble = &Ensemble{Combine: x.Ensemble.Combine, Members: make([]Member, members)}
	for m := range b.Ensemble.Members {
		to := &b.Ensemble.Members[m]
		to.Info = x.Ensemble.Members[m]
		if to.Params, to.State, err = l.weights(ctx, MemberWeights(m), b.Layout, total); err != nil {
			return nil, err
		}
		if len(to.State) != len(b.Ensemble.Members[0].State) {
			return nil, l.corrupt(MemberWeights(m), "it has %d values of state, %s has %d", len(to.State), MemberWeights(0), len(b.Ensemble.Members[0].State))
		}
	}
	return b, nil
}

// members gives the number of models of an ensemble, 0 for a single model.
func (l *loader) members(x index) (int, error) {
	switch {
	case x.Format == Format && x.Ensemble == nil:
		return 0, nil
	case x.Format == Format:
		return 0, l.corrupt(Name, "it has an ensemble and the format %s", x.Format)
	case x.Ensemble == nil || len(x.Ensemble.Members) == 0 || len(x.Ensemble.Members) > maxMembers:
		return 0, l.corrupt(Name, "it lists no ensemble of 1 to %d members", maxMembers)
	}
	return len(x.Ensemble.Members), nil
}

type loader struct {
	o     Opener
	where string
	sums  map[string]fileSum
}

// path names a file for people; where is a URI, so it is not cleaned.
func (l *loader) path(name string) string { return strings.TrimRight(l.where, "/") + "/" + name }

// texts reads all but the weights.
func (l *loader) texts(ctx context.Context, b *Bundle) error {
	read := func(name string) ([]byte, error) {
		sum := l.sums[name]
		return l.readAll(ctx, name, &sum, maxText)
	}
	definition, err := read(ModelName)
	if err != nil {
		return err
	}
	if b.Model, err = kerasjson.Unmarshal(definition); err != nil {
		return l.in(ModelName, err)
	}
	transform, err := read(TransformName)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(transform, &b.Transform); err != nil {
		return l.corrupt(TransformName, "%v", err)
	}
	metrics, err := read(MetricsName)
	if err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, metrics); err != nil {
		return l.corrupt(MetricsName, "%v", err)
	}
	b.Metrics = compact.Bytes()
	if b.History, err = read(HistoryName); err != nil {
		return err
	}
	b.Spec, err = read(SpecName)
	return err
}

// readAll reads a whole file. want nil means that nothing is known of it.
func (l *loader) readAll(ctx context.Context, name string, want *fileSum, limit int64) ([]byte, error) {
	blob, err := l.o.Open(ctx, name)
	if err != nil {
		return nil, l.in(name, err)
	}
	defer blob.Close()
	size := blob.Size()
	if want != nil && size != want.Bytes {
		return nil, l.corrupt(name, "it has %d bytes, %s says %d", size, Name, want.Bytes)
	}
	if size > limit {
		return nil, l.corrupt(name, "it has %d bytes, at most %d are read", size, limit)
	}
	data := make([]byte, size)
	if n, err := blob.ReadAt(data, 0); n < len(data) {
		return nil, l.readError(name, err, int64(n))
	}
	if want != nil {
		sum := sha256.Sum256(data)
		return data, l.compare(name, sum[:], want.SHA256)
	}
	return data, nil
}

// weights reads every tensor of a file into its place. The file is read once, front to back, and hashed on the way; a
// difference is reported before anything that was read is given out.
func (l *loader) weights(ctx context.Context, name string, layout []model.ParamSpec, total int) (params, state []float32, err error) {
	want := l.sums[name]
	blob, err := l.o.Open(ctx, name)
	if err != nil {
		return nil, nil, l.in(name, err)
	}
	defer blob.Close()
	if blob.Size() != want.Bytes {
		return nil, nil, l.corrupt(name, "it has %d bytes, %s says %d", blob.Size(), Name, want.Bytes)
	}
	if want.Bytes < 4*int64(total) { // before a model.json from elsewhere makes us allocate
		return nil, nil, l.corrupt(name, "it has %d bytes for %d parameters", want.Bytes, total)
	}
	params = make([]float32, total)
	r := &hashingReader{r: blob, h: sha256.New()}
	state, parseErr := readTensors(r, want.Bytes, layout, params)
	if err := r.finish(want.Bytes); err != nil {
		return nil, nil, l.readError(name, err, r.at)
	}
	if err := l.compare(name, r.h.Sum(nil), want.SHA256); err != nil {
		return nil, nil, err
	}
	if parseErr != nil {
		return nil, nil, l.in(name, parseErr)
	}
	return params, state, nil
}

// readTensors reads in the order of the data. All tensors of the layout must be there, and none besides them but the
// state.
func readTensors(r io.ReaderAt, size int64, layout []model.ParamSpec, params []float32) (state []float32, err error) {
	f, err := safetensors.Open(r, size)
	if err != nil {
		return nil, err
	}
	places := map[string]model.ParamSpec{}
	for _, p := range layout {
		places[p.Name] = p
	}
	for _, e := range f.Entries {
		var dst []float32
		if p, ok := places[e.Name]; ok {
			dst = params[p.Off : p.Off+p.Len]
			delete(places, e.Name)
		} else if e.Name == stateName {
			state = make([]float32, e.Elements())
			dst = state
		} else {
			return nil, &Error{Kind: "corrupt", Message: fmt.Sprintf("tensor %q does not belong to the model", e.Name)}
		}
		if err := f.ReadFloat32(e, dst); err != nil {
			return nil, err
		}
	}
	for _, p := range layout {
		if _, missing := places[p.Name]; missing {
			return nil, &Error{Kind: "corrupt", Message: fmt.Sprintf("tensor %q of the model is missing", p.Name)}
		}
	}
	return state, nil
}

// hashingReader hashes what is read in order; safetensors reads header and tensors front to back.
type hashingReader struct {
	r  io.ReaderAt
	h  hash.Hash
	at int64
}

func (h *hashingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.r.ReadAt(p, off)
	if off <= h.at && h.at < off+int64(n) {
		h.h.Write(p[h.at-off : n])
		h.at = off + int64(n)
	}
	return n, err
}

// finish hashes what nobody read, when parsing stopped early.
func (h *hashingReader) finish(size int64) error {
	buf := make([]byte, 1<<16)
	for h.at < size {
		n, err := h.r.ReadAt(buf[:min(int64(len(buf)), size-h.at)], h.at)
		h.h.Write(buf[:n])
		h.at += int64(n)
		if n == 0 {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func (l *loader) compare(name string, got []byte, want string) error {
	if hex.EncodeToString(got) != want {
		return l.corrupt(name, "its SHA-256 is %x…, %s says %.12s…", got[:6], Name, want)
	}
	return nil
}

func (l *loader) corrupt(name, format string, args ...any) error {
	return &Error{Kind: "corrupt", Message: l.path(name) + ": " + fmt.Sprintf(format, args...),
		Hint: "go back to another version, or train again"}
}

// readError tells an early end from a store that fails.
func (l *loader) readError(name string, err error, at int64) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return l.corrupt(name, "it ends at byte %d", at)
	}
	return l.in(name, err)
}

// in puts the file before an error of a lower layer and keeps its kind and hint.
func (l *loader) in(name string, err error) error { return named(l.path(name), err) }

// kinder is what every error with a kind has.
type kinder interface{ ErrorKind() string }

func asKind(err error) (kinder, bool) {
	var k kinder
	ok := errors.As(err, &k)
	return k, ok
}
