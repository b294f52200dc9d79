package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"time"

	"dkpipe/hdfsio"
)

// File describes one file of a version.
type File struct {
	Path   string `json:"path"` // relative to the version's folder
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // lower-case hexadecimal
}

// Contents is what _version.json holds: what belongs to a version, and who made it.
type Contents struct {
	Format  string    `json:"format"`
	Version Version   `json:"version"`
	ID      string    `json:"id"` // of the stage; tells whose version it is when the answer to a rename got lost
	Epoch   uint64    `json:"epoch"`
	Owner   string    `json:"owner"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Created time.Time `json:"created"`
	Files   []File    `json:"files"` // null while the version is being written
}

const contentsFormat = "dkpipe-version/1"

// Versions lists the versions of a root in ascending order, complete or not. A root that is not there has none.
func Versions(ctx context.Context, fsys hdfsio.FS, root string) ([]Version, error) {
	entries, err := fsys.ReadDir(ctx, root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var versions []Version
	for _, e := range entries { // names of up to six digits are in order; the rare longer ones need the sort below
		if v, err := ParseVersion(e.Name); err == nil && e.Dir {
			versions = append(versions, v)
		}
	}
	sortVersions(versions)
	return versions, nil
}

// Inspect reads what belongs to a version and checks that every file is there with its size. It does not read the
// files; Verify does. The error is fs.ErrNotExist when there is no such version, and otherwise of kind corrupt when
// the version is not complete.
func Inspect(ctx context.Context, fsys hdfsio.FS, root string, v Version) (Contents, error) {
	dir := path.Join(root, v.String())
	c, err := readContents(ctx, fsys, dir)
	if err != nil {
		return Contents{}, err
	}
	listed := make(map[string]map[string]hdfsio.Info) // folder -> name -> file
	for _, f := range c.Files {
		sub := path.Join(dir, path.Dir(f.Path))
		if listed[sub] == nil {
			entries, err := fsys.ReadDir(ctx, sub)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return Contents{}, err
			}
			listed[sub] = make(map[string]hdfsio.Info, len(entries))
			for _, e := range entries {
				listed[sub][e.Name] = e
			}
		}
		info, ok := listed[sub][path.Base(f.Path)]
		switch {
		case !ok || info.Dir:
			return Contents{}, incomplete(fsys, path.Join(dir, f.Path), errors.New("the file is missing"))
		case info.Size != f.Bytes:
			return Contents{}, incomplete(fsys, path.Join(dir, f.Path), fmt.Errorf("%d bytes, where %s promises %d", info.Size, markerName, f.Bytes))
		}
	}
	return c, nil
}

func incomplete(fsys hdfsio.FS, name string, why error) error {
	return &hdfsio.Error{Op: "check", Path: hdfsio.Name(fsys, name), Kind: hdfsio.KindCorrupt, Err: why,
		Hint: "the version was damaged after it was published: go back to another one, or make a new one"}
}

// readContents reads the marker of a version.
func readContents(ctx context.Context, fsys hdfsio.FS, dir string) (Contents, error) {
	name := path.Join(dir, markerName)
	data, err := hdfsio.ReadFile(ctx, fsys, name, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := fsys.Stat(ctx, dir); err != nil {
			return Contents{}, err
		}
		return Contents{}, incomplete(fsys, name, errors.New("the file is missing"))
	}
	if err != nil {
		return Contents{}, err
	}
	var c Contents
	if err := json.Unmarshal(data, &c); err != nil {
		return Contents{}, incomplete(fsys, name, err)
	}
	if c.Format != contentsFormat {
		return Contents{}, &hdfsio.Error{Op: "check", Path: hdfsio.Name(fsys, name), Kind: hdfsio.KindUnsupported,
			Err: fmt.Errorf("format %q, known is %q", c.Format, contentsFormat), Hint: "a newer dkpipe made it: use that one"}
	}
	if len(c.Files) == 0 {
		return Contents{}, incomplete(fsys, name, errors.New("it lists no files"))
	}
	for _, f := range c.Files {
		if !fs.ValidPath(f.Path) || f.Bytes < 0 || len(f.SHA256) != 2*sha256.Size {
			return Contents{}, incomplete(fsys, name, fmt.Errorf("the entry of %q is not valid", f.Path))
		}
	}
	return c, nil
}

// Verify reads every file of a version and compares size and hash. The error is of kind corrupt and names the first
// file that differs.
func Verify(ctx context.Context, fsys hdfsio.FS, root string, v Version) (Contents, error) {
	c, err := Inspect(ctx, fsys, root, v)
	if err != nil {
		return Contents{}, err
	}
	for _, f := range c.Files {
		name := path.Join(root, v.String(), f.Path)
		got, err := hashFile(ctx, fsys, name)
		if err != nil {
			return Contents{}, err
		}
		if got.Bytes != f.Bytes || got.SHA256 != f.SHA256 {
			return Contents{}, incomplete(fsys, name, fmt.Errorf("SHA-256 %s, where %s promises %s", got.SHA256, markerName, f.SHA256))
		}
	}
	return c, nil
}

// hashFile reads a file once, with constant memory. The Path of the result is left to the caller.
func hashFile(ctx context.Context, fsys hdfsio.FS, name string) (File, error) {
	f, err := fsys.Open(ctx, name)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(f, 0, f.Size())}, make([]byte, max(512, min(f.Size(), 1<<20))))
	if err == nil && n != f.Size() {
		err = io.ErrUnexpectedEOF
	}
	return File{Bytes: n, SHA256: sum(h)}, hdfsio.Wrap("read", hdfsio.Name(fsys, name), err)
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
