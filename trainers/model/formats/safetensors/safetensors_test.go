package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"

	"pgregory.net/rapid"
)

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z_é"/\\]{1,12}`), 0, 6, rapid.ID[string]).Draw(t, "names")
		var tensors []Tensor
		for _, name := range names {
			shape := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 4).Draw(t, "shape")
			n := 1
			for _, d := range shape {
				n *= d
			}
			data := make([]float32, n)
			for i := range data {
				data[i] = math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
			}
			tensors = append(tensors, Tensor{name, shape, data})
		}
		metadata := rapid.MapOf(rapid.String(), rapid.StringMatching(`[ -~]*`)).Draw(t, "metadata")
		var b bytes.Buffer
		if err := Write(&b, tensors, metadata); err != nil {
			t.Fatal(err)
		}
		f, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if n := binary.LittleEndian.Uint64(b.Bytes()); n%8 != 0 {
			t.Fatalf("data at %d is not aligned", n+8)
		}
		for k, v := range metadata {
			if f.Metadata[k] != v && k == strings.ToValidUTF8(k, "") {
				t.Fatalf("metadata %q is %q, want %q", k, f.Metadata[k], v)
			}
		}
		if len(f.Entries) != len(tensors) {
			t.Fatalf("%d entries, want %d", len(f.Entries), len(tensors))
		}
		for _, want := range tensors {
			e, ok := f.Lookup(want.Name)
			if !ok || !slices.Equal(e.Shape, want.Shape) || e.Elements() != len(want.Data) {
				t.Fatalf("tensor %q: %+v", want.Name, e)
			}
			got := make([]float32, len(want.Data))
			if err := f.ReadFloat32(e, got); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want.Data[i]) {
					t.Fatalf("tensor %q[%d] = %x", want.Name, i, got[i])
				}
			}
		}
	})
}

// The bytes of a small file as the format's description gives them.
func TestBytesOfAFile(t *testing.T) {
	var b bytes.Buffer
	err := Write(&b, []Tensor{{"a", []int{2}, []float32{1, -2}}, {"s", nil, []float32{0.5}}}, map[string]string{"format": "x"})
	if err != nil {
		t.Fatal(err)
	}
	head := `{"__metadata__":{"format":"x"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"s":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}`
	for (len(head))%8 != 0 {
		head += " "
	}
	want := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)
	want = append(want, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f)
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("got %q", b.Bytes())
	}
}

func TestLargeTensorsAreWrittenInPieces(t *testing.T) {
	data := make([]float32, 700_001)
	for i := range data {
		data[i] = float32(i)
	}
	var b bytes.Buffer
	if err := Write(&b, []Tensor{{"w", []int{len(data)}, data}}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, len(data))
	if err := f.ReadFloat32(f.Entries[0], got); err != nil || !slices.Equal(got, data) {
		t.Errorf("not what was written: %v", err)
	}
}

func build(head string, data int) []byte {
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)
	return append(b, make([]byte, data)...)
}

func TestBrokenFilesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		kind pipeline.Kind
		word string
	}{
		"empty":            {nil, pipeline.Corrupt, "0 bytes"},
		"header too long":  {build(`{}`, 0)[:9], pipeline.Corrupt, "header of 2 bytes"},
		"absurd header":    {binary.LittleEndian.AppendUint64(nil, 1<<63+5), pipeline.Corrupt, "header of"},
		"not an object":    {build(`[]`, 0), pipeline.Corrupt, "start with {"},
		"cut JSON":         {build(`{"a":`, 0), pipeline.Corrupt, "a"},
		"text after":       {build(`{} {}`, 0), pipeline.Corrupt, "after its end"},
		"name twice":       {build(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 0), pipeline.Corrupt, "twice"},
		"no shape":         {build(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4), pipeline.Corrupt, "needs"},
		"one offset":       {build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}`, 4), pipeline.Corrupt, "two data_offsets"},
		"unknown field":    {build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, 4), pipeline.Corrupt, "x"},
		"backwards":        {build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, 4), pipeline.Corrupt, "from 4 to 0"},
		"negative offset":  {build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, 4), pipeline.Corrupt, "from -4"},
		"negative size":    {build(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4), pipeline.Corrupt, "[-1]"},
		"overflow":         {build(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0), pipeline.Corrupt, "does not have 0"},
		"shape and data":   {build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), pipeline.Corrupt, "[2]"},
		"gap":              {build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), pipeline.Corrupt, "starts at 4"},
		"overlap":          {build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), pipeline.Corrupt, "starts at 4"},
		"data missing":     {build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 4), pipeline.Corrupt, "the file has"},
		"data left over":   {build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 12), pipeline.Corrupt, "the file has"},
		"unknown type":     {build(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1), pipeline.Unsupported, `"F4"`},
		"metadata numbers": {build(`{"__metadata__":{"a":1}}`, 0), pipeline.Corrupt, "__metadata__"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(bytes.NewReader(c.file), int64(len(c.file)))
			var e *pipeline.Error
			if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(e.Error(), c.word) {
				t.Errorf("got %v, want kind %s and %q", err, c.kind, c.word)
			}
		})
	}
}

func TestReadErrorsAreTold(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, []Tensor{{"a", []int{4}, make([]float32, 4)}}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var e *pipeline.Error
	if err := f.ReadFloat32(f.Entries[0], make([]float32, 3)); !errors.As(err, &e) || e.Kind != pipeline.Unsupported {
		t.Errorf("a tensor of another size: %v", err)
	}
	f.r = bytes.NewReader(b.Bytes()[:b.Len()-1]) // the file shrank after it was opened
	if err := f.ReadFloat32(f.Entries[0], make([]float32, 4)); !errors.As(err, &e) || e.Kind != pipeline.Corrupt {
		t.Errorf("a file that is cut off: %v", err)
	}
	bad := []Tensor{{"a", []int{2}, make([]float32, 3)}}
	if err := Write(&b, bad, nil); err == nil {
		t.Error("data of another size than the shape was written")
	}
	bad = []Tensor{{"a", []int{1}, make([]float32, 1)}, {"a", []int{1}, make([]float32, 1)}}
	if err := Write(&b, bad, nil); err == nil {
		t.Error("a name was written twice")
	}
}

// Whatever the bytes, Open must not panic, and what it accepts must be readable within the file.
func FuzzOpen(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, []Tensor{{"a", []int{2, 1}, []float32{1, 2}}, {"b", nil, []float32{3}}}, map[string]string{"k": "v"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(build(`{"a":{"dtype":"BF16","shape":[0,3],"data_offsets":[0,0]}}`, 0))
	f.Add(build(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for _, e := range file.Entries {
			if e.DType == "F32" {
				if err := file.ReadFloat32(e, make([]float32, e.Elements())); err != nil {
					t.Errorf("entry %+v was accepted, then: %v", e, err)
				}
			}
		}
	})
}
