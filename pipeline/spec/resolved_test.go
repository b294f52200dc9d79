package spec

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// alike says how two specs differ, or nothing: all fields but positions, bytes and what is made of them, and the fields
// of items by what they hold.
func alike(a, b *Spec) string {
	x, y := *a, *b
	for _, s := range []*Spec{&x, &y} {
		s.File, s.Bytes, s.SHA256, s.Slot, s.Warnings, s.resolvedText = "", nil, "", "", nil, nil
		s.Spark.Remote = withoutToken(s.Spark.Remote)
		if s.Gate != nil {
			g := *s.Gate
			s.Gate = &g
		}
		noPositions(reflect.ValueOf(s).Elem())
	}
	items := func(s *Spec) string {
		var all []string
		for _, it := range slices.Concat([]Item{s.Train.Trainer, s.Train.Optimizer}, s.Train.Loss, s.Transform, s.Model.Layers) {
			var body any
			if it.body != nil {
				body = it.body.plain()
			}
			all = append(all, fmt.Sprintf("%s %#v", it.Name, body)) // with the types that who takes any value sees
		}
		return strings.Join(all, "\n")
	}
	if i, j := items(&x), items(&y); i != j {
		return "items\n" + i + "\nagainst\n" + j
	}
	for _, s := range []*Spec{&x, &y} {
		s.Transform, s.Model.Layers, s.Train.Loss, s.Train.Trainer, s.Train.Optimizer = nil, nil, nil, Item{}, Item{}
	}
	if !reflect.DeepEqual(x, y) {
		return fmt.Sprintf("%+v\nagainst\n%+v", x, y)
	}
	return ""
}

// noPositions clears every Pos of a struct and of the structs in it.
func noPositions(v reflect.Value) {
	switch {
	case v.Type() == posType:
		v.SetZero()
	case v.Kind() == reflect.Pointer && !v.IsNil():
		noPositions(v.Elem())
	case v.Kind() == reflect.Struct && v.Type() != itemType:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				noPositions(v.Field(i))
			}
		}
	}
}

// resolves reads a job, renders it, reads that without any option, and compares.
func resolves(t testing.TB, file, text string, opt Options) *Spec {
	t.Helper()
	s, err := Read(file, []byte(text), opt)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Read(file, s.Resolved(), Options{Need: opt.Need})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Resolved())
	}
	if d := alike(s, again); d != "" {
		t.Errorf("%s\nrendered:\n%s", d, s.Resolved())
	}
	if !bytes.Equal(s.Resolved(), again.Resolved()) {
		t.Errorf("rendered twice:\n%s\nand\n%s", s.Resolved(), again.Resolved())
	}
	return again
}

// docText is the job file of the package comment.
func docText(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "//	# Every field of a job file.")
	text, _, ok2 := strings.Cut(text, "// It is YAML 1.2")
	if !ok || !ok2 {
		t.Fatal("doc.go has no job file")
	}
	var lines []string
	for _, l := range strings.Split(text, "\n") {
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(l, "//"), "\t"))
	}
	return "#" + strings.Join(lines, "\n")
}

func TestResolvedReadsBackToAnEqualSpec(t *testing.T) {
	doc := docText(t)
	full := Options{Slot: "2026-11-22T03", Need: ForRun, Env: func(string) string { return "sc://env:1" },
		Params: map[string]string{"min_age": "21", "country": "it's \"DE\" \\ {x}", "since": "2025-02-03"},
		Set:    []string{"train.epochs=3,columns.keep=[a, b]", "transform.1.assemble.output=raw2", "train.trainer=agn", "gate={metric: loss, at_most: 0}", "output.path='out/{{slot_date}}'"}}
	for name, c := range map[string]struct {
		text string
		opt  Options
	}{
		"the documented file":       {doc, Options{Slot: "2026-11-22", Need: ForRun}},
		"flags and environment":     {doc, full},
		"nothing":                   {"", Options{}},
		"only a source":             {"source: {csv: [a.csv, \"b c.csv\"], types: {zip: string, \"x: y\": int64}}\n", Options{}},
		"a loss with fields":        {"train: {loss: {huber: {delta: 2}}}\n", Options{}},
		"losses of outputs":         {"columns: {x: [a], y: [b, c]}\ntrain: {loss: [mse, {c: {binary_crossentropy: {from_logits: true}}}], loss_weights: [1, 0.5]}\n", Options{}},
		"no metrics":                {"train: {loss: binary_crossentropy, metrics: []}\n", Options{}},
		"bare items":                {"transform: [a, b: {}, c: {x: null, y: [], z: {}}]\nmodel: {layers: [flatten, {activation: relu}]}\n", Options{}},
		"items of every sort":       {"transform:\n  - op: {a: 1, b: 1.0, c: 1e30, d: -0.5, e: \"1\", f: \"null\", g: yes, h: .inf, i: -.inf, j: true, k: 007, l: 0x10, m: \"\", n: \"a: b # c\", o: \"{{'{{'}}x}}\", p: 2026-01-01, q: '- x', r: \"ü\\n\\t\\u0085\"}\n", Options{}},
		"numbers by variables":      {"params: {n: 5, f: 0.5, b: true, t: \"7\", d: 2026-01-01}\ntransform:\n  - op: {a: \"{{n}}\", b: \"{{f}}\", c: \"{{b}}\", d: \"{{t}}\", e: \"{{d}}\", f: \"x{{n}}\"}\ntrain: {loss: mse, epochs: \"{{n}}\"}\n", Options{}},
		"sql of several lines":      {"params: {c: \"it's\"}\nspark: {remote: \"sc://h:1\"}\nsource:\n  sql: |\n    SELECT *\n      FROM t -- all\n    WHERE c = {{c}}\n", Options{}},
		"odd text of several lines": {"transform:\n  - sql: {a: \"x \\ny\", b: \" x\\ny\\n\", c: \"x\\n\\ny\", d: \"x\\ny\\n\\n\", e: \"\\n\"}\n", Options{}},
		"maps with numbers":         {"train: {loss: mse, class_weight: {0: 0, 10: 2.5, 2: 1}}\nexpect: {labels: {a: [0, 1.5, -2]}, max_null: {\"a.b\": 0, c: 0.25}, min_rows: 7}\n", Options{}},
		"live":                      {"spark: {remote: \"sc://h:1/;use_ssl=true\"}\nsource: {table: a.b}\ncolumns: {x: f}\ndataset: {path: d, live: true, shards: 3}\n", Options{}},
		"a number of servers":       {"train: {loss: mse, launch: process, servers: 3, codec: int8}\n", Options{}},
		"servers by address":        {"train: {loss: mse, launch: join, servers: [\"h1:7071\", \"[::1]:7071\", \"unix:/a b\"], codec: auto}\n", Options{}},
		"one server by address":     {"train: {loss: mse, launch: join}\n", Options{Set: []string{"train.servers=h1:7071"}}},
		"a gate at zero":            {"train: {loss: mse}\ngate: {metric: loss, at_least: 0, not_below_latest_by: 0}\n", Options{}},
	} {
		for _, file := range []string{"job.yaml", "dir/job.yaml", "hdfs://ns/d/job.yaml"} {
			t.Run(name+" "+file, func(t *testing.T) { resolves(t, file, c.text, c.opt) })
		}
	}
}

