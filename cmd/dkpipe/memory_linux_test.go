package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dkpipe/ps/psrpc"
)

// buildDkpipe builds the program: the test binary has other settings of the garbage collector, and more in it.
func buildDkpipe(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "dkpipe")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

const largeJob = `
name: large
source: {csv: users.csv}
columns: {x: [user], y: [bought]}
split: {key: id, train: 1}
dataset: {path: out/dataset, shards: 2}
model:
  layers:
    - embedding: {input_dim: 200000, output_dim: 64}
    - flatten
    - dense: {units: 1, activation: sigmoid}
train: {trainer: agn, workers: 1, window: 5, epochs: 2, batch_size: 32, loss: binary_crossentropy, feed_budget_mb: 8, optimizer: {adam: {}}}
output: {path: out/model}
`

// TestMemoryOfAWorker: a worker process with 12.8 million parameters needs its parameters, one more vector of them for what is
// exchanged, the optimizer's slots, activations, the feed's budget, and 64 MiB. Gradients take no room: they are used as they
// come. Some need one or two vectors beside.
func TestMemoryOfAWorker(t *testing.T) {
	binary := buildDkpipe(t)
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("id,user,bought\n")
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 2000 {
		fmt.Fprintf(&b, "%d,%d,%d\n", i, r.IntN(200_000), r.IntN(2))
	}
	write("users.csv", b.String())(t, dir)
	write("job.yaml", largeJob)(t, dir)
	const parameters = 200_000*64 + 64 + 1
	for _, c := range []struct {
		optimizer string
		trainer   string
		slots     int
		own       int // vectors beside: EAMSGD's velocity, what is on its way, a gradient that has to be seen whole, parts for data servers
		more      []string
	}{
		{"sgd: {}", "agn", 0, 0, nil},
		{"adam: {}", "agn", 2, 0, nil},
		{"adam: {}", "aeasgd", 2, 0, nil},
		{"sgd: {}", "single", 0, 0, nil},
		{"sgd: {}", "eamsgd", 0, 1, nil},
		{"sgd: {}", "sync_sgd", 0, 0, nil}, // the slots are the server's
		{"sgd: {}", "{agn: {overlap: true}}", 0, 2, nil},
		{"sgd: {global_clipnorm: 1}", "agn", 0, 1, nil},
		{"sgd: {}", "agn", 0, 1, []string{"--servers", "2"}},
	} {
		name := strings.Trim(regexp.MustCompile("[^a-z0-9]+").ReplaceAllString(strings.Join(append([]string{c.trainer, c.optimizer}, c.more...), " "), "-"), "-")
		t.Run(name, func(t *testing.T) {
			secret := []string{ticketVariable + "=" + psrpc.NewTicket().Text()}
			p := start(t, dir, secret, append([]string{"run", "-f", "job.yaml", "--events", name + ".events", "--json", "--launch", "join",
				"--set", fmt.Sprintf("train.trainer=%s,train.optimizer={%s},output.path=out/%s", c.trainer, c.optimizer, name)}, c.more...)...)
			address := event(t, filepath.Join(dir, name+".events"), "listening", nil)["address"].(string)
			worker := exec.Command(binary, "worker", "--connect", address, "--json")
			worker.Env = append(os.Environ(), secret...)
			out, err := worker.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if code := p.wait(t); code != 0 {
				t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
			}
			var w struct {
				PeakMiB float64 `json:"peak_mib"`
				Worker  struct{ Commits int64 }
			}
			if err := json.Unmarshal(out, &w); err != nil || w.Worker.Commits == 0 || w.PeakMiB == 0 {
				t.Fatalf("%v\n%s", err, out)
			}
			vector := 4 * float64(parameters) / (1 << 20)
			const activations, budget, rest = 1, 8, 64
			allowed := vector*float64(2+c.own+c.slots) + activations + budget + rest
			if slices.Contains(c.more, "--servers") {
				allowed += 2 * 8 // two more connections with what is on its way
			}
			t.Logf("%.1f MiB at most: %.2f vectors of parameters of %.1f MiB; %.1f MiB are allowed", w.PeakMiB, w.PeakMiB/vector, vector, allowed)
			if w.PeakMiB > allowed {
				t.Errorf("%.1f MiB, %.1f are allowed", w.PeakMiB, allowed)
			}
		})
	}
}
