package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func ExampleReadFile() {
	s, err := ReadFile("testdata/full.yaml", Options{
		Params: map[string]string{"min_age": "21"},
		Set:    []string{"train.epochs=3,train.optimizer.adam.learning_rate=1e-3"},
		Slot:   "2026-11-22T03",
		Need:   ForRun,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	adam := struct {
		LearningRate float64 `yaml:"learning_rate" spec:"above=0"`
	}{LearningRate: 0.001}
	if err := s.Train.Optimizer.Decode(&adam); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(s.Source.SQL)
	fmt.Println(s.Train.Epochs, s.Train.Optimizer.Name, adam.LearningRate)
	fmt.Println(filepath.ToSlash(s.Dataset.Path), s.Output.Path)
	// Output:
	// SELECT * FROM customers
	// WHERE ds = '2026-11-22' AND age >= 21 AND country = 'DE' AND joined >= DATE '2026-01-01'
	// 3 adam 0.001
	// testdata/out/dataset hdfs://ns/models/churn
}

func TestFullExampleHasEveryField(t *testing.T) {
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Fields() {
		name := f[strings.LastIndexByte(f, '.')+1:]
		if !strings.Contains(string(text), name) {
			t.Errorf("testdata/full.yaml does not mention %s", f)
		}
	}
}

func TestPackageDocShowsTheFullExample(t *testing.T) {
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for line := range strings.Lines(string(text)) {
		if line == "\n" {
			want.WriteString("//\n")
		} else {
			want.WriteString("//\t" + line)
		}
	}
	if !strings.Contains(string(doc), want.String()) {
		t.Error("the example in doc.go is not testdata/full.yaml")
	}
}

func TestFullExampleDecodes(t *testing.T) {
	s, err := ReadFile("testdata/full.yaml", Options{Slot: "2026-11-22", Need: ForRun})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Warnings) != 0 {
		t.Errorf("warnings: %q", s.Warnings)
	}
	if want := (Split{Key: "id", Seed: 1, Train: 0.8, Validation: 0.1, Test: 0.1}); s.Split != want {
		t.Errorf("split %+v, want %+v", s.Split, want)
	}
	if want := map[int]float64{0: 1, 1: 5}; !reflect.DeepEqual(s.Train.ClassWeight, want) {
		t.Errorf("class_weight %v, want %v", s.Train.ClassWeight, want)
	}
	if want := map[string]any{"min_age": int64(18), "country": "DE", "since": Date("2026-01-01")}; !reflect.DeepEqual(s.Params, want) {
		t.Errorf("params %v, want %v", s.Params, want)
	}
	if s.Gate == nil || *s.Gate.AtLeast != 0.9 || s.Gate.AtMost != nil || *s.Gate.NotBelowLatestBy != 0.01 {
		t.Errorf("gate %+v", s.Gate)
	}
	var names []string
	for _, it := range s.Transform {
		names = append(names, it.Name)
	}
	if got := strings.Join(names, " "); got != "filter assemble standard one_hot" {
		t.Errorf("transform %s", got)
	}
	if s.Columns.Weight != "" || s.Slot != "2026-11-22" || s.Name != "churn" || s.Spark.Remote != "sc://spark.example:15002/;use_ssl=true" {
		t.Errorf("%+v", s)
	}
}

func TestDefaults(t *testing.T) {
	s := read(t, "train: {loss: mse}\ndataset: {path: d}\noutput: {path: m}\n", Options{})
	tr := s.Train
	if tr.Workers != 1 || tr.Epochs != 1 || tr.BatchSize != 32 || tr.Window != 0 || tr.Launch != "in-process" || tr.Kernel != "auto" ||
		tr.FeedBudgetMB != 256 || tr.Trainer.Name != "single" || tr.Optimizer.Name != "adam" || tr.Metrics != nil {
		t.Errorf("train %+v", tr)
	}
	if s.Dataset.Shards != 1 || s.Dataset.KeepVersions != 5 || s.Output.KeepVersions != 5 || s.Split.Train != 1 || s.Gate != nil {
		t.Errorf("%+v", s)
	}
	if s.Name != "job" {
		t.Errorf("name %q, want the file's name", s.Name)
	}
	var nothing struct{}
	if err := tr.Optimizer.Decode(&nothing); err != nil {
		t.Errorf("default optimizer: %v", err)
	}
	s = read(t, "train: {loss: sparse_categorical_crossentropy, trainer: agn, workers: 3}\n", Options{})
	if !reflect.DeepEqual(s.Train.Metrics, []string{"accuracy"}) || s.Dataset.Shards != 3 {
		t.Errorf("metrics %q, shards %d", s.Train.Metrics, s.Dataset.Shards)
	}
	s = read(t, "train: {loss: categorical_crossentropy, metrics: []}\n", Options{})
	if len(s.Train.Metrics) != 0 {
		t.Errorf("metrics %q, want none as written", s.Train.Metrics)
	}
}

func TestNeedReportsEveryMissingSection(t *testing.T) {
	for _, c := range []struct {
		need Section
		want string
	}{
		{0, ""},
		{ForPreprocess, "source columns dataset"},
		{ForTrain, "dataset model train output"},
		{ForRun, "source columns dataset model train output"},
	} {
		_, err := Read("job.yaml", []byte("name: x\n"), Options{Need: c.need})
		var got []string
		if err != nil {
			for _, p := range err.(*Error).Problems {
				got = append(got, p.Pos.Field)
				if p.Hint == "" {
					t.Errorf("%s: no hint", p.Pos.Field)
				}
			}
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%v: missing %q, want %q", c.need, g, c.want)
		}
	}
}

func TestLiveTrainingNeedsTheSource(t *testing.T) {
	e := refuse(t, "dataset: {path: d, live: true}\nspark: {remote: 'sc://h:1'}\nmodel: {keras: m.json}\ntrain: {loss: mse}\noutput: {path: o}\n",
		Options{Need: ForTrain})
	if got := e.Error(); !strings.Contains(got, "source: missing section") || !strings.Contains(got, "columns: missing section") {
		t.Errorf("got %s", got)
	}
}

func TestSparkRemote(t *testing.T) {
	env := func(name string) string {
		if name == "SPARK_REMOTE" {
			return "sc://env:1"
		}
		return ""
	}
	for text, want := range map[string]string{
		"name: x\n":                          "sc://env:1",
		"spark: {remote: null}\n":            "sc://env:1",
		"spark: {remote: \"\"}\n":            "",
		"spark: {remote: \"sc://file:2\"}\n": "sc://file:2",
	} {
		if s := read(t, text, Options{Env: env}); s.Spark.Remote != want {
			t.Errorf("%q: remote %q, want %q", text, s.Spark.Remote, want)
		}
	}
	if s := read(t, "name: x\n", Options{}); s.Spark.Remote != "" {
		t.Errorf("without an environment: %q", s.Spark.Remote)
	}
}

func TestSparkRemoteIsNeverRepeated(t *testing.T) {
	const secret = "hunter2"
	for _, opt := range []Options{
		{Set: []string{"spark.remote=http://h/;token=" + secret}},
		{Set: []string{"spark={remotte: 'sc://h/;token=" + secret + "'}"}},
		{Env: func(string) string { return "h/;token=" + secret }},
	} {
		if e := refuse(t, "name: x\n", opt); strings.Contains(e.Error()+e.ErrorHint(), secret) {
			t.Errorf("the message holds the token: %v", e)
		}
	}
	if e := refuse(t, "spark: {remote: 'http://h/;token="+secret+"'}\n", Options{}); strings.Contains(e.Error(), secret) {
		t.Errorf("the message holds the token: %v", e)
	}
}

func TestPathsStartFromTheFilesFolder(t *testing.T) {
	text := "source: {csv: [a.csv, /abs/b.csv, 'hdfs://ns/c.csv', '../d-*.csv', 'file:///e.csv']}\nmodel: {keras: m.keras}\n" +
		"dataset: {path: out/d}\noutput: {path: 'hdfs:///m'}\n"
	for _, c := range []struct{ file, want string }{
		{"jobs/x.yaml", "jobs/a.csv /abs/b.csv hdfs://ns/c.csv d-*.csv file:///e.csv jobs/m.keras jobs/out/d hdfs:///m"},
		{"x.yaml", "a.csv /abs/b.csv hdfs://ns/c.csv ../d-*.csv file:///e.csv m.keras out/d hdfs:///m"},
		{"/etc/jobs/x.yaml", "/etc/jobs/a.csv /abs/b.csv hdfs://ns/c.csv /etc/d-*.csv file:///e.csv /etc/jobs/m.keras /etc/jobs/out/d hdfs:///m"},
		{"hdfs://ns/jobs/x.yaml", "hdfs://ns/jobs/a.csv hdfs://ns/abs/b.csv hdfs://ns/c.csv hdfs://ns/d-*.csv file:///e.csv hdfs://ns/jobs/m.keras hdfs://ns/jobs/out/d hdfs:///m"},
	} {
		s, err := Read(c.file, []byte(text), Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(append(s.Source.CSV, s.Model.Keras, s.Dataset.Path, s.Output.Path), " ")
		if filepath.ToSlash(got) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.file, got, c.want)
		}
	}
}

