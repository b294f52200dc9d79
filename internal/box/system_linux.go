package box

import (
	"os/exec"
	"syscall"
)

// ownGroup puts the process into a group of its own and, should this process die, lets it continue: a server that
// was stopped by a signal would otherwise never see the end of its standard input.
// The kernel ties this to the thread that starts the process; see daemon.run.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGCONT}
}
