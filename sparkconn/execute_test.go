package sparkconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/sparkconn/sparktest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
)

// batches gives n Arrow streams of one row each: 0, 1, 2...
func batches(t testing.TB, n int) [][]byte {
	schema := arrow.NewSchema([]arrow.Field{{Name: "i", Type: arrow.PrimitiveTypes.Int64}}, nil)
	var out [][]byte
	for i := range n {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		rec := b.NewRecordBatch()
		var buf bytes.Buffer
		w := ipc.NewWriter(&buf, ipc.WithSchema(schema))
		if err := errors.Join(w.Write(rec), w.Close()); err != nil {
			t.Fatal(err)
		}
		rec.Release()
		b.Release()
		out = append(out, buf.Bytes())
	}
	return out
}

func dialFake(t *testing.T, f *sparktest.Server, opt Options) *Session {
	t.Helper()
	s, err := Dial(t.Context(), f.Remote, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// numbers runs a query and gives the values of its rows.
func numbers(ctx context.Context, s *Session) ([]int64, error) {
	var got []int64
	err := s.Query(ctx, "tag", "SELECT 1", func(rec arrow.RecordBatch) error {
		got = append(got, rec.Column(0).(*array.Int64).Int64Values()...)
		return nil
	})
	return got, err
}

func upTo(n int) []int64 {
	var out []int64
	for i := range n {
		out = append(out, int64(i))
	}
	return out
}

func TestAnOperationSurvivesBrokenStreams(t *testing.T) {
	const n = 12
	unavailable := sparktest.Stream{Send: 2, Then: sparktest.Refuse, Code: codes.Unavailable, Message: "restarting"}
	kicked := sparktest.Stream{Send: 3, Then: sparktest.Refuse, Code: codes.Internal, Message: "[INVALID_CURSOR.DISCONNECTED] The cursor is invalid."}
	for name, streams := range map[string][]sparktest.Stream{
		"the server ends streams at its limit":     {{Send: 5, Then: sparktest.End}, {Send: 5, Then: sparktest.End}, {Send: 2, Then: sparktest.End}},
		"connections are cut":                      {{Send: 3, Then: sparktest.Cut}, {Send: 4, Then: sparktest.Cut}},
		"a proxy answers with Unavailable":         {unavailable, unavailable, {Then: sparktest.Refuse, Code: codes.Unavailable}},
		"another stream took the cursor":           {kicked, kicked},
		"the first calls never register":           {{Unknown: true}, {Unknown: true}, {Send: 4, Then: sparktest.End}},
		"the connection is cut before any answer":  {{Then: sparktest.Cut}, {Unknown: true}},
		"a cut between the last batch and the end": {{Send: n, Then: sparktest.Cut}},
		"streams without responses":                {{Send: 1, Then: sparktest.End}, {Then: sparktest.End}, {Then: sparktest.End}},
	} {
		t.Run(name, func(t *testing.T) {
			f := sparktest.Start(t, sparktest.Options{})
			s := dialFake(t, f, Options{})
			f.Play(sparktest.Operation{Batches: batches(t, n), Streams: streams})
			got, err := numbers(t.Context(), s)
			if err != nil || !slices.Equal(got, upTo(n)) {
				t.Fatalf("rows %v, error %v", got, err)
			}
			release := f.Requests("ReleaseExecute")
			if len(release) == 0 || !release[len(release)-1].All {
				t.Errorf("the operation was not released: %v", release)
			}
			ids := map[string]bool{}
			for _, r := range append(f.Requests("ExecutePlan"), f.Requests("ReattachExecute")...) {
				ids[r.Operation] = true
			}
			if len(ids) != 1 {
				t.Errorf("%d operations instead of one", len(ids))
			}
			if r := f.Requests("ExecutePlan")[0]; !slices.Equal(r.Tags, []string{"tag"}) {
				t.Errorf("tags %v", r.Tags)
			}
		})
	}
}

func TestGoodbyesOfTheServerDoNotLoseRows(t *testing.T) {
	f := sparktest.Start(t, sparktest.Options{ConnectionAge: 20 * time.Millisecond})
	s := dialFake(t, f, Options{})
	f.Play(sparktest.Operation{Batches: batches(t, 4), Streams: []sparktest.Stream{{Send: 1, Then: sparktest.Hang}, {Send: 1, Then: sparktest.Hang}}})
	got, err := numbers(t.Context(), s)
	if err != nil || !slices.Equal(got, upTo(4)) {
		t.Fatalf("rows %v, error %v", got, err)
	}
}

func TestRowsBeforeAnErrorAreNoSuccess(t *testing.T) {
	for name, c := range map[string]struct {
		op    sparktest.Operation
		kind  pipeline.Kind
		words string
	}{
		"the server's limit of result sizes": {sparktest.Operation{Streams: []sparktest.Stream{{Send: 3, Then: sparktest.Refuse, Code: codes.Internal,
			Message: "Job aborted due to stage failure: Total size of serialized results of 9 tasks is bigger than spark.driver.maxResultSize 1024.0 MiB."}}},
			pipeline.BadSpec, "maxResultSize"},
		"the operation is lost in the middle":    {sparktest.Operation{Streams: []sparktest.Stream{{Send: 3, Then: sparktest.End}, {Unknown: true}}}, pipeline.Unreachable, "lost the operation"},
		"an answer for another operation":        {sparktest.Operation{ID: "other"}, pipeline.Internal, "another operation"},
		"bytes that are not Arrow":               {sparktest.Operation{Batches: [][]byte{[]byte("no arrow at all, but long enough")}}, pipeline.Corrupt, "not Arrow"},
		"no bytes at all":                        {sparktest.Operation{Batches: [][]byte{nil}}, pipeline.Corrupt, "not Arrow"},
		"the server does not come back":          {sparktest.Operation{Streams: slices.Repeat([]sparktest.Stream{{Then: sparktest.Refuse, Code: codes.Unavailable, Message: "gone"}}, 100)}, pipeline.Unreachable, "gone"},
		"streams that never bring anything":      {sparktest.Operation{Streams: slices.Repeat([]sparktest.Stream{{Then: sparktest.End}}, 100)}, pipeline.Unreachable, "without a response"},
		"a right is missing":                     {sparktest.Operation{Streams: []sparktest.Stream{{Then: sparktest.Refuse, Code: codes.PermissionDenied, Message: "no"}}}, pipeline.Denied, "no"},
		"a message that is larger than allowed":  {sparktest.Operation{Streams: []sparktest.Stream{{Then: sparktest.Refuse, Code: codes.ResourceExhausted, Message: "too large"}}}, pipeline.BadSpec, "too large"},
		"an error class in the text of an error": {sparktest.Operation{Streams: []sparktest.Stream{{Then: sparktest.Refuse, Code: codes.Internal, Message: "[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column `agee` cannot be resolved. SQLSTATE: 42703"}}}, pipeline.MissingColumn, "agee"},
	} {
		t.Run(name, func(t *testing.T) {
			f := sparktest.Start(t, sparktest.Options{})
			s := dialFake(t, f, Options{Patience: 200 * time.Millisecond})
			if c.op.Batches == nil {
				c.op.Batches = batches(t, 5)
			}
			f.Play(c.op)
			_, err := numbers(t.Context(), s)
			if kindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.words) {
				t.Errorf("error %v of kind %s, want %s with %q", err, kindOf(err), c.kind, c.words)
			}
			if r := f.Requests("ReleaseExecute"); len(r) == 0 || !r[len(r)-1].All {
				t.Errorf("the operation was not released: %v", r)
			}
		})
	}
}

func TestARestartedServerIsNoticed(t *testing.T) {
	f := sparktest.Start(t, sparktest.Options{})
	s := dialFake(t, f, Options{})
	f.Play(sparktest.Operation{Batches: batches(t, 1)})
	if _, err := numbers(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	f.Play(sparktest.Operation{Batches: batches(t, 1), Session: "another"})
	_, err := numbers(t.Context(), s)
	wantError(t, err, pipeline.Unreachable, "restarted")
}

func TestACancelledQueryIsReleased(t *testing.T) {
	f := sparktest.Start(t, sparktest.Options{})
	s := dialFake(t, f, Options{})
	f.Play(sparktest.Operation{Batches: batches(t, 3), Streams: []sparktest.Stream{{Send: 2, Then: sparktest.Hang}}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	err := s.Query(ctx, "", "SELECT 1", func(arrow.RecordBatch) error {
		if seen++; seen == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || kindOf(err) != pipeline.Interrupted {
		t.Errorf("error %v", err)
	}
	if err := f.Wait(t.Context(), "ReleaseExecute", 1); err != nil || !f.Requests("ReleaseExecute")[0].All {
		t.Errorf("released %v, %v", f.Requests("ReleaseExecute"), err)
	}
}

// TestAnOperationIsReleasedThatTheServerDoesNotKnowYet: a busy server hears that the caller has gone before it has begun.
func TestAnOperationIsReleasedThatTheServerDoesNotKnowYet(t *testing.T) {
	f := sparktest.Start(t, sparktest.Options{})
	s := dialFake(t, f, Options{Patience: 100 * time.Millisecond})
	f.Play(sparktest.Operation{Batches: batches(t, 3), Streams: []sparktest.Stream{{Then: sparktest.Hang}}, Late: 3})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { _, err := numbers(ctx, s); ended <- err }()
	if err := f.Wait(t.Context(), "ExecutePlan", 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; kindOf(err) != pipeline.Interrupted {
		t.Errorf("error %v", err)
	}
	if r := f.Requests("ReleaseExecute"); len(r) != 4 {
		t.Errorf("%d releases, want one more than the server has refused", len(r))
	}
	if r := f.Requests("ExecutePlan"); len(r) != 1 || len(f.Requests("ReattachExecute")) > 0 {
		t.Errorf("the plan was sent %d times", len(r))
	}
}

func TestAnErrorOfTheConsumerEndsTheQuery(t *testing.T) {
	f := sparktest.Start(t, sparktest.Options{})
	s := dialFake(t, f, Options{})
	f.Play(sparktest.Operation{Batches: batches(t, 3)})
	full := errors.New("full")
	if err := s.Query(t.Context(), "", "SELECT 1", func(arrow.RecordBatch) error { return full }); err != full {
		t.Errorf("error %v", err)
	}
	if r := f.Requests("ReleaseExecute"); len(r) != 1 || !r[0].All {
		t.Errorf("released %v", r)
	}
}

func TestDialSaysWhatIsWrong(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	quiet := log.New(io.Discard, "", 0)
	secure, secure2 := httptest.NewUnstartedServer(http.NotFoundHandler()), httptest.NewUnstartedServer(http.NotFoundHandler())
	secure2.EnableHTTP2 = true
	for _, s := range []*httptest.Server{secure, secure2} {
		s.Config.ErrorLog = quiet
		s.StartTLS()
		defer s.Close()
	}
	spark := sparktest.Start(t, sparktest.Options{})
	old := sparktest.Start(t, sparktest.Options{Version: "3.3.2"})
	locked := sparktest.Start(t, sparktest.Options{Token: "s3cret=="})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	at := func(a net.Addr) string { return "sc://" + a.String() }
	for name, c := range map[string]struct {
		remote string
		opt    Options
		kind   pipeline.Kind
		hint   string
	}{
		"nothing listens":               {at(closed.Addr()), Options{}, pipeline.Unreachable, "start the server"},
		"a web server":                  {at(web.Listener.Addr()), Options{}, pipeline.Unreachable, "web server"},
		"TLS against a plaintext Spark": {spark.Remote + "/;use_ssl=true", Options{}, pipeline.Unreachable, "plaintext"},
		"plaintext against TLS":         {at(secure.Listener.Addr()), Options{}, pipeline.Unreachable, "use_ssl=true"},
		"a certificate nobody trusts":   {at(secure2.Listener.Addr()) + "/;use_ssl=true", Options{}, pipeline.Unreachable, "certificate"},
		"a web server with TLS":         {at(secure.Listener.Addr()) + "/;use_ssl=true", Options{}, pipeline.Unreachable, "HTTP/2"},
		"another server with HTTP/2":    {at(secure2.Listener.Addr()) + "/;use_ssl=true", Options{TLS: &tls.Config{InsecureSkipVerify: true}}, pipeline.Unreachable, "web server"},
		"a server that says nothing":    {at(silent.Addr()), Options{DialTimeout: 100 * time.Millisecond}, pipeline.Unreachable, ""},
		"an old Spark":                  {old.Remote, Options{}, pipeline.Unsupported, "3.5"},
		"no token":                      {locked.Remote, Options{}, pipeline.Denied, "token"},
		"a wrong token":                 {locked.Remote + "/;token=hushhush", Options{}, pipeline.Denied, "token"},
		"plaintext to another machine":  {"sc://spark.example:15002", Options{}, pipeline.BadSpec, "use_ssl=true"},
		"a token in plaintext":          {"sc://spark.example:15002/;token=hush;use_ssl=false", Options{}, pipeline.BadSpec, "use_ssl=false out"},
		"plaintext that is meant":       {"sc://spark.invalid:15002/;use_ssl=false", Options{}, pipeline.Unreachable, "spelling"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Dial(t.Context(), c.remote, c.opt)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			var e *pipeline.Error
			if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(e.Hint, c.hint) || e.Hint == "" {
				t.Errorf("error %v (kind %s, hint %q), want kind %s and a hint with %q", err, kindOf(err), e.Hint, c.kind, c.hint)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the token is in %v", err)
			}
		})
	}
	s, err := Dial(t.Context(), locked.Remote+"/;token=s3cret==", Options{})
	if err != nil {
		t.Fatalf("the right token: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
