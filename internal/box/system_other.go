//go:build !linux && !darwin

package box

import (
	"os"
	"os/exec"
	"runtime"
)

func tryLock(*os.File) (bool, error) {
	return false, &Error{Kind: kindUnsupported, Message: "a box on " + runtime.GOOS, Hint: "run it on Linux, or in a Linux container"}
}

func detach(*exec.Cmd)   {}
func ownGroup(*exec.Cmd) {}
func killGroup(int)      {}
func stopped(int) bool   { return true }

var signalNames = map[string]os.Signal{}
