package spec

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// checker sets the defaults that depend on other fields and checks what a single field cannot tell.
type checker struct {
	d        *decoder
	root     *node
	spec     *Spec
	opt      Options
	broken   map[string]bool // sections whose problems have been reported already
	warnings []string
}

// place finds where a field was written, or where the nearest thing around it was.
func (c *checker) place(path string) mark {
	n, at := c.root, c.root.key
	for _, step := range steps(path) {
		if n = n.step(step); n == nil {
			break
		}
		at = n.at
		if n.kind == mapKind || n.kind == nullKind {
			at = n.key
		}
	}
	return at
}

func (c *checker) fail(path, hint, format string, args ...any) {
	c.d.fail(c.place(path), path, hint, format, args...)
}

func (c *checker) warn(path, format string, args ...any) {
	c.warnings = append(c.warnings, c.d.pos(c.place(path), path).String()+": "+fmt.Sprintf(format, args...))
}

func (c *checker) has(section string) bool { return !c.root.get(section).empty() }

// fine says that none of the sections has problems, so that a check across them makes sense.
func (c *checker) fine(sections ...string) bool {
	return !slices.ContainsFunc(sections, func(s string) bool { return c.broken[s] })
}

func (c *checker) check() {
	c.needed()
	c.name()
	c.spark()
	c.source()
	c.expect()
	c.columns()
	c.split()
	c.model()
	c.train()
	c.training()
	c.dataset()
	c.gate()
}

// needed reports sections that the command needs and the file lacks.
func (c *checker) needed() {
	need := c.opt.Need
	live := need.has(NeedTrain) && c.spec.Dataset.Live
	if live {
		need |= NeedSource | NeedColumns // training streams out of the source
	}
	for _, s := range []struct {
		flag       Section
		name, hint string
	}{
		{NeedSource, "source", "say where rows come from: source: {csv: data.csv}"},
		{NeedColumns, "columns", "say what goes into the model: columns: {x: [features], y: [target]}"},
		{NeedDataset, "dataset", "say where prepared data goes: dataset: {path: out/dataset}"},
		{NeedModel, "model", "say what is trained: model: {layers: […]} or model: {keras: model.json}"},
		{NeedTrain, "train", "say how to train: train: {loss: categorical_crossentropy}"},
		{NeedOutput, "output", "say where models go: output: {path: out/model}"},
	} {
		if need.has(s.flag) && !c.has(s.name) && !c.broken[s.name] {
			c.d.fail(c.root.key, s.name, s.hint, "missing section")
			c.broken[s.name] = true
		}
	}
}

func (c *checker) name() {
	s := c.spec
	if s.Name == "" && c.fine("name") {
		base := c.d.file[strings.LastIndexByte(c.d.file, '/')+1:]
		if i := strings.LastIndexByte(base, '.'); i > 0 {
			base = base[:i]
		}
		s.Name = base
	}
	if len(s.Name) > 200 || strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' }) {
		c.fail("name", "", "want one line of at most 200 bytes")
	}
}

func (c *checker) spark() {
	remote := &c.spec.Spark.Remote
	from := "spark.remote"
	if c.root.get("spark").get("remote").empty() && c.opt.Env != nil {
		*remote = c.opt.Env("SPARK_REMOTE")
		from = "SPARK_REMOTE"
	}
	c.spec.Spark.Pos = Pos{File: from}
	if from != "SPARK_REMOTE" {
		c.spec.Spark.Pos = c.d.pos(c.place(from), from)
	}
	if cert, key := c.spec.Spark.Cert, c.spec.Spark.Key; (cert == "") != (key == "") {
		c.fail("spark", "give both, PEM files", "a client certificate needs cert and key")
	}
	if *remote != "" && !strings.HasPrefix(*remote, "sc://") {
		// The value may hold a token, so it is not repeated.
		if from == "SPARK_REMOTE" {
			c.d.problems = append(c.d.problems, Problem{Pos: Pos{File: "SPARK_REMOTE"},
				Text: "want a Spark Connect address, sc://host:15002", Hint: "correct or unset SPARK_REMOTE"})
			return
		}
		c.fail(from, "write sc://host:15002", "want a Spark Connect address, sc://host:15002")
	}
}

