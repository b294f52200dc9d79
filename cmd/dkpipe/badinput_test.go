package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// badInput is one way in which a job can be wrong, and all that dkpipe says about it.
type badInput struct {
	name    string
	spec    []string                       // pairs of old and new text of job.yaml
	arrange func(t *testing.T, dir string) // changes files before the command
	args    []string                       // default: run -f job.yaml
	code    int                            // exit code
	kind    string                         // of the error
	message string                         // exact
	hint    string                         // exact
	dataset bool                           // the dataset stays: it is whole
}

// TestBadInput checks message, exit code and that nothing is left behind for everything that users get wrong.
func TestBadInput(t *testing.T) {
	for _, c := range badInputs() {
		t.Run(c.name, func(t *testing.T) {
			dir := quickstart(t, c.spec...)
			if c.arrange != nil {
				c.arrange(t, dir)
			}
			before := published(t, dir)
			if c.dataset {
				before = []string{filepath.Join(dir, "out/dataset/v000001"), filepath.Join(dir, "out/dataset/LATEST")}
			}
			args := c.args
			if args == nil {
				args = []string{"run", "-f", "job.yaml"}
			}
			r := run(t, dir, c.code, args...)
			if r.Status != "failed" || r.Error == nil {
				t.Fatalf("status %q, error %v", r.Status, r.Error)
			}
			// Hashes and which worker was first differ from run to run; the rest of the message does not.
			message := variable.ReplaceAllString(r.Error.Message, "SHA-256 HASH, the manifest says HASH")
			message = workerNumber.ReplaceAllString(message, "worker N")
			if string(r.Error.Kind) != c.kind || message != c.message || r.Error.Hint != c.hint {
				t.Errorf("got  %s: %s\n     next: %s\nwant %s: %s\n     next: %s", r.Error.Kind, r.Error.Message, r.Error.Hint, c.kind, c.message, c.hint)
			}
			if after := published(t, dir); !slices.Equal(before, after) {
				t.Errorf("left behind: %v (before: %v)", after, before)
			}
		})
	}
}

var (
	variable     = regexp.MustCompile(`SHA-256 [0-9a-f]{12}…, the manifest says [0-9a-f]{12}…`)
	workerNumber = regexp.MustCompile(`worker \d`)
)

func badInputs() []badInput {
	return slices.Concat(badSpecs(), badData(), badFiles(), badModels())
}

func badSpecs() []badInput {
	return []badInput{
		{
			name: "unknown field", spec: []string{"batch_size", "batch_sise"}, code: 2, kind: "spec",
			message: "job.yaml:25:3: train.batch_sise: unknown field; did you mean batch_size?",
			hint:    "write batch_size instead of batch_sise",
		},
		{
			name: "wrong type", spec: []string{"workers: 2", "workers: two"}, code: 2, kind: "spec",
			message: `job.yaml:22:12: train.workers: want a whole number, got the text "two"`,
		},
		{
			name: "missing required field", spec: []string{"  loss: categorical_crossentropy\n", ""}, code: 2, kind: "spec",
			message: "job.yaml:20:1: train.loss: missing", hint: "add loss: …",
		},
		{
			name: "unknown trainer", spec: []string{"trainer: agn", "trainer: agm"}, code: 2, kind: "spec",
			message: `job.yaml:21:12: train.trainer: trainer "agm" is not known`, hint: `did you mean "agn"? known trainers: single, averaging, ensemble, downpour, agn, distance_adag, dynsgd, aeasgd, eamsgd, sync_sgd, local_sgd, diloco, async_local`,
		},
		{
			name: "unknown loss", spec: []string{"loss: categorical_crossentropy", "loss: crossentropy"}, code: 2, kind: "spec",
			message: "job.yaml:27:9: train.loss: there is no loss crossentropy; known: binary_crossentropy, categorical_crossentropy, " +
				"categorical_hinge, cosine_similarity, hinge, huber, kl_divergence, log_cosh, mean_absolute_error, mean_absolute_percentage_error, " +
				"mean_squared_error, mean_squared_logarithmic_error, poisson, sparse_categorical_crossentropy, squared_hinge",
		},
		{
			name: "gate without rows", spec: []string{"train: 0.8, test: 0.2", "train: 1"}, code: 2, kind: "spec",
			message: "job.yaml:31:1: gate: there are no test or validation rows to measure accuracy on",
			hint:    "give the split a test share: split: {key: id, train: 0.8, test: 0.2}",
		},
		{
			name: "relative gate for a loss", spec: []string{"metric: accuracy, at_least: 0.9", "metric: loss, not_below_latest_by: 0.1"}, code: 2, kind: "spec",
			message: "job.yaml:31:1: gate: not_below_latest_by is for metrics of which more is better, not for loss", hint: "use at_most for it",
		},
		{
			name: "single with two workers", spec: []string{"trainer: agn", "trainer: single"}, code: 2, kind: "spec",
			message: "job.yaml:20:1: train: trainer single trains with one worker, not 2",
			hint:    "set train.workers to 1, or take a trainer for several workers, such as agn",
		},
		{
			name: "one folder for both", spec: []string{"output: {path: out/model}", "output: {path: out/dataset}"}, code: 2, kind: "spec",
			message: "job.yaml: dataset.path and output.path are the same, out/dataset", hint: "give datasets, models and checkpoints folders of their own",
		},
		{
			name: "empty slot", args: []string{"run", "-f", "job.yaml", "--slot", ""}, code: 2, kind: "usage",
			message: "--slot is empty", hint: `give the slot a name; in a crontab, % must be written \%`,
		},
		{
			name: "mistyped subcommand", args: []string{"model", "rollbakc", "out/model"}, code: 2, kind: "usage",
			message: `unknown command "rollbakc" for "dkpipe model"`, hint: "did you mean dkpipe model rollback?",
		},
		{
			name: "missing column", spec: []string{"input: label", "input: lable"}, code: 2, kind: "missing_column",
			message: `one_hot: there is no column "lable"; did you mean "label"?`,
		},
		{
			name: "missing kept column", spec: []string{"keep: [id]", "keep: [idd]"}, code: 2, kind: "missing_column",
			message: `columns.keep: there is no column "idd"`, hint: `did you mean "id"?`,
		},
	}
}

