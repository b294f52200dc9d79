package hdf5

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"

	"pgregory.net/rapid"
)

func encode(t testing.TB, tree *Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := tree.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("%d of %d bytes: %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func open(t testing.TB, data []byte) *File {
	t.Helper()
	f, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree
		tensors, texts := map[string][]float32{}, map[string]string{}
		shapes := map[string][]int{}
		for i := range rapid.IntRange(0, 40).Draw(t, "tensors") {
			path := fmt.Sprintf("%sg%d/t%d", rapid.SampledFrom([]string{"", "a/", "a/é/", "layers/deep/er/"}).Draw(t, "group"), i%7, i)
			shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 4).Draw(t, "shape")
			data := make([]float32, elements(shape))
			for k := range data {
				data[k] = math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
			}
			tree.Tensor(path, shape, data)
			tensors[path], shapes[path] = data, shape
			if rapid.Bool().Draw(t, "attribute") {
				texts[path] = rapid.StringMatching(`[ -~é]*`).Draw(t, "text")
				tree.Attribute(path, "name", texts[path])
			}
		}
		var b bytes.Buffer
		if _, err := tree.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		f, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range tensors {
			o, err := f.Root().Open(path)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, len(want))
			if err := o.ReadFloat32(got); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%s[%d] = %x", path, i, got[i])
				}
			}
			if shape, err := o.Shape(); err != nil || !slices.Equal(shape, shapes[path]) {
				t.Fatalf("%s has the shape %v: %v", path, shape, err)
			}
			a, err := o.Attribute("name")
			if text, ok := texts[path]; ok {
				s, e := a.Strings()
				if err != nil || e != nil || s[0] != text {
					t.Fatalf("%s: %q, want %q (%v, %v)", path, s, text, err, e)
				}
			} else if a != nil || err != nil {
				t.Fatalf("%s has an attribute from nowhere: %v", path, err)
			}
		}
	})
}

// Groups of every size are listed whole: at one symbol node, one B-tree node, and two and three levels of them.
func TestGroupsOfAnySize(t *testing.T) {
	for _, n := range []int{0, 1, 8, 9, 255, 256, 257, 300, 8193} {
		var tree Tree
		tree.Group("g")
		for i := range n {
			tree.Tensor(fmt.Sprintf("g/%d", i), nil, []float32{float32(i)})
		}
		g, err := open(t, encode(t, &tree)).Root().Open("g")
		if err != nil {
			t.Fatal(err)
		}
		names, err := g.Members()
		if err != nil || len(names) != n || !slices.IsSorted(names) {
			t.Fatalf("%d members, want %d: %v", len(names), n, err)
		}
		for i := 0; i < n; i += max(1, n/50) {
			o, err := g.Open(fmt.Sprint(i))
			if err != nil {
				t.Fatal(err)
			}
			var v [1]float32
			if err := o.ReadFloat32(v[:]); err != nil || v[0] != float32(i) {
				t.Fatalf("member %d is %v: %v", i, v, err)
			}
		}
	}
}

func TestTheSameTreeGivesTheSameBytes(t *testing.T) {
	build := func(names ...string) []byte {
		var tree Tree
		for _, n := range names {
			tree.Tensor("a/"+n, []int{1}, []float32{1})
			tree.Attribute("a/"+n, "name", n)
		}
		return encode(t, &tree)
	}
	if !bytes.Equal(build("x", "y", "z"), build("z", "x", "y")) {
		t.Error("the order of adding shows in the file")
	}
}

func TestWhatIsNotThereSaysSo(t *testing.T) {
	var tree Tree
	tree.Tensor("a/b", []int{2}, []float32{1, 2})
	f := open(t, encode(t, &tree))
	for _, path := range []string{"x", "a/x", "", "a//b"} {
		if _, err := f.Root().Open(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", path, err)
		}
	}
	_, err := f.Root().Open("a/b/c")
	wantKind(t, err, pipeline.Corrupt, "/a/b is no group")
	_, err = f.Root().Open(strings.Repeat("a/", 100))
	if err == nil {
		t.Error("a path of 100 groups was opened")
	}
	o, err := f.Root().Open("a/b")
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, o.ReadFloat32(make([]float32, 3)), pipeline.Corrupt, "/a/b", "[2]", "3 elements")
	g, err := f.Root().Open("a")
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, g.ReadFloat32(nil), pipeline.Corrupt, "no tensor")
}

func wantKind(t *testing.T, err error, kind pipeline.Kind, words ...string) {
	t.Helper()
	var e *pipeline.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("got %v, want kind %s", err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(e.Error(), w) {
			t.Errorf("%q does not say %q", e.Error(), w)
		}
	}
}

