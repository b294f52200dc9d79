package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"dkpipe/trainers"
)

const withValidation = "train: 0.7, validation: 0.1, test: 0.2"

// events reads a file of --events.
func eventsOf(t *testing.T, name string) []map[string]any {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []map[string]any
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var m map[string]any
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatalf("%s: %v", s.Bytes(), err)
		}
		all = append(all, m)
	}
	return all
}

// TestEarlyStoppingInAJob: the run ends before its epochs, says why, and publishes the best model; in worker processes too.
func TestEarlyStoppingInAJob(t *testing.T) {
	for _, launch := range []string{"in-process", "process"} {
		dir := quickstart(t, "train: 0.8, test: 0.2", withValidation, "epochs: 20", "epochs: 100000",
			"  seed: 1\n", "  seed: 1\n  early_stopping: {monitor: val_loss, patience: 3, restore_best: true}\n")
		p := start(t, dir, nil, "run", "-f", "job.yaml", "--json", "--events", "events", "--set", "train.launch="+launch)
		if code := p.wait(t); code != 0 {
			t.Fatalf("%s: exit code %d: %s%s", launch, code, &p.stdout, &p.stderr)
		}
		var r struct {
			result
			Ended trainers.Ending
		}
		if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Ended.Reason != trainers.EndEarlyStopping || r.Ended.Epoch == 0 || !strings.Contains(r.Ended.Text, "val_loss did not get better") {
			t.Errorf("%s: ended %+v", launch, r.Ended)
		}
		best, seen := math.Inf(1), 0
		for _, e := range eventsOf(t, filepath.Join(dir, "events")) {
			if e["type"] == "validation" {
				seen++
				if loss := e["metrics"].(map[string]any)["loss"].(float64); loss < best {
					best = loss
				}
			}
		}
		if got := r.Metrics["validation"]["loss"]; math.Abs(got-best) > 1e-6*best || seen < 4 {
			t.Errorf("%s: the published model has validation loss %v, the best of %d was %v", launch, got, seen, best)
		}
	}
}

