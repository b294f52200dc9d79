package publish

import (
	"os"
	"os/user"
	"strconv"
)

// process says which process on which machine something is, exactly enough to tell that it is gone.
type process struct {
	Host    string `json:"host"`              // for people
	PID     int    `json:"pid"`               // for people, and with the next two for the check
	Machine string `json:"machine,omitempty"` // this boot of this machine and its process numbers; empty when unknown
	Start   string `json:"start,omitempty"`   // when the process started: a process number is used again, this is not
}

// thisProcess describes this process.
func thisProcess() process {
	host, _ := os.Hostname()
	p := process{Host: host, PID: os.Getpid(), Machine: machineID()}
	if p.Machine != "" {
		p.Start, _, _ = processStart(p.PID)
	}
	return p
}

// gone tells whether the process has certainly ended: it ran on this very machine, since this boot, in the same
// space of process numbers, and now there is none of that number or it is another one.
func (p process) gone() bool {
	if p.Machine == "" || p.Start == "" || p.PID <= 0 || p.Machine != machineID() {
		return false
	}
	start, exists, known := processStart(p.PID)
	return !exists || known && start != p.Start
}

// userName says who runs this process.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(os.Getuid())
}
