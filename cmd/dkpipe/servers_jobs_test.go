package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkpipe/ps/psrpc"
)

// TestSynchronousJobsAreBitEqualOnAnyNumberOfServers publishes the same parameters whatever the number of data servers.
func TestSynchronousJobsAreBitEqualOnAnyNumberOfServers(t *testing.T) {
	dir := quickstart(t)
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	for _, trainer := range []string{"sync_sgd", "local_sgd", "diloco", "averaging"} {
		want := ""
		for _, where := range [][]string{{"in-process", "0"}, {"process", "0"}, {"process", "1"}, {"process", "2"}, {"process", "5"}} {
			r := run(t, dir, 0, "train", "-f", "job.yaml", "--launch", where[0], "--servers", where[1],
				"--set", "train.epochs=4,gate.at_least=0.1,dataset.shards=4,train.workers=3,train.trainer="+trainer)
			got := weights(t, dir, r)
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s, launch %s on %s data servers ends elsewhere", trainer, where[0], where[1])
			}
		}
	}
}

// TestResumeOnAnotherNumberOfServers goes on from a checkpoint of two data servers with three, and from one of those with none.
func TestResumeOnAnotherNumberOfServers(t *testing.T) {
	dir := resumable(t, "")
	servers := []string{"2", "3", "0"}
	before := int64(0)
	for i, n := range servers {
		args := []string{"train", "-f", "job.yaml", "--json", "--launch", "process", "--servers", n, "--resume"}
		if i+1 < len(servers) {
			p := start(t, dir, []string{crashAt + "=checkpoint kept#2"}, args...)
			if code := p.wait(t); code != -1 {
				t.Fatalf("exit code %d: %s%s", code, &p.stdout, &p.stderr)
			}
			c := newestCheckpoint(t, dir)
			if c.Samples <= before || c.Complete {
				t.Fatalf("the checkpoint is %+v, the one before had %d samples", c, before)
			}
			before = c.Samples
			continue
		}
		r := run(t, dir, 0, args[:len(args):len(args)]...)
		wantOnce(t, dir, resumedEpochs, before, r)
		if r.Metrics["test"]["accuracy"] < 0.85 {
			t.Errorf("%v", r.Metrics)
		}
	}
}

// TestCodecsInAJob trains with each codec on data servers and without, and reads in the report what went over the wire.
func TestCodecsInAJob(t *testing.T) {
	dir := quickstart(t)
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	// Replies are bf16 with all but fp32, half of float32; deltas are 4, 2, a little more than 1 and next to no bytes.
	for codec, most := range map[string]float64{"fp32": 1.01, "bf16": 0.51, "int8": 0.4, "topk": 0.28, "auto": 1.01} {
		for _, servers := range []string{"0", "2"} {
			p := start(t, dir, nil, "train", "-f", "job.yaml", "--json", "--launch", "process", "--servers", servers, "--codec", codec, "--events", codec+servers)
			if code := p.wait(t); code != 0 {
				t.Fatalf("%s: exit code %d\n%s\n%s", codec, code, &p.stdout, &p.stderr)
			}
			r := p.serversResult(t)
			if r.Wire == nil || r.Wire.Codec != codec || r.Wire.Float32 > most || r.Wire.Float32 < most/2 {
				t.Errorf("%s on %s servers: wire %+v", codec, servers, r.Wire)
				continue
			}
			var sent, received int64
			at := 0
			for _, w := range r.Workers {
				if w.Commits == 0 {
					continue // it came when all was done
				}
				at++
				sent, received = sent+w.SentBytes, received+w.ReceivedBytes
				if want := strings.Replace(codec, "auto", "fp32", 1); w.Codec != want {
					t.Errorf("%s: worker %+v", codec, w)
				}
			}
			if sent != r.Wire.SentBytes || received != r.Wire.ReceivedBytes || sent == 0 {
				t.Errorf("%s: workers sent %d and received %d bytes, together %+v", codec, sent, received, r.Wire)
			}
			if a := r.Metrics["test"]["accuracy"]; a < 0.93 {
				t.Errorf("%s: test accuracy %.4f", codec, a)
			}
			chosen := 0
			wire := 0.0
			for _, e := range eventsOf(t, filepath.Join(dir, codec+servers)) {
				switch e["type"] {
				case "codec":
					chosen++
				case "epoch":
					wire += e["wire_mib"].(float64)
				}
			}
			if codec == "auto" && chosen != at || codec != "auto" && chosen > 0 {
				t.Errorf("%s: %d workers told their choice", codec, chosen)
			}
			if all := float64(sent+received) / (1 << 20); wire < 0.99*all || wire > 1.01*all {
				t.Errorf("%s: %.3f MiB in the history, %.3f in the report", codec, wire, all)
			}
		}
	}
}

// TestJoinOnDataServers has workers that somebody else starts, and data servers that the run starts.
func TestJoinOnDataServers(t *testing.T) {
	for name, more := range map[string][]string{"at home": nil, "from other machines": {"--listen", "0.0.0.0:0", "--set", "train.advertise=127.0.0.1"}} {
		t.Run(name, func(t *testing.T) { testJoinOnDataServers(t, more) })
	}
}

