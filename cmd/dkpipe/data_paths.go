package main

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
)

// entry is a file or folder that was found.
type entry struct {
	place
	info hdfsio.Info
}

// find gives what a path or pattern names, in name order. A path that exists is taken as it stands, whatever
// characters it has. As in hdfs dfs, * matches hidden names, too.
func find(ctx context.Context, stores *hdfsio.Stores, name string) ([]entry, error) {
	p, err := openPlace(ctx, stores, name)
	if err != nil {
		return nil, err
	}
	info, there, err := stat(ctx, p)
	if err != nil {
		return nil, err
	}
	if there {
		return []entry{{p, info}}, nil
	}
	if !strings.ContainsAny(p.path, globMeta) {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: p.String() + ": there is no such file or folder", Err: nil,
			Hint: "plain paths start at the working directory; dkpipe data ls shows what a folder holds"}
	}
	var found []entry
	for _, pattern := range braces(p.path) {
		more, err := glob(ctx, p, pattern)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	if len(found) == 0 {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: p.String() + ": nothing matches", Hint: "dkpipe data ls shows what a folder holds"}
	}
	return found, nil
}

// findAll gives what several paths name.
func findAll(ctx context.Context, stores *hdfsio.Stores, names []string) ([]entry, error) {
	var all []entry
	for _, name := range names {
		found, err := find(ctx, stores, name)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

const globMeta = "*?[{"

// braces resolves {a,b} as shells and Hadoop do: a text for every choice.
func braces(pattern string) []string {
	open := strings.IndexByte(pattern, '{')
	if open < 0 {
		return []string{pattern}
	}
	depth, from := 0, open+1
	var choices []string
	for i := open; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '{':
			depth++
		case c == ',' && depth == 1:
			choices = append(choices, pattern[from:i])
			from = i + 1
		case c == '}':
			if depth--; depth > 0 {
				continue
			}
			var out []string
			for _, choice := range append(choices, pattern[from:i]) {
				out = append(out, braces(pattern[:open]+choice+pattern[i+1:])...)
			}
			return out
		}
	}
	return []string{pattern} // never closed: an ordinary character
}

// glob walks down a pattern, element by element.
func glob(ctx context.Context, at place, pattern string) ([]entry, error) {
	start, rest := ".", pattern
	if strings.HasPrefix(pattern, "/") {
		start, rest = "/", strings.TrimLeft(pattern, "/")
	}
	found := []string{start}
	elements := strings.Split(path.Clean(rest), "/")
	for _, e := range elements {
		var next []string
		for _, dir := range found {
			if !strings.ContainsAny(e, globMeta) {
				next = append(next, path.Join(dir, e))
				continue
			}
			entries, err := at.fs.ReadDir(ctx, dir)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, x := range entries {
				ok, err := path.Match(e, x.Name)
				if err != nil {
					return nil, usage("close the bracket, or put a backslash before it", "%s: %q is not a pattern", at, e)
				}
				if ok {
					next = append(next, path.Join(dir, x.Name))
				}
			}
		}
		found = next
	}
	var out []entry
	for _, name := range found {
		p := at
		p.path, p.uri.Path = name, name
		info, err := p.fs.Stat(ctx, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, entry{p, info})
	}
	return out, nil
}

// walk gives every file and folder at and below an entry, a folder before what it holds.
func (e entry) walk(ctx context.Context, visit func(entry) error) error {
	return hdfsio.Walk(ctx, e.fs, e.path, func(name string, info hdfsio.Info) error {
		p := e.place
		p.path, p.uri.Path = name, name
		return visit(entry{p, info})
	})
}

// filesOf gives every file at and below the entries, hidden ones too.
func filesOf(ctx context.Context, entries []entry) ([]entry, error) {
	var files []entry
	for _, e := range entries {
		err := e.walk(ctx, func(f entry) error {
			if !f.info.Dir {
				files = append(files, f)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// total adds up the sizes of files.
func total(files []entry) int64 {
	var n int64
	for _, f := range files {
		n += f.info.Size
	}
	return n
}