func TestSumNamesTheJob(t *testing.T) {
	const text = "params: {a: 1, b: x}\nname: \"{{a}}{{b}}\"\ntrain: {loss: mse}\n"
	base := read(t, text, Options{}).SHA256
	if len(base) != 64 {
		t.Fatalf("SHA256 %q", base)
	}
	sum := func(text string, opt Options) string { return read(t, text, opt).SHA256 }
	for name, got := range map[string]string{
		"a parameter at its default": sum(text, Options{Params: map[string]string{"a": "1"}}),
		"a slot":                     sum(text, Options{Slot: "2026-11-22"}),
	} {
		if got != base {
			t.Errorf("%s changes the sum", name)
		}
	}
	seen := map[string]string{base: "nothing"}
	for name, got := range map[string]string{
		"a parameter":   sum(text, Options{Params: map[string]string{"a": "2"}}),
		"another":       sum(text, Options{Params: map[string]string{"b": "2"}}),
		"a setting":     sum(text, Options{Set: []string{"train.epochs=2"}}),
		"a comment":     sum(text+"# x\n", Options{}),
		"two settings":  sum(text, Options{Set: []string{"train.epochs=2", "train.seed=2"}}),
		"the last wins": sum(text, Options{Set: []string{"train.epochs=2", "train={loss: mse}"}}),
	} {
		if before, ok := seen[got]; ok {
			t.Errorf("%s and %s have the same sum", name, before)
		}
		seen[got] = name
	}
	two := sum(text, Options{Set: []string{"train.epochs=2", "train.seed=2"}})
	for _, same := range [][]string{
		{"train.seed=2,train.epochs=2"}, {"train.seed=2", "train.epochs=0x2"}, {"train.seed=9", "train.epochs=2", "train.seed= 2"},
	} {
		if sum(text, Options{Set: same}) != two {
			t.Errorf("--set %q has another sum than its equal", same)
		}
	}
	if sum(text, Options{Set: []string{"train={loss: mse, epochs: 2}", "train.epochs=3"}}) ==
		sum(text, Options{Set: []string{"train.epochs=3", "train={loss: mse, epochs: 2}"}}) {
		t.Error("settings that win differently have the same sum")
	}
}