func (c *checker) source() {
	if !c.has("source") || !c.fine("source") {
		return
	}
	known := []string{"csv", "parquet", "arrow", "json", "idx", "table", "sql"}
	var set []string
	for _, f := range c.root.get("source").fields {
		if slices.Contains(known, f.name) && f.val.kind != nullKind {
			set = append(set, f.name)
		}
	}
	switch len(set) {
	case 0:
		c.fail("source", "write source: {csv: data.csv}", "has no format; give one of %s", list(known))
		return
	case 1:
	default:
		c.fail("source."+set[1], "remove all but one", "there is %s already; a source has one format", set[0])
		return
	}
	format := set[0]
	if (format == "table" || format == "sql") && c.spec.Spark.Remote == "" && c.fine("spark") {
		c.fail("source."+format, "add spark: {remote: sc://host:15002}, or set SPARK_REMOTE", "needs Spark, and spark.remote is not set")
	}
	if len(c.spec.Source.Types) > 0 && format != "csv" && format != "json" {
		c.fail("source.types", "remove it, and use the cast transformer", "only csv and json take types; %s has its own", format)
	}
}

func (c *checker) expect() {
	for _, f := range c.root.get("expect").get("labels").pairs() {
		if len(c.spec.Expect.Labels[f.name]) == 0 && c.fine("expect") {
			c.fail(join("expect.labels", f.name), "write [0, 1]", "is empty, so no value would be allowed")
		}
	}
}

// pairs gives the fields of a map, none for anything else.
func (n *node) pairs() []field {
	if n == nil {
		return nil
	}
	return n.fields
}

func (c *checker) columns() {
	if !c.has("columns") || !c.fine("columns") {
		return
	}
	s := c.spec.Columns
	if len(s.X) == 0 {
		c.fail("columns.x", "write x: [features]", "missing; it lists the columns that go into the model")
	}
	if len(s.Y) == 0 && c.opt.Need.has(NeedTrain) {
		c.fail("columns.y", "write y: [target]", "missing; it lists the columns that the model is to give")
	}
	role := map[string]string{}
	see := func(column, path, as string) {
		if before, ok := role[column]; ok {
			text := "is " + before + " already"
			if before == as {
				text = "is listed twice"
			}
			c.fail(path, "remove one of the two", "%s %s", quote(column), text)
			return
		}
		role[column] = as
	}
	for i, name := range s.X {
		see(name, element(c.root, "columns.x", i), "an input (x)")
	}
	for i, name := range s.Y {
		see(name, element(c.root, "columns.y", i), "an output (y)")
	}
	if s.Weight != "" {
		see(s.Weight, "columns.weight", "the weight")
	}
	kept := map[string]bool{}
	for i, name := range s.Keep {
		if kept[name] {
			c.fail(element(c.root, "columns.keep", i), "remove one of the two", "%s is listed twice", quote(name))
		}
		kept[name] = true
	}
}

// element names an element of a list that may stand without brackets.
func element(root *node, path string, i int) string {
	n := root
	for _, step := range steps(path) {
		n = n.step(step)
	}
	if n != nil && n.kind == listKind {
		return path + "[" + strconv.Itoa(i) + "]"
	}
	return path
}

func (c *checker) split() {
	s := &c.spec.Split
	section := c.root.get("split")
	said := false
	parts := 0
	blamed := "split"
	for _, part := range []string{"train", "validation", "test"} {
		n := section.get(part)
		said = said || !n.empty()
		if n != nil && n.at.flag != nil {
			blamed = "split." + part // rather than the file, which may be right on its own
		}
	}
	if !said {
		s.Train = 1
	}
	for _, f := range []float64{s.Train, s.Validation, s.Test} {
		if f > 0 {
			parts++
		}
	}
	if !c.fine("split") {
		return
	}
	sum := s.Train + s.Validation + s.Test
	switch {
	case s.Train == 0 && section.get("train").empty() && sum < 1:
		c.fail("split.train", "add train: "+short(1-sum), "missing; the parts sum to %s and must sum to 1", short(sum))
	case math.Abs(sum-1) > 1e-9:
		c.fail(blamed, "make train + validation + test equal to 1", "the parts sum to %s and must sum to 1", short(sum))
	case s.Train == 0:
		c.fail("split.train", "make it more than 0", "nothing is left to train on")
	case parts > 1 && s.Key == "":
		c.fail("split.key", "add key: with a column that differs from row to row", "missing; rows are put into parts by the hash of a column")
	}
}

// short shows a fraction without the dust of binary arithmetic.
func short(f float64) string { return strconv.FormatFloat(f, 'g', 10, 64) }

