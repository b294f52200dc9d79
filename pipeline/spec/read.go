package spec

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Section is a set of sections of a job file.
type Section uint

// The sections that a command can need, and what the commands need.
const (
	NeedSource Section = 1 << iota
	NeedColumns
	NeedDataset
	NeedModel
	NeedTrain
	NeedOutput

	ForPreprocess = NeedSource | NeedColumns | NeedDataset
	ForTrain      = NeedDataset | NeedModel | NeedTrain | NeedOutput
	ForRun        = ForPreprocess | ForTrain
)

// Options are what the command line adds to a job file. The zero value adds nothing and needs no section.
type Options struct {
	// Params are the values of --param name=value.
	Params map[string]string
	// Set are the arguments of --set: a.b=value, where the value is YAML, a.0.b for an element of a list, and several
	// pairs separated by commas (see SplitSet). Later ones win.
	Set []string
	// Dir is the folder where relative paths that Set gives start; empty: the job file's, as those in the file do.
	Dir string
	// Slot is the value of --slot: {{slot}}, and {{slot_date}} when it starts with yyyy-mm-dd.
	Slot string
	// Env reads the environment (SPARK_REMOTE); nil: there is none.
	Env func(name string) string
	// Need says which sections must be there. Those that are there are checked in any case.
	Need Section
}

// ReadFile reads a job file. See Read.
func ReadFile(path string, opt Options) (*Spec, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, unreadable(path, err)
	}
	return Read(path, data, opt)
}

func unreadable(path string, err error) error {
	p := Problem{Pos: Pos{File: path}, Text: "cannot be read: " + err.Error()}
	var pathError *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Text, p.Hint = "there is no such file", "give the job file with -f FILE"
	case errors.As(err, &pathError):
		p.Text = "cannot be read: " + pathError.Err.Error()
	}
	return newError([]Problem{p}, 0)
}

// Read decodes a job file. name is its path: it stands in messages, and relative paths in the file start from its
// folder. Everything that is wrong is reported at once, as an *Error.
func Read(name string, data []byte, opt Options) (*Spec, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	root, problems, err := parse(&source{name: name, text: text})
	if err != nil {
		return nil, err
	}
	d := &decoder{file: name, problems: problems, elsewhere: elsewhere()}
	if root.kind == nullKind {
		root.kind = mapKind
	}
	root.key = mark{line: 1, col: 1}
	if root.kind != mapKind {
		d.wantFields(root, "", nil)
		return nil, newError(d.problems, 0)
	}
	sets := d.readSets(opt.Set)
	for _, s := range sets {
		d.apply(root, s)
	}
	vars := d.readParams(root.get("params"), opt.Params, opt.Slot)
	vars.substitute(root, "", false)
	root.startAt(opt.Dir)
	s := defaults()
	warnings := vars.unused(opt.Params)
	d.decodeRoot(root, &s)
	c := &checker{d: d, root: root, spec: &s, opt: opt, broken: d.broken()}
	c.check()
	if err := newError(d.problems, 0); err != nil {
		return nil, err
	}
	s.Params = map[string]any{}
	for name, n := range vars.values {
		s.Params[name] = n.value()
	}
	s.File, s.Bytes, s.Slot = name, slices.Clone(data), opt.Slot
	s.Warnings = append(warnings, c.warnings...)
	s.resolvedText = s.render(vars)
	s.resolve(name)
	s.SHA256 = sum(data, vars, sets)
	return &s, nil
}

// decodeRoot decodes everything but params, which has been read.
func (d *decoder) decodeRoot(root *node, s *Spec) {
	rest := *root
	rest.fields = slices.DeleteFunc(slices.Clone(root.fields), func(f field) bool { return f.name == "params" })
	d.decode(&rest, reflect.ValueOf(s).Elem(), "", rules{length: -1})
}

// broken lists the top-level sections that have problems.
func (d *decoder) broken() map[string]bool {
	b := map[string]bool{}
	for _, p := range d.problems {
		path := p.Pos.Field
		if pair, ok := strings.CutPrefix(p.Pos.File, "--set "); ok {
			path, _, _ = cutPair(pair)
		}
		if s := steps(path); len(s) > 0 {
			b[s[0]] = true
		}
	}
	return b
}

// sum hashes the file, the values of its parameters and what --set changed. Order and notation of flags do not count.
func sum(data []byte, vars *variables, sets []setting) string {
	h := sha256.New()
	write := func(b []byte) {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	write([]byte("dkpipe-spec/1"))
	write(data)
	for _, name := range slices.Sorted(maps.Keys(vars.values)) {
		write([]byte(name))
		write(vars.values[name].canonical(nil))
	}
	write([]byte("set"))
	kept := effective(sets)
	slices.SortStableFunc(kept, func(a, b setting) int { return strings.Compare(a.path(), b.path()) })
	for _, s := range kept {
		write([]byte(s.path()))
		write(s.value.canonical(nil))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// has says whether a need is in the set.
func (s Section) has(one Section) bool { return s&one != 0 }

// String lists the sections by name.
func (s Section) String() string {
	var all []string
	for i, name := range []string{"source", "columns", "dataset", "model", "train", "output"} {
		if s.has(1 << i) {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return fmt.Sprintf("Section(%d)", uint(s))
	}
	return strings.Join(all, ", ")
}