func TestReadFileSaysWhatIsWrongWithTheFile(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadFile(filepath.Join(dir, "none.yaml"), Options{})
	if err == nil || !strings.HasSuffix(err.Error(), "none.yaml: there is no such file") {
		t.Errorf("absent: %v", err)
	}
	if _, err = ReadFile(dir, Options{}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("folder: %v", err)
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, []byte("name: x\n"+strings.Repeat("#   \n", MaxBytes/5)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = ReadFile(big, Options{}); err == nil || !strings.Contains(err.Error(), "a job file has at most 1048576") {
		t.Errorf("big: %v", err)
	}
}

func TestReadKeepsTheBytes(t *testing.T) {
	data := []byte("\ufeffname: x\r\nsplit: {seed: 3}\r\n")
	s, err := Read("job.yaml", data, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "x" || s.Split.Seed != 3 {
		t.Errorf("%+v", s)
	}
	want := string(data)
	data[3] = 'X'
	if string(s.Bytes) != want {
		t.Errorf("Bytes %q, want a copy of %q", s.Bytes, want)
	}
}

func TestWarnings(t *testing.T) {
	s := read(t, "params: {a: 1}\ntrain: {loss: mse, workers: 8, trainer: agn}\ndataset: {path: d, shards: 4}\n", Options{})
	want := []string{
		"job.yaml:1:10: params.a: declared, but nothing uses {{a}}",
		"job.yaml:2:29: train.workers: 8 workers share 4 shards, so at most 4 of them have work at a time; write dataset.shards: 8",
	}
	if !reflect.DeepEqual(s.Warnings, want) {
		t.Errorf("got %q", s.Warnings)
	}
}

func TestScalars(t *testing.T) {
	for text, want := range map[string]any{
		"1": int64(1), "-3": int64(-3), "1_000": int64(1000), "0x1F": int64(31), "0o17": int64(15), "+2": int64(2), "0": int64(0),
		"1e-3": 0.001, "1.5": 1.5, "-.5": -0.5, "1.": 1.0, "1E3": 1000.0, "true": true, "False": false,
		"yes": "yes", "no": "no", "on": "on", "007": "007", "010": "010", "1_": "1_", "2026-01-01": "2026-01-01", "1:30": "1:30",
		"0x": "0x", "e3": "e3", "'1'": "1", `"true"`: "true", "''": "", "null": nil, "~": nil, "1.2.3": "1.2.3",
		"0x7fffffffffffffff": int64(1<<63 - 1), "9223372036854775807": int64(1<<63 - 1), "[1, a, [2.5]]": []any{int64(1), "a", []any{2.5}},
		"{a: 1}": map[string]any{"a": int64(1)},
	} {
		var got struct {
			V any `yaml:"v"`
		}
		if err := item(t, "v: "+text, Options{}).Decode(&got); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(got.V, want) {
			t.Errorf("%s: got %T %v, want %T %v", text, got.V, got.V, want, want)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Read("full.yaml", text, Options{Slot: "2026-11-22", Need: ForRun}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestQuickstartDecodes(t *testing.T) {
	s, err := ReadFile("../../examples/quickstart/job.yaml", Options{Need: ForRun})
	if err != nil {
		t.Fatal(err)
	}
	if s.Spark.Remote != "" || len(s.Transform) != 3 || s.Train.Trainer.Name != "agn" || s.Train.Workers != 2 || len(s.Warnings) != 0 {
		t.Errorf("%+v", s)
	}
	if got := filepath.ToSlash(s.Source.CSV[0]); got != "../../examples/quickstart/digits.csv" {
		t.Errorf("source %s", got)
	}
}
