package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
)

// The commands below data move and look at files of any store. They share a few rules: what they write appears by one
// rename, after its length and SHA-256 were read back from the store; what is there is replaced only with --force; and
// --json is one object with command, status and seconds.
func (a *app) dataCommand() *cobra.Command {
	c := &cobra.Command{Use: "data", Short: "Import tables, and move, list and check files of any store",
		Long: "Paths are plain, file:///… or hdfs://nameservice/…. The patterns * ? [a-z] {a,b} may stand in any element of a\n" +
			"path; quote them, or the shell takes them for local files.",
		Example: "  dkpipe data import --in 'raw/*-ubyte.gz' --out hdfs://ns/data/fashion\n" +
			"  dkpipe data ls -R hdfs://ns/data\n  dkpipe data verify out/model",
		Args:                       cobra.NoArgs, // so that a command that does not exist is an error
		SuggestionsMinimumDistance: 2,
		RunE:                       a.group}
	c.AddCommand(a.dataImportCommand(), a.dataPutCommand(), a.dataGetCommand(), a.dataCatCommand(), a.dataLsCommand(),
		a.dataRmCommand(), a.dataDuCommand(), a.dataChecksumCommand(), a.dataVerifyCommand())
	return c
}

// dataHead begins the JSON object of every data command.
type dataHead struct {
	Command  string   `json:"command"`
	Status   string   `json:"status"` // ok, failed or interrupted
	Seconds  float64  `json:"seconds"`
	Error    *failure `json:"error,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

func (h *dataHead) head() *dataHead { return h }

// dataReport is what a data command did: JSON for machines, lines for people.
type dataReport interface {
	head() *dataHead
	print(a *app)
}

// data runs one data or model command. The report is printed whatever happened; for people, after a failure, only the failure
// is.
func (a *app) data(c *cobra.Command, r dataReport, do func(ctx context.Context, j *job) error) error {
	ctx, h := c.Context(), r.head()
	h.Command, h.Status = strings.TrimPrefix(c.CommandPath(), "dkpipe "), "ok"
	j := a.looseJob(h.Command)
	err := do(ctx, j)
	j.bars.wait()
	if err := j.stores.Close(); err != nil {
		a.log.Warn("closing stores", "error", err)
	}
	h.Seconds = seconds(time.Since(j.started))
	if err != nil {
		f := failed(ctx, err)
		h.Status, h.Error = "failed", &f
		if f.Kind == pipeline.Interrupted {
			h.Status = "interrupted"
		}
		j.events.add("failed", map[string]any{"command": h.Command, "kind": f.Kind, "message": f.Message})
	} else {
		j.events.add("done", map[string]any{"command": h.Command})
	}
	if err := j.events.close(); err != nil {
		h.Warnings = append(h.Warnings, "events: "+err.Error())
	}
	switch {
	case a.json:
		a.printJSON(r)
	case h.Error != nil:
		a.sayFailure(h.Command, *h.Error)
	default:
		r.print(a)
		for _, w := range h.Warnings {
			fmt.Fprintf(a.stderr, "warning: %s\n", w)
		}
	}
	if h.Error != nil {
		return &saidError{kind: h.Error.Kind}
	}
	return nil
}

// humanFlag adds --human with the short form that people know from hdfs dfs and du; -h alone still shows the help.
func humanFlag(c *cobra.Command, human *bool) {
	c.Flags().Bool("help", false, "help for "+c.Name()) // without its usual short form
	c.Flags().BoolVarP(human, "human", "h", false, "sizes for people, such as 1.5 GiB (default on a terminal)")
	args := c.Args
	c.Args = func(c *cobra.Command, given []string) error {
		if *human && len(given) == 0 {
			return nil
		}
		return args(c, given)
	}
	run := c.RunE
	c.RunE = func(c *cobra.Command, given []string) error {
		if len(given) == 0 {
			return c.Help()
		}
		return run(c, given)
	}
}

// sizes tells how sizes are shown on stdout: for people on a terminal or when asked for, else in bytes.
func (a *app) sizes(human bool) func(int64) string {
	if f, ok := a.stdout.(*os.File); human || ok && isatty.IsTerminal(f.Fd()) {
		return humanBytes
	}
	return func(n int64) string { return fmt.Sprint(n) }
}

// humanBytes shows a size with three digits or so, in powers of 1024.
func humanBytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.95 && unit < 5 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTPE"[unit])
}

// plural writes "1 file" and "2,000 files".
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + one + "s"
}

// sum is what a file holds.
type sum struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// sumFile reads a file to its end with constant memory; read (nil: nobody asks) gets the number of bytes read so far.
func sumFile(ctx context.Context, p place, read func(int64)) (sum, error) {
	f, err := p.fs.Open(ctx, p.path)
	if err != nil {
		return sum{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyAll(h, f, p.String(), read)
	return sum{n, hexOf(h)}, err
}

// copyAll copies a whole file. A file that ends before the length it was opened with is an error of kind changed.
func copyAll(w io.Writer, f hdfsio.File, name string, read func(int64)) (int64, error) {
	buf := make([]byte, max(1, min(f.Size(), 1<<20)))
	var at int64
	for at < f.Size() {
		b := buf[:min(int64(len(buf)), f.Size()-at)]
		n, err := f.ReadAt(b, at)
		if n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("%s became shorter while it was read: %d of %d bytes", name, at+int64(n), f.Size()),
					Hint: "somebody else writes it: wait, and run the same command again"}
			}
			return at, err
		}
		if _, err := w.Write(b); err != nil {
			return at, err
		}
		if at += int64(n); read != nil {
			read(at)
		}
	}
	return at, nil
}

func hexOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// summing counts and hashes what passes through.
type summing struct {
	w     io.Writer
	hash  hash.Hash
	bytes int64
}

func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.bytes += int64(n)
	return n, err
}

// keep writes a new file through fill and asks the store for what it has now: only a file whose length and SHA-256
// are those of the bytes that were written stays. The file has its final name only when its caller moves it there.
func keep(ctx context.Context, p place, fill func(io.Writer) error) (sum, error) {
	w, err := p.fs.Create(ctx, p.path)
	if err != nil {
		return sum{}, err
	}
	s := &summing{w: w, hash: sha256.New()}
	if err = fill(s); err == nil {
		err = w.Close()
	}
	if err != nil {
		w.Abort()
		return sum{}, err
	}
	return s.check(ctx, p)
}

// check reads back what was written and gives its sum.
func (s *summing) check(ctx context.Context, p place) (sum, error) {
	wrote := sum{s.bytes, hexOf(s.hash)}
	has, err := sumFile(ctx, p, nil)
	if err == nil && has != wrote {
		err = &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf("%s: %s (SHA-256 %.12s…) were written, the store gives back %s (%.12s…)",
			p, plural(wrote.Bytes, "byte"), wrote.SHA256, plural(has.Bytes, "byte"), has.SHA256), Hint: "check the store, and run the same command again"}
	}
	return wrote, err
}

// Names beside a target for what is not complete yet are ownName(tempPrefix). Readers of data skip names with a dot.
// A folder that is about to be replaced is called ownName(tempPrefix) + asideMark + its own name meanwhile.
const (
	tempPrefix = ".data-"
	asideMark  = "-old-"
)

// tidy puts right what killed commands left in a folder: what was not complete is removed, and a table that was put aside
// to be replaced gets its name back when the new one did not come. What cannot be put right is in nobody's way.
func (j *job) tidy(ctx context.Context, dir place) {
	j.removeLeftovers(ctx, dir.fs, dir.path, tempPrefix, func(name string) bool {
		_, base, aside := strings.Cut(name, asideMark)
		if !aside {
			return true
		}
		target := dir.join(base)
		_, there, err := stat(ctx, target)
		switch {
		case err != nil:
			return false
		case there:
			return true
		}
		if err := move(ctx, dir.join(name), target); err != nil {
			j.app.log.Warn("a killed import left a table aside, and it could not be renamed back", "table", target.String(), "aside", dir.join(name).String(), "error", err)
		} else {
			j.app.log.Warn("a killed import left a table aside; it has its name again", "table", target.String())
		}
		return false
	})
}

// beside gives a place in the same folder.
func (p place) beside(name string) place {
	p.path = path.Join(path.Dir(p.path), name)
	p.uri.Path = p.path
	return p
}

// move renames. An answer that got lost is settled by looking whether the thing with our identity is at the target;
// repeating the call could move what somebody else put there.
func move(ctx context.Context, from, to place) error {
	before, err := from.fs.Stat(ctx, from.path)
	if err != nil {
		return err
	}
	if err = from.fs.Rename(ctx, from.path, to.path); err == nil || before.ID == 0 {
		return err
	}
	ctx, cancel := settling(ctx)
	defer cancel()
	if now, statErr := to.fs.Stat(ctx, to.path); statErr == nil && now.ID == before.ID {
		return nil
	}
	return err
}

// settling is for what must be done although the command was interrupted: looking, moving back, removing what nobody
// shall see.
func settling(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}

// discard removes what is not wanted. What cannot be removed has a hidden name and is only told about.
func (j *job) discard(ctx context.Context, p place) {
	ctx, cancel := settling(ctx)
	defer cancel()
	if err := p.fs.Remove(ctx, p.path); err != nil {
		j.app.log.Warn("left behind", "path", p.String(), "error", err)
	}
}

// isRoot tells whether a path is a whole store, or goes up from the working directory, so that it has no name of
// its own.
func isRoot(p string) bool {
	return p == "/" || p == "." || p == ".." || strings.HasSuffix(p, "/..")
}

// stat looks at a target. Nothing there is no error.
func stat(ctx context.Context, p place) (info hdfsio.Info, there bool, err error) {
	info, err = p.fs.Stat(ctx, p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return info, false, nil
	}
	return info, err == nil, err
}
