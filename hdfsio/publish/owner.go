package publish

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// OwnerTag names this process in the name of a temporary file or folder, so that others of this machine can tell when
// it has ended: letters, digits and underscores, at most 60 characters.
func OwnerTag() string { return thisProcess().tag() }

func (p process) tag() string {
	sum := sha256.Sum256([]byte(p.Machine))
	machine := hex.EncodeToString(sum[:6])
	if p.Machine == "" {
		machine = "unknown"
	}
	return machine + "_" + strconv.Itoa(p.PID) + "_" + p.Start
}

// OwnerGone tells whether the process that a tag names has certainly ended. It is false for processes of other
// machines, and for what is no tag.
func OwnerGone(tag string) bool {
	parts := strings.Split(tag, "_")
	if len(parts) != 3 {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	p := process{Machine: machineID(), PID: pid, Start: parts[2]}
	return err == nil && strconv.Itoa(pid) == parts[1] && p.tag() == tag && p.gone()
}
