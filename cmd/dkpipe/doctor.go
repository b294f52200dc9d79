package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
)

// check is one thing that doctor looked at.
type check struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warn or fail
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`

	kind pipeline.Kind
}

func (a *app) doctorCommand() *cobra.Command {
	var flags specFlags
	c := &cobra.Command{
		Use:   "doctor [-f SPEC]",
		Short: "Check this machine, and with -f everything that a job needs, before any data moves",
		Long: "Checks this machine; with a spec also its source, the rights on its folders, their locks and the space left.\n" +
			"It writes one small file into each output folder that exists and removes it again.",
		Example: "  dkpipe doctor\n  dkpipe doctor -f job.yaml --json",
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
			out["error"] = failure{Kind: worst.kind, Message: worst.Name + ": " + worst.Detail, Hint: worst.Hint}
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
		return &saidError{kind: worst.kind}
	}
	return nil
}

// checkMachine looks at what every job needs.
func (a *app) checkMachine() []check {
	checks := []check{{Name: "dkpipe", Status: "ok", Detail: fmt.Sprintf("%s, %s, %s/%s, %d cores", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0))}}
	if set, err := kernel.Select("auto"); err != nil {
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

// checkSpec looks at what one job needs.
func (a *app) checkSpec(ctx context.Context, flags *specFlags) []check {
	s, err := flags.read(a, 0)
	if err != nil {
		return []check{failedCheck("spec", err)}
	}
	checks := []check{{Name: "spec", Status: "ok", Detail: s.File}}
	j := &job{app: a, spec: s, flags: flags, stores: a.newStores(), report: &report{}}
	defer j.stores.Close()
	if _, paths := sourceOf(s); paths != nil {
		checks = append(checks, j.checkSource(ctx))
	}
	for _, root := range []struct{ name, uri string }{{"dataset", s.Dataset.Path}, {"output", s.Output.Path}} {
		if root.uri != "" {
			checks = append(checks, j.checkRoot(ctx, root.name, root.uri)...)
		}
	}
	return append(checks, j.checkModel()...)
}

// checkSource reads the source's header and plans the job on it.
func (j *job) checkSource(ctx context.Context) check {
	plan, engine, err := j.plan(ctx, true)
	if err == nil {
		_, err = engine.Explain(ctx, plan)
	}
	if err != nil {
		return failedCheck("source", err)
	}
	return check{Name: "source", Status: "ok", Detail: fmt.Sprintf("%d file(s), columns fit the transformers", len(plan.Source.Files))}
}

func (j *job) checkModel() []check {
	if j.spec.Train.Trainer.Name == "" {
		return nil
	}
	if err := j.checkTraining(); err != nil {
		return []check{failedCheck("train", err)}
	}
	return []check{{Name: "train", Status: "ok", Detail: fmt.Sprintf("%s, %d workers", j.spec.Train.Trainer.Name, j.spec.Train.Workers)}}
}

// checkRoot looks at rights, lock, LATEST and space of a root.
func (j *job) checkRoot(ctx context.Context, name, uri string) []check {
	p, err := openPlace(ctx, j.stores, uri)
	if err != nil {
		return []check{failedCheck(name, err)}
	}
	at := p
	for { // the nearest folder that exists decides whether the root can be made
		if _, err := at.fs.Stat(ctx, at.path); err == nil || !errors.Is(err, fs.ErrNotExist) || at.path == "/" || at.path == "." {
			break
		}
		at = at.join("..")
	}
	probe := at.join(fmt.Sprintf(".dkpipe-doctor-%d", time.Now().UnixNano()))
	if err := hdfsio.WriteFile(ctx, probe.fs, probe.path, []byte("ok\n")); err != nil {
		return []check{failedCheck(name, err)}
	}
	if err := probe.fs.Remove(ctx, probe.path); err != nil {
		return []check{failedCheck(name, err)}
	}
	checks := []check{{Name: name, Status: "ok", Detail: p.String() + " can be written"}}
	if p.uri.Local() {
		checks = append(checks, spaceCheck(name+" space", at.path))
	}
	found, err := publish.Latest(ctx, p.fs, p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		checks = append(checks, check{Name: name + " LATEST", Status: "ok", Detail: "no version yet"})
	case err != nil:
		checks = append(checks, failedCheck(name+" LATEST", err))
	case found.Warning != "":
		checks = append(checks, check{Name: name + " LATEST", Status: "warn", Detail: found.Warning})
	default:
		checks = append(checks, check{Name: name + " LATEST", Status: "ok", Detail: found.Version.String()})
	}
	return checks
}

func failedCheck(name string, err error) check {
	f := failed(context.Background(), err)
	return check{Name: name, Status: "fail", Detail: f.Message, Hint: f.Hint, kind: f.Kind}
}
