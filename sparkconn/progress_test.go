package sparkconn

import (
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"google.golang.org/protobuf/encoding/protowire"
)

// stageInfo encodes a stage as Spark does.
func stageInfo(tasks, done, bytes uint64) []byte {
	var b []byte
	for i, v := range []uint64{7, tasks, done, bytes} {
		b = protowire.AppendTag(b, protowire.Number(i+1), protowire.VarintType)
		b = protowire.AppendVarint(b, v)
	}
	return b
}

// progressResponse is a response with progress of the stages.
func progressResponse(stages ...[]byte) message {
	var all []byte
	for _, s := range stages {
		all = protowire.AppendTag(all, stageOf, protowire.BytesType)
		all = protowire.AppendBytes(all, s)
	}
	all = protowire.AppendTag(all, 2, protowire.VarintType)
	all = protowire.AppendVarint(all, 2)
	rep := newMessage("ExecutePlanResponse")
	rep.SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, executionProgress, protowire.BytesType), all))
	return rep
}

func TestProgressCountsTheLastStageFromTheBegin(t *testing.T) {
	first, second := stageInfo(12, 3, 5<<30), stageInfo(8, 2, 0)
	for _, c := range []struct {
		rep  message
		want Progress
		ok   bool
		text string
	}{
		{progressResponse(first), Progress{Tasks: 3, Of: 20, Bytes: 5 << 30}, true, "3 of 20 tasks, 5120 MiB read"},
		{progressResponse(first, second), Progress{Tasks: 5, Of: 20, Bytes: 5 << 30}, true, "5 of 20 tasks, 5120 MiB read"},
		{progressResponse(stageInfo(1, 0, 4096)), Progress{Of: 9, Bytes: 4096}, true, "0 of 9 tasks, 4096 bytes read"},
		{progressResponse(stageInfo(1, 1, 0), stageInfo(8, 3, 4096)), Progress{Tasks: 4, Of: 17, Bytes: 4096}, true, "4 of 17 tasks, 4096 bytes read"},
		{progressResponse(first, stageInfo(12, 0, 0), second), Progress{Tasks: 5, Of: 20, Bytes: 5 << 30}, true, "5 of 20 tasks, 5120 MiB read"},
		{progressResponse(), Progress{}, false, ""},
		{newMessage("ExecutePlanResponse"), Progress{}, false, ""},
	} {
		p, ok := progressOf(c.rep, 8)
		if p != c.want || ok != c.ok || ok && p.String() != c.text {
			t.Errorf("progress %+v %v %q, want %+v %v %q", p, ok, p, c.want, c.ok, c.text)
		}
	}
}

func FuzzProgress(f *testing.F) {
	f.Add([]byte(progressResponse(stageInfo(12, 3, 5<<30)).GetUnknown()))
	f.Add([]byte{0x92, 0x01, 0x02, 0x0a, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		rep := newMessage("ExecutePlanResponse")
		rep.SetUnknown(b)
		if p, ok := progressOf(rep, 8); !ok && p != (Progress{}) {
			t.Errorf("%+v out of nothing", p)
		}
	})
}

// TestAWriteTellsItsProgress: every other second by itself; the session asks for more.
func TestAWriteTellsItsProgress(t *testing.T) {
	s := dialReal(t)
	if major(t, s) < 4 {
		t.Skip("Spark 3.5 tells no progress")
	}
	if err := s.SetConf(t.Context(), map[string]string{"spark.connect.progress.reportInterval": "50ms"}); err != nil {
		t.Fatal(err)
	}
	p := sqlOver("SELECT id, CAST(id AS FLOAT) AS x FROM range(0, 200, 1, 4)")
	p.Fitted = []expr.Fitted{}
	stage, _ := stageIn(t, nil)
	if _, err := (Engine{Session: s}).Write(t.Context(), p, stage); err != nil {
		t.Fatal(err)
	}
	p.Source.Text = "SELECT id, CAST(if(java_method('java.lang.Thread', 'sleep', 5L) IS NULL, id, 0L) AS FLOAT) AS x FROM parquet.`" + stageFolder(stage) + "`"
	var seen []Progress
	e := Engine{Session: s, Progress: func(p Progress) { seen = append(seen, p) }}
	if _, err := e.Write(t.Context(), p, pipeline.Stage{URI: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if len(seen) < 5 {
		t.Fatalf("told %d times: %v", len(seen), seen)
	}
	for i, p := range seen {
		if p.Tasks > p.Of || p.Of <= 6 || i > 0 && (p.Tasks < seen[i-1].Tasks || p.Of < seen[i-1].Of || p.Bytes < seen[i-1].Bytes) {
			t.Fatalf("progress %d is %v, after %v", i, p, seen[max(0, i-1)])
		}
	}
	if first, last := seen[0], seen[len(seen)-1]; last.Tasks <= first.Tasks || last.Bytes == 0 {
		t.Errorf("from %v to %v", first, last)
	}
}

// major is the server's version.
func major(t testing.TB, s *Session) int {
	t.Helper()
	n := int(s.Version()[0] - '0')
	if n < 3 || n > 9 {
		t.Fatalf("version %q", s.Version())
	}
	return n
}
