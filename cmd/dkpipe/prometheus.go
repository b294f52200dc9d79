package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/trainers"
)

// metricsServer serves a run's figures in Prometheus' text format (version 0.0.4) while it goes on.
type metricsServer struct {
	watch  *trainWatch
	server *http.Server
	served sync.WaitGroup
}

// checkMetricsAddress refuses addresses that metrics are not served at.
func checkMetricsAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return usage("write 127.0.0.1:9464, for example", "--metrics-listen %s: %v", address, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usage("listen on 127.0.0.1 and let an agent or a proxy of this machine pass it on",
			"--metrics-listen %s: metrics are served without encryption and to whoever asks, so only on this machine", address)
	}
	return nil
}

// openMetrics begins to serve. Who asks is not asked who they are, so only this machine can be listened on.
func (j *job) openMetrics(ctx context.Context, address string, w *trainWatch) (*metricsServer, error) {
	if err := checkMetricsAddress(address); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Usage, Message: "--metrics-listen", Err: err, Hint: "take a free port, or 127.0.0.1:0 for any"}
	}
	m := &metricsServer{watch: w}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = rw.Write(w.metrics()) // who asked has gone
	})
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
	m.served.Go(func() {
		if err := m.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			j.app.log.Warn("--metrics-listen", "error", err)
		}
	})
	at := "http://" + l.Addr().String() + "/metrics"
	j.app.log.Info("metrics are served", "address", at)
	j.events.add("metrics", map[string]any{"address": at})
	return m, nil
}

func (*metricsServer) progress(trainers.Progress, float64) {}
func (*metricsServer) epoch(trainers.Epoch)                {}
func (*metricsServer) validated(trainers.Epoch)            {}

func (m *metricsServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if m.server.Shutdown(ctx) != nil {
		_ = m.server.Close() // a client that reads slowly is cut off
	}
	m.served.Wait()
}

// exposition is a text in Prometheus' format.
type exposition struct{ bytes.Buffer }

func (b *exposition) head(name, kind, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// value writes a sample; labels come in pairs of name and value.
func (b *exposition) value(name string, v float64, labels ...string) {
	b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(b, "%s=\"%s\"", labels[i], strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if math.IsInf(v, 1) {
		text = "+Inf"
	}
	fmt.Fprintf(b, " %s\n", text)
}

// metrics gives the figures of this moment.
func (w *trainWatch) metrics() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b exposition
	p := w.last
	for _, g := range []struct {
		name, kind, help string
		value            float64
	}{
		{"dkpipe_train_epoch", "gauge", "Epoch that is worked on, from 1.", float64(p.Epoch)},
		{"dkpipe_train_loss", "gauge", "Training loss, smoothed over commits.", w.loss},
		{"dkpipe_train_samples_total", "counter", "Samples acknowledged, those before a resume included.", float64(p.Samples)},
		{"dkpipe_train_samples_expected", "gauge", "Samples of the whole run.", float64(p.Of)},
		{"dkpipe_train_steps_total", "counter", "Local steps of all workers.", float64(p.Steps)},
		{"dkpipe_train_commits_total", "counter", "Commits that became part of the centre.", float64(p.Commits)},
		{"dkpipe_train_seconds_total", "counter", "Seconds of training.", p.Seconds},
	} {
		b.head(g.name, g.kind, g.help)
		b.value(g.name, g.value)
	}
	for _, g := range []struct {
		name, help string
		value      func(trainers.WorkerStats) float64
	}{
		{"dkpipe_worker_samples_total", "Samples of a worker's acknowledged commits.", func(s trainers.WorkerStats) float64 { return float64(s.Samples) }},
		{"dkpipe_worker_commits_total", "Commits of a worker.", func(s trainers.WorkerStats) float64 { return float64(s.Commits) }},
		{"dkpipe_worker_rejected_total", "Commits of a worker that were refused.", func(s trainers.WorkerStats) float64 { return float64(s.Rejected) }},
		{"dkpipe_worker_compute_seconds_total", "Time a worker computed.", func(s trainers.WorkerStats) float64 { return s.ComputeS }},
		{"dkpipe_worker_wait_seconds_total", "Time a worker waited for the parameter server.", func(s trainers.WorkerStats) float64 { return s.WaitS }},
		{"dkpipe_worker_feed_seconds_total", "Time a worker waited for data.", func(s trainers.WorkerStats) float64 { return s.FeedS }},
		{"dkpipe_worker_sent_bytes_total", "Bytes of a worker's commits on the wire.", func(s trainers.WorkerStats) float64 { return float64(s.SentBytes) }},
		{"dkpipe_worker_received_bytes_total", "Bytes of the replies to a worker's commits on the wire.", func(s trainers.WorkerStats) float64 { return float64(s.ReceivedBytes) }},
	} {
		b.head(g.name, "counter", g.help)
		for _, d := range w.done {
			b.value(g.name, g.value(d), "worker", strconv.Itoa(int(d.ID)))
		}
	}
	w.stalenessMetric(&b)
	if n := len(w.lines); n > 0 {
		b.head("dkpipe_train_epochs_complete", "gauge", "Epochs that are complete.")
		b.value("dkpipe_train_epochs_complete", float64(w.lines[n-1].Epoch))
	}
	for i := len(w.lines) - 1; i >= 0; i-- {
		if v := w.lines[i].Validation; v != nil {
			b.head("dkpipe_validation", "gauge", "Newest figures on the validation rows.")
			for _, m := range v {
				if m.Matrix == nil {
					b.value("dkpipe_validation", m.Value, "metric", m.Name)
				}
			}
			break
		}
	}
	return b.Bytes()
}

// stalenessMetric writes the histogram of staleness.
func (w *trainWatch) stalenessMetric(b *exposition) {
	const name = "dkpipe_commit_staleness"
	b.head(name, "histogram", "Commits by how many others they met.")
	var count, sum int64
	next := 0
	for _, limit := range []int{0, 1, 2, 4, 8, 16, 32, trainers.StalenessBuckets - 2} {
		for ; next <= limit && next < len(w.stale); next++ {
			count += w.stale[next]
			sum += int64(next) * w.stale[next]
		}
		b.value(name+"_bucket", float64(count), "le", strconv.Itoa(limit))
	}
	for ; next < len(w.stale); next++ {
		count += w.stale[next]
		sum += int64(next) * w.stale[next]
	}
	b.value(name+"_bucket", float64(count), "le", "+Inf")
	b.value(name+"_sum", float64(sum))
	b.value(name+"_count", float64(count))
}
