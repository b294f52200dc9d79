package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"dkpipe/pipeline"
	"dkpipe/trainers"
)

// tensorBoard writes event files: TensorFlow's Event messages (event.proto, summary.proto) as TFRecords, which carry
// masked CRC-32C of their length and of their data. What is written once an epoch has the epoch as its step, what is
// written in between the local steps of all workers.
type tensorBoard struct {
	job    *job
	file   *os.File
	buf    []byte
	record []byte
	err    error
}

// openTensorBoard begins an event file in a folder of its own below dir, so that TensorBoard shows each run as one.
func (j *job) openTensorBoard(dir string) (*tensorBoard, error) {
	at := filepath.Join(dir, j.id)
	refused := func(err error) error {
		return &pipeline.Error{Kind: pipeline.Usage, Message: "--tensorboard", Err: err, Hint: "give a folder that can be written"}
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return nil, refused(err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	name := fmt.Sprintf("events.out.tfevents.%d.%s", j.started.Unix(), strings.ReplaceAll(host, "/", "_"))
	f, err := os.OpenFile(filepath.Join(at, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, refused(err)
	}
	t := &tensorBoard{job: j, file: f}
	t.event(time.Now(), 0, func(b []byte) []byte { // Event.file_version
		b = protowire.AppendTag(b, 3, protowire.BytesType)
		return protowire.AppendString(b, "brain.Event:2")
	})
	t.text("spec", string(j.spec.Resolved()))
	return t, nil
}

// event appends a record with one Event; body appends what it holds beside time and step.
func (t *tensorBoard) event(now time.Time, step int64, body func([]byte) []byte) {
	b := protowire.AppendTag(t.buf[:0], 1, protowire.Fixed64Type) // Event.wall_time
	b = protowire.AppendFixed64(b, math.Float64bits(float64(now.UnixNano())/1e9))
	b = protowire.AppendTag(b, 2, protowire.VarintType) // Event.step
	b = protowire.AppendVarint(b, uint64(step))
	t.buf = body(b)
	t.record = appendRecord(t.record, t.buf)
}

// appendRecord appends a TFRecord: length, its checksum, data, its checksum, all little-endian.
func appendRecord(b, data []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(b, maskedCRC(b[at:]))
	b = append(b, data...)
	return binary.LittleEndian.AppendUint32(b, maskedCRC(data))
}

// maskedCRC is the checksum of TFRecords: CRC-32C, rotated and moved, so that a checksum of data that holds checksums
// is not a weak one.
func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15 | c<<17) + 0xa282ead8
}

// scalar is one named number of a summary.
type scalar struct {
	tag   string
	value float64
}

// scalars writes numbers of one step; those that are no numbers are left out.
func (t *tensorBoard) scalars(step int64, list ...scalar) {
	var summary []byte
	for _, s := range list {
		if math.IsNaN(s.value) || math.IsInf(s.value, 0) {
			continue
		}
		v := protowire.AppendTag(nil, 1, protowire.BytesType) // Value.tag
		v = protowire.AppendString(v, s.tag)
		v = protowire.AppendTag(v, 2, protowire.Fixed32Type) // Value.simple_value
		v = protowire.AppendFixed32(v, math.Float32bits(float32(s.value)))
		summary = appendMessage(summary, 1, v) // Summary.value
	}
	t.event(time.Now(), step, func(b []byte) []byte { return appendMessage(b, 5, summary) }) // Event.summary
}

func appendMessage(b []byte, field protowire.Number, m []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, m)
}

