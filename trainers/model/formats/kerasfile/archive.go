package kerasfile

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/hdf5"
	"dkpipe/trainers/model/formats/kerasjson"
)

// The members of an archive.
const (
	metadataName = "metadata.json"
	configName   = "config.json"
	weightsName  = "model.weights.h5"
)

// Bounds on members that are packed: Keras itself stores them as they are. A member may unpack to smallMember bytes, or
// to maxRatio times its size, and never to more than maxUnpacked.
const (
	smallMember = 16 << 20
	maxRatio    = 100
	maxUnpacked = 8 << 30
)

type archive struct {
	r       io.ReaderAt
	members map[string]*zip.File
}

func openArchive(r io.ReaderAt, size int64) (*archive, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		if errors.Is(err, zip.ErrFormat) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, zip.ErrInsecurePath) {
			return nil, corrupt("not a .keras archive: %v", err)
		}
		return nil, err
	}
	a := &archive{r: r, members: map[string]*zip.File{}}
	for _, m := range z.File {
		if a.members[m.Name] != nil {
			return nil, corrupt("the archive has the member %.80q twice", m.Name)
		}
		a.members[m.Name] = m
	}
	return a, nil
}

// member finds one member and refuses what cannot be read.
func (a *archive) member(name string) (*zip.File, error) {
	m := a.members[name]
	if m == nil {
		if name == weightsName && a.members["model.weights.npz"] != nil {
			return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "the archive keeps its weights as model.weights.npz, which is not supported",
				Hint: "save the model with h5py installed, or as .weights.h5"}
		}
		return nil, corrupt("the archive has no %s: it is not a .keras file", name)
	}
	if m.Flags&1 != 0 || m.Method != zip.Store && m.Method != zip.Deflate {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("%s is encrypted, or packed with method %d", name, m.Method),
			Hint: "Keras stores members as they are, or deflated"}
	}
	if m.Method == zip.Store && m.CompressedSize64 != m.UncompressedSize64 {
		return nil, corrupt("%s is stored, with two lengths: %d and %d", name, m.CompressedSize64, m.UncompressedSize64)
	}
	n := m.UncompressedSize64
	if m.Method == zip.Deflate && (n > maxUnpacked || n > smallMember && n/maxRatio > m.CompressedSize64) {
		return nil, corrupt("%s unpacks from %d bytes to %d", name, m.CompressedSize64, n)
	}
	return m, nil
}

// text reads a small member whole; the library compares its length and checksum.
func (a *archive) text(name string) ([]byte, error) {
	m, err := a.member(name)
	if err != nil {
		return nil, err
	}
	if m.UncompressedSize64 > maxConfig {
		return nil, corrupt("%s has %d bytes", name, m.UncompressedSize64)
	}
	return unpack(m)
}

// unpack reads a member into memory, which grows with what really comes out.
func unpack(m *zip.File) ([]byte, error) {
	r, err := m.Open()
	if err != nil {
		return nil, damaged(m.Name, err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, r); err != nil {
		return nil, damaged(m.Name, err)
	}
	return b.Bytes(), nil
}

// damaged tells a broken archive from a store that fails.
func damaged(name string, err error) error {
	var inflate interface{ Error() string }
	if errors.Is(err, zip.ErrFormat) || errors.Is(err, zip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.As(err, &inflate) && strings.HasPrefix(inflate.Error(), "flate:") {
		return corrupt("%s is damaged: %v", name, err)
	}
	return err
}

func readArchive(r io.ReaderAt, size int64) (*Model, error) {
	a, err := openArchive(r, size)
	if err != nil {
		return nil, err
	}
	config, err := a.text(configName)
	if err != nil {
		return nil, err
	}
	var meta struct {
		Version string `json:"keras_version"`
	}
	if a.members[metadataName] != nil {
		text, err := a.text(metadataName)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &meta); err != nil {
			return nil, corrupt("%s: %v", metadataName, err)
		}
	}
	m, err := define(config, meta.Version)
	if err != nil {
		return nil, in(configName, err)
	}
	return m, a.weights(m)
}

// weights reads the tensors of m. A member that is stored, as Keras does, is read where it lies, after its checksum was
// compared; a packed one is unpacked into memory.
func (a *archive) weights(m *Model) error {
	f, err := a.member(weightsName)
	if err != nil {
		return err
	}
	var r io.ReaderAt
	n := int64(f.UncompressedSize64)
	if f.Method == zip.Store {
		off, err := f.DataOffset()
		if err != nil {
			return damaged(weightsName, err)
		}
		section := io.NewSectionReader(a.r, off, n)
		sum := crc32.NewIEEE()
		if read, err := io.CopyBuffer(sum, section, make([]byte, 1<<20)); err != nil {
			return damaged(weightsName, err)
		} else if read != n || sum.Sum32() != f.CRC32 {
			return corrupt("%s is damaged: its %d bytes do not match their checksum", weightsName, n)
		}
		r = section
	} else {
		data, err := unpack(f)
		if err != nil {
			return err
		}
		r = bytes.NewReader(data)
	}
	h, err := hdf5.Open(r, n)
	if err == nil {
		err = m.read(h)
	}
	if err != nil {
		return in(weightsName, err)
	}
	return nil
}

// writtenBy is the version that the archive claims: only what Keras 3.0 knew is in it.
const writtenBy = "3.0.0"

// Write writes a .keras archive that every Keras 3 loads. saved is noted in it; the same arguments give the same bytes.
// w needs no seeking, and no copy of the tensors is made. A model that cannot be written as Keras JSON is an error of
// kind Unsupported; errors of w are passed on as they are.
func Write(w io.Writer, m *Model, saved time.Time) error {
	if err := kerasjson.Portable(m.Definition); err != nil {
		return err
	}
	config, err := kerasjson.Marshal(inKerasOrder(m.Definition))
	if err != nil {
		return err
	}
	root, vars, err := tree(config, m.Definition)
	if err != nil {
		return err
	}
	params, state := 0, 0
	for _, v := range vars {
		if v.State {
			state += v.Len
		} else {
			params += v.Len
		}
	}
	if len(m.Params) != params || len(m.State) != state {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("the model has %d parameters and %d of state, given are %d and %d",
			params, state, len(m.Params), len(m.State))}
	}
	meta, err := json.Marshal(map[string]string{"keras_version": writtenBy, "date_saved": saved.UTC().Format("2006-01-02@15:04:05")})
	if err != nil {
		return err
	}
	var t hdf5.Tree
	root.plant(&t, "", vars, func(v model.Variable) []float32 {
		if v.State {
			return m.State[v.Off : v.Off+v.Len]
		}
		return m.Params[v.Off : v.Off+v.Len]
	})
	z := zip.NewWriter(w)
	member := func(name string, write func(io.Writer) error) error {
		h := &zip.FileHeader{Name: name, Method: zip.Store, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		return write(f)
	}
	bytesOf := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	if err := member(metadataName, bytesOf(meta)); err != nil {
		return err
	}
	if err := member(configName, bytesOf(config)); err != nil {
		return err
	}
	if err := member(weightsName, func(w io.Writer) error { _, err := t.WriteTo(w); return err }); err != nil {
		return err
	}
	return z.Close()
}
