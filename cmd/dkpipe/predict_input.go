package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"dkpipe/pipeline"
	"dkpipe/pipeline/local"
	"dkpipe/pipeline/spec"
	"dkpipe/sparkconn"
	"dkpipe/trainers/bundle"
)

// rawRows are raw rows from files or from Spark, to be run through a model.
type rawRows struct {
	table *local.Table
	files []string // none: they come from Spark
	stop  func()   // ends the query behind the table; may be nil
}

// close gives back what was opened.
func (r *rawRows) close() {
	_ = r.table.Close() // what was read is read
	if r.stop != nil {
		r.stop()
	}
}

// explain fits the hint of an error about the rows to a command that has no spec.
func (r *rawRows) explain(err error) error {
	var m *local.Misfit
	switch {
	case !errors.As(err, &m):
	case m.Better != "":
		return hinted{err, fmt.Sprintf("correct the value, or give the column's type: --types %s=%s", m.Column, m.Better)}
	case strings.Contains(m.ErrorHint(), "source.types"):
		return hinted{err, "correct the value, or give another type with --types"}
	}
	return err
}

// inFlag names the flag where an error about types speaks of the spec.
func inFlag(err error) error {
	f := failed(context.Background(), err)
	if text, ok := strings.CutPrefix(f.Message, "source.types: "); ok {
		return usage(f.Hint, "--types: %s", text)
	}
	return err
}

// openRows opens raw rows for a model: table:NAME and sql:QUERY through Spark, anything else as files.
func (j *job) openRows(ctx context.Context, in, remote string, types map[string]string, b *bundle.Bundle) (*rawRows, error) {
	name, isTable := strings.CutPrefix(in, tablePrefix)
	query, isQuery := strings.CutPrefix(in, queryPrefix)
	switch {
	case isTable || isQuery:
		if len(types) > 0 {
			return nil, usage("cast in the query: sql:SELECT CAST(a AS DOUBLE) AS a, …", "--types is for CSV and JSON files; %s has types of its own", in)
		}
		if isTable && !sparkconn.IsTableName(name) {
			return nil, usage("write table:name, table:schema.name or table:catalog.schema.name; a query goes into sql:…", "--in %s: %q is no table's name", in, name)
		}
		if isQuery && strings.TrimSpace(query) == "" {
			return nil, usage("write sql:SELECT …", "--in %s: the query is empty", in)
		}
		if err := j.connect(ctx, remote, "--in "+in); err != nil {
			return nil, err
		}
		what := "query"
		if isTable {
			what, query = "table "+name, "SELECT * FROM "+name
		}
		return j.openQuery(ctx, what, query)
	}
	files, err := j.rawFiles(ctx, in)
	if err != nil {
		return nil, err
	}
	format, err := formatOf(files[0])
	if err != nil {
		return nil, err
	}
	for _, f := range files[1:] {
		if other, err := formatOf(f); err != nil || other != format {
			return nil, usage("name files of one format, for example with a glob: --in 'folder/*."+string(format)+"'", "--in %s: %s and %s are of different formats", in, files[0], f)
		}
	}
	src := pipeline.Source{Format: format, Files: files, Types: types}
	if text := format == pipeline.CSV || format == pipeline.JSON; len(types) > 0 && !text {
		return nil, usage("leave it out", "--types is for CSV and JSON files; %s has types of its own", files[0])
	} else if text && b != nil {
		if src.Types, err = j.trainingTypes(ctx, src, b); err != nil {
			return nil, err
		}
	}
	t, err := local.OpenTable(ctx, anywhere{j.stores}, src)
	if err != nil {
		return nil, inFlag(err)
	}
	return &rawRows{table: t, files: files}, nil
}

// rawFiles lists the files that are meant; a prepared dataset is none.
func (j *job) rawFiles(ctx context.Context, in string) ([]string, error) {
	at, err := openPlace(ctx, j.stores, in)
	if err != nil {
		return nil, err
	}
	for _, marker := range []string{"LATEST", "manifest.json", "bundle.json"} {
		if _, err := at.fs.Stat(ctx, at.join(marker).path); err == nil {
			return nil, usage("name the raw rows that the dataset was made of; dkpipe evaluate measures a model on a prepared dataset",
				"%s has a file %s: it is a prepared dataset or a model, and no raw rows", in, marker)
		}
	}
	files, err := expand(ctx, j.stores, []string{in})
	if errors.Is(err, fs.ErrNotExist) && pipelineKind(err) == pipeline.Data {
		return nil, hinted{err, "paths start at the working directory"}
	}
	return files, err
}