func badData() []badInput {
	noLabels := []string{"  labels: {label: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}\n", ""}
	return []badInput{
		{
			name: "label outside its range", spec: noLabels, arrange: editLine(11, regexp.MustCompile(`\d+$`), "12"), code: 3, kind: "data",
			message: `digits.csv, line 11: one_hot: label is outside 0..9: column "label" is 12`,
			hint:    "correct the row, or set handle_invalid: skip (or keep, where the transformer has it) for one_hot",
		},
		{
			name: "label that is not expected", arrange: editLine(11, regexp.MustCompile(`\d+$`), "12"), code: 3, kind: "expect",
			message: `digits.csv, line 11: expect.labels: column "label" is 12, expected one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9`,
			hint:    "correct the row, or add the value to expect.labels",
		},
		{
			name: "too few rows", spec: []string{"min_rows: 1000", "min_rows: 5000"}, code: 3, kind: "expect",
			message: "expect.min_rows: the source has 1797 rows, expected at least 5000",
			hint:    "wait for the missing data, or lower expect.min_rows",
		},
		{
			name: "NaN in features", arrange: editLine(21, regexp.MustCompile(`^(\d+),\d+`), "$1,NaN"), code: 3, kind: "data",
			message: `digits.csv, line 21: assemble: one of "p0" … "p63" is NULL or NaN: column "p0" is NaN`,
			hint:    "correct the row, or set handle_invalid: skip (or keep, where the transformer has it) for assemble",
		},
		{
			name: "ragged row", arrange: editLine(31, regexp.MustCompile(`$`), ",7"), code: 3, kind: "data",
			message: "digits.csv, line 31: 67 fields, the header has 66",
			hint:    "give every row one field a column; quote a value that has a comma in it",
		},
		{
			name: "not a number", spec: []string{"source: {csv: digits.csv}", "source: {csv: digits.csv, types: {p0: int64}}"},
			arrange: editLine(1700, regexp.MustCompile(`^(\d+),\d+`), "$1,abc"), code: 3, kind: "data",
			message: `digits.csv, line 1700, column "p0": "abc" is not of the declared type int64`,
			hint:    "correct the value, or declare another type in source.types",
		},
		{
			name: "no rows", arrange: func(t *testing.T, dir string) { shorten(t, filepath.Join(dir, "digits.csv"), 1) }, code: 3, kind: "data",
			message: "empty source: digits.csv: columns, but no rows", hint: "check that the file was written to its end",
		},
		{
			name: "empty file", arrange: write("digits.csv", ""), code: 3, kind: "data",
			message: "digits.csv is empty (0 bytes)", hint: "remove the file from source, or write it again",
		},
		{
			name: "no such file", spec: []string{"digits.csv", "digit.csv"}, code: 3, kind: "data",
			message: "digit.csv: there is no such file",
			hint:    "paths in a spec start at the spec's folder, on the command line at the working directory",
		},
	}
}

