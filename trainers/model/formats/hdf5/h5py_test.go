package hdf5

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/kerastest"
)

// sample is a file of h5py in testdata, so that the reader is tested where there is no Python, too. remake writes them
// again.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// remake writes the samples; their values are what value says.
const remake = `
import os, h5py
def main(args, arrays):
    d = args["dir"]
    v = lambda *s: (np.arange(np.prod(s, dtype=int)) * 0.5 - 3).astype("f4").reshape(s)
    with h5py.File(d + "/many.h5", "w") as f:
        g = f.create_group("layers/many")
        for i in range(300): g.create_dataset(str(i), data=np.float32(i))
    with h5py.File(d + "/chunked.h5", "w") as f:
        a = v(13, 7, 3)
        f.create_dataset("deflate", data=a, chunks=(4, 3, 3), compression="gzip")
        f.create_dataset("shuffle", data=a, chunks=(5, 7, 2), compression="gzip", shuffle=True)
        f.create_dataset("plain", data=a, chunks=(4, 4, 1))
        f.create_dataset("many", data=v(400), chunks=(2,))
        f.create_dataset("grown", data=v(5), chunks=(8,), maxshape=(None,), shuffle=True)
        x = f.create_dataset("holes", (6, 6), "f4", chunks=(2, 2), fillvalue=7.5)
        x[2:4, 2:4] = 1
        f.create_dataset("never", (4,), "f4", fillvalue=-2)
        f.create_dataset("lzf", data=a, compression="lzf")
        f.create_dataset("fletcher", data=a, fletcher32=True, chunks=True)
    with h5py.File(d + "/types.h5", "w") as f:
        a = np.array([0, 1, -2, 0.5, 65504, 2 ** -24, 2 ** -15, -0.0])
        for t in ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]: f.create_dataset(t, data=a.astype(t))
        f.create_dataset("specials", data=np.array([np.inf, -np.inf, np.nan], "f2"))
        for t in ["<i1", "<i4", ">i8", "<u2", ">u4"]: f.create_dataset(t, data=np.array([0, 1, 100, -3]).astype(t))
        f.create_dataset("empty", data=np.zeros((0, 3), "f4"))
        f.create_dataset("scalar", data=np.float32(4.5))
        b = np.array([0x3f80, 0xc000], "<u2").view("V2")
        f.create_dataset("bfloat16", data=b).attrs["dtype"] = "bfloat16"
        f.create_dataset("opaque", data=b)
        f.create_dataset("words", data=np.array([b"a", b"bc"]))
        f["link"] = h5py.SoftLink("/scalar")
        f["named"] = np.dtype("f4")
        f.create_dataset("committed", data=np.zeros(2, "f4"), dtype=f["named"])
    with h5py.File(d + "/legacy.h5", "w") as f:
        g = f.create_group("model_weights")
        for i in range(30): f.attrs["pad%d" % i] = "x" * 100    # makes the header go on elsewhere
        f.attrs["layer_names"] = [b"one", "z\u00e9".encode()]
        f.attrs["name"] = "text of variable length " * 4000
        g.attrs["layer_names"] = ["a", "", "c" * 300]
        g.attrs["name"] = np.bytes_("fixed")
        g.attrs["number"] = 7
        g.attrs["nothing"] = h5py.Empty("f4")
        g.attrs["none"] = np.array([], "f8")
        l = f.create_group("late")
        for i in range(40): l.create_dataset("d%02d" % i, data=v(2, 2)); f.create_group("more%d" % i)
    with h5py.File(d + "/latest.h5", "w", libver="latest") as f:
        f.create_dataset("a/b/c", data=v(3, 3)).attrs["name"] = "n"
        for i in range(7): f["a"].attrs["pad%d" % i] = "x" * 50
        f["soft"] = h5py.SoftLink("/a")
        f["outside"] = h5py.ExternalLink("other.h5", "/x")
        g = f.create_group("dense")
        for i in range(20): g.create_group(str(i))
        for i in range(20): f["a/b"].attrs[str(i)] = i
        f.create_dataset("chunked", data=v(30), chunks=(3,))
    with h5py.File(d + "/userblock.h5", "w", userblock_size=2048) as f:
        f.create_dataset("a", data=v(3))
    return sorted(os.listdir(d)), {}
`

// value is what the samples hold at index i.
func value(i int) float32 { return float32(i)*0.5 - 3 }

func ramp(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = value(i)
	}
	return out
}

func read(t *testing.T, f *File, path string) []float32 {
	t.Helper()
	o, err := f.Root().Open(path)
	if err != nil {
		t.Fatal(err)
	}
	shape, err := o.Shape()
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, elements(shape))
	if err := o.ReadFloat32(dst); err != nil {
		t.Fatal(err)
	}
	return dst
}