func (c *checker) model() {
	if !c.has("model") || !c.fine("model") {
		return
	}
	m := c.spec.Model
	switch {
	case len(m.Layers) > 0 && m.Keras != "":
		c.fail("model.keras", "remove one of the two", "there are layers already; a model has layers or a keras file")
	case len(m.Layers) == 0 && m.Keras == "":
		c.fail("model", "write layers: [{dense: {units: 10, activation: softmax}}] or keras: model.json", "has neither layers nor a keras file")
	}
}

func (c *checker) train() {
	t := &c.spec.Train
	classes := func(it Item) bool { return strings.HasSuffix(it.Name, "crossentropy") }
	if t.Metrics == nil && len(t.Loss) > 0 && !slices.ContainsFunc(t.Loss, func(it Item) bool { return !classes(it) }) {
		t.Metrics = []string{"accuracy"}
	}
	if n := len(t.LossWeights); n > 0 && n != len(c.spec.Columns.Y) && c.has("columns") && c.fine("columns", "train") {
		c.fail("train.loss_weights", "give one number for each of columns.y", "has %d numbers, and columns.y %d", n, len(c.spec.Columns.Y))
	}
	if t.Optimizer.Name == "" {
		t.Optimizer = c.d.newItem("adam", &node{kind: nullKind}, "train.optimizer", c.place("train"))
	}
	if t.Trainer.Name == "" {
		t.Trainer = c.d.newItem("single", &node{kind: nullKind}, "train.trainer", c.place("train"))
		if t.Workers > 1 && c.fine("train") {
			c.fail("train.trainer", "add trainer: agn, for example", "missing; %d workers need to know how to work together", t.Workers)
		}
	}
	if t.MinWorkers > t.Workers && c.fine("train") {
		c.fail("train.min_workers", "set it to "+strconv.Itoa(t.Workers)+" or less", "is %d, and train.workers %d", t.MinWorkers, t.Workers)
	}
	if c.fine("train") {
		c.servers()
	}
	seen := map[string]bool{}
	for i, m := range t.Metrics {
		if seen[m] {
			c.fail(element(c.root, "train.metrics", i), "remove one of the two", "%s is listed twice", quote(m))
		}
		seen[m] = true
	}
	for _, f := range c.root.get("train").get("class_weight").pairs() {
		if strings.HasPrefix(f.name, "-") {
			c.fail("train.class_weight."+f.name, "classes are numbered from 0", "there is no class %s", f.name)
		}
	}
}

func (c *checker) dataset() {
	ds := &c.spec.Dataset
	workers := c.spec.Train.Workers
	if ds.Shards == 0 {
		ds.Shards = max(workers, 1)
	}
	if !c.fine("dataset", "train") {
		return
	}
	if ds.Live && c.spec.Spark.Remote == "" && c.fine("spark") {
		c.fail("dataset.live", "add spark: {remote: sc://host:15002}, set SPARK_REMOTE, or write live: false",
			"streams out of Spark, and spark.remote is not set")
	}
	if workers > ds.Shards && c.has("train") {
		c.warn("train.workers", "%d workers share %d shards, so at most %d of them have work at a time; write dataset.shards: %d",
			workers, ds.Shards, ds.Shards, workers)
	}
}

func (c *checker) gate() {
	g := c.spec.Gate
	if g == nil || !c.fine("gate", "train") {
		return
	}
	if g.AtLeast == nil && g.AtMost == nil && g.NotBelowLatestBy == nil {
		c.fail("gate", "add at_least: 0.9, for example", "has no condition; give at_least, at_most or not_below_latest_by")
	}
	if g.AtLeast != nil && g.AtMost != nil && *g.AtLeast > *g.AtMost {
		c.fail("gate.at_most", "swap the two", "no value is at least %s and at most %s", short(*g.AtLeast), short(*g.AtMost))
	}
	known := append([]string{"loss"}, c.spec.Train.Metrics...)
	if n := len(c.spec.Columns.Y); n > 1 { // of one output: accuracy_2
		for _, name := range slices.Clone(known) {
			for i := range n {
				known = append(known, fmt.Sprintf("%s_%d", name, i+1))
			}
		}
	}
	if c.has("train") && !slices.Contains(known, g.Metric) {
		hint := "add it to train.metrics"
		if near := Nearest(g.Metric, known); near != "" {
			hint = "write " + near
		}
		c.fail("gate.metric", hint, "%s is not measured; %s", quote(g.Metric), suggestion(g.Metric, known))
	}
}
