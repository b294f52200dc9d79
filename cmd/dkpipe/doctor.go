package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
)

// check is one thing that doctor looked at.
type check struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warn or fail
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // the next step

	Kind pipeline.Kind `json:"kind,omitempty"` // of what failed
}

func (a *app) doctorCommand() *cobra.Command {
	var flags specFlags
	c := &cobra.Command{
		Use:   "doctor [-f SPEC]",
		Short: "Check this machine, and with -f everything that a job needs, before any data moves",
		Long: "Checks this machine; with a spec also its source, the rights on its folders, what LATEST names there, the space\n" +
			"left, and the servers that it uses: ports, versions, clocks, whom HDFS takes dkpipe and Spark for and what both may\n" +
			"do, and whether Spark's executors reach this machine. Each check ends within seconds and stands for itself: one that\n" +
			"fails does not keep the others from running. It writes one small file into each output folder that exists, and lets\n" +
			"Spark write one, and removes them again. It ends with the exit code of the first check that failed.",
		Example: "  dkpipe doctor\n  dkpipe doctor -f job.yaml\n  dkpipe doctor -f job.yaml --json | jq '.checks[] | select(.status != \"ok\")'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			checks := a.checkMachine()
			if flags.file != "" {
				checks = append(checks, a.checkSpec(c.Context(), &flags)...)
			}
			return a.sayChecks(checks)
		},
	}
	flags.register(c)
	return c
}

func (a *app) sayChecks(checks []check) error {
	var worst *check
	for i, k := range checks {
		if k.Status == "fail" && worst == nil {
			worst = &checks[i]
		}
	}
	status := "ok"
	if worst != nil {
		status = "failed"
	}
	if a.json {
		out := map[string]any{"command": "doctor", "status": status, "checks": checks}
		if worst != nil {
			out["error"] = failure{Kind: worst.Kind, Message: worst.Name + ": " + worst.Detail, Hint: worst.Hint}
		}
		a.printJSON(out)
	} else {
		w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		for _, k := range checks {
			fmt.Fprintf(w, "%s\t%s\t%s\n", k.Status, k.Name, k.Detail)
			if k.Hint != "" {
				fmt.Fprintf(w, "\t\tnext: %s\n", k.Hint)
			}
		}
		w.Flush()
	}
	if worst != nil {
		return &saidError{kind: worst.Kind}
	}
	return nil
}

// checkMachine looks at what every job needs.
func (a *app) checkMachine() []check {
	checks := []check{{Name: "dkpipe", Status: "ok", Detail: fmt.Sprintf("%s, %s, %s/%s, %d cores", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0))}}
	if set, err := kernel.Select(a.kernel("auto")); err != nil {
		checks = append(checks, failedCheck("kernels", err))
	} else {
		checks = append(checks, check{Name: "kernels", Status: "ok", Detail: set.Name()})
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		checks = append(checks, failedCheck("loopback", err))
	} else {
		checks = append(checks, check{Name: "loopback", Status: "ok", Detail: "a port can be opened"})
		_ = l.Close()
	}
	checks = append(checks, checkTemp())
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		k := check{Name: "open files", Status: "ok", Detail: fmt.Sprintf("up to %d", limit.Cur)}
		if limit.Cur < 256 {
			k.Status, k.Hint = "warn", "raise it with ulimit -n 1024: many shards are open at once"
		}
		checks = append(checks, k)
	}
	return checks
}

func checkTemp() check {
	f, err := os.CreateTemp("", "dkpipe-doctor-")
	if err != nil {
		return failedCheck("temporary folder", err)
	}
	_ = f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return failedCheck("temporary folder", err)
	}
	return spaceCheck("temporary folder", os.TempDir())
}

// spaceCheck says how much space is left under a local folder.
func spaceCheck(name, dir string) check {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return failedCheck(name, err)
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	k := check{Name: name, Status: "ok", Detail: fmt.Sprintf("%s, %.1f GiB free", dir, float64(free)/(1<<30))}
	if free < 256<<20 {
		k.Status, k.Hint = "warn", "make room: prepared data and sorted runs are written there"
	}
	return k
}

func failedCheck(name string, err error) check {
	f := failed(context.Background(), err)
	return check{Name: name, Status: "fail", Detail: f.Message, Hint: f.Hint, Kind: f.Kind}
}

func okCheck(name, format string, a ...any) check {
	return check{Name: name, Status: "ok", Detail: fmt.Sprintf(format, a...)}
}

func warnCheck(name, hint, format string, a ...any) check {
	return check{Name: name, Status: "warn", Detail: fmt.Sprintf(format, a...), Hint: hint}
}
