package main

import (
	"fmt"
	"slices"
	"strings"

	"dkpipe/ps"
	"dkpipe/trainers"
)

// serverReport says what one data server held, and what was lost with it.
type serverReport struct {
	ID         int     `json:"id"`
	Address    string  `json:"address"`
	Parameters int     `json:"parameters"`
	Lost       int     `json:"lost,omitempty"`         // how often it had to be replaced
	Samples    int64   `json:"samples_lost,omitempty"` // that were trained on again
	Seconds    float64 `json:"seconds_lost,omitempty"` // that the run waited
}

// wireReport says what the commits of all workers were on the wire, and the replies to them.
type wireReport struct {
	Codec         string  `json:"codec"` // what train.codec asks for
	SentBytes     int64   `json:"sent_bytes"`
	ReceivedBytes int64   `json:"received_bytes"`
	Float32       float64 `json:"of_float32"` // the share of what they would have been as float32
	chosen        []string
}

func (w *wireReport) bytes() int64 { return w.SentBytes + w.ReceivedBytes }

func (w *wireReport) text() string {
	text := fmt.Sprintf("%s as %s", mib(w.bytes()), w.Codec)
	if len(w.chosen) > 0 {
		text += " (" + strings.Join(w.chosen, ", ") + ")"
	}
	if w.Float32 < 0.99 {
		text += fmt.Sprintf(", %.0f %% of float32", 100*w.Float32)
	}
	return text
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// WireMiB is for the page.
func (w workerReport) WireMiB() float64 { return float64(w.SentBytes+w.ReceivedBytes) / (1 << 20) }

// reportServers tells of data servers and of the wire. What was lost is a warning, too.
func (j *job) reportServers(r trainers.Result) {
	w := wireReport{Codec: j.spec.Train.Codec}
	whole := 0.0
	for _, k := range r.Workers {
		w.SentBytes += k.SentBytes
		w.ReceivedBytes += k.ReceivedBytes
		whole += 8 * float64(k.Commits) * float64(len(r.Params))
		if w.Codec == "auto" && k.Codec != "" && !slices.Contains(w.chosen, k.Codec) {
			w.chosen = append(w.chosen, k.Codec)
		}
	}
	for _, l := range r.Recoveries { // what was lost has been on the wire, too
		whole += 8 * float64(l.Commits) * float64(len(r.Params))
	}
	if w.bytes() > 0 {
		w.Float32 = float64(w.bytes()) / max(whole, 1)
		j.report.Wire = &w
	}
	if s := j.training.servers; s != nil {
		for i, at := range s.told {
			x := serverReport{ID: i, Address: at}
			if i < len(s.sizes) {
				x.Parameters = s.sizes[i]
			}
			for _, l := range r.Recoveries {
				if l.Server == i {
					x.Lost++
					x.Samples += l.Samples
					x.Seconds += l.Seconds
				}
			}
			j.report.Servers = append(j.report.Servers, x)
		}
	}
	for _, l := range r.Recoveries {
		j.report.Warnings = append(j.report.Warnings, fmt.Sprintf("data server %d was lost (%s); the run went back by %s and trained on %s samples again",
			l.Server, l.Cause, plural(l.Commits, "commit"), thousands(l.Samples)))
	}
}

var _ trainers.Recovered = (*trainWatch)(nil)

// ServerLost implements trainers.Recovered.
func (w *trainWatch) ServerLost(server int, err error) {
	w.job.app.log.Warn("a data server was lost; the run waits for another one", "server", server, "error", err)
	w.job.events.add("server_lost", map[string]any{"server": server, "error": err.Error()})
}

// WentBack implements trainers.Recovered.
func (w *trainWatch) WentBack(r trainers.Recovery) {
	w.job.app.log.Info("the run goes on from the last copy of its state", "server", r.Server, "samples lost", r.Samples, "commits lost", r.Commits)
	w.job.events.add("server_replaced", map[string]any{"server": r.Server, "samples": r.Samples, "commits": r.Commits, "kept": r.Kept, "seconds": trainers.Number(r.Seconds)})
}

// chosen tells once what a worker sends its commits as, when that was its own choice.
func (w *trainWatch) chosen(d trainers.WorkerStats) {
	if w.job.spec.Train.Codec != "auto" || d.Codec == "" || w.codec[d.ID] == d.Codec {
		return
	}
	if w.codec == nil {
		w.codec = map[ps.Worker]string{}
	}
	w.codec[d.ID] = d.Codec
	if d.LinkMiBPerS == 0 {
		w.job.app.log.Info("codec auto: the model is too small to measure the link by", "worker", d.ID, "codec", d.Codec)
	} else {
		w.job.app.log.Info("codec auto: chosen by the speed of the link", "worker", d.ID, "codec", d.Codec, "MiB/s", int(d.LinkMiBPerS))
	}
	w.job.events.add("codec", map[string]any{"worker": d.ID, "codec": d.Codec, "mib_per_s": trainers.Number(d.LinkMiBPerS)})
}