// trainingTypes adds to the given types those that the job file of the training declared, for columns that the rows have.
func (j *job) trainingTypes(ctx context.Context, src pipeline.Source, b *bundle.Bundle) (map[string]string, error) {
	s, err := spec.Read(bundle.SpecName, b.Spec, spec.Options{})
	if err != nil || len(s.Source.Types) == 0 {
		return src.Types, nil // a job with variables tells nothing without their values: the fitted steps tell what matters
	}
	t, err := local.OpenTable(ctx, anywhere{j.stores}, src)
	if err != nil {
		return nil, inFlag(err)
	}
	types := map[string]string{}
	for _, f := range t.Fields() {
		if declared := s.Source.Types[f.Name]; declared != "" {
			types[f.Name] = declared
		}
	}
	for name, given := range src.Types {
		types[name] = given
	}
	return types, t.Close()
}

// connect dials Spark, once; what says what for.
func (j *job) connect(ctx context.Context, remote, what string) error {
	if j.session != nil {
		return nil
	}
	pos := spec.Pos{File: "--spark-remote"}
	if remote == "" {
		remote, pos.File = j.app.env("SPARK_REMOTE"), "SPARK_REMOTE"
	}
	if remote == "" {
		return usage("say where Spark is: --spark-remote sc://host:15002, or SPARK_REMOTE", "%s needs Spark", what)
	}
	s, err := j.app.dialSpark(ctx, spec.Spark{Remote: remote, Pos: pos}, sparkconn.Options{})
	j.session = s
	return err
}

// openQuery opens the result of a query as a table. The rows come as they are read; the server is told to stop when
// they are not wanted any more.
func (j *job) openQuery(ctx context.Context, what, query string) (*rawRows, error) {
	ctx, cancel := context.WithCancel(ctx)
	records, taken, ended := make(chan arrow.RecordBatch), make(chan struct{}), make(chan error, 1)
	done := make(chan struct{})
	go func() { // owned by stop
		defer close(done)
		err := j.session.Query(ctx, "dkpipe-"+j.id, query, func(rec arrow.RecordBatch) error {
			select {
			case records <- rec:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select { // the record's memory is the query's: it goes on when the reader is through with it
			case <-taken:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			return nil
		})
		if err == nil {
			err = io.EOF
		}
		ended <- err
	}()
	stop := func() {
		cancel()
		<-done
	}
	holding := false
	pull := func() (arrow.RecordBatch, error) {
		if holding {
			select {
			case taken <- struct{}{}:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			holding = false
		}
		select {
		case rec := <-records:
			holding = true
			return rec, nil
		case err := <-ended:
			ended <- err
			return nil, inQuery(what, err)
		}
	}
	t, err := local.OpenRecords(ctx, what, pull)
	if err != nil {
		stop()
		return nil, err
	}
	return &rawRows{table: t, stop: stop}, nil
}

// inQuery fits an error of Spark to the command line: there is no spec with a source.
func inQuery(what string, err error) error {
	var said *sparkconn.ServerError
	if !errors.As(err, &said) {
		return err
	}
	e := &pipeline.Error{Kind: pipelineKind(err), Message: "--in: " + what, Hint: failed(context.Background(), err).Hint, Err: said}
	if e.Kind == pipeline.BadSpec {
		e.Kind = pipeline.Usage
	}
	switch {
	case slices.Contains([]string{"TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND"}, said.Class):
		e.Hint = "check the name; SHOW TABLES lists what there is"
	case strings.Contains(said.Message, "maxResultSize"):
		e.Kind, e.Hint = pipeline.Unsupported, "have Spark write the rows as Parquet to HDFS and name that folder, or raise spark.driver.maxResultSize on the server"
	}
	return e
}
