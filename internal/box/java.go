package box

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const javaHint = "install a JDK, version 17 or 21 (Debian, Ubuntu: apt-get install openjdk-17-jdk-headless), or let JAVA_HOME point to one"

// jdk is a Java development kit.
type jdk struct {
	java, javac string // programs
	version     string // as it prints it: 17.0.15
}

// findJDK takes the kit of JAVA_HOME, else the one on PATH. Spark 4.0 needs Java 17 or 21; Java 24 took away what
// Hadoop 3.4 uses to tell users apart.
func findJDK(ctx context.Context) (jdk, error) {
	var kit jdk
	var err error
	if kit.java, err = findJava("java"); err != nil {
		return jdk{}, err
	}
	if kit.javac, err = findJava("javac"); err != nil {
		return jdk{}, err
	}
	if kit.version, err = javaVersion(ctx, kit.java); err != nil {
		return jdk{}, err
	}
	if major := majorVersion(kit.version); major < 17 || major > 23 {
		return jdk{}, &Error{Kind: kindUnsupported, Message: kit.java + " is version " + kit.version + ", which the servers do not run on", Hint: javaHint}
	}
	return kit, nil
}

func findJava(program string) (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		path := filepath.Join(home, "bin", program)
		if _, err := exec.LookPath(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", &Error{Kind: kindUnsupported, Message: "there is no " + program + " on PATH", Hint: javaHint}
	}
	return path, nil
}

// javaVersion reads the file that comes with every kit; asking the program itself costs a tenth of a second.
func javaVersion(ctx context.Context, java string) (string, error) {
	if real, err := filepath.EvalSymlinks(java); err == nil {
		if text, err := os.ReadFile(filepath.Join(filepath.Dir(real), "..", "release")); err == nil {
			if v := releaseVersion(string(text)); v != "" {
				return v, nil
			}
		}
	}
	out, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if err != nil {
		return "", &Error{Kind: kindUnsupported, Message: java + " -version", Hint: javaHint, Err: err}
	}
	if _, rest, ok := bytes.Cut(out, []byte(`version "`)); ok {
		if v, _, ok := bytes.Cut(rest, []byte(`"`)); ok {
			return string(v), nil
		}
	}
	return "", &Error{Kind: kindUnsupported, Message: java + " does not tell its version", Hint: javaHint}
}

// releaseVersion finds JAVA_VERSION="17.0.15" in the text of a release file.
func releaseVersion(text string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "JAVA_VERSION="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// majorVersion gives 17 for 17.0.15, and 1 for the old numbering of 1.8.0.
func majorVersion(version string) int {
	digits := strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, err := strconv.Atoi(digits[0])
	if err != nil {
		return 0
	}
	return n
}
