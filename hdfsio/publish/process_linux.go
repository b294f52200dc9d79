package publish

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// machineID names this boot of this kernel and the process-number namespace, so that two containers that share a host
// name are not taken for one machine.
func machineID() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + ns
}

// processStart gives a process's start time in clock ticks since the boot (field 22 of /proc/PID/stat). A process
// that ended and waits to be collected does not exist any more. known is false when the process exists and /proc does
// not show it, as with the mount option hidepid.
func processStart(pid int) (start string, exists, known bool) {
	if err := syscall.Kill(pid, 0); err == syscall.ESRCH {
		return "", false, true
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", true, false
	}
	// The second field is the command in parentheses and may hold anything, also parentheses.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return "", true, false
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", false, true
	}
	return fields[19], true, true
}
