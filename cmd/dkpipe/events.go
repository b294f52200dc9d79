package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"dkpipe/hdfsio"
)

// eventLog writes what happens as JSON lines: {"t", "type", …}. A nil *eventLog swallows everything.
type eventLog struct {
	mu  sync.Mutex
	out io.WriteCloser
	err error
}

// openEvents opens the file given with --events, or gives nil.
func (a *app) openEvents() (*eventLog, error) {
	if a.events == "" {
		return nil, nil
	}
	f, err := os.OpenFile(a.events, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, withHint(fmt.Errorf("--events: %w", hdfsio.Wrap("open", a.events, err)), "give a file that can be written")
	}
	return &eventLog{out: f}, nil
}

// add writes one event. A log that cannot be written any more (a full disk) does not stop the run: close reports it.
func (l *eventLog) add(kind string, fields map[string]any) {
	if l == nil {
		return
	}
	m := map[string]any{"t": time.Now().UTC().Format(time.RFC3339Nano), "type": kind}
	for k, v := range fields {
		m[k] = v
	}
	b, err := json.Marshal(m)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	if err == nil {
		_, err = l.out.Write(append(b, '\n'))
	}
	l.err = err
}

func (l *eventLog) close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.out.Close()
	if l.err != nil {
		return l.err
	}
	return err
}
