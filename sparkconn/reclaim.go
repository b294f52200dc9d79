package sparkconn

import (
	"context"
	"strings"

	"dkpipe/pipeline"

	"github.com/google/uuid"
)

// Reclaim gives back what a live dataset holds in Spark whose process died before its Drop. Spark keeps cached rows for as
// long as the server runs, also when their session has ended. p is the fitted plan that was materialized; with release
// the session was made for it and is released.
//
// While the session is there, what still runs in it is interrupted and the table is dropped. After that, and without a
// session, the rows go by their plan: Spark finds cached rows by what they are made of.
func (e Engine) Reclaim(ctx context.Context, p pipeline.Plan, session, table string, release bool) error {
	if err := e.Session.leave(ctx, session, table, release); err != nil {
		return err
	}
	return e.run(ctx, p, func(r *run) error {
		r.src.nested = true
		c, outputs, err := r.finished(false, false)
		if err != nil {
			return err
		}
		same := Live{Table: newLiveTable()}
		if err := r.createView(ctx, same.Table, rowsSQL(c, outputs, p.Shards, true)); err != nil {
			return err
		}
		return same.Drop(ctx, r.s)
	})
}

// leave ends a session that a dead process has used. One that the server has forgotten is no error.
func (s *Session) leave(ctx context.Context, session, table string, release bool) error {
	there := s.remote
	there.SessionID = session
	old, err := dial(ctx, there, s.opt)
	if err != nil {
		if strings.Contains(err.Error(), "INVALID_HANDLE.SESSION_") { // closed, or changed since
			return nil
		}
		return err
	}
	defer old.Close()
	old.own = release
	if release {
		req := old.request("InterruptRequest")
		req.setEnum("interrupt_type", "INTERRUPT_TYPE_ALL")
		if err := old.unary(ctx, "Interrupt", "interrupting what was left", req, newMessage("InterruptResponse")); err != nil {
			return err
		}
	}
	return Live{Table: table}.Drop(ctx, old)
}

// newLiveTable names the view of a live dataset.
func newLiveTable() string {
	return "dkpipe_live_" + strings.ReplaceAll(uuid.NewString(), "-", "")
}

// createView makes a temporary view.
func (r *run) createView(ctx context.Context, name, sql string) error {
	p := newMessage("Plan")
	sqlRelation(p.in("command.create_dataframe_view").set("name", name).in("input"), sql)
	return r.s.execute(ctx, "live dataset", r.tag, p, func(message) error { return nil })
}
