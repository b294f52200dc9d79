package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/hdfs"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/pipeline/local"
	"dkpipe/sparkconn"
)

// stagePrefix begins the names of folders in which rows for a table wait. It is not hidden: Spark reads in it.
const stagePrefix = "dkpipe-predict-"

// tableOutput writes predictions into a table of Spark.
type tableOutput struct {
	job   *job
	name  string
	load  *sparkconn.Load
	stage *place // where rows wait; nil: they go through the connection
}

// openTableOutput begins a load, so that what is wrong with the table, or with the place where rows shall wait, is told
// before anything is predicted.
func (j *job) openTableOutput(ctx context.Context, o predictOptions, model place) (_ *tableOutput, err error) {
	if err := j.connect(ctx, o.remote, "--out "+o.out); err != nil {
		return nil, err
	}
	mode := sparkconn.LoadMode(o.mode)
	if o.mode == "" {
		mode = sparkconn.LoadError
	}
	t := &tableOutput{job: j, name: strings.TrimPrefix(o.out, tablePrefix)}
	if t.load, err = j.session.NewLoad(ctx, t.name, mode, publish.OwnerTag(), publish.OwnerGone); err != nil {
		return nil, inTable(err)
	}
	if err := t.openStage(ctx, o, model); err != nil {
		t.close(ctx)
		return nil, err
	}
	return t, nil
}

// inTable fits an error about the table to the command line: it has flags, and no spec.
func inTable(err error) error {
	if err == nil {
		return nil
	}
	var said *sparkconn.ServerError
	switch f := failed(context.Background(), err); {
	case strings.Contains(f.Hint, "overwrite or append"):
		return hinted{err, "choose another name, or say what becomes of it: --mode overwrite or --mode append"}
	case errors.As(err, &said) && said.Class == "SCHEMA_NOT_FOUND":
		return &pipeline.Error{Kind: pipeline.Usage, Message: "--out", Err: said, Hint: "make the schema first (CREATE SCHEMA), or choose another one"}
	}
	return err
}

// openStage makes the folder for rows, where there is one that Spark may see, and has Spark try to read in it.
func (t *tableOutput) openStage(ctx context.Context, o predictOptions, model place) error {
	j := t.job
	root, err := j.stageRoot(ctx, o, model)
	if err != nil || root == nil {
		return err
	}
	j.removeLeftovers(ctx, root.fs, root.path, stagePrefix, nil)
	stage := root.join(ownName(stagePrefix))
	if err := root.fs.Mkdir(ctx, stage.path); err != nil {
		return withHint(err, "name a folder where you may write and Spark may read: --stage hdfs://namenode:8020/folder")
	}
	t.stage = &stage
	if err := t.share(ctx); err != nil {
		return err
	}
	probe := stage.join("probe")
	if err := hdfsio.WriteFile(ctx, probe.fs, probe.path, []byte("can Spark read this?\n")); err != nil {
		return err
	}
	return t.unreadable(j.session.ProbeRead(ctx, sparkURI(probe)))
}

// stageRoot is the folder in which a folder for rows is made: --stage, or /tmp on an HDFS that is in use anyway; nil when
// there is none.
func (j *job) stageRoot(ctx context.Context, o predictOptions, model place) (*place, error) {
	if o.stage != "" {
		p, err := openPlace(ctx, j.stores, o.stage)
		if err != nil {
			return nil, err
		}
		if info, err := p.fs.Stat(ctx, p.path); err == nil && !info.Dir {
			return nil, usage("name a folder", "--stage %s is a file", o.stage)
		}
		return &p, nil
	}
	for _, name := range []string{model.String(), o.in} {
		u, err := hdfsio.Parse(name)
		if err != nil || u.Scheme != "hdfs" {
			continue
		}
		u.Path = "/tmp"
		p, err := openPlace(ctx, j.stores, u.String())
		return &p, err
	}
	return nil, nil
}

