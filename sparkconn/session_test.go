package sparkconn

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dkpipe/pipeline"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"
)

// slow is a query that gives rows for a long time.
const slow = "SELECT id, array_repeat(CAST(id AS FLOAT), 784) AS x FROM range(0, 40000000, 1, 4000)"

func TestACancelledQueryIsGoneFromTheServer(t *testing.T) {
	s := dialReal(t)
	for name, stop := range map[string]func(tag string, cancel context.CancelFunc) error{
		"the context ends": func(_ string, cancel context.CancelFunc) error { cancel(); return nil },
		"an interrupt by tag": func(tag string, _ context.CancelFunc) error {
			ids, err := s.Interrupt(t.Context(), tag)
			if err == nil && len(ids) != 1 {
				err = errors.New("nothing was interrupted")
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tag := uuid.NewString()
			done := make(chan error, 1)
			started := make(chan struct{})
			go func() {
				done <- s.execute(ctx, "slow", tag, sqlPlan(slow), func(message) error { // the first message is one of progress
					select {
					case <-started:
					default:
						close(started)
					}
					return nil
				})
			}()
			select {
			case <-started:
			case err := <-done:
				t.Fatal(err)
			}
			begin := time.Now()
			if err := stop(tag, cancel); err != nil {
				t.Fatal(err)
			}
			err := <-done
			if kindOf(err) != pipeline.Interrupted {
				t.Errorf("error %v", err)
			}
			if ids, err := s.Interrupt(t.Context(), tag); err != nil || len(ids) != 0 {
				t.Errorf("after the end %v could be interrupted, %v", ids, err)
			}
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("the end took %s", took)
			}
		})
	}
}

func TestErrorsOfSparkCarryClassStateAndPlace(t *testing.T) {
	s := dialReal(t)
	for sql, want := range map[string]struct {
		kind         pipeline.Kind
		class, state string
		words        string
	}{
		"SELECT\n  nope FROM range(1)":                      {pipeline.MissingColumn, "UNRESOLVED_COLUMN.WITH_SUGGESTION", "42703", "nope"},
		"SELECT * FROM nope":                                {pipeline.BadSpec, "TABLE_OR_VIEW_NOT_FOUND", "42P01", "nope"},
		"SELEC 1":                                           {pipeline.BadSpec, "PARSE_SYNTAX_ERROR", "42601", "SELEC"},
		"SELECT id / (id - id) FROM range(1)":               {pipeline.Data, "DIVIDE_BY_ZERO", "22012", "id / (id - id)"},
		"SELECT CAST(concat('a', id) AS INT) FROM range(1)": {pipeline.Data, "CAST_INVALID_INPUT", "22018", "a0"},
		"SELECT * FROM parquet.`/does/not/exist`":           {pipeline.Data, "PATH_NOT_FOUND", "42K03", "/does/not/exist"},
		"SELECT raise_error(repeat('long ', 2000))":         {pipeline.Data, "USER_RAISED_EXCEPTION", "P0001", "long long"},
	} {
		err := s.Query(t.Context(), "", sql, func(arrow.RecordBatch) error { return nil })
		if major(t, s) < 4 { // Spark 3.5 has no details
			wantError(t, err, want.kind)
			continue
		}
		wantError(t, err, want.kind, want.words)
		var e *ServerError
		if !errors.As(err, &e) || e.Class != want.class || e.SQLState != want.state {
			t.Errorf("%s: class and state of %+v, want %s and %s", sql, e, want.class, want.state)
		}
		if strings.Contains(err.Error(), "\tat ") {
			t.Errorf("%s: a stack trace in %v", sql, err)
		}
	}
}

func TestProcessesShareASessionByItsID(t *testing.T) {
	a := dialReal(t)
	b, err := Dial(t.Context(), realServers(t).Spark+"/;session_id="+a.ID(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Exec(t.Context(), "", "CREATE TEMPORARY VIEW shared AS SELECT 7 AS seven"); err != nil {
		t.Fatal(err)
	}
	got, err := b.table(t.Context(), "shared", "", "SELECT seven FROM shared")
	if err != nil || got.cols[0].ints[0] != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := b.Close(); err != nil { // it does not own the session
		t.Error(err)
	}
	if _, err := a.table(t.Context(), "shared", "", "SELECT seven FROM shared"); err != nil {
		t.Errorf("after the other one has closed: %v", err)
	}
}