// TestValidationWithBatchNormalization: the state that the centre is measured with is computed from the training rows.
func TestValidationWithBatchNormalization(t *testing.T) {
	dir := quickstart(t, "train: 0.8, test: 0.2", withValidation, "epochs: 20", "epochs: 4")
	r := run(t, dir, 0, "run", "-f", "job.yaml", "--set",
		"model.layers=[{dense: {units: 32}}, batch_normalization, {dense: {units: 10, activation: softmax}}],gate.at_least=0.5", "--set", "train.trainer=local_sgd")
	text, err := os.ReadFile(filepath.Join(dir, r.Model, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	var e trainers.Epoch
	if err := json.Unmarshal(all[len(all)-1], &e); err != nil {
		t.Fatal(err)
	}
	got, _ := e.Validation.Get("loss")
	if want := r.Metrics["validation"]["loss"]; math.Abs(got-want) > 0.02*want {
		t.Errorf("the last epoch measured %v, the published model has %v", got, want)
	}
}

func TestLimitsEndAJob(t *testing.T) {
	dir := quickstart(t, "epochs: 20", "epochs: 100000")
	for set, reason := range map[string]string{"train.max_steps=500": trainers.EndSteps, "train.max_seconds=0.3": trainers.EndSeconds} {
		p := start(t, dir, nil, "run", "-f", "job.yaml", "--json", "--set", set, "--set", "gate.at_least=0.1")
		if code := p.wait(t); code != 0 || !strings.Contains(p.stdout.String(), reason) {
			t.Errorf("%s: exit code %d: %s%s", set, code, &p.stdout, &p.stderr)
		}
	}
}

// TestEventsAreFewAndTellOfWorkers: some lines a second, and an epoch's line has its workers.
func TestEventsAreFewAndTellOfWorkers(t *testing.T) {
	dir := quickstart(t, "train: 0.8, test: 0.2", withValidation)
	r := run(t, dir, 0, "run", "-f", "job.yaml", "--events", "events")
	count := map[string]int{}
	for _, e := range eventsOf(t, filepath.Join(dir, "events")) {
		kind := e["type"].(string)
		count[kind]++
		if kind == "epoch" {
			workers := e["workers"].([]any)
			if len(workers) == 0 || e["staleness"] == nil || e["commits_per_s"].(float64) <= 0 {
				t.Errorf("%v", e)
			}
		}
	}
	if count["epoch"] != 20 || count["validation"] != 20 || count["ended"] != 1 || float64(count["progress"]) > 3+r.Seconds*5 || count["progress"] == 0 {
		t.Errorf("%v in %.2f s", count, r.Seconds)
	}
}

// TestMetricsAreServedWhileTraining asks as Prometheus does.
func TestMetricsAreServedWhileTraining(t *testing.T) {
	dir := quickstart(t, "train: 0.8, test: 0.2", withValidation, "epochs: 20", "epochs: 100000")
	p := start(t, dir, nil, "run", "-f", "job.yaml", "--json", "--events", "events", "--metrics-listen", "127.0.0.1:0", "--launch", "process")
	address := ""
	event(t, filepath.Join(dir, "events"), "metrics", func(m map[string]any) bool { address = m["address"].(string); return true })
	event(t, filepath.Join(dir, "events"), "validation", func(m map[string]any) bool { return m["epoch"].(float64) >= 3 })
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%v, %s, %v", err, res.Status, res.Header)
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [-+0-9.eInfNa]+)$`)
	value := map[string]float64{}
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		if !line.MatchString(l) {
			t.Errorf("line %q", l)
		}
		if name, v, ok := strings.Cut(l, " "); ok && name != "#" {
			value[name], err = strconv.ParseFloat(v, 64)
			if err != nil {
				t.Errorf("line %q: %v", l, err)
			}
		}
	}
	if value["dkpipe_train_samples_total"] <= 0 || value[`dkpipe_validation{metric="accuracy"}`] <= 0 || value[`dkpipe_worker_commits_total{worker="0"}`] <= 0 {
		t.Errorf("%s", text)
	}
	sent, commits := value[`dkpipe_worker_sent_bytes_total{worker="0"}`], value[`dkpipe_worker_commits_total{worker="0"}`]
	if sent < 2*4810*commits || value[`dkpipe_worker_received_bytes_total{worker="0"}`] < 2*4810*commits { // float32 parameters; a commit may have none
		t.Errorf("%g bytes sent for %g commits: %s", sent, commits, text)
	}
	if value["dkpipe_commit_staleness_count"] != value[`dkpipe_commit_staleness_bucket{le="+Inf"}`] || value["dkpipe_commit_staleness_count"] <= 0 {
		t.Errorf("%s", text)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 130 {
		t.Errorf("exit code %d: %s", code, &p.stderr)
	}
	if _, err := http.Get(address); err == nil {
		t.Error("metrics are still served")
	}
}

func TestMetricsAreOnlyServedOnThisMachine(t *testing.T) {
	dir := quickstart(t)
	for _, address := range []string{"0.0.0.0:0", ":9464", "192.0.2.1:1", "127.0.0.1"} {
		if r := run(t, dir, 2, "run", "-f", "job.yaml", "--metrics-listen", address); r.Error == nil || !strings.Contains(r.Error.Message, "--metrics-listen") || r.Error.Hint == "" {
			t.Errorf("%s: %+v", address, r.Error)
		}
	}
}

// TestMaskedCRC: the check value of CRC-32C (RFC 3720, B.4: 32 bytes of zeros), masked.
func TestMaskedCRC(t *testing.T) {
	crc := uint32(0x8a9136aa)
	want := (crc>>15 | crc<<17) + 0xa282ead8
	if got := maskedCRC(make([]byte, 32)); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
}

// TestEventFilesHoldTheRun reads an event file back, by the description of its format.
func TestEventFilesHoldTheRun(t *testing.T) {
	dir := quickstart(t, "train: 0.8, test: 0.2", withValidation)
	run(t, dir, 0, "run", "-f", "job.yaml", "--tensorboard", "board")
	files, err := filepath.Glob(filepath.Join(dir, "board", "*", "events.out.tfevents.*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]int{}
	version := ""
	for len(text) > 0 {
		n := binary.LittleEndian.Uint64(text)
		if binary.LittleEndian.Uint32(text[8:]) != maskedCRC(text[:8]) || binary.LittleEndian.Uint32(text[12+n:]) != maskedCRC(text[12:12+n]) {
			t.Fatal("a checksum is wrong")
		}
		for _, f := range fields(t, text[12:12+n]) {
			switch f.number {
			case 3:
				version = string(f.bytes)
			case 5:
				for _, v := range fields(t, f.bytes) {
					tags[string(fields(t, v.bytes)[0].bytes)]++
				}
			}
		}
		text = text[16+n:]
	}
	if version != "brain.Event:2" {
		t.Errorf("version %q", version)
	}
	for _, tag := range []string{"epoch/loss", "epoch/staleness", "epoch/wire_mib", "validation/accuracy"} {
		if tags[tag] != 20 {
			t.Errorf("%s: %d points; there are %v", tag, tags[tag], tags)
		}
	}
	if tags["spec"] != 1 || tags["step/loss"] == 0 || tags["worker_0/compute_share"]+tags["worker_1/compute_share"] < 20 {
		t.Errorf("%v", tags)
	}
}

type field struct {
	number protowire.Number
	bytes  []byte
}

// fields reads a protobuf message.
func fields(t *testing.T, b []byte) []field {
	t.Helper()
	var all []field
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		f := field{number: number}
		if kind == protowire.BytesType {
			f.bytes, _ = protowire.ConsumeBytes(b[n:])
		}
		all = append(all, f)
		b = b[n+size:]
	}
	return all
}

func TestCurvesAreBounded(t *testing.T) {
	var c curve
	for i := range 100_000 {
		c.add(float64(i), 1/float64(i+1), int64(i), []trainers.WorkerStats{{Samples: int64(i)}})
	}
	if len(c.points) >= maxPoints || len(c.points) < maxPoints/2 {
		t.Errorf("%d points", len(c.points))
	}
	gap := c.points[1].Seconds - c.points[0].Seconds
	if !slices.IsSortedFunc(c.points, func(a, b point) int { return int(a.Samples - b.Samples) }) || c.points[len(c.points)-1].Seconds < 100_000-2*gap {
		t.Errorf("points %v … %v", c.points[0], c.points[len(c.points)-1])
	}
	line := []rune(c.sparkline(8))
	if len(line) != 8 || line[0] < line[7] {
		t.Errorf("sparkline %q", string(line))
	}
	for _, points := range [][]point{nil, {{}}, {{Loss: 1}, {Loss: 1}}, {{Loss: math.NaN()}, {Loss: math.NaN()}}} {
		c.points = points
		_ = c.sparkline(16) // must not panic
	}
}
