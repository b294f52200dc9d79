package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"dkpipe/pipeline"
)

// app is the outside world of one invocation. Commands reach it through this value and nothing else, so tests run
// them in process.
type app struct {
	stdout, stderr io.Writer
	env            func(string) string
	tty            bool // stderr is a terminal: bars, colour, text logs
	log            *slog.Logger
	at             func(point string) // called at every crash point; nil outside tests

	args   []string // of the command line
	json   bool
	events string

	out       *output   // stdout, and whether it took everything
	shown     *warnings // what was logged on the terminal already
	complaint string    // what was said last to have gone wrong
}

func newApp(stdout, stderr io.Writer, env func(string) string) *app {
	a := &app{stderr: stderr, env: env, out: &output{w: stdout}}
	a.stdout = a.out
	if f, ok := stderr.(*os.File); ok {
		a.tty = isatty.IsTerminal(f.Fd())
	}
	if a.tty {
		a.shown = newWarnings(tint.NewTextHandler(stderr, &tint.Options{TimeFormat: time.TimeOnly, NoColor: env("NO_COLOR") != ""}))
		a.log = slog.New(a.shown)
	} else {
		a.log = slog.New(slog.NewJSONHandler(stderr, nil))
	}
	return a
}

// main runs one command and gives its exit code. Whatever happens, --json leaves exactly one object on stdout. Where
// stdout does not take what the command has to say, the command has failed, although it did its work.
func (a *app) main(ctx context.Context, args []string) int {
	code := a.run(ctx, args)
	if err := a.out.err; err != nil && (code == 0 || a.complaint == "") {
		f := failure{Kind: pipeline.Internal, Message: "the result could not be written to stdout: " + err.Error(), Hint: "the work itself ended with exit code " + strconv.Itoa(code)}
		if errors.Is(err, syscall.ENOSPC) {
			f.Kind = pipeline.NoSpace
		}
		a.complain("dkpipe", f)
		if code == 0 {
			return exitCode(f.Kind)
		}
	}
	return code
}

func (a *app) run(ctx context.Context, args []string) int {
	a.args = args
	a.json = slices.Contains(args, "--json") // also when a flag before it is wrong and parsing ends there
	root := a.command()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := unknownHelp(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	if err == nil {
		return 0
	}
	var said *saidError
	if errors.As(err, &said) {
		return exitCode(said.kind)
	}
	f := failed(ctx, err)
	a.sayFailure(strings.TrimPrefix(cmd.CommandPath(), "dkpipe "), f)
	return exitCode(f.Kind)
}

// saidError ends a command whose result, good or bad, has been printed already.
type saidError struct{ kind pipeline.Kind }

func (e *saidError) Error() string { return string(e.kind) }

func (a *app) sayFailure(command string, f failure) {
	if a.json {
		a.printJSON(map[string]any{"command": command, "status": "failed", "error": f})
		return
	}
	a.complain(command, f)
}

// complain says on stderr what went wrong.
func (a *app) complain(command string, f failure) {
	a.complaint = f.Message
	red, dim, off := "", "", ""
	if a.tty && a.env("NO_COLOR") == "" {
		red, dim, off = "\x1b[31m", "\x1b[2m", "\x1b[0m"
	}
	if command != "dkpipe" {
		command = "dkpipe " + command
	}
	fmt.Fprintf(a.stderr, "%s%s: %s%s\n", red, command, f.Message, off)
	if f.Hint != "" {
		fmt.Fprintf(a.stderr, "%s  next: %s%s\n", dim, f.Hint, off)
	}
}

func (a *app) printJSON(v any) {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil && a.out.err == nil { // a value without JSON; what stdout refuses, out remembers
		a.out.err = err
	}
}

// crash is called between the steps that an outside observer can tell apart.
func (a *app) crash(point string) {
	if a.at != nil {
		a.at(point)
	}
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "dkpipe",
		Short: "Preprocess on Spark, train in parallel in Go, keep models on HDFS",
		Long: "dkpipe preprocesses data on Spark or in an embedded engine, trains neural networks data-parallel with a\n" +
			"parameter server, and publishes models on HDFS or in a folder. One YAML spec describes the whole job.\n\n" + exitCodesHelp,
		Example:       "  dkpipe run -f examples/quickstart/job.yaml\n  dkpipe preprocess -f job.yaml --explain",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	given := a.json // was found in the arguments; its default is false all the same
	defer func() { a.json = given }()
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print exactly one JSON object on stdout at the end")
	root.PersistentFlags().StringVar(&a.events, "events", "", "append JSON lines to `FILE` while the command runs")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if word := mistyped(c, a.args); word != "" { // its flags cannot be known, and are not what is wrong
			return usage(commandHint(c, []string{word}), "unknown command %q for %q", word, c.CommandPath())
		}
		return usage(flagHint(c, err), "%s", err)
	})
	root.AddCommand(
		a.runCommand(), a.preprocessCommand(), a.trainCommand(), a.evaluateCommand(), a.predictCommand(),
		a.modelCommand(), a.dataCommand(), a.workerCommand(), a.psCommand(), a.parityCommand(), a.replayCommand(), a.benchCommand(), a.doctorCommand(), a.boxCommand(), a.versionCommand(),
	)
	root.InitDefaultCompletionCmd()
	exampleOfCompletion(root)
	completeFlags(root)
	for _, c := range root.Commands() {
		if slices.Contains([]string{"version", "box", "doctor", "bench", "worker"}, c.Name()) { // the others open them with their job
			a.withEvents(c)
		}
	}
	// cobra reports unknown commands and argument counts as plain errors: give them their kind.
	for _, c := range root.Commands() {
		wrapArgs(c)
	}
	root.Args = usageArgs(cobra.NoArgs)
	root.RunE = a.group
	return root
}

func wrapArgs(c *cobra.Command) {
	switch {
	case c.Args != nil:
		c.Args = usageArgs(c.Args)
	case c.HasSubCommands(): // a group takes no arguments: what stands there is a subcommand mistyped
		c.Args = usageArgs(cobra.NoArgs)
	}
	for _, s := range c.Commands() {
		wrapArgs(s)
	}
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			if len(args) > 0 && !c.HasSubCommands() && strings.HasPrefix(err.Error(), "unknown command") { // cobra's word for any argument too many
				return usage(argumentHint(c, args[0]), "%s takes no argument %q", c.CommandPath(), args[0])
			}
			return usage(commandHint(c, args), "%s", err)
		}
		return nil
	}
}

// program is how the person who started this process would start it again.
func program() string {
	if exe, err := os.Executable(); err == nil && strings.Contains(filepath.ToSlash(exe), "/go-build") {
		return "go run ./cmd/dkpipe"
	}
	return "dkpipe"
}

// buildVersion is what `dkpipe version` and bundles say about the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += "+" + s.Value[:12]
		}
	}
	return v
}
