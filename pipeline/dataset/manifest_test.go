package dataset_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
)

func goodManifest() *dataset.Manifest {
	f := &dataset.Manifest{Version: 3, Run: "run-1", Slot: "2026-11-22T03", Engine: "local", SpecSHA256: strings.Repeat("ab", 32),
		Source:    dataset.Source{Format: pipeline.CSV, Files: []string{"digits.csv"}, Types: map[string]string{"id": "int64"}},
		Columns:   columns(784),
		Transform: json.RawMessage(`[{"op":"min_max","params":{"from":[0,16]},"inputs":["a<b"]}]`),
		Split:     dataset.Split{Key: "id", Seed: -1, Parts: dataset.Parts{{Name: "train", Fraction: 0.8}, {Name: "test", Fraction: 0.2}}},
	}
	for i, split := range []string{"train", "train", "test"} {
		f.Shards = append(f.Shards, pipeline.ShardInfo{Split: split, Path: dataset.ShardPath(split, i), Rows: 10, Bytes: 1000, SHA256: strings.Repeat("0f", 32)})
	}
	return f
}

func encode(t testing.TB, m *dataset.Manifest) []byte {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestManifestSurvivesTheWayToDiskAndBack(t *testing.T) {
	m := goodManifest()
	b := encode(t, m)
	got, err := dataset.Decode("v000003/manifest.json", b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v\nwant %+v", got, m)
	}
	if again := encode(t, got); !bytes.Equal(again, b) {
		t.Errorf("encoded anew it is\n%s\nwant\n%s", again, b)
	}
	if got.Rows("train") != 20 || got.Rows("test") != 10 {
		t.Errorf("%d training rows, %d test rows", got.Rows("train"), got.Rows("test"))
	}
}

// The fields and their spelling are what other programs read.
func TestManifestHasTheDocumentedFields(t *testing.T) {
	b := encode(t, goodManifest())
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"format", "version", "created", "run", "slot", "engine", "spec_sha256", "source", "columns", "transform",
		"transform_sha256", "split", "shards"} {
		if top[f] == nil {
			t.Errorf("field %s is missing", f)
		}
		delete(top, f)
	}
	for f := range top {
		t.Errorf("field %s is not documented", f)
	}
	for _, part := range []string{`"format":"dkpipe-dataset/1"`, `"parts":{"train":0.8,"test":0.2}`,
		"\n {\"split\":\"test\",\"path\":\"test/part-00002.parquet\",\"rows\":10,\"bytes\":1000,\"sha256\":\"0f0f",
		`{"name":"features","role":"x","dtype":"float32","shape":[784],"encoding":"f32le","scale":1,"offset":0}`} {
		if !bytes.Contains(b, []byte(part)) {
			t.Errorf("no %s in\n%s", part, b)
		}
	}
}

func TestManifestRefusesWhatItCannotTrust(t *testing.T) {
	good := string(encode(t, goodManifest()))
	for what, c := range map[string]struct{ old, new string }{
		"an unknown field":          {`"version":3`, `"version":3,"colour":1`},
		"a field that stands twice": {`"version":3`, `"version":3,"version":4`},
		"a wrong type":              {`"version":3`, `"version":"3"`},
		"a negative version":        {`"version":3`, `"version":-3`},
		"a path that climbs":        {`"path":"train/part-00000.parquet"`, `"path":"train/../../x"`},
		"an absolute path":          {`"path":"train/part-00000.parquet"`, `"path":"/etc/passwd"`},
		"a path that stands twice":  {`"path":"train/part-00000.parquet"`, `"path":"train/part-00001.parquet"`},
		"negative rows":             {`"rows":10`, `"rows":-1`},
		"a short hash":              {strings.Repeat("0f", 32), "0f"},
		"an unknown role":           {`"role":"x"`, `"role":"z"`},
		"an unknown encoding":       {`"encoding":"f32le"`, `"encoding":"f64be"`},
		"an unknown type":           {`"dtype":"int64"`, `"dtype":"complex"`},
		"a huge shape":              {`"shape":[784]`, `"shape":[1048576,1048576,1048576,1048576]`},
		"a shape of nothing":        {`"shape":[784]`, `"shape":[0]`},
		"a column twice":            {`"name":"features"`, `"name":"target"`},
		"a scale of zero":           {`"scale":1`, `"scale":0`},
		"shares above one":          {`"train":0.8`, `"train":0.9`},
		"a part with a bad name":    {`"train":0.8`, `"..":0.8`},
		"a doubled part":            {`"parts":{"train":0.8,"test":0.2}`, `"parts":{"train":0.8,"train":0.2}`},
		"a changed transform":       {`[0,16]`, `[0,17]`},
		"a transform that is text":  {`"transform":[`, `"transform":"no","x":[`},
		"bytes behind the end":      {"\n", "\n"},
		"no bytes":                  {good, ""},
		"half of it":                {good[len(good)/2:], ""},
		"deep nesting":              {`[0,16]`, strings.Repeat("[", 600) + strings.Repeat("]", 600)},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if what == "bytes behind the end" {
			bad = good + "{}"
		}
		if bad == good {
			t.Errorf("%s: the test changes nothing", what)
		}
		_, err := dataset.Decode("d/manifest.json", []byte(bad))
		if kindOf(err) != string(pipeline.Corrupt) || !strings.Contains(err.Error(), "d/manifest.json") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := dataset.Decode("d/manifest.json", []byte(strings.Replace(good, "dkpipe-dataset/1", "dkpipe-dataset/2", 1)))
	if kindOf(err) != string(pipeline.Unsupported) {
		t.Errorf("a later format: %v", err)
	}
	bad := goodManifest()
	bad.Columns = nil
	if _, err := bad.Encode(); kindOf(err) != string(pipeline.Internal) {
		t.Errorf("a manifest without columns was encoded: %v", err)
	}
}

func TestTransformHashDoesNotDependOnFormatting(t *testing.T) {
	sum := func(s string) string {
		t.Helper()
		h, err := dataset.TransformSHA256(json.RawMessage(s))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	base := sum(`[{"op":"clip","params":{"lo":0.10,"hi":1e3,"t":"<&>"}}]`)
	if got := sum("[ {\"params\": {\"hi\":1e3,\n\"t\":\"\\u003c\\u0026\\u003e\",\"lo\":0.10}, \"op\":\"clip\"} ]"); got != base {
		t.Error("white space, field order or escapes changed the hash")
	}
	if sum(`[{"op":"clip","params":{"lo":0.11,"hi":1e3,"t":"<&>"}}]`) == base {
		t.Error("another value has the same hash")
	}
	// SHA-256 of the two bytes [].
	if got := sum(""); got != "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945" || sum("null") != got {
		t.Errorf("the empty transform has the hash %s", got)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := goodManifest().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":"dkpipe-dataset/1"}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dataset.Decode("m", b)
		if err != nil {
			if kindOf(err) == "" {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		back, err := dataset.Decode("m", again)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v\n%s", err, again)
		}
		if third, err := back.Encode(); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("encoding is not stable: %v", err)
		}
	})
}
