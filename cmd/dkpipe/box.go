package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/internal/box"
)

func (a *app) boxCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "box",
		Short: "A real Spark Connect server and a real HDFS on this machine, for trying and for tests",
		Long: "Starts real servers from JARs that Maven fetches once. Everything lives in one folder; all ports are free ones on\n" +
			"loopback. Needs Java 17 and Maven.",
		Example: "  dkpipe box up --dir /tmp/box\n  eval \"$(dkpipe box env --dir /tmp/box)\"\n  dkpipe box down --dir /tmp/box",
		RunE:    a.group,
	}
	c.AddCommand(a.boxUpCommand(), a.boxStatusCommand(), a.boxEnvCommand(), a.boxControlCommand(), a.boxDownCommand(), a.boxSuperviseCommand())
	return c
}

func (a *app) boxUpCommand() *cobra.Command {
	var o box.Options
	var foreground bool
	c := &cobra.Command{
		Use:     "up --dir DIR",
		Short:   "Start a box and return when both servers answered a real request",
		Example: "  dkpipe box up --dir /tmp/box\n  dkpipe box up --dir /tmp/box --executors 2 --datanodes 3 --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Dir == "" {
				return usage("dkpipe box up --dir /tmp/box", "box up needs --dir")
			}
			if o.Datanodes < 1 {
				return usage("give 1 or more", "--datanodes %d", o.Datanodes)
			}
			if !a.json {
				o.Progress = func(line string) { fmt.Fprintln(a.stderr, line) }
			}
			if foreground {
				return box.Run(c.Context(), o, a.sayBox)
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Supervisor = []string{self, "box", "supervise"}
			b, err := box.Up(c.Context(), o)
			if err != nil {
				return err
			}
			a.sayBox(b)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "`FOLDER` of the box; what is in it belongs to the box")
	f.IntVar(&o.Datanodes, "datanodes", 1, "number of DataNodes")
	f.StringVar(&o.Heap, "heap", "", "`SIZE` of the heap of the JVM that holds Spark (default 1g)")
	f.BoolVar(&o.Separate, "separate", false, "NameNode, DataNodes and Spark as processes of their own")
	f.BoolVar(&o.HA, "ha", false, "two NameNodes")
	f.IntVar(&o.Executors, "executors", 0, "number of executor processes; 0 keeps Spark's tasks in its own JVM")
	f.StringVar(&o.SparkVersion, "spark", box.DefaultSpark, "`VERSION` of Spark, of 4.0, 4.1, 4.2 or 3.5 (which listens on all addresses of the machine)")
	f.BoolVar(&o.Optimize, "optimize", true, "compile what runs long as well as Java can; off, the start takes a few seconds less")
	f.StringVar(&o.SparkUser, "spark-user", "", "the HDFS user that Spark is (default: the user of this command)")
	f.BoolVar(&foreground, "foreground", false, "stay, and stop the servers when this command ends")
	return c
}

// sayBox prints where a box's servers are.
func (a *app) sayBox(b box.Box) {
	if a.json {
		a.printJSON(b)
		return
	}
	fmt.Fprintf(a.stdout, "spark  %s\nhdfs   %s\ndir    %s\npid    %d\nstate  %s %s\n", b.Spark, b.HDFS, b.Dir, b.PID, b.State, b.Error)
}

// boxDir adds the flag that names an existing box; $DKPIPE_BOX is its default.
func (a *app) boxDir(c *cobra.Command) *string {
	return c.Flags().String("dir", strings.TrimSuffix(a.env("DKPIPE_BOX"), "/box.json"), "`FOLDER` of the box (default $DKPIPE_BOX)")
}

// needDir refuses to take the working directory for a box.
func needDir(dir string) error {
	if dir == "" {
		return usage("name it with --dir, or set DKPIPE_BOX", "no box given")
	}
	return nil
}

func (a *app) boxStatusCommand() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Say where a box's servers are and whether they run", Args: cobra.NoArgs,
		Example: "  dkpipe box status --dir /tmp/box --json"}
	dir := a.boxDir(c)
	c.RunE = func(*cobra.Command, []string) error {
		if err := needDir(*dir); err != nil {
			return err
		}
		b, err := box.Status(*dir)
		if err != nil {
			return err
		}
		a.sayBox(b)
		return nil
	}
	return c
}

func (a *app) boxEnvCommand() *cobra.Command {
	c := &cobra.Command{Use: "env", Short: "Print shell lines that let dkpipe and other clients find the box", Args: cobra.NoArgs,
		Example: "  eval \"$(dkpipe box env --dir /tmp/box)\""}
	dir := a.boxDir(c)
	c.RunE = func(*cobra.Command, []string) error {
		if err := needDir(*dir); err != nil {
			return err
		}
		lines, err := box.Env(*dir)
		if err != nil {
			return err
		}
		if a.json {
			a.printJSON(map[string]any{"command": "box env", "status": "ok", "lines": lines})
			return nil
		}
		fmt.Fprintln(a.stdout, strings.Join(lines, "\n"))
		return nil
	}
	return c
}

func (a *app) boxControlCommand() *cobra.Command {
	c := &cobra.Command{Use: "control COMMAND...", Short: "Break something in a box on purpose: stopdn 0, flip PATH 0 all, safemode enter", Args: cobra.MinimumNArgs(1),
		Long:    "Breaks something in a box on purpose, and mends it:\n\n" + box.ControlHelp,
		Example: "  dkpipe box control --dir /tmp/box stopdn 0\n  dkpipe box control --dir /tmp/box flip /data/part-0 0 all"}
	dir := a.boxDir(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := needDir(*dir); err != nil {
			return err
		}
		answer, err := box.Control(c.Context(), *dir, strings.Join(args, " "))
		if err != nil {
			return err
		}
		if a.json {
			a.printJSON(map[string]any{"command": "box control", "status": "ok", "answer": answer})
			return nil
		}
		fmt.Fprintln(a.stdout, answer)
		return nil
	}
	return c
}

func (a *app) boxDownCommand() *cobra.Command {
	c := &cobra.Command{Use: "down", Short: "Stop a box and wait until nothing of it runs", Args: cobra.NoArgs,
		Example: "  dkpipe box down --dir /tmp/box"}
	dir := a.boxDir(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := needDir(*dir); err != nil {
			return err
		}
		if err := box.Down(c.Context(), *dir); err != nil {
			return err
		}
		if a.json {
			a.printJSON(map[string]any{"command": "box down", "status": "ok", "dir": *dir})
		}
		return nil
	}
	return c
}

// boxSuperviseCommand is the detached process that holds a box's servers; box up starts it.
func (a *app) boxSuperviseCommand() *cobra.Command {
	return &cobra.Command{Use: "supervise DIR", Hidden: true, Short: "Hold a box's servers; started by box up", Args: cobra.MaximumNArgs(1),
		Example: "  dkpipe box up --dir /tmp/box",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := box.Supervise(c.Context(), os.Stdin, os.Stdout); err != nil {
				return &saidError{kind: pipelineKind(err)} // box up has been told on stdout
			}
			return nil
		}}
}
