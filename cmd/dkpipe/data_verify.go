package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
	"dkpipe/trainers/bundle"
)

// Names and formats in a root that package publish keeps to itself.
const (
	versionMarker = "_version.json"
	versionFormat = "dkpipe-version/1"
	latestPointer = "LATEST"
)

// verified is one file of a version.
type verified struct {
	Path   string `json:"path"`
	Status string `json:"status"` // ok, missing, corrupt or unreadable
	sum
	Promised []promise `json:"promised,omitempty"` // what it should be, when it is not
}

// promise is what a manifest says about a file.
type promise struct {
	By     string `json:"by"` // the manifest
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

type verifyReport struct {
	dataHead
	Versions []string   `json:"versions"`
	Files    int64      `json:"files"`
	Bytes    int64      `json:"bytes"`
	Bad      int64      `json:"bad"`
	Entries  []verified `json:"entries"`
}

func (r *verifyReport) print(a *app) {
	for _, v := range r.Versions {
		fmt.Fprintf(a.stdout, "%s is whole\n", v)
	}
	fmt.Fprintf(a.stdout, "%s, %s, %.2f s\n", plural(r.Files, "file"), humanBytes(r.Bytes), r.Seconds)
}

func (a *app) dataVerifyCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "verify DATASET|MODEL...",
		Short: "Check every file of a dataset or a model against its manifest",
		Long: "Reads every file of a version and compares length and SHA-256 with what _version.json, manifest.json and\n" +
			"bundle.json say. A root stands for the version that LATEST names, with --all for every version. All files are\n" +
			"looked at even when one is bad or cannot be read; --json lists them. A bad file is exit code 3.",
		Example: "  dkpipe data verify out/model\n  dkpipe data verify hdfs://ns/data/digits/v000003 --json\n  dkpipe data verify --all out/dataset",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r := &verifyReport{Versions: []string{}, Entries: []verified{}}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				var versions []*promises
				for _, arg := range args {
					found, err := j.versionsOf(ctx, arg, all)
					if err != nil {
						return err
					}
					for _, at := range found {
						p, err := readPromises(ctx, at)
						if err != nil {
							return err
						}
						versions = append(versions, p)
					}
				}
				return j.verify(ctx, versions, r)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every version of a root")
	return c
}

// versionsOf finds the folders to check: a version itself, or what a root names.
func (j *job) versionsOf(ctx context.Context, arg string, all bool) ([]place, error) {
	found, err := find(ctx, j.stores, arg)
	if err != nil {
		return nil, err
	}
	var out []place
	for _, e := range found {
		if !e.info.Dir {
			return nil, usage("dkpipe data checksum shows the sum of a file", "%s is a file, not a dataset or a model", e)
		}
		versions, err := rootVersions(ctx, e.place, all)
		if err != nil {
			return nil, err
		}
		out = append(out, versions...)
	}
	return out, nil
}

func rootVersions(ctx context.Context, at place, all bool) ([]place, error) {
	for _, name := range []string{versionMarker, dataset.ManifestName, bundle.Name} {
		if _, there, err := stat(ctx, at.join(name)); err != nil || there {
			return []place{at}, err
		}
	}
	versions, err := publish.Versions(ctx, at.fs, at.path)
	if err != nil {
		return nil, err
	}
	pointer := at.join(latestPointer)
	b, err := hdfsio.ReadFile(ctx, pointer.fs, pointer.path, 4096)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(versions) == 0:
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: at.String() + " is neither a dataset nor a model, nor a root of versions",
			Hint: "dkpipe data checksum shows the sums of any files"}
	case errors.Is(err, fs.ErrNotExist) && !all:
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("%s has no %s, so no version is published", at, latestPointer),
			Hint: fmt.Sprintf("check one version (%s) or all (--all)", at.join(versions[len(versions)-1].String()))}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err == nil {
		v, parseErr := publish.ParseVersion(strings.TrimSuffix(string(b), "\n"))
		if parseErr != nil {
			return nil, damaged("%s holds %.40q, not the name of a version", pointer, b)
		}
		if !slices.Contains(versions, v) {
			return nil, damaged("%s names %s, which is not there", pointer, v)
		}
		if !all {
			return []place{at.join(v.String())}, nil
		}
	}
	var out []place
	for _, v := range versions {
		out = append(out, at.join(v.String()))
	}
	return out, nil
}

func damaged(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf(format, args...),
		Hint: "it is not what was published: check the store, go back with dkpipe model rollback, or make it again"}
}

// promises is all that the manifests of a version say about its files.
type promises struct {
	at     place
	files  map[string][]promise // by path below the version's folder
	broken error                // a manifest that cannot be read; reported when no file's hash explains it
}

// readPromises reads what is there of the three manifests.
func readPromises(ctx context.Context, at place) (*promises, error) {
	p := &promises{at: at, files: map[string][]promise{}}
	for _, m := range []struct {
		name string
		read func(name string, b []byte) error
	}{{versionMarker, p.marker}, {dataset.ManifestName, p.dataset}, {bundle.Name, p.bundle}} {
		name := at.join(m.name)
		b, err := hdfsio.ReadFile(ctx, name.fs, name.path, dataset.MaxManifestBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = m.read(name.String(), b)
		}
		switch kind := pipelineKind(err); {
		case err == nil:
		case kind != pipeline.Corrupt && kind != pipeline.Unsupported:
			return nil, err
		case p.broken == nil:
			p.broken = err
		}
	}
	if len(p.files) == 0 && p.broken == nil {
		p.broken = damaged("%s has no %s and no other manifest", at, versionMarker)
	}
	return p, nil
}

