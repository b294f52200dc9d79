package hdfsio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

// Hidden tells whether a name is one that readers of data skip: Hadoop's rule for names that begin with a dot or an
// underscore, and the temporary names of hdfs dfs -put.
func Hidden(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || strings.HasSuffix(name, "._COPYING_")
}

// ReadFile reads a whole file of at most limit bytes; a larger one is an error of kind corrupt, because whoever reads
// whole files knows how large they can be.
func ReadFile(ctx context.Context, fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := f.Size()
	if size > limit {
		return nil, &Error{Op: "read", Path: Name(fsys, name), Kind: KindCorrupt,
			Err: fmt.Errorf("%d bytes, where at most %d are expected", size, limit)}
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if n < len(data) {
		if err == nil || errors.Is(err, io.EOF) {
			err = &Error{Op: "read", Path: Name(fsys, name), Kind: KindChanged, Err: io.ErrUnexpectedEOF}
		}
		return nil, Wrap("read", Name(fsys, name), err)
	}
	return data, nil
}

// WriteFile makes a new file with the given bytes. After an error there is no such file, unless there was one before
// (fs.ErrExist).
func WriteFile(ctx context.Context, fsys FS, name string, data []byte) error {
	w, err := fsys.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort() // does nothing after a good Close
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}

// Glob lists the files that a pattern means, in name order: a file is itself, a folder its visible files, and * and ?
// in the last element match any name and any one character. Folders that match count as their visible files. Hidden
// names (see Hidden) are left out, unless the pattern itself begins like that. Nothing found is fs.ErrNotExist.
//
// The folders above the last element are taken as they stand, also with a * in their names: a job file's own folder,
// which its paths start from, is no pattern. A folder that has the whole pattern as its name is that folder.
func Glob(ctx context.Context, fsys FS, pattern string) ([]string, error) {
	dir, last := path.Split(pattern)
	info, err := fsys.Stat(ctx, pattern)
	switch {
	case err == nil && info.Dir:
		return visibleFiles(ctx, fsys, pattern)
	case err == nil && !strings.ContainsAny(last, "*?"):
		return []string{pattern}, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if strings.ContainsAny(dir, "*?") {
		if _, err := fsys.Stat(ctx, path.Clean(dir)); errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{Op: "list", Path: Name(fsys, pattern), Kind: KindUsage, Err: errors.New("* and ? may stand in the last element only"),
				Hint: "name the folders one by one"}
		}
	}
	if !strings.ContainsAny(last, "*?") {
		return nil, err
	}
	entries, err := fsys.ReadDir(ctx, path.Clean(dir))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !match(last, e.Name) || Hidden(e.Name) && !Hidden(last) {
			continue
		}
		if !e.Dir {
			names = append(names, dir+e.Name)
			continue
		}
		below, err := visibleFiles(ctx, fsys, dir+e.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		names = append(names, below...)
	}
	if len(names) == 0 {
		return nil, &Error{Op: "list", Path: Name(fsys, pattern), Kind: KindData, Err: fmt.Errorf("no file matches: %w", fs.ErrNotExist),
			Hint: "names that begin with . or _ are skipped"}
	}
	return names, nil
}

// visibleFiles lists the files of one folder that are not hidden.
func visibleFiles(ctx context.Context, fsys FS, dir string) ([]string, error) {
	entries, err := fsys.ReadDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.Dir && !Hidden(e.Name) {
			names = append(names, path.Join(dir, e.Name))
		}
	}
	if len(names) == 0 {
		return nil, &Error{Op: "list", Path: Name(fsys, dir), Kind: KindData, Err: fmt.Errorf("the folder has no visible file: %w", fs.ErrNotExist),
			Hint: "names that begin with . or _ and sub-folders are skipped"}
	}
	return names, nil
}

// match tells whether a name matches a pattern of *, ? and literal characters. It keeps one point to come back to, so
// it is linear in practice and quadratic at worst.
func match(pattern, name string) bool {
	p, n := 0, 0
	starP, starN := -1, 0
	for n < len(name) {
		pr, pw := utf8.DecodeRuneInString(pattern[p:])
		nr, nw := utf8.DecodeRuneInString(name[n:])
		switch {
		case p < len(pattern) && pr == '*':
			starP, starN = p, n
			p += pw
		case p < len(pattern) && (pr == '?' || pr == nr):
			p, n = p+pw, n+nw
		case starP >= 0:
			_, w := utf8.DecodeRuneInString(name[starN:])
			starN += w
			p, n = starP+1, starN
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// Walk calls fn for root and everything below it, a folder before its entries, in name order. It stops at the first
// error. What vanishes between listing and visiting is passed over.
func Walk(ctx context.Context, fsys FS, root string, fn func(name string, info Info) error) error {
	info, err := fsys.Stat(ctx, root)
	if err != nil {
		return err
	}
	return walk(ctx, fsys, root, info, fn)
}

func walk(ctx context.Context, fsys FS, name string, info Info, fn func(string, Info) error) error {
	if err := fn(name, info); err != nil || !info.Dir {
		return err
	}
	entries, err := fsys.ReadDir(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := walk(ctx, fsys, path.Join(name, e.Name), e, fn); err != nil {
			return err
		}
	}
	return nil
}

// Size counts the files at and below name and their bytes, hidden ones too.
func Size(ctx context.Context, fsys FS, name string) (files, bytes int64, err error) {
	err = Walk(ctx, fsys, name, func(_ string, info Info) error {
		if !info.Dir {
			files++
			bytes += info.Size
		}
		return nil
	})
	return files, bytes, err
}
