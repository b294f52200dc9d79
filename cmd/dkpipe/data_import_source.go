package main

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
)

// importSource is what import reads.
type importSource struct {
	pipeline.Source
	bytes int64             // of all files together
	parts map[string]string // images file -> part, when an IDX source has several; else nil
}

// importSource finds the files and their format.
func (j *job) importSource(ctx context.Context, o importOptions) (importSource, error) {
	var s importSource
	found, err := findAll(ctx, j.stores, o.in)
	if err != nil {
		return s, err
	}
	for _, e := range found {
		files := []entry{e}
		if e.info.Dir {
			if files, err = e.visible(ctx); err != nil {
				return s, err
			}
		}
		for _, f := range files {
			if slices.Contains(s.Files, f.String()) {
				return s, usage("name every file once", "--in: %s is given twice", f)
			}
			s.Files = append(s.Files, f.String())
			s.bytes += f.info.Size
		}
	}
	if s.Format, err = importFormat(s.Files, o.format); err != nil || s.Format != pipeline.IDX {
		return s, err
	}
	s.Files, s.parts, err = pairIDX(s.Files)
	return s, err
}

// visible gives the files right below a folder that readers of data take.
func (e entry) visible(ctx context.Context) ([]entry, error) {
	infos, err := e.fs.ReadDir(ctx, e.path)
	if err != nil {
		return nil, err
	}
	var files []entry
	for _, info := range infos {
		if !info.Dir && !hdfsio.Hidden(info.Name) {
			files = append(files, entry{e.join(info.Name), info})
		}
	}
	if len(files) == 0 {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: e.String() + ": the folder has no visible file",
			Hint: "names that begin with . or _ and sub-folders are skipped"}
	}
	return files, nil
}

// importFormat is the one format of all files.
func importFormat(files []string, given string) (pipeline.Format, error) {
	if given != "" {
		return pipeline.Format(given), nil
	}
	var first pipeline.Format
	for i, name := range files {
		f, err := nameFormat(name)
		if err != nil {
			return "", err
		}
		if i == 0 {
			first = f
		}
		if f != first {
			return "", usage("import one format at a time, or set --format", "--in: %s is %s, %s is %s", files[0], first, name, f)
		}
	}
	return first, nil
}

func nameFormat(name string) (pipeline.Format, error) {
	if idxName().MatchString(strings.ToLower(path.Base(name))) {
		return pipeline.IDX, nil
	}
	f, err := formatOf(name)
	if err != nil {
		return "", usage("set --format idx, csv, json, arrow or parquet", "--in: the name of %s does not tell its format", name)
	}
	return f, nil
}

// idxName matches the names that IDX files go by: train-images-idx3-ubyte.gz, train-images.idx3-ubyte, labels.idx.
func idxName() *regexp.Regexp {
	return regexp.MustCompile(`(^|[-._])idx(\d?)([-._]u?byte)?(\.gz)?$`)
}

// idxFile is what the name of an IDX file tells.
type idxFile struct {
	name   string
	labels bool
	pair   string // equal for the images and the labels that belong together
	part   string // train, validation, test, or empty
}

// readIDXName gives false when a name does not tell images from labels.
func readIDXName(name string) (idxFile, bool) {
	dir, base := path.Split(name)
	base = strings.ToLower(strings.TrimSuffix(base, ".gz"))
	f := idxFile{name: name}
	dims := ""
	if m := idxName().FindStringSubmatch(base); m != nil {
		dims = m[2]
	}
	switch images, labels := strings.Contains(base, "image"), strings.Contains(base, "label"); {
	case images != labels:
		f.labels = labels
	case dims == "1":
		f.labels = true
	case dims == "":
		return f, false
	}
	f.pair = dir + regexp.MustCompile(`images?|labels?|idx\d`).ReplaceAllString(base, "*")
	for _, word := range strings.FieldsFunc(base, func(r rune) bool { return strings.ContainsRune("-._ ", r) }) {
		switch word {
		case "train", "training":
			f.part = "train"
		case "val", "valid", "validation":
			f.part = "validation"
		case "t10k", "test", "testing":
			f.part = "test"
		}
	}
	return f, true
}

// idxParts lists the parts in the order of their rows.
func idxParts() []string { return []string{"train", "validation", "test"} }

// pairIDX puts images beside their labels, train before validation before test. When every pair tells its part, and
// there are several parts, it gives the part of each images file. Names that tell nothing are taken in the order
// given: images, labels, images, labels.
func pairIDX(files []string) (ordered []string, parts map[string]string, err error) {
	if len(files) == 1 {
		return files, nil, nil
	}
	var all []idxFile
	for _, name := range files {
		f, ok := readIDXName(name)
		if !ok {
			return files, nil, nil
		}
		all = append(all, f)
	}
	var pairs [][2]idxFile // images, labels
	for _, f := range all {
		if f.labels {
			continue
		}
		i := slices.IndexFunc(all, func(l idxFile) bool { return l.labels && l.pair == f.pair })
		if i < 0 {
			return nil, nil, usage("give the labels file, too, or import this file alone", "--in: %s has no labels file", f.name)
		}
		pairs = append(pairs, [2]idxFile{f, all[i]})
	}
	for _, l := range all {
		if l.labels && !slices.ContainsFunc(pairs, func(p [2]idxFile) bool { return p[1].name == l.name }) {
			return nil, nil, usage("give the images file, too, or import this file alone", "--in: %s has no images file", l.name)
		}
	}
	rank := func(p [2]idxFile) int { return slices.Index(idxParts(), p[0].part) }
	slices.SortStableFunc(pairs, func(a, b [2]idxFile) int { return rank(a) - rank(b) })
	parts = map[string]string{}
	several := false
	for i, p := range pairs {
		if i > 0 && p[0].pair == pairs[i-1][0].pair {
			return nil, nil, usage("name every file once", "--in: %s and %s both belong to %s", pairs[i-1][0].name, p[0].name, p[1].name)
		}
		ordered = append(ordered, p[0].name, p[1].name)
		parts[p[0].name] = p[0].part
		several = several || p[0].part != pairs[0][0].part
	}
	if !several || rank(pairs[0]) < 0 {
		parts = nil
	}
	return ordered, parts, nil
}
