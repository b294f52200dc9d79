package box

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Up starts a box with a supervisor process of its own and returns once every server has answered a real request.
// The box then runs until Down. When the context ends before that, or this process does, nothing is left running.
func Up(ctx context.Context, o Options) (Box, error) {
	o, err := o.complete()
	if err != nil {
		return Box{}, err
	}
	if len(o.Supervisor) == 0 {
		return Box{}, &Error{Kind: kindUsage, Message: "Up needs the command line of a supervisor", Hint: "set Options.Supervisor, or call Run"}
	}
	if _, err := Prepare(ctx, o); err != nil {
		return Box{}, err
	}
	if err := checkDir(o.Dir); err != nil {
		return Box{}, err
	}
	cmd, out, err := spawn(o)
	if err != nil {
		return Box{}, err
	}
	defer out.Close()
	b, err := follow(ctx, o, cmd, out)
	if err != nil {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
		return Box{}, err
	}
	if err := cmd.Process.Release(); err != nil {
		return Box{}, &Error{Kind: kindInternal, Message: "the supervisor", Err: err}
	}
	return b, nil
}

// spawn starts the supervisor and gives the pipe on which it reports.
func spawn(o Options) (*exec.Cmd, *os.File, error) {
	options, err := json.Marshal(o)
	if err != nil {
		return nil, nil, &Error{Kind: kindInternal, Message: "options of the box", Err: err}
	}
	log, err := os.OpenFile(filepath.Join(o.Dir, supervisorLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, &Error{Kind: kindUsage, Message: "log of the supervisor", Hint: "make the folder writable", Err: err}
	}
	defer log.Close()
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, &Error{Kind: kindInternal, Message: "start of the supervisor", Err: err}
	}
	defer theirs.Close()
	cmd := exec.Command(o.Supervisor[0], append(o.Supervisor[1:len(o.Supervisor):len(o.Supervisor)], o.Dir)...)
	stdin, err := cmd.StdinPipe()
	if err == nil {
		cmd.Stdout, cmd.Stderr = theirs, log
		detach(cmd)
		err = cmd.Start()
	}
	if err != nil {
		out.Close()
		return nil, nil, &Error{Kind: kindInternal, Message: "start of the supervisor", Err: err}
	}
	// The options are smaller than the buffer of a pipe; a supervisor that does not read them says so by ending.
	_, _ = stdin.Write(options)
	_ = stdin.Close()
	return cmd, out, nil
}

// follow reads the reports until the box is ready or has failed.
func follow(ctx context.Context, o Options, cmd *exec.Cmd, out *os.File) (Box, error) {
	stop := context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Now()) })
	defer stop()
	for reports := json.NewDecoder(out); ; {
		var r report
		err := reports.Decode(&r)
		switch {
		case ctx.Err() != nil:
			return Box{}, &Error{Kind: kindOf(ctx.Err()), Message: "the start of the box in " + o.Dir, Err: ctx.Err()}
		case err != nil:
			log := filepath.Join(o.Dir, supervisorLog)
			text, _ := os.ReadFile(log)
			return Box{}, &Error{Kind: kindInternal, Message: "the supervisor ended without a word" + lastLines(bytes.TrimSpace(text), 8),
				Hint: "its log is " + log, Err: err}
		case r.Error != nil:
			return Box{}, r.Error
		case r.Box != nil:
			return *r.Box, nil
		default:
			o.progress(r.Progress)
		}
	}
}

// Status says how the box in the folder is. What runs answers for itself; otherwise box.json tells how it ended, and
// a supervisor that could not write that any more makes it Failed.
func Status(dir string) (Box, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Box{}, &Error{Kind: kindInternal, Message: "folder " + dir, Err: err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	text, err := Control(ctx, dir, "status")
	if err == nil {
		var b Box
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			return Box{}, &Error{Kind: kindInternal, Message: "answer of the supervisor in " + dir, Err: err}
		}
		return b, nil
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != kindUnreachable {
		return Box{}, err
	}
	b, err := readState(dir)
	if err != nil {
		return Box{}, err
	}
	if b.State == Running {
		b.State, b.Processes = Failed, nil
		b.Error = "its supervisor is gone, and the servers with it"
	}
	return b, nil
}

// Down stops the box in the folder and waits until nothing of it runs. A box that does not run is no error, a folder
// without one is. A supervisor that does not answer for ten seconds is killed, which ends its servers.
func Down(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return &Error{Kind: kindInternal, Message: "folder " + dir, Err: err}
	}
	if !isDir(dir) {
		return &Error{Kind: kindUsage, Message: "there is no box in " + dir}
	}
	ask, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	_, err = Control(ask, dir, "down")
	switch e, _ := errors.AsType[*Error](err); {
	case e == nil:
	case e.Kind == kindDenied:
		return err
	case e.Kind == kindUnreachable:
		_, err = readState(dir) // not running: well, if there ever was one
		if err != nil {
			return err
		}
	}
	if lock, err := waitForLock(ask, filepath.Join(dir, lockFile), func() {}); err == nil {
		return lock.Close()
	}
	if ctx.Err() != nil {
		return &Error{Kind: kindOf(ctx.Err()), Message: "the end of the box in " + dir, Err: ctx.Err()}
	}
	return killSupervisor(ctx, dir)
}

// killSupervisor kills a supervisor that holds the lock and does not answer.
func killSupervisor(ctx context.Context, dir string) error {
	b, err := readState(dir)
	if err != nil {
		return err
	}
	p, err := os.FindProcess(b.PID)
	if err == nil {
		err = p.Kill()
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return &Error{Kind: kindInternal, Message: "the supervisor of " + dir + " does not answer and cannot be killed", Err: err}
	}
	lock, err := waitForLock(ctx, filepath.Join(dir, lockFile), func() {})
	if err != nil {
		return err
	}
	return lock.Close()
}
