package box

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Names within a box's folder.
const (
	stateFile     = "box.json"
	lockFile      = "box.lock"
	socketFile    = "box.sock"
	logsDir       = "logs"
	supervisorLog = "supervisor.log"
	confDir       = "conf"
	dataDir       = "data" // what the servers write; removed at the next start
)

// writeState replaces box.json in one step.
func writeState(b Box) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return &Error{Kind: kindInternal, Message: stateFile, Err: err}
	}
	target := filepath.Join(b.Dir, stateFile)
	stage := target + ".new"
	if err := os.WriteFile(stage, append(text, '\n'), 0o644); err != nil {
		return &Error{Kind: kindInternal, Message: "state of the box", Err: err}
	}
	if err := os.Rename(stage, target); err != nil {
		return &Error{Kind: kindInternal, Message: "state of the box", Err: err}
	}
	return nil
}

// readState reads box.json. It may be out of date: see Status.
func readState(dir string) (Box, error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Box{}, &Error{Kind: kindUsage, Message: "there is no box in " + dir, Hint: "dkpipe box up --dir " + dir}
	}
	if err != nil {
		return Box{}, &Error{Kind: kindInternal, Message: "state of the box", Err: err}
	}
	var b Box
	if err := json.Unmarshal(text, &b); err != nil {
		return Box{}, &Error{Kind: kindInternal, Message: filepath.Join(dir, stateFile), Hint: "remove the folder", Err: err}
	}
	return b, nil
}

// Env gives the lines of a shell that let clients find the box: export SPARK_REMOTE=..., HADOOP_CONF_DIR and
// DKPIPE_BOX, the folder. A box that does not run is an error.
func Env(dir string) ([]string, error) {
	b, err := Status(dir)
	if err != nil {
		return nil, err
	}
	if b.State != Running {
		return nil, &Error{Kind: kindUnreachable, Message: "the box in " + b.Dir + " is " + string(b.State), Hint: "dkpipe box up --dir " + b.Dir}
	}
	return b.Env(), nil
}

// Env gives the lines of a shell that let clients find the box.
func (b Box) Env() []string {
	var lines []string
	export := func(name, value string) {
		if value != "" {
			lines = append(lines, "export "+name+"="+shellQuote(value))
		}
	}
	export("SPARK_REMOTE", b.Spark)
	export("HADOOP_CONF_DIR", b.Conf)
	export("DKPIPE_BOX", b.Dir)
	return lines
}

// shellQuote leaves plain words alone and puts all others between single quotes.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/:._-@%+,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// prepareDir makes the folder and empties it of what a former box left. A folder with other things in it is refused:
// the name may be a mistake.
func prepareDir(dir string) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	for _, name := range []string{stateFile, socketFile, logsDir, confDir, dataDir} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return &Error{Kind: kindUsage, Message: "the folder of the box", Hint: "make it writable", Err: err}
		}
	}
	for _, name := range []string{logsDir, dataDir, filepath.Join(dataDir, "tmp"), filepath.Join(dataDir, "work")} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return &Error{Kind: kindUsage, Message: "the folder of the box", Hint: "make it writable", Err: err}
		}
	}
	return nil
}

// checkDir makes the folder when it is missing and refuses one that holds anything but a former box.
func checkDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &Error{Kind: kindUsage, Message: "the folder of the box", Hint: "take one that can be made", Err: err}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return &Error{Kind: kindUsage, Message: "the folder of the box", Err: err}
	}
	for _, e := range entries {
		switch e.Name() {
		case stateFile, stateFile + ".new", lockFile, socketFile, supervisorLog, logsDir, confDir, dataDir:
		default:
			return &Error{Kind: kindUsage, Message: "folder " + dir + " holds " + e.Name() + ", which is not of a box", Hint: "take an empty folder"}
		}
	}
	return nil
}
