//go:build linux || darwin

package box

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// tryLock takes the lock on the file, which the kernel gives back when the process ends.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// detach gives the process a session of its own, out of reach of the terminal's signals.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}

// killGroup kills the process with all that it started in its group. They may be gone already.
func killGroup(pid int) {
	_ = syscall.Kill(-pid, syscall.SIGKILL)
}

// signalNames are the words of the control protocol.
var signalNames = map[string]os.Signal{"pause": syscall.SIGSTOP, "resume": syscall.SIGCONT, "kill": syscall.SIGKILL}
