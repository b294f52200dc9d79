package spec

import (
	"path"
	"path/filepath"
	"strings"
)

// resolve makes relative paths start from the job file's folder. URIs stay as they are.
func (s *Spec) resolve(file string) {
	for _, list := range [][]string{s.Source.CSV, s.Source.Parquet, s.Source.Arrow, s.Source.JSON, s.Source.IDX} {
		for i := range list {
			list[i] = resolve(file, list[i])
		}
	}
	for _, p := range []*string{&s.Dataset.Path, &s.Output.Path, &s.Model.Keras, &s.Spark.CA, &s.Spark.Cert, &s.Spark.Key} {
		*p = resolve(file, *p)
	}
	if c := s.Train.Checkpoint; c != nil {
		c.Path = resolve(file, c.Path)
	}
}

// startAt makes relative paths that were given on the command line start from a folder.
func (n *node) startAt(dir string) {
	if dir == "" {
		return
	}
	for _, at := range [][]string{{"source", "csv"}, {"source", "parquet"}, {"source", "arrow"}, {"source", "json"}, {"source", "idx"},
		{"dataset", "path"}, {"output", "path"}, {"model", "keras"}, {"train", "checkpoint", "path"},
		{"spark", "ca"}, {"spark", "cert"}, {"spark", "key"}} {
		p := n
		for _, name := range at {
			p = p.get(name)
		}
		if p == nil {
			continue
		}
		for _, text := range append([]*node{p}, p.list...) {
			if text.kind == textKind && text.at.flag != nil && text.text != "" && !isURI(text.text) && !filepath.IsAbs(text.text) {
				text.text = filepath.Join(dir, text.text)
			}
		}
	}
}

// resolve gives p as seen from the folder of file, which may itself be a URI.
func resolve(file, p string) string {
	if p == "" || isURI(p) {
		return p
	}
	if scheme, rest, ok := strings.Cut(file, "://"); ok {
		host, name, _ := strings.Cut(rest, "/")
		if !path.IsAbs(p) {
			p = path.Join("/", path.Dir(name), p)
		}
		return scheme + "://" + host + p
	}
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(file), p)
}

func isURI(p string) bool { return strings.Contains(p, "://") || strings.HasPrefix(p, "file:") }
