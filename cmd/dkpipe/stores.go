package main

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfs"
	"dkpipe/pipeline"
	"dkpipe/pipeline/dataset"
)

// place is a folder on some store: where datasets and models live.
type place struct {
	fs   hdfsio.FS
	path string     // on that store
	uri  hdfsio.URI // as a person writes it
}

func (p place) String() string { return p.uri.String() }

// join gives the place of something below.
func (p place) join(elem ...string) place {
	return place{fs: p.fs, path: path.Join(append([]string{p.path}, elem...)...), uri: p.uri.Join(elem...)}
}

// openPlace finds the store of a path or URI.
func openPlace(ctx context.Context, stores *hdfsio.Stores, name string) (place, error) {
	uri, err := hdfsio.Parse(name)
	if err != nil {
		return place{}, err
	}
	fsys, err := stores.FS(ctx, uri)
	if err != nil {
		return place{}, err
	}
	return place{fs: fsys, path: uri.Path, uri: uri}, nil
}

// folder opens files below a place: the pipeline.Opener of datasets and bundles.
type folder struct{ place }

func (f folder) Open(ctx context.Context, name string) (pipeline.Blob, error) {
	return f.fs.Open(ctx, path.Join(f.path, name))
}

// anywhere opens files by path or URI, each on its own store: the pipeline.Opener of sources.
type anywhere struct{ stores *hdfsio.Stores }

func (w anywhere) Open(ctx context.Context, name string) (pipeline.Blob, error) {
	p, err := openPlace(ctx, w.stores, name)
	if err != nil {
		return nil, err
	}
	return p.fs.Open(ctx, p.path)
}

// expand resolves globs and folders to files, in name order within each path.
func expand(ctx context.Context, stores *hdfsio.Stores, paths []string) ([]string, error) {
	var files []string
	for _, name := range paths {
		p, err := openPlace(ctx, stores, name)
		if err != nil {
			return nil, err
		}
		found, err := hdfsio.Glob(ctx, p.fs, p.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &pipeline.Error{Kind: pipeline.Data, Message: name + ": there is no such file",
				Hint: "paths in a spec start at the spec's folder, on the command line at the working directory"}
		}
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			u := p.uri
			u.Path = f
			files = append(files, u.String())
		}
	}
	return files, nil
}

// creator makes a dataset's files through a function of another package's writer type.
func creator[W dataset.Output](create func(ctx context.Context, name string) (W, error)) dataset.Creator {
	return dataset.CreateFunc(func(ctx context.Context, name string) (dataset.Output, error) { return create(ctx, name) })
}

// newStores opens local files and HDFS; the configuration of HDFS is read when the first hdfs:// path is used.
func (a *app) newStores() *hdfsio.Stores {
	return &hdfsio.Stores{Drivers: map[string]hdfsio.Driver{"hdfs": hdfs.Driver(a.env)}}
}
