package box

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed harness/pom.xml harness/log4j2.properties harness/*.java
var harness embed.FS

const (
	copyGoal       = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
	minicluster    = "hadoop-client-minicluster-"
	harnessJar     = "box.jar"
	mavenHint      = "install Maven (Debian, Ubuntu: apt-get install maven)"
	mavenFetchHint = "check that Maven reaches a repository: a mirror belongs into ~/.m2/settings.xml, a proxy too"
)

// Jars is what a box is started from.
type Jars struct {
	Harness   string // the JAR of this package, whose manifest names all others
	Libraries string // the folder of the others
	Count     int    // of the others
	java      string
	archive   string // of loaded classes; may be missing
	rel       release
}

// Prepare makes sure that the JARs are there: the first time it lets Maven fetch them and compiles the harness, later
// it only looks. Any number of processes may call it at the same time; one works, the others wait.
// Of the options it uses Cache, SparkVersion and Progress.
func Prepare(ctx context.Context, o Options) (Jars, error) {
	rel, err := releaseOf(o.SparkVersion)
	if err != nil {
		return Jars{}, err
	}
	kit, err := findJDK(ctx)
	if err != nil {
		return Jars{}, err
	}
	cache, err := o.cache()
	if err != nil {
		return Jars{}, err
	}
	pom, err := harness.ReadFile("harness/pom.xml")
	if err != nil {
		return Jars{}, &Error{Kind: kindInternal, Message: "embedded pom.xml", Err: err}
	}
	libraries := filepath.Join(cache, "jars-"+digest(pom, rel.key()))
	sources, err := harnessDigest()
	if err != nil {
		return Jars{}, err
	}
	compiled := filepath.Join(cache, "box-"+digest(pom, rel.key(), sources, []byte(kit.version)))
	jars := Jars{Harness: filepath.Join(compiled, harnessJar), Libraries: libraries, java: kit.java,
		archive: filepath.Join(compiled, "box.jsa"), rel: rel}
	if !isDir(libraries) || !isDir(compiled) || !isFile(jars.archive) {
		if err := fill(ctx, o, kit, cache, jars); err != nil {
			return Jars{}, err
		}
	}
	names, err := jarNames(libraries)
	jars.Count = len(names)
	return jars, err
}

func (o Options) cache() (string, error) {
	if o.Cache != "" {
		return filepath.Abs(o.Cache)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", &Error{Kind: kindUsage, Message: "the folder for JARs", Hint: "set HOME or XDG_CACHE_HOME", Err: err}
	}
	return filepath.Join(dir, "dkpipe", "box"), nil
}

// fill makes what is missing of the two folders, each in a folder beside it that is renamed when complete.
func fill(ctx context.Context, o Options, kit jdk, cache string, jars Jars) error {
	libraries, compiled := jars.Libraries, filepath.Dir(jars.Harness)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return &Error{Kind: kindUsage, Message: "the folder for JARs", Hint: "make it writable, or set XDG_CACHE_HOME", Err: err}
	}
	lock, err := waitForLock(ctx, filepath.Join(cache, "lock"), func() {
		o.progress("waiting for another process that fetches the servers")
	})
	if err != nil {
		return err
	}
	defer lock.Close()
	if !isDir(libraries) {
		o.progress("fetching Spark " + jars.rel.spark + " and HDFS with Maven (about 360 MB, once)")
		err := stage(libraries, func(dir string) error { return fetch(ctx, dir, jars.rel, "-Pextras") })
		if err != nil && ctx.Err() == nil && !jars.rel.usual() {
			o.progress("once more without MLlib and spark-avro")
			err = stage(libraries, func(dir string) error { return fetch(ctx, dir, jars.rel) })
		}
		if err != nil {
			return err
		}
	}
	if !isDir(compiled) {
		o.progress("compiling the harness")
		if err := stage(compiled, func(dir string) error { return compile(ctx, kit, libraries, dir) }); err != nil {
			return err
		}
	}
	if isFile(jars.archive) { // another process made it while this one waited
		return nil
	}
	o.progress("recording which classes a start loads (once, half a minute)")
	err = record(ctx, cache, jars)
	if ctx.Err() != nil {
		return &Error{Kind: kindOf(ctx.Err()), Message: "preparing the servers", Err: ctx.Err()}
	}
	if err != nil {
		o.progress("starts will be slower than they could be: " + err.Error())
		// An empty archive is ignored by the virtual machine and keeps this from being tried again.
		err = os.WriteFile(jars.archive, nil, 0o644)
	}
	if err != nil {
		return &Error{Kind: kindInternal, Message: "the archive of classes", Err: err}
	}
	return nil
}

// record runs a box and keeps an archive of the classes that it loaded (AppCDS). The archive holds the path of the
// harness's JAR, so it is made when that has its final place.
func record(ctx context.Context, cache string, jars Jars) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	dir := filepath.Join(cache, "record.stage")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := prepareDir(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o, err := Options{Dir: dir, SparkVersion: jars.rel.spark}.complete()
	if err != nil {
		return err
	}
	l := launcher{o: o, jars: jars, newArchive: filepath.Join(dir, "box.jsa")}
	d, err := startDaemon(allInOne, filepath.Join(dir, logsDir, "record.log"), l.allInOne())
	if err != nil {
		return err
	}
	err = exercise(ctx, d, o.User)
	grace := endGrace
	if deadline, ok := ctx.Deadline(); ok && err == nil {
		grace = time.Until(deadline) // the archive is written when the process ends
	}
	stop := context.AfterFunc(ctx, func() { killGroup(d.pid) })
	defer stop()
	d.end(grace)
	if err != nil {
		return err
	}
	return os.Rename(l.newArchive, jars.archive)
}

// exercise uses each server once.
func exercise(ctx context.Context, d *daemon, user string) error {
	lines, err := d.answer(ctx)
	if err != nil {
		return startError(d, err)
	}
	if _, err := d.call(ctx, "check "+user); err != nil {
		return err
	}
	for _, line := range lines {
		if address, ok := strings.CutPrefix(line, "spark "); ok {
			return probeSpark(ctx, address, "")
		}
	}
	return errors.New("the harness did not say where Spark listens")
}

// stage calls work with a fresh folder that becomes the target when work succeeds.
func stage(target string, work func(dir string) error) error {
	dir := target + ".stage"
	if err := os.RemoveAll(dir); err != nil { // of a process that was killed
		return &Error{Kind: kindInternal, Message: "an unfinished folder", Err: err}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return &Error{Kind: kindInternal, Message: "the folder for JARs", Err: err}
	}
	if err := work(dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := os.Rename(dir, target); err != nil {
		return &Error{Kind: kindInternal, Message: "the folder for JARs", Err: err}
	}
	return nil
}

// fetch lets Maven copy all JARs into dir. A repository that fails once is asked once more.
func fetch(ctx context.Context, dir string, rel release, more ...string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return &Error{Kind: kindUnsupported, Message: "there is no mvn on PATH", Hint: mavenHint}
	}
	project, err := os.MkdirTemp(filepath.Dir(dir), "pom-*.stage")
	if err != nil {
		return &Error{Kind: kindInternal, Message: "a folder for pom.xml", Err: err}
	}
	defer os.RemoveAll(project)
	pom, err := harness.ReadFile("harness/pom.xml")
	if err != nil {
		return &Error{Kind: kindInternal, Message: "embedded pom.xml", Err: err}
	}
	file := filepath.Join(project, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil {
		return &Error{Kind: kindInternal, Message: "pom.xml", Err: err}
	}
	args := slices.Concat([]string{"-q", "-B", "-Dstyle.color=never", "-f", file}, rel.properties(), more,
		[]string{copyGoal, "-DincludeScope=runtime", "-DoutputDirectory=" + dir})
	run := func() ([]byte, error) { return command(ctx, mvn, args...) }
	out, err := run()
	if err != nil && ctx.Err() == nil {
		out, err = run()
	}
	if ctx.Err() != nil {
		return &Error{Kind: kindOf(ctx.Err()), Message: "fetching the JARs", Err: ctx.Err()}
	}
	if err != nil {
		return &Error{Kind: kindUnreachable, Message: "mvn " + copyGoal + ": " + err.Error() + lastLines(out, 8), Hint: mavenFetchHint}
	}
	return nil
}

// command runs a program and gives what it printed. When the context ends, the program gets two seconds.
func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Second
	return cmd.CombinedOutput()
}

// compile makes the harness's JAR in dir.
func compile(ctx context.Context, kit jdk, libraries, dir string) error {
	src, classes := filepath.Join(dir, "src"), filepath.Join(dir, "classes")
	if err := os.CopyFS(src, harness); err != nil {
		return &Error{Kind: kindInternal, Message: "the harness's source", Err: err}
	}
	sources, err := filepath.Glob(filepath.Join(src, "harness", "*.java"))
	if err != nil {
		return &Error{Kind: kindInternal, Message: "the harness's source", Err: err}
	}
	args := append([]string{"--release", "17", "-proc:none", "-nowarn", "-encoding", "UTF-8",
		"-cp", filepath.Join(libraries, "*"), "-d", classes}, sources...)
	if out, err := command(ctx, kit.javac, args...); err != nil {
		return &Error{Kind: kindInternal, Message: kit.javac + ": " + err.Error() + lastLines(out, 8), Hint: javaHint}
	}
	names, err := jarNames(libraries)
	if err != nil {
		return err
	}
	if err := writeHarness(filepath.Join(dir, harnessJar), classes, libraries, names); err != nil {
		return &Error{Kind: kindInternal, Message: "the harness's JAR", Err: err}
	}
	return errors.Join(os.RemoveAll(src), os.RemoveAll(classes))
}

// jarNames lists the JARs in the order of the class path: the minicluster, which holds copies of many classes, last.
func jarNames(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.jar"))
	if err != nil || len(found) == 0 {
		return nil, &Error{Kind: kindInternal, Message: dir + " holds no JAR", Hint: "remove the folder; the next start fetches it again", Err: err}
	}
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	late := func(name string) int {
		if strings.HasPrefix(name, minicluster) {
			return 1
		}
		return 0
	}
	slices.SortFunc(found, func(a, b string) int {
		if d := late(a) - late(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return found, nil
}

// harnessDigest stands for every embedded file.
func harnessDigest() ([]byte, error) {
	h := sha256.New()
	err := fs.WalkDir(harness, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := harness.ReadFile(name)
		h.Write([]byte(name))
		h.Write(text)
		return err
	})
	if err != nil {
		return nil, &Error{Kind: kindInternal, Message: "the embedded harness", Err: err}
	}
	return h.Sum(nil), nil
}

// digest gives sixteen letters that stand for the parts.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256(p)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.IsDir()
}

func isFile(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.Mode().IsRegular()
}

// lastLines gives the last n lines of out, indented, each after a line break.
func lastLines(out []byte, n int) string {
	lines := strings.Split(string(bytes.TrimSpace(out)), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	var b strings.Builder
	for _, l := range lines {
		if l = strings.TrimRight(l, " \r"); l != "" {
			b.WriteString("\n  ")
			b.WriteString(l)
		}
	}
	return b.String()
}