// share lets Spark's user read what this process writes into the stage, whatever the umask.
func (t *tableOutput) share(ctx context.Context) error {
	h, ok := t.stage.fs.(*hdfs.FS)
	if !ok {
		return nil
	}
	user, err := t.job.session.StoreUser(ctx)
	if err != nil || user == h.User() { // a server that does not tell: the try will
		return nil
	}
	err = h.Grant(ctx, t.stage.path, hdfs.Grant{User: user, Perm: 5}, hdfs.Grant{User: user, Perm: 5, Inherit: true})
	if errors.Is(err, hdfs.ErrNoLists) { // the group has to do, or everybody's rights; the try tells whether they do
		return nil
	}
	return err
}

// sparkURI is a place as Spark names it.
func sparkURI(p place) string {
	u := p.uri
	if u.Local() {
		if abs, err := filepath.Abs(u.Path); err == nil {
			u.Path = abs
		}
	}
	return u.String()
}

// unreadable is the error that Spark cannot read the stage.
func (t *tableOutput) unreadable(err error) error {
	var said *sparkconn.ServerError
	if !errors.As(err, &said) {
		return err
	}
	if d, refused := sparkconn.DenialOf(err); refused {
		return refusal("Spark", d, "stage "+t.stage.String(), giving(d, d.Path)+"; or name another folder with --stage")
	}
	kind := pipelineKind(err)
	if kind != pipeline.Denied {
		kind = pipeline.Unreachable
	}
	return &pipeline.Error{Kind: kind, Message: fmt.Sprintf("Spark at %s cannot read the stage %s", t.job.session.Remote(), t.stage), Err: said,
		Hint: "name a folder that both reach, by its full name: --stage hdfs://namenode:8020/tmp"}
}

// write predicts all rows and makes them the table's.
func (t *tableOutput) write(ctx context.Context, p *predictor) (rows int64, err error) {
	j := t.job
	var columns []string
	for _, f := range p.schema.Fields() {
		columns = append(columns, f.Name)
	}
	if err := t.load.Fits(columns); err != nil {
		return 0, err
	}
	b := j.bars.start("predict", 0)
	progress := p.progress(b)
	if t.stage != nil {
		rows, err = t.toStage(ctx, p, progress)
	} else {
		rows, err = t.through(ctx, p, progress)
	}
	b.done(err == nil, thousands(rows)+" rows")
	if err != nil {
		return rows, err
	}
	j.app.crash("predictions staged")
	b = j.bars.start("table", 0)
	b.set(0, 0, "Spark writes "+t.name)
	err = inTable(t.load.Commit(ctx, rows))
	b.done(err == nil, t.name)
	j.app.crash("table loaded")
	return rows, err
}

// toStage writes the rows as one Parquet file that Spark cuts into pieces when it reads it.
func (t *tableOutput) toStage(ctx context.Context, p *predictor, progress func(int64)) (rows int64, err error) {
	folder := t.stage.join("rows")
	if err := folder.fs.Mkdir(ctx, folder.path); err != nil {
		return 0, err
	}
	name := folder.join("part-00000.parquet")
	f, err := name.fs.Create(ctx, name.path)
	if err != nil {
		return 0, err
	}
	rows, err = p.writeTo(ctx, f, pipeline.Parquet, progress)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		f.Abort()
		return rows, err
	}
	return rows, t.unreadable(t.load.Files(ctx, sparkURI(folder)))
}

// through sends the rows through the connection.
func (t *tableOutput) through(ctx context.Context, p *predictor, progress func(int64)) (int64, error) {
	rows, err := p.run(ctx, func(rec arrow.RecordBatch) error {
		lists, err := local.Lists(rec)
		if err != nil {
			return err
		}
		return t.load.Add(ctx, lists)
	}, progress)
	if err != nil && strings.Contains(failed(ctx, err).Hint, "folder that Spark can read") {
		err = hinted{err, "name a folder that you and Spark can reach, where the rows wait as a file: --stage hdfs://namenode:8020/tmp"}
	}
	return rows, err
}

// close removes the stage and what Spark keeps for the load. What cannot be removed is removed by a later predict.
func (t *tableOutput) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err := t.load.Close(ctx); err != nil {
		t.job.app.log.Warn("removing views", "error", err)
	}
	if t.stage == nil {
		return
	}
	if err := t.stage.fs.Remove(ctx, t.stage.path); err != nil {
		t.job.app.log.Warn("removing the stage", "stage", t.stage.String(), "error", err)
	}
}
