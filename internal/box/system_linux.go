package box

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// stopped says whether every thread of a process stands still after SIGSTOP.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range threads {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		state := bytes.TrimLeft(stat[bytes.LastIndexByte(stat, ')')+1:], " ")
		if len(state) == 0 || state[0] != 'T' {
			return false
		}
	}
	return err == nil
}

// ownGroup puts the process into a group of its own and, should this process die, lets it continue: a server that
// was stopped by a signal would otherwise never see the end of its standard input.
// The kernel ties this to the thread that starts the process; see daemon.run.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGCONT}
}