func testJoinOnDataServers(t *testing.T, more []string) {
	made := start(t, t.TempDir(), nil, "worker", "ticket", "secrets")
	if code := made.wait(t); code != 0 {
		t.Fatal(code, &made.stderr)
	}
	secrets := filepath.Join(made.cmd.Dir, "secrets")
	dir := quickstart(t)
	b, err := os.ReadFile(filepath.Join(secrets, "ticket"))
	if err != nil {
		t.Fatal(err)
	}
	j := &joined{dir: dir, events: filepath.Join(dir, "events"), env: []string{ticketVariable + "=" + strings.TrimSpace(string(b)), identityVariable + "=" + filepath.Join(secrets, "identity.pem")}}
	j.dkpipe = start(t, dir, j.env, append([]string{"run", "-f", "job.yaml", "--events", "events", "--json", "--launch", "join", "--servers", "2", "--set", "train.epochs=50"}, more...)...)
	j.address = event(t, j.events, "listening", nil)["address"].(string)
	first, second := j.worker(t), j.worker(t)
	if code := j.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &j.stdout, &j.stderr)
	}
	r := j.serversResult(t)
	wantHistory(t, j.dir, 50, r.result)
	if len(r.Servers) != 2 || r.Servers[0].Parameters+r.Servers[1].Parameters != 4810 || r.Servers[0].Parameters == 0 || r.Servers[1].Parameters == 0 {
		t.Errorf("servers %+v", r.Servers)
	}
	for _, w := range []*dkpipe{first, second} {
		if code := w.wait(t); code != 0 {
			t.Errorf("a worker ended with code %d: %s%s", code, &w.stdout, &w.stderr)
		}
	}
}

// TestARunOnDataServersIsReplayed records a run on data servers and repeats it in one process.
func TestARunOnDataServersIsReplayed(t *testing.T) {
	dir := quickstart(t)
	r := run(t, dir, 0, "run", "-f", "job.yaml", "--launch", "process", "--servers", "3", "--record", "rec")
	p := start(t, dir, nil, "replay", "rec", "--model", r.Model, "--json")
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &p.stdout, &p.stderr)
	}
	var got replayReport
	if err := json.Unmarshal(p.stdout.Bytes(), &got); err != nil || got.Equal == nil || !*got.Equal {
		t.Errorf("%v, %+v", err, got)
	}
}

// TestServersThatMakeNoSense are refused before anything is trained, with the next step.
func TestServersThatMakeNoSense(t *testing.T) {
	dir := quickstart(t)
	run(t, dir, 0, "preprocess", "-f", "job.yaml")
	for _, c := range []struct {
		args    []string
		code    int
		message string
	}{
		{[]string{"train", "-f", "job.yaml", "--servers", "2"}, 2, "in-process do not exchange with data servers"},
		{[]string{"train", "-f", "job.yaml", "--codec", "int8"}, 2, "nothing is sent with launch: in-process"},
		{[]string{"train", "-f", "job.yaml", "--launch", "process", "--codec", "top_k"}, 2, "is not one of: fp32"},
		{[]string{"train", "-f", "job.yaml", "--launch", "process", "--codec", "int8", "--set", "train.trainer=aeasgd"}, 2, "those of aeasgd are whole models"},
		{[]string{"train", "-f", "job.yaml", "--launch", "process", "--codec", "int8", "--record", "rec"}, 2, "--record needs commits as they are"},
		{[]string{"train", "-f", "job.yaml", "--launch", "process", "--servers", "node1"}, 2, "is no host:port"},
		{[]string{"train", "-f", "job.yaml", "--launch", "process", "--servers", "127.0.0.1:1", "--set", "train.join_seconds=1"}, 4, "data server 0 of train.servers"},
		{[]string{"parity", "-f", "job.yaml", "--launch", "process", "--servers", "2"}, 2, "parameters in its own process"},
		{[]string{"ps"}, 2, ticketVariable},
		{[]string{"ps", "--listen", "fd:9"}, 2, ticketVariable},
	} {
		p := start(t, dir, nil, append(c.args, "--json")...)
		if code := p.wait(t); code != c.code {
			t.Errorf("%v: exit code %d, want %d\n%s", c.args, code, c.code, &p.stderr)
			continue
		}
		if e := p.result(t).Error; e == nil || !strings.Contains(e.Message, c.message) || e.Hint == "" {
			t.Errorf("%v: %+v, want %s", c.args, e, c.message)
		}
	}
	ticket := ticketVariable + "=" + psrpc.NewTicket().Text()
	for _, listen := range []string{"fd:9", "fd:x", "nowhere"} {
		p := start(t, dir, []string{ticket}, "ps", "--json", "--listen", listen)
		if code := p.wait(t); code != 2 || p.result(t).Error.Hint == "" {
			t.Errorf("ps --listen %s: exit code %d, %s", listen, code, &p.stdout)
		}
	}
}

// TestTheReportOfARunOnDataServers: the page and the table for people.
func TestTheReportOfARunOnDataServers(t *testing.T) {
	dir := quickstart(t)
	p := start(t, dir, nil, "run", "-f", "job.yaml", "--launch", "process", "--servers", "2", "--codec", "int8", "--report", "run.html", "--set", "train.epochs=8")
	if code := p.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &p.stderr)
	}
	for _, want := range []string{"servers  2", "as int8", "% of float32"} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &p.stdout)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "run.html"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, want := range []string{"data servers", "on the wire, int8", fmt.Sprintf("<th>%s</th>", "wire MiB")} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
