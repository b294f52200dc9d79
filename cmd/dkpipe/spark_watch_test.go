package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"dkpipe/sparkconn"
)

// TestWhatSparkDoesIsLogged: in a log that nobody watches, a run that waits for Spark says what for.
func TestWhatSparkDoesIsLogged(t *testing.T) {
	var stderr bytes.Buffer
	w := newSparkWatch(newApp(io.Discard, &stderr, func(string) string { return "" }).log)
	w.say() // nothing has begun
	w.set(sparkconn.Activity{What: "statistics"})
	w.say()
	w.set(sparkconn.Activity{What: "writing shards", Progress: sparkconn.Progress{Tasks: 3, Of: 12, Bytes: 40 << 20}})
	w.say()
	w.close()
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"waiting for Spark: statistics, no task yet`) ||
		!strings.Contains(lines[1], `"waiting for Spark: writing shards, 3 of 12 tasks, 40 MiB read"`) {
		t.Errorf("logged %q", lines)
	}
}
