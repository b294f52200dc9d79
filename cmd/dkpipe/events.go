package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

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
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage("make it, or name another file", "--events %s: there is no folder %s", a.events, filepath.Dir(a.events))
	}
	if err != nil {
		return nil, withHint(fmt.Errorf("--events: %w", hdfsio.Wrap("open", a.events, err)), "give a file that can be written")
	}
	return &eventLog{out: f}, nil
}

// withEvents has a command, and those below it, that are no jobs write how they ended.
func (a *app) withEvents(c *cobra.Command) {
	for _, s := range c.Commands() {
		a.withEvents(s)
	}
	if c.RunE == nil {
		return
	}
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		events, err := a.openEvents()
		if err != nil {
			return err
		}
		command := strings.TrimPrefix(c.CommandPath(), "dkpipe ")
		err = run(c, args)
		return events.end(c.Context(), command, err)
	}
}

// end writes how a command ended and closes the log. The command's error stays the error.
func (l *eventLog) end(ctx context.Context, command string, err error) error {
	if err != nil {
		f := failed(ctx, err)
		l.add("failed", map[string]any{"command": command, "kind": f.Kind, "message": f.Message})
	} else {
		l.add("done", map[string]any{"command": command})
	}
	if closed := l.close(); closed != nil && err == nil {
		return fmt.Errorf("--events: %w", closed)
	}
	return err
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
