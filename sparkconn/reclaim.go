package sparkconn

import (
	"context"
	"strings"

	"dkpipe/pipeline"

	"github.com/google/uuid"
)

// Work names what a process has a server do, so that another process can end it. It is plain data and holds no secret.
type Work struct {
	Remote  string `json:"remote"` // the server, without a token
	Session string `json:"session"`
	User    string `json:"user"` // of the session
	Own     bool   `json:"own"`  // the session was made by the process, for this work
	Tag     string `json:"tag,omitempty"`
}

// Work is what the engine has its server do under e.Tag.
func (e Engine) Work() Work {
	s := e.Session
	return Work{Remote: s.Remote(), Session: s.id, User: s.remote.UserID, Own: s.own, Tag: e.Tag}
}

// End interrupts the work of a process that died, which the server would go on with for minutes, and releases its
// session when that was made for it. Work that the server has forgotten is no error.
func (s *Session) End(ctx context.Context, w Work) error {
	return s.leave(ctx, w, func(*Session) error { return nil })
}

// Reclaim gives back what a live dataset holds in Spark whose process died before its Drop. Spark keeps cached rows for as
// long as the server runs, also when their session has ended. p is the fitted plan that was materialized as the table.
//
// While the session is there, what still runs in it is interrupted and the table is dropped. After that, and without a
// session, the rows go by their plan: Spark finds cached rows by what they are made of.
func (e Engine) Reclaim(ctx context.Context, p pipeline.Plan, w Work, table string) error {
	err := e.Session.leave(ctx, w, func(old *Session) error { return Live{Table: table}.Drop(ctx, old) })
	if err != nil {
		return err
	}
	return e.run(ctx, p, func(ctx context.Context, r *run) error {
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

// leave joins a session that a dead process has used, interrupts the process' work, lets last do more in it, and releases
// it where it was the process' own. A session that the server has closed is no error.
func (s *Session) leave(ctx context.Context, w Work, last func(old *Session) error) error {
	there := s.remote
	there.SessionID = w.Session
	if w.User != "" {
		there.UserID = w.User
	}
	old, err := dial(ctx, there, s.opt)
	if err != nil {
		if strings.Contains(err.Error(), "INVALID_HANDLE.SESSION_") { // closed, or changed since
			return nil
		}
		return err
	}
	defer old.Close()
	old.own = w.Own
	if w.Own || w.Tag != "" {
		req := old.request("InterruptRequest")
		if w.Own {
			req.setEnum("interrupt_type", "INTERRUPT_TYPE_ALL")
		} else {
			req.setEnum("interrupt_type", "INTERRUPT_TYPE_TAG").set("operation_tag", w.Tag)
		}
		if err := old.unary(ctx, "Interrupt", "interrupting what was left", req, newMessage("InterruptResponse")); err != nil {
			return err
		}
	}
	return last(old)
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
