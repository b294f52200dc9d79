package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers/kernel"
)

// specFlags are the flags of every command that reads a spec.
type specFlags struct {
	file   string
	set    []string
	dir    string // where relative paths of set start; empty: the working directory
	params []string
	slot   string
	force  bool

	flags *pflag.FlagSet
}

func (f *specFlags) register(c *cobra.Command) {
	f.flags = c.Flags()
	c.Flags().StringVarP(&f.file, "file", "f", "", "the spec, a YAML `FILE`")
	// StringArray, not StringSlice: a comma inside brackets belongs to the value, and spec.SplitSet knows which.
	c.Flags().StringArrayVar(&f.set, "set", nil, "overrule a field: `a.b=value` (YAML), repeatable; a comma separates pairs")
	c.Flags().StringArrayVar(&f.params, "param", nil, "give a parameter of the spec: `name=value`, repeatable")
	c.Flags().StringVar(&f.slot, "slot", "", "the `NAME` of this run, such as 2026-11-22T03; a slot is done once")
	_ = c.MarkFlagFilename("file", "yaml", "yml")
}

func (f *specFlags) registerForce(c *cobra.Command) {
	c.Flags().BoolVar(&f.force, "force", false, "do a slot again that is done already")
}

// read decodes the spec for a command that needs these sections.
func (f *specFlags) read(a *app, need spec.Section) (*spec.Spec, error) {
	if f.slot == "" && f.flags.Changed("slot") {
		return nil, &pipeline.Error{Kind: pipeline.Usage, Message: "--slot is empty", Hint: "give the slot a name; in a crontab, % must be written \\%"}
	}
	if f.file == "" {
		return nil, &pipeline.Error{Kind: pipeline.Usage, Message: "no spec given", Hint: "name one with -f, for example -f examples/quickstart/job.yaml"}
	}
	opt, err := f.options(a, need)
	if err != nil {
		return nil, err
	}
	s, err := spec.ReadFile(f.file, opt)
	if err != nil {
		return nil, err
	}
	s.Train.Kernel = a.kernel(s.Train.Kernel)
	return s, nil
}

// kernel gives the name of the kernel set for a job on this machine: what the job names or, where it says auto,
// DKPIPE_KERNEL.
func (a *app) kernel(name string) string { return kernel.Prefer(name, a.env("DKPIPE_KERNEL")) }

func (f *specFlags) options(a *app, need spec.Section) (spec.Options, error) {
	params := map[string]string{}
	for _, p := range f.params {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return spec.Options{}, &pipeline.Error{Kind: pipeline.Usage, Message: "--param " + p + ": no name=value", Hint: "write --param min_age=3"}
		}
		params[name] = value
	}
	dir := f.dir
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return spec.Options{}, err
		}
	}
	return spec.Options{Params: params, Set: f.set, Dir: dir, Slot: f.slot, Env: a.env, Need: need}, nil
}