// histogram writes a histogram of staleness: HistogramProto with one bucket a value.
func (t *tensorBoard) histogram(step int64, tag string, h trainers.Staleness) {
	var num, sum, squares float64
	var limits, counts []byte
	low, high := math.Inf(1), 0.0
	for s, n := range h {
		x, k := float64(s), float64(n)
		limits = protowire.AppendFixed64(limits, math.Float64bits(x+0.5))
		counts = protowire.AppendFixed64(counts, math.Float64bits(k))
		if n > 0 {
			num, sum, squares = num+k, sum+x*k, squares+x*x*k
			low, high = min(low, x), x
		}
	}
	if num == 0 {
		return
	}
	var m []byte
	for i, v := range []float64{low, high, num, sum, squares} { // min, max, num, sum, sum_squares
		m = protowire.AppendTag(m, protowire.Number(i+1), protowire.Fixed64Type)
		m = protowire.AppendFixed64(m, math.Float64bits(v))
	}
	m = appendMessage(m, 6, limits) // bucket_limit, packed
	m = appendMessage(m, 7, counts) // bucket, packed
	v := protowire.AppendTag(nil, 1, protowire.BytesType)
	v = protowire.AppendString(v, tag)
	v = appendMessage(v, 5, m) // Value.histo
	t.event(time.Now(), step, func(b []byte) []byte { return appendMessage(b, 5, appendMessage(nil, 1, v)) })
}

// text writes a text that TensorBoard's page for texts shows.
func (t *tensorBoard) text(tag, text string) {
	tensor := protowire.AppendTag(nil, 1, protowire.VarintType) // TensorProto.dtype: DT_STRING
	tensor = protowire.AppendVarint(tensor, 7)
	shape := appendMessage(nil, 2, protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)) // one dimension of size 1
	tensor = appendMessage(tensor, 2, shape)
	tensor = appendMessage(tensor, 8, []byte("```yaml\n"+text+"\n```")) // string_val
	plugin := protowire.AppendTag(nil, 1, protowire.BytesType)
	plugin = protowire.AppendString(plugin, "text") // SummaryMetadata.PluginData.plugin_name
	v := protowire.AppendTag(nil, 1, protowire.BytesType)
	v = protowire.AppendString(v, tag)
	v = appendMessage(v, 8, tensor)                        // Value.tensor
	v = appendMessage(v, 9, appendMessage(nil, 1, plugin)) // Value.metadata
	t.event(time.Now(), 0, func(b []byte) []byte { return appendMessage(b, 5, appendMessage(nil, 1, v)) })
}

// flush writes what there is. The first error is said, and ends the file.
func (t *tensorBoard) flush() {
	if t.err == nil {
		if _, t.err = t.file.Write(t.record); t.err != nil {
			t.job.app.log.Warn("--tensorboard: the event file ends here", "error", t.err)
		}
	}
	t.record = t.record[:0]
}

func (t *tensorBoard) progress(p trainers.Progress, loss float64) {
	t.scalars(p.Steps, scalar{"step/loss", loss}, scalar{"step/samples_per_s", float64(p.Samples) / max(p.Seconds, 1e-9)})
	t.flush()
}

func (t *tensorBoard) epoch(e trainers.Epoch) {
	t.scalars(int64(e.Epoch), scalar{"epoch/loss", float64(e.Loss)}, scalar{"epoch/seconds", e.Seconds}, scalar{"epoch/commits_per_s", e.CommitsPerS},
		scalar{"epoch/staleness_mean", e.StalenessMean}, scalar{"epoch/exchanged_mib", e.ExchangedMiB}, scalar{"epoch/wire_mib", e.WireMiB})
	t.histogram(int64(e.Epoch), "epoch/staleness", e.Staleness)
	for _, w := range e.Workers {
		busy := max(w.ComputeS+w.WaitS+w.FeedS, 1e-9)
		name := fmt.Sprintf("worker_%d/", w.ID)
		t.scalars(int64(e.Epoch), scalar{name + "loss", float64(w.Loss)}, scalar{name + "samples_per_s", float64(w.Samples) / busy},
			scalar{name + "compute_share", w.ComputeS / busy}, scalar{name + "wait_share", w.WaitS / busy}, scalar{name + "feed_share", w.FeedS / busy})
	}
	t.flush()
}

func (t *tensorBoard) validated(e trainers.Epoch) {
	var list []scalar
	for _, m := range e.Validation {
		if m.Matrix == nil {
			list = append(list, scalar{"validation/" + m.Name, m.Value})
		}
	}
	t.scalars(int64(e.Epoch), list...)
	t.flush()
}

func (t *tensorBoard) close() {
	if err := t.file.Close(); err != nil && t.err == nil {
		t.job.app.log.Warn("--tensorboard", "error", err)
	}
}