// TestResolvedOfEveryExample: the jobs that are shown to people.
func TestResolvedOfEveryExample(t *testing.T) {
	for _, file := range []string{"../../examples/quickstart/job.yaml", "../../examples/fashion/job.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		resolves(t, file, string(b), Options{Need: ForRun, Env: func(string) string { return "sc://h:15002" }})
	}
}

func TestResolvedSaysWhatTheFlagsSaid(t *testing.T) {
	s := read(t, "params: {n: 2}\ntrain: {loss: mse, epochs: \"{{n}}\"}\n", Options{Params: map[string]string{"n": "7"}, Set: []string{"train.batch_size=64"}})
	want := "name: job\nparams: {n: 7}\nspark: {remote: \"\"}\nsplit: {train: 1}\ntrain:\n  trainer: single\n  workers: 1\n  epochs: 7\n  batch_size: 64\n" +
		"  optimizer: adam\n  loss: mse\n  launch: in-process\n  codec: fp32\n  kernel: auto\n  feed_budget_mb: 256\n"
	if got := string(s.Resolved()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestResolvedTellsNoSecret: a token is in no model that is published.
func TestResolvedTellsNoSecret(t *testing.T) {
	for _, remote := range []string{"sc://h:1/;token=hush", "sc://h:1/;use_ssl=true;token=hush;user_id=me", "sc://h:1/;Token=hush;x=y"} {
		for _, s := range []*Spec{
			read(t, "spark: {remote: \""+remote+"\"}\n", Options{}),
			read(t, "", Options{Env: func(string) string { return remote }}),
			read(t, "", Options{Set: []string{"spark.remote=" + remote}}),
		} {
			if got := string(s.Resolved()); strings.Contains(got, "hush") || !strings.Contains(got, "sc://h:1/") {
				t.Errorf("%s gives\n%s", remote, got)
			}
		}
	}
	kept := read(t, "spark: {remote: \"sc://h:1/;use_ssl=true;token=hush;user_id=me\"}\n", Options{})
	if !strings.Contains(string(kept.Resolved()), "sc://h:1/;use_ssl=true;user_id=me") {
		t.Errorf("more than the token is gone:\n%s", kept.Resolved())
	}
}

// TestResolvedKeepsTheEnvironmentOut: where the job ran on the embedded engine, it does so anywhere.
func TestResolvedKeepsTheEnvironmentOut(t *testing.T) {
	s := read(t, "name: x\n", Options{})
	again := read(t, string(s.Resolved()), Options{Env: func(string) string { return "sc://h:1" }})
	if again.Spark.Remote != "" {
		t.Errorf("remote %q", again.Spark.Remote)
	}
}

// TestAnyTextIsReadBack: whatever text stands in a job, its rendering means the same.
func TestAnyTextIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z {}'"\\:#\n,|>\-\[\]]{0,30}`)).Draw(t, "text")
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f || r == 0xfffd }) {
			t.Skip("no text of a job file")
		}
		var b bytes.Buffer
		emit(&b, &node{kind: mapKind, fields: []field{{name: "a", val: textNode(text)}, {name: "l", val: &node{kind: listKind, list: []*node{textNode(text), textNode("x")}}}}}, 0)
		n, problems, err := parse(&source{name: "f", text: b.String()})
		if err != nil || len(problems) > 0 {
			t.Fatalf("%v %v\n%s", err, problems, &b)
		}
		want := strings.ReplaceAll(text, "{{", "{{'{{'}}")
		if got := n.get("a").text; got != want {
			t.Fatalf("%q came back as %q from\n%s", want, got, &b)
		}
		if got := n.get("l").list[0].text; got != want {
			t.Fatalf("in a list, %q came back as %q from\n%s", want, got, &b)
		}
	})
}
