package box

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// openLock opens the file and tries to lock it; held is false when another process has it.
func openLock(path string) (f *os.File, held bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, false, &Error{Kind: kindUsage, Message: "lock file", Hint: "the folder must be writable", Err: err}
	}
	held, err = tryLock(f)
	if err != nil || !held {
		f.Close()
		if err != nil {
			return nil, false, &Error{Kind: kindInternal, Message: "lock " + path, Err: err}
		}
		return nil, false, nil
	}
	return f, true, nil
}

// waitForLock locks the file. When it has to wait it calls waiting, once.
func waitForLock(ctx context.Context, path string, waiting func()) (*os.File, error) {
	said := false
	for {
		f, held, err := openLock(path)
		if err != nil || held {
			return f, err
		}
		if !said {
			waiting()
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, &Error{Kind: kindOf(ctx.Err()), Message: "waiting for " + path, Err: ctx.Err()}
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// claim locks the folder for a supervisor.
func claim(dir string) (*os.File, error) {
	f, held, err := openLock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	if !held {
		return nil, &Error{Kind: kindBusy, Message: "a box runs in " + dir + " already", Hint: "dkpipe box status --dir " + dir + ", or take another folder"}
	}
	return f, nil
}