// add takes one line of a manifest. Paths never lead out of the version's folder.
func (p *promises) add(by, name string, bytes int64, sha string) error {
	if !fs.ValidPath(name) || name == "." || bytes < 0 || len(sha) != 2*sha256.Size {
		return damaged("%s: the entry of %.80q is not valid", p.at.join(by), name)
	}
	p.files[name] = append(p.files[name], promise{by, bytes, sha})
	return nil
}

func (p *promises) marker(name string, b []byte) error {
	var c publish.Contents
	if err := json.Unmarshal(b, &c); err != nil {
		return damaged("%s: %v", name, err)
	}
	if c.Format != versionFormat {
		return newerFormat(name, c.Format, versionFormat)
	}
	if len(c.Files) == 0 {
		return damaged("%s lists no files", name)
	}
	for _, f := range c.Files {
		if err := p.add(versionMarker, f.Path, f.Bytes, f.SHA256); err != nil {
			return err
		}
	}
	return nil
}

func (p *promises) dataset(name string, b []byte) error {
	m, err := dataset.Decode(name, b)
	if err != nil {
		return err
	}
	for _, s := range m.Shards {
		if err := p.add(dataset.ManifestName, s.Path, s.Bytes, s.SHA256); err != nil {
			return err
		}
	}
	return nil
}

func (p *promises) bundle(name string, b []byte) error {
	var x struct {
		Format string `json:"format"`
		Files  []struct {
			Name string `json:"name"`
			sum
		} `json:"files"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return damaged("%s: %v", name, err)
	}
	if x.Format != bundle.Format && x.Format != bundle.EnsembleFormat {
		return newerFormat(name, x.Format, bundle.Format)
	}
	for _, f := range x.Files {
		if err := p.add(bundle.Name, f.Name, f.Bytes, f.SHA256); err != nil {
			return err
		}
	}
	return nil
}

func newerFormat(name, got, want string) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("%s: format %.40q, this program reads %q", name, got, want),
		Hint: "use the version of dkpipe that wrote it"}
}

// maxAway is how many files in a row may get no answer before verify takes the store itself to be away.
const maxAway = 3

// verify reads every promised file of every version.
func (j *job) verify(ctx context.Context, versions []*promises, r *verifyReport) (err error) {
	var all int64
	for _, p := range versions {
		for _, f := range p.files {
			all += f[0].Bytes
		}
	}
	bar := j.bars.start("verify", 0)
	defer func() { bar.done(err == nil, humanBytes(r.Bytes)) }()
	var first error
	unreadable := false // first is only that a file could not be read
	away := 0           // files in a row that the store gave no answer for
	for _, p := range versions {
		before := r.Bad
		for _, name := range slices.Sorted(maps.Keys(p.files)) {
			v, wrong, err := p.check(ctx, name, func(n int64) { bar.set(r.Bytes+n, all, humanBytes(r.Bytes+n)) })
			if kind := pipelineKind(err); kind == pipeline.Unreachable || kind == pipeline.Timeout {
				away++
			} else {
				away = 0
			}
			if err != nil {
				if ctx.Err() != nil || away == maxAway {
					return err
				}
				wrong, v.Status = err, "unreadable" // the others are looked at all the same
			}
			r.Entries = append(r.Entries, v)
			r.Files, r.Bytes = r.Files+1, r.Bytes+v.Bytes
			if wrong != nil {
				r.Bad++
				if first == nil || v.Status != "unreadable" && unreadable { // a file that is wrong tells more
					first, unreadable = wrong, v.Status == "unreadable"
				}
			}
		}
		if p.broken != nil && r.Bad == before {
			r.Bad++
			first = cmp.Or(first, p.broken)
		}
		if r.Bad == before {
			r.Versions = append(r.Versions, p.at.String())
		}
		if err := p.strangers(ctx, r); err != nil {
			return err
		}
	}
	if r.Bad > 1 {
		return hinted{fmt.Errorf("%w; %s bad in all", first, plural(r.Bad, "file")), failed(ctx, first).Hint}
	}
	return first
}

// check reads one file. wrong says how it differs from what was promised; err is trouble with the store.
func (p *promises) check(ctx context.Context, name string, read func(int64)) (v verified, wrong, err error) {
	at := p.at.join(name)
	v = verified{Path: at.String(), Status: "ok"}
	bad := func(status string, wrong error) (verified, error, error) {
		v.Status, v.Promised = status, p.files[name]
		return v, wrong, nil
	}
	v.sum, err = sumFile(ctx, at, read)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad("missing", damaged("%s is missing", at))
	case err != nil && (pipelineKind(err) == pipeline.Corrupt || pipelineKind(err) == pipeline.Changed):
		return bad("corrupt", err)
	case err != nil:
		return v, nil, err
	}
	for _, want := range p.files[name] {
		if v.Bytes != want.Bytes {
			return bad("corrupt", damaged("%s has %d bytes, %s says %d", at, v.Bytes, want.By, want.Bytes))
		}
		if v.SHA256 != want.SHA256 {
			return bad("corrupt", damaged("%s has SHA-256 %.12s…, %s says %.12s…", at, v.SHA256, want.By, want.SHA256))
		}
	}
	return v, nil, nil
}

// strangers warns about files that no manifest lists.
func (p *promises) strangers(ctx context.Context, r *verifyReport) error {
	return entry{place: p.at}.walk(ctx, func(e entry) error {
		rel := relative(p.at.path, e.path)
		if _, known := p.files[rel]; e.info.Dir || known || slices.Contains([]string{versionMarker, dataset.ManifestName, bundle.Name}, rel) {
			return nil
		}
		if hdfsio.Hidden(path.Base(rel)) {
			return nil // such as the checksum files of other programs; no reader takes them
		}
		r.Warnings = append(r.Warnings, e.String()+" belongs to no manifest; no reader takes it")
		return nil
	})
}
