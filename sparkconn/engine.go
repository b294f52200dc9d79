package sparkconn

import (
	"context"
	"errors"
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"github.com/google/uuid"
)

// Engine runs plans on Spark. It may be used by several goroutines.
type Engine struct {
	Session *Session // nil: Explain works without a server, Fit and Write do not
	// Adopt makes a file that Spark wrote below Stage.URI part of the version and gives its length and SHA-256: Spark
	// does not hash. path is relative to the stage. Nil: ShardInfo.SHA256 stays empty and the caller fills it in.
	Adopt func(ctx context.Context, path string) (bytes int64, sha256 string, err error)
	// Lists writes vectors as lists of Parquet, which other programs read, even where Spark could pack them.
	Lists bool
	// LiveTable is the name of the view that Materialize makes; empty: a new one. Who knows it before can Reclaim.
	LiveTable string
	// Tag is carried by all operations of the engine, for Session.Interrupt and Session.End; empty: a new one for each call.
	Tag string
	// Progress is called now and then while Write and Materialize wait for Spark, in their goroutine. May be nil.
	Progress func(Progress)
}

var _ pipeline.Engine = Engine{}

// run is one call of the engine: its operations carry one tag, and its view goes when it ends.
type run struct {
	s   *Session
	p   pipeline.Plan
	tag string
	src *source

	progress func(Progress)
}

// run opens the source and closes it after f.
func (e Engine) run(ctx context.Context, p pipeline.Plan, f func(ctx context.Context, r *run) error) (err error) {
	if e.Session == nil {
		return &pipeline.Error{Kind: pipeline.Usage, Message: "there is no Spark session", Hint: "set spark.remote: sc://host:15002"}
	}
	if ctx.Err() != nil {
		return ended(ctx, "run on "+e.Session.Remote())
	}
	r := &run{s: e.Session, p: p, tag: e.Tag, progress: e.Progress}
	if r.tag == "" {
		r.tag = "dkpipe-" + uuid.NewString()
	}
	if r.src, err = e.Session.openSource(ctx, r.tag, p.Source); err != nil {
		return err
	}
	defer func() {
		r.src.locate(err)
		err = errors.Join(err, r.src.close(ctx))
	}()
	return f(ctx, r)
}

// chain is the source with fitted steps over it.
func (r *run) chain(fitted []expr.Fitted, withFile bool, extras []extra) (*chain, error) {
	c, err := newChain(r.src, r.p.Split, withFile, extras)
	if err != nil {
		return nil, err
	}
	for _, f := range fitted {
		if err := c.add(f, false); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// table runs a query with a small result.
func (r *run) table(ctx context.Context, what, sql string) (*table, error) {
	return r.s.table(ctx, what, r.tag, sql)
}

func internalErr(format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf(format, a...)}
}

func dataErr(hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf(format, a...), Hint: hint}
}