func TestWrongTreesAreNotWritten(t *testing.T) {
	for name, build := range map[string]func(*Tree){
		"too few elements":   func(t *Tree) { t.Tensor("a", []int{2}, []float32{1}) },
		"twice":              func(t *Tree) { t.Tensor("a", nil, []float32{1}); t.Tensor("a", nil, []float32{1}) },
		"below a tensor":     func(t *Tree) { t.Tensor("a", nil, []float32{1}); t.Group("a/b") },
		"over a group":       func(t *Tree) { t.Group("a/b"); t.Tensor("a", nil, []float32{1}) },
		"no name":            func(t *Tree) { t.Group("a//b") },
		"a zero byte":        func(t *Tree) { t.Group("a\x00b") },
		"the root":           func(t *Tree) { t.Tensor("", nil, []float32{1}) },
		"long attribute":     func(t *Tree) { t.Attribute("", "a", strings.Repeat("x", 70_000)) },
		"nameless attribute": func(t *Tree) { t.Attribute("", "", "x") },
	} {
		var tree Tree
		build(&tree)
		if _, err := tree.WriteTo(io.Discard); err == nil {
			t.Errorf("%s: was written", name)
		}
	}
}

// A disk that is full is told, wherever it happens.
func TestErrorsOfTheWriterArePassedOn(t *testing.T) {
	var tree Tree
	tree.Tensor("a", []int{3}, []float32{1, 2, 3})
	tree.Tensor("b", []int{3}, []float32{1, 2, 3})
	size := len(encode(t, &tree))
	for _, room := range []int{0, 1, size - 20, size - 14, size - 1} {
		if _, err := tree.WriteTo(&full{room}); !errors.Is(err, errFull) {
			t.Errorf("%d of %d bytes: %v", room, size, err)
		}
	}
}

var errFull = errors.New("full")

type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return f.room, errFull
	}
	f.room -= len(p)
	return len(p), nil
}

// readAll reads everything that a file holds, for tests of broken ones.
func readAll(f *File) error {
	var visit func(o *Object, depth int) error
	budget := 2000
	visit = func(o *Object, depth int) error {
		if budget--; budget < 0 || depth > 20 {
			return nil
		}
		for _, name := range []string{"name", "layer_names", "nothing"} {
			a, err := o.Attribute(name)
			if err != nil {
				return err
			}
			if a != nil {
				if _, err := a.Strings(); err != nil {
					return err
				}
			}
		}
		if o.IsTensor() {
			shape, err := o.Shape()
			if err != nil {
				return err
			}
			if n := elements(shape); n < 1<<16 {
				return o.ReadFloat32(make([]float32, n))
			}
			return nil
		}
		names, err := o.Members()
		if err != nil {
			return err
		}
		for _, n := range names {
			m, err := o.Open(n)
			if err != nil {
				return err
			}
			if err := visit(m, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return visit(f.Root(), 0)
}

func example(layers int) *Tree {
	var tree Tree
	for i := range layers {
		tree.Tensor(fmt.Sprintf("layers/dense_%d/vars/0", i), []int{2, 3}, []float32{1, 2, 3, 4, 5, 6})
		tree.Attribute(fmt.Sprintf("layers/dense_%d/vars", i), "name", fmt.Sprintf("d%d", i))
	}
	tree.Group("vars")
	return &tree
}

// A file that is cut off anywhere is corrupt, and nothing else.
func TestFilesThatAreCutOff(t *testing.T) {
	data := encode(t, example(20))
	for n := 0; n < len(data); n += 1 + n/300 {
		f, err := Open(bytes.NewReader(data[:n]), int64(n))
		if err == nil {
			err = readAll(f)
		}
		wantKind(t, err, pipeline.Corrupt)
	}
	// The length was right when the file was opened, and the store ends early.
	f, err := Open(bytes.NewReader(data[:len(data)-1]), int64(len(data)))
	if err == nil {
		err = readAll(f)
	}
	wantKind(t, err, pipeline.Corrupt, "ends at byte")
}

// Whatever byte is wrong, the reader neither panics nor hangs nor asks for memory that the file cannot fill.
func TestAnyWrongByte(t *testing.T) {
	data := encode(t, example(2))
	for at := range data {
		for _, v := range []byte{0, 1, 0x7f, 0xff} {
			broken := slices.Clone(data)
			broken[at] = v
			f, err := Open(bytes.NewReader(broken), int64(len(broken)))
			if err == nil {
				_ = readAll(f)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(encode(f, example(10)))
	f.Add(encode(f, &Tree{}))
	for _, name := range []string{"types.h5", "latest.h5", "userblock.h5"} { // mutation is slow on the larger ones
		f.Add(sample(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Open(bytes.NewReader(data), int64(len(data)))
		if err == nil {
			_ = readAll(file)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	var tree Tree
	tree.Tensor("layers/dense/vars/0", []int{4096, 4096}, make([]float32, 4096*4096))
	b.SetBytes(4 * 4096 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tree.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	var tree Tree
	dst := make([]float32, 4096*4096)
	tree.Tensor("layers/dense/vars/0", []int{4096, 4096}, dst)
	data := encode(b, &tree)
	b.SetBytes(4 * 4096 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		o, err := open(b, data).Root().Open("layers/dense/vars/0")
		if err != nil {
			b.Fatal(err)
		}
		if err := o.ReadFloat32(dst); err != nil {
			b.Fatal(err)
		}
	}
}