func failure(t *testing.T, f *File, path string) error {
	t.Helper()
	o, err := f.Root().Open(path)
	if err != nil {
		return err
	}
	if !o.IsTensor() {
		_, err := o.Members()
		return err
	}
	shape, err := o.Shape()
	if err != nil {
		return err
	}
	return o.ReadFloat32(make([]float32, elements(shape)))
}

func texts(t *testing.T, f *File, path, name string) []string {
	t.Helper()
	o := f.Root()
	if path != "" {
		var err error
		if o, err = o.Open(path); err != nil {
			t.Fatal(err)
		}
	}
	a, err := o.Attribute(name)
	if err != nil || a == nil {
		t.Fatalf("%s of %s: %v, %v", name, path, a, err)
	}
	s, err := a.Strings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checkSamples compares a set of files, by name, with what remake put into them.
func checkSamples(t *testing.T, file func(name string) []byte) {
	many := open(t, file("many.h5"))
	g, err := many.Root().Open("layers/many")
	if err != nil {
		t.Fatal(err)
	}
	if names, err := g.Members(); err != nil || len(names) != 300 {
		t.Errorf("%d members: %v", len(names), err)
	}
	if v := read(t, many, "layers/many/299"); v[0] != 299 {
		t.Errorf("got %v", v)
	}

	chunked := open(t, file("chunked.h5"))
	for _, name := range []string{"deflate", "shuffle", "plain"} {
		if got := read(t, chunked, name); !slices.Equal(got, ramp(13*7*3)) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !slices.Equal(read(t, chunked, "many"), ramp(400)) || !slices.Equal(read(t, chunked, "grown"), ramp(5)) {
		t.Error("many or grown differ")
	}
	holes := read(t, chunked, "holes")
	for i, v := range holes {
		want := float32(7.5)
		if i/6/2 == 1 && i%6/2 == 1 {
			want = 1
		}
		if v != want {
			t.Fatalf("holes[%d] = %v", i, v)
		}
	}
	if got := read(t, chunked, "never"); !slices.Equal(got, []float32{-2, -2, -2, -2}) {
		t.Errorf("never written: %v", got)
	}
	wantKind(t, failure(t, chunked, "lzf"), pipeline.Unsupported, "/lzf", "filter 32000")
	wantKind(t, failure(t, chunked, "fletcher"), pipeline.Unsupported, "filter 3")

	checkTypes(t, open(t, file("types.h5")))
	checkAttributes(t, open(t, file("legacy.h5")))

	latest := open(t, file("latest.h5"))
	if got := read(t, latest, "a/b/c"); !slices.Equal(got, ramp(9)) || texts(t, latest, "a/b/c", "name")[0] != "n" {
		t.Errorf("latest: %v", got)
	}
	if names, err := latest.Root().Members(); err != nil || !slices.Equal(names, []string{"a", "chunked", "dense"}) {
		t.Errorf("members of the newest form: %q, %v", names, err)
	}
	wantKind(t, failure(t, latest, "dense"), pipeline.Unsupported, "/dense", "fractal heap")
	wantKind(t, failure(t, latest, "chunked"), pipeline.Unsupported, "/chunked", "layout 4")
	b, err := latest.Root().Open("a/b")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Attribute("3")
	wantKind(t, err, pipeline.Unsupported, "/a/b", "fractal heap")

	if got := read(t, open(t, file("userblock.h5")), "a"); !slices.Equal(got, ramp(3)) {
		t.Errorf("behind a user block: %v", got)
	}
}

func checkTypes(t *testing.T, f *File) {
	t.Helper()
	want := []float32{0, 1, -2, 0.5, 65504, 0x1p-24, 0x1p-15, float32(math.Copysign(0, -1))}
	for _, name := range []string{"<f2", ">f2", "<f4", ">f4", "<f8", ">f8"} {
		got := read(t, f, name)
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Errorf("%s[%d] = %v, want %v", name, i, got[i], want[i])
			}
		}
	}
	if s := read(t, f, "specials"); !math.IsInf(float64(s[0]), 1) || !math.IsInf(float64(s[1]), -1) || s[2] == s[2] {
		t.Errorf("specials %v", s)
	}
	for name, last := range map[string]float32{"<i1": -3, "<i4": -3, ">i8": -3, "<u2": 65533, ">u4": 4294967293} {
		if got := read(t, f, name); !slices.Equal(got, []float32{0, 1, 100, last}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := read(t, f, "bfloat16"); !slices.Equal(got, []float32{1, -2}) {
		t.Errorf("bfloat16: %v", got)
	}
	if len(read(t, f, "empty")) != 0 || read(t, f, "scalar")[0] != 4.5 {
		t.Error("empty or scalar differ")
	}
	wantKind(t, failure(t, f, "opaque"), pipeline.Unsupported, "/opaque", "opaque")
	wantKind(t, failure(t, f, "words"), pipeline.Unsupported, "/words", "text")
	wantKind(t, failure(t, f, "committed"), pipeline.Unsupported, "shared message")
	if err := failure(t, f, "link"); err == nil || !strings.Contains(err.Error(), "there is no /link") {
		t.Errorf("a soft link was followed: %v", err)
	}
}

func checkAttributes(t *testing.T, f *File) {
	t.Helper()
	if got := texts(t, f, "", "layer_names"); !slices.Equal(got, []string{"one", "zé"}) {
		t.Errorf("%q", got)
	}
	if got := texts(t, f, "", "name"); got[0] != strings.Repeat("text of variable length ", 4000) {
		t.Errorf("%d bytes", len(got[0]))
	}
	if got := texts(t, f, "model_weights", "layer_names"); !slices.Equal(got, []string{"a", "", strings.Repeat("c", 300)}) {
		t.Errorf("%q", got)
	}
	if got := texts(t, f, "model_weights", "name"); got[0] != "fixed" {
		t.Errorf("%q", got)
	}
	if len(texts(t, f, "model_weights", "nothing")) != 0 || len(texts(t, f, "model_weights", "none")) != 0 {
		t.Error("nothing is something")
	}
	g, err := f.Root().Open("model_weights")
	if err != nil {
		t.Fatal(err)
	}
	a, err := g.Attribute("number")
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Strings()
	wantKind(t, err, pipeline.Corrupt, "number", "int")
	for i := range 40 {
		if got := read(t, f, fmt.Sprintf("late/d%02d", i)); !slices.Equal(got, ramp(4)) {
			t.Errorf("late %d: %v", i, got)
		}
	}
}

func TestFilesOfH5py(t *testing.T) {
	checkSamples(t, func(name string) []byte { return sample(t, name) })
}

// The h5py of today writes what the samples hold. DKPIPE_REMAKE=1 keeps its files as the new samples.
func TestFilesOfTheH5pyOfToday(t *testing.T) {
	o := kerastest.Start(t)
	dir := t.TempDir()
	if os.Getenv("DKPIPE_REMAKE") != "" {
		var err error
		if dir, err = filepath.Abs("testdata"); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := o.Python(remake, map[string]any{"dir": dir}); err != nil {
		t.Fatal(err)
	}
	checkSamples(t, func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	})
}

const look = `
import h5py
def main(args, arrays):
    out, names = {}, {}
    with h5py.File(args["path"], "r") as f:
        def visit(name, o):
            if isinstance(o, h5py.Dataset):
                out[name] = o[()]
            names[name] = {k: (v.decode() if isinstance(v, bytes) else str(v)) for k, v in o.attrs.items()}
        f.visititems(visit)
        names[""] = {k: (v.decode() if isinstance(v, bytes) else str(v)) for k, v in f.attrs.items()}
    return names, out
`

// What we write, h5py reads: every group, every value, every text, whatever the number of members.
func TestH5pyReadsWhatIsWritten(t *testing.T) {
	o := kerastest.Start(t)
	var tree Tree
	want := map[string][]float32{}
	attrs := map[string]map[string]string{"": {"root": "ü"}, "empty": {}, "layers": {}, "many": {}}
	add := func(path string, shape []int, data []float32) {
		tree.Tensor(path, shape, data)
		want[path], attrs[path] = data, map[string]string{}
	}
	tree.Attribute("", "root", "ü")
	tree.Group("empty")
	for i := range 8200 {
		add(fmt.Sprintf("many/%d", i), nil, []float32{float32(i)})
	}
	for i, n := range []int{1, 8, 9, 256, 257} {
		g := fmt.Sprintf("layers/g%d", i)
		attrs[g] = map[string]string{"name": g, "text": ""}
		for k := range n {
			add(fmt.Sprintf("%s/%d", g, k), []int{1, 3}, ramp(3))
		}
		tree.Attribute(g, "text", "")
		tree.Attribute(g, "name", g)
	}
	add("zero", []int{0, 4}, nil)
	add("big", []int{100_003, 3}, ramp(300_009))
	path := filepath.Join(t.TempDir(), "ours.h5")
	if err := os.WriteFile(path, encode(t, &tree), 0o600); err != nil {
		t.Fatal(err)
	}
	result, arrays, err := o.Python(look, map[string]any{"path": path})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]string
	if err := json.Unmarshal(result, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(attrs) || len(arrays) != len(want) {
		t.Errorf("%d objects, want %d; %d tensors, want %d", len(got), len(attrs), len(arrays), len(want))
	}
	for path, a := range attrs {
		if fmt.Sprint(got[path]) != fmt.Sprint(a) {
			t.Errorf("%s has the attributes %v, want %v", path, got[path], a)
		}
	}
	for _, a := range arrays {
		if !slices.Equal(a.Data, want[a.Name]) && len(a.Data)+len(want[a.Name]) > 0 {
			t.Errorf("%s differs", a.Name)
		}
	}
	if !bytes.Equal(encode(t, &tree), encode(t, &tree)) {
		t.Error("written twice, the bytes differ")
	}
}