func badFiles() []badInput {
	prepare := func(t *testing.T, dir string) { run(t, dir, 0, "preprocess", "-f", "job.yaml") }
	const shard = "out/dataset/v000001/train/part-00001.parquet"
	return []badInput{
		{
			name: "text named parquet", spec: []string{"csv: digits.csv", "parquet: digits.parquet"}, code: 3, kind: "corrupt",
			arrange: write("digits.parquet", "id,p0\n1,2\n"),
			message: `digits.parquet is not Parquet: it starts with "id,p0\n1,2\n"`,
			hint:    "name its real format in source, for example {csv: ...}",
		},
		{
			name: "truncated parquet", spec: []string{"csv: digits.csv", "parquet: cut.parquet"}, code: 3, kind: "corrupt",
			arrange: write("cut.parquet", "PAR1"+strings.Repeat("\x00", 996)),
			message: "cut.parquet is cut off: it starts like Parquet but its last bytes are 00 00 00 00 (1000 bytes)",
			hint:    "copy or write the file again; parquet files end with the bytes PAR1",
		},
		{
			name: "changed shard", args: []string{"train", "-f", "job.yaml"}, code: 3, kind: "corrupt",
			arrange: func(t *testing.T, dir string) {
				prepare(t, dir)
				flip(t, filepath.Join(dir, shard), 1000)
			},
			message: "out/dataset/v000001: train/part-00001.parquet has SHA-256 HASH, the manifest says HASH",
			hint:    "the dataset is not what was published: check the store, or prepare the dataset again",
		},
		{
			name: "no dataset", args: []string{"train", "-f", "job.yaml"}, code: 3, kind: "data",
			message: "read out/dataset: no version is here: file does not exist",
			hint:    "dkpipe preprocess makes a dataset, dkpipe train a model, dkpipe run both",
		},
		{
			name: "no model", args: []string{"evaluate", "--model", "out/model", "--data", "out/dataset"}, code: 3, kind: "data",
			message: "read out/model: no version is here: file does not exist",
			hint:    "dkpipe preprocess makes a dataset, dkpipe train a model, dkpipe run both",
		},
	}
}

func badModels() []badInput {
	narrow := func(t *testing.T, dir string) {
		run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.epochs=1,gate.at_least=0")
		lines := lines(t, filepath.Join(dir, "digits.csv"))
		for i, l := range lines { // without p63
			fields := strings.Split(l, ",")
			lines[i] = strings.Join(append(fields[:64:64], fields[65]), ",")
		}
		write("narrow.csv", strings.Join(lines, "\n")+"\n")(t, dir)
	}
	return []badInput{
		{
			name: "layer without units", spec: []string{"dense: {units: 10", "dense: {units: 0"}, code: 2, kind: "spec",
			message: "job.yaml:19:7: model.layers[1].dense: units is 0, must be at least 1",
		},
		{
			name: "model for another width", dataset: true, spec: []string{"dense: {units: 10", "dense: {units: 9"}, code: 2, kind: "spec",
			message: "job.yaml:16:1: model: the model gives outputs of width 9, the dataset has y columns of width 10",
			hint:    "change the units of the last layer or columns.y",
		},
		{
			name: "rows that lack a column of the model", arrange: narrow, args: []string{"predict", "--model", "out/model", "--in", "narrow.csv", "--out", "p.csv"},
			code: 2, kind: "missing_column", message: `the source has no column "p63", which the model's columns are made of`, hint: `did you mean "p3"?`,
		},
		{
			name: "predictions onto their source", arrange: narrow, args: []string{"predict", "--model", "out/model", "--in", "digits.csv", "--out", "./digits.csv"},
			code: 2, kind: "usage", message: "--out ./digits.csv is one of the files of --in", hint: "write to another file",
		},
		{
			name: "index of a model that was changed", args: []string{"evaluate", "--model", "out/model", "--data", "out/dataset"}, code: 3, kind: "corrupt",
			arrange: func(t *testing.T, dir string) {
				narrow(t, dir)
				flip(t, filepath.Join(dir, "out/model/v000001/bundle.json"), 30)
			},
			message: "out/model/v000001/bundle.json is not the file that was published",
			hint:    "look at the store, or take another version: dkpipe data verify out/model/v000001",
		},
		{
			name: "divergence", dataset: true, spec: []string{"adam: {learning_rate: 0.005}", "sgd: {learning_rate: 1e30}", "categorical_crossentropy", "mse"}, code: 1, kind: "diverged",
			message: "agn, worker N, epoch 1, step 2: the loss is NaN", hint: "lower the optimizer's learning_rate",
		},
	}
}

