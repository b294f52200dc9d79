package kerasfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/formats/kerasjson"
)

// kerasFiles are files as Keras wrote them: an archive, and HDF5.
func kerasFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, name := range []string{"keras-2.15.keras", "keras-3.0.keras", "keras-2.15.h5"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	return files
}

// refused tells whether an error says that the file is at fault.
func refused(err error) bool {
	var e *pipeline.Error
	return errors.As(err, &e) && (e.Kind == pipeline.Corrupt || e.Kind == pipeline.Unsupported)
}

// A file that is cut off anywhere is refused: the end of an archive holds its index, that of an HDF5 file its tensors.
func TestFilesOfKerasThatAreCutOff(t *testing.T) {
	for name, data := range kerasFiles(t) {
		if _, err := Read(bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for n := 0; n < len(data); n += 256 {
			if _, err := Read(bytes.NewReader(data[:n]), int64(n)); !refused(err) {
				t.Errorf("%s, the first %d of %d bytes: %v", name, n, len(data), err)
			}
		}
	}
}

// Groups that hold themselves, or those above them, and B-trees whose nodes are their own children: reading ends, with the
// model or with an error about the file.
func TestFilesThatGoRoundInCircles(t *testing.T) {
	data := kerasFiles(t)["keras-2.15.h5"]
	root := data[64:72] // the address of the root's header in the superblock, version 0 (section II.A)
	tried, refusals := 0, 0
	try := func(what string, broken []byte) {
		tried++
		switch _, err := Read(bytes.NewReader(broken), int64(len(broken))); {
		case refused(err):
			refusals++
		case err != nil:
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, at := range places(data, "SNOD") { // an entry has 40 bytes: the name, then the object's address (section III.C)
		for entry := range int(binary.LittleEndian.Uint16(data[at+6:])) {
			broken := slices.Clone(data)
			copy(broken[at+8+40*entry+8:], root)
			try(fmt.Sprintf("entry %d at %d is the root", entry, at), broken)
		}
	}
	for _, at := range places(data, "TREE") { // level, then two siblings, the first key, the first child (section III.A.1)
		for _, level := range []byte{0, 1, 255} {
			broken := slices.Clone(data)
			broken[at+5] = level
			binary.LittleEndian.PutUint64(broken[at+32:], uint64(at))
			try(fmt.Sprintf("the node at %d of level %d is its own child", at, level), broken)
		}
	}
	if tried < 10 || refusals < tried/2 {
		t.Errorf("%d of %d files were refused", refusals, tried)
	}
}

// places gives where a signature stands.
func places(data []byte, signature string) []int {
	var all []int
	for at := 0; ; {
		i := bytes.Index(data[at:], []byte(signature))
		if i < 0 {
			return all
		}
		all = append(all, at+i)
		at += i + 4
	}
}

// JSON of ten thousand levels is refused, as it stands and in an archive.
func TestDefinitionsOfManyLevels(t *testing.T) {
	for name, text := range map[string]string{
		"configs": strings.Repeat(`{"class_name":"Sequential","config":`, 10_000) + "1" + strings.Repeat("}", 10_000),
		"models":  strings.Repeat(`{"class_name":"Sequential","config":{"layers":[`, 10_000) + strings.Repeat("]}}", 10_000),
		"lists":   `{"class_name":"Sequential","config":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}",
	} {
		if _, err := kerasjson.Unmarshal([]byte(text)); !refused(err) {
			t.Errorf("%s: %v", name, err)
		}
		data := kerasFiles(t)["keras-3.0.keras"]
		if _, err := Read(bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
		broken := repack(t, data, 0, map[string][]byte{configName: []byte(text)})
		if _, err := Read(bytes.NewReader(broken), int64(len(broken))); !refused(err) {
			t.Errorf("%s in an archive: %v", name, err)
		}
	}
}