// TestNoRights runs as a user who may not write.
func TestNoRights(t *testing.T) {
	dir := quickstart(t)
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := runIn(t, dir, 4, []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, "run", "-f", "job.yaml")
	if want := "mkdir out/model/_epochs: permission denied"; string(r.Error.Kind) != "denied" || r.Error.Message != want || r.Error.Hint == "" {
		t.Errorf("got %+v, want %s", r.Error, want)
	}
	if left := published(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDiskFull runs on a file system with room for less than the dataset, and for the dataset but not the model.
func TestDiskFull(t *testing.T) {
	for _, size := range []string{"200k", "560k"} {
		t.Run(size, func(t *testing.T) {
			dir := quickstart(t)
			if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
				t.Fatal(err)
			}
			// What is left is listed inside the mount's namespace, where it can be seen.
			script := `mount -t tmpfs -o size=` + size + ` tmpfs out && "$0" "$@"; code=$?; find out -name 'v0*' -o -name '.stage*' -o -name _lock -o -name '.tmp*' >left; cat out/model/LATEST >latest 2>/dev/null; exit $code`
			r := runIn(t, dir, 1, []string{"unshare", "-rm", "sh", "-c", script}, "run", "-f", "job.yaml", "--set", "model.layers.0.dense.units=512")
			if string(r.Error.Kind) != "no_space" || !strings.Contains(r.Error.Message, "no space left") || r.Error.Hint == "" {
				t.Errorf("got %+v", r.Error)
			}
			left, err := os.ReadFile(filepath.Join(dir, "left"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range strings.Fields(string(left)) {
				if name != "out/dataset/v000001" { // whole, and published before the disk was full
					t.Errorf("left behind: %s", name)
				}
			}
		})
	}
}

// runIn runs dkpipe below another command, which CI must be able to start.
func runIn(t *testing.T, dir string, code int, wrapper []string, args ...string) result {
	t.Helper()
	if os.Getuid() != 0 {
		if strings.Contains(os.Getenv("DKPIPE_REQUIRE"), "root") {
			t.Fatal("DKPIPE_REQUIRE asks for root")
		}
		t.Skip("needs root to change users or mount a small file system")
	}
	p := &dkpipe{cmd: exec.Command(wrapper[0], slices.Concat(wrapper[1:], []string{os.Args[0]}, args, []string{"--json"})...)}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, &p.stdout, &p.stderr
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	// The test's folders are root's alone; another user must be able to get there.
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if wrapper[0] == "setpriv" { // and to start this binary
		if err := os.Chmod(filepath.Dir(os.Args[0]), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(filepath.Dir(os.Args[0])), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := p.wait(t); got != code {
		t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", got, code, &p.stdout, &p.stderr)
	}
	return p.result(t)
}

// published lists what a run may leave in its roots: versions, stages, pointers, locks. The counters of the lock are
// not listed, they hold nothing.
func published(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"out/*/v0*", "out/*/.stage-*", "out/*/.trash-*", "out/*/LATEST", "out/*/_lock", "out/*/_slots/*", "out/*/.tmp*", "p.csv*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	return out
}

// editLine replaces what a pattern matches in one line of digits.csv, counted from 1.
func editLine(n int, pattern *regexp.Regexp, with string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		name := filepath.Join(dir, "digits.csv")
		all := lines(t, name)
		all[n-1] = pattern.ReplaceAllString(all[n-1], with)
		write("digits.csv", strings.Join(all, "\n")+"\n")(t, dir)
	}
}

func write(name, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// flip inverts a byte of a file.
func flip(t *testing.T, name string, at int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0xff
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
