package sparkconn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"dkpipe/pipeline"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Live is a dataset that is kept in Spark and not in files: plain data that may be sent to other processes, which
// dial the session of its id and open feeds on it. It lasts as long as the session.
type Live struct {
	Session string                `json:"session"` // id of the Spark session
	Table   string                `json:"table"`   // a cached temporary view
	Columns []pipeline.ColumnInfo `json:"columns"`
	Shards  []pipeline.ShardInfo  `json:"shards"` // without hashes; Bytes is the size of the rows as float32
	Skipped int64                 `json:"skipped"`
}

// DefaultShardBytes is the largest shard of a live dataset. Spark's driver holds a whole shard while it is sent,
// however slow its reader is.
const DefaultShardBytes = 512 << 20

// Materialize runs a fitted plan and keeps the finished rows in Spark, in memory and on the disks of its executors,
// cut into shards and sorted as files would be, as the temporary view e.LiveTable. A shard of more than shardBytes (0:
// DefaultShardBytes) is refused with the number of shards that would do. Drop gives the memory back; nothing else does,
// not even the end of the session (see Reclaim).
func (e Engine) Materialize(ctx context.Context, p pipeline.Plan, shardBytes int64) (Live, error) {
	if shardBytes <= 0 {
		shardBytes = DefaultShardBytes
	}
	live := Live{Table: e.LiveTable}
	if live.Table == "" {
		live.Table = newLiveTable()
	}
	if len(p.Fitted) != len(p.Steps) {
		return live, internalErr("%d of %d steps are fitted: Fit comes before Materialize", len(p.Fitted), len(p.Steps))
	}
	err := e.run(ctx, p, func(ctx context.Context, r *run) error {
		live.Session, r.src.nested = r.s.id, true
		c, outputs, err := r.finished(false, false)
		if err != nil {
			return err
		}
		for _, o := range outputs {
			live.Columns = append(live.Columns, o.info)
		}
		if err := r.createView(ctx, live.Table, rowsSQL(c, outputs, p.Shards, true)); err != nil {
			return err
		}
		cache := newMessage("Plan")
		cache.in("command.sql_command").set("sql", "CACHE TABLE "+live.Table+" OPTIONS ('storageLevel' 'MEMORY_AND_DISK')")
		err = r.s.execute(ctx, "live dataset", r.tag, cache, watch(r.progress, int64(c.parts*max(1, p.Shards))))
		if err = r.checked(ctx, err, false); err == nil {
			err = live.count(ctx, r, c, shardBytes)
		}
		if err != nil {
			live.drop(ctx, r.s)
		}
		return err
	})
	return live, err
}

// count lists the shards and refuses large ones.
func (l *Live) count(ctx context.Context, r *run, c *chain, limit int64) error {
	t, err := r.table(ctx, "counting rows", fmt.Sprintf("SELECT %s, %s, count(*) FROM %s GROUP BY 1, 2", partColumn, shardColumn, l.Table))
	if err != nil {
		return err
	}
	order := make([]int, t.rows)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if d := r.partIndex(t.cols[0].texts[a]) - r.partIndex(t.cols[0].texts[b]); d != 0 {
			return d
		}
		return int(t.cols[1].ints[a] - t.cols[1].ints[b])
	})
	size := int64(newRowLayout(l.Columns).bytes)
	for _, i := range order {
		s := pipeline.ShardInfo{Split: t.cols[0].texts[i], Path: fmt.Sprintf("%s/shard-%05d", t.cols[0].texts[i], t.cols[1].ints[i]), Rows: t.cols[2].ints[i]}
		s.Bytes = s.Rows * size
		l.Shards = append(l.Shards, s)
	}
	if err := l.tooLarge(r.p.Shards, size, limit); err != nil {
		return err
	}
	l.Skipped, err = r.skipped(ctx, c, l.Shards)
	return err
}

// tooLarge refuses shards of more than limit bytes, and says how many shards would do.
func (l *Live) tooLarge(shards int, size, limit int64) error {
	rows := map[string]int64{} // of each part
	var largest pipeline.ShardInfo
	for _, s := range l.Shards {
		rows[s.Split] += s.Rows
		if s.Bytes > largest.Bytes {
			largest = s
		}
	}
	if largest.Bytes <= limit {
		return nil
	}
	hint := "use narrower columns, or raise the limit"
	if most := float64(limit / size); most >= 1 {
		// Rows fall into shards by their hash: of m on average, the fullest of many has m + 4√m at most.
		m := max(1, math.Pow(math.Sqrt(4+most)-2, 2))
		need := float64(max(1, shards)) * float64(largest.Bytes) / float64(limit)
		for _, n := range rows {
			need = max(need, float64(n)/m)
		}
		hint = fmt.Sprintf("set dataset.shards to at least %d", int(math.Ceil(need)))
	}
	return &pipeline.Error{Kind: pipeline.BadSpec, Hint: hint, Message: fmt.Sprintf("live: %s has %d rows of %d bytes, %s; the limit is %s",
		largest.Path, largest.Rows, size, inBytes(largest.Bytes), inBytes(limit))}
}

// inBytes writes a size for people.
func inBytes(n int64) string {
	for _, unit := range []string{"bytes", "KiB", "MiB"} {
		if n < 10<<10 {
			return fmt.Sprintf("%d %s", n, unit)
		}
		n >>= 10
	}
	return fmt.Sprintf("%d GiB", n)
}

// Drop gives back what the dataset holds in Spark.
func (l Live) Drop(ctx context.Context, s *Session) error {
	if err := s.Exec(ctx, "", "UNCACHE TABLE IF EXISTS "+l.Table); err != nil {
		return err
	}
	return s.Exec(ctx, "", "DROP VIEW IF EXISTS "+l.Table)
}

// drop is Drop after a failure, whose own error counts.
func (l Live) drop(ctx context.Context, s *Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
	defer cancel()
	_ = l.Drop(ctx, s)
}

// FeedOptions says which rows of a live dataset a feed gives, in what order, and where it keeps them. BatchSize must
// be set.
type FeedOptions struct {
	Split      string // part of the dataset; empty: train
	BatchSize  int    // rows of a batch
	Shuffle    bool   // another order in every epoch; else the order of files: ascending by hash
	Seed       int64  // of the shuffle
	Dir        string // local folder for shards; empty: the system's for temporary files
	SpoolBytes int64  // of all shards that are kept for later epochs; 0: 8 GiB. More are fetched anew in every epoch
}

// Feed is the pipeline.Feed over a live dataset.
//
// A shard is fetched by one query when it is opened for the first time, into a local file, and given out only once
// Spark has said that it was complete: rows that came before an error are never seen. Later epochs read the file. With
// Shuffle an epoch is a permutation of all rows of the shard. Memory does not depend on the size of a shard, but for
// four bytes a row of a shuffled one.
type Feed struct {
	s      *Session
	live   Live
	opt    FeedOptions
	layout rowLayout
	dir    string
	shards []pipeline.Shard
	spools []spool
	room   chan int64 // bytes that may still be kept; who holds the value may change it
}

var _ pipeline.Feed = (*Feed)(nil)

// spool is the local copy of a shard. Who took the token may touch the rest.
type spool struct {
	token chan struct{}
	file  string // kept for later epochs, or empty
}

// OpenLive makes a feed of one part of a live dataset, on a session with its id. Close it to remove its files.
func OpenLive(ctx context.Context, s *Session, live Live, opt FeedOptions) (*Feed, error) {
	if opt.Split == "" {
		opt.Split = trainPart
	}
	if opt.SpoolBytes == 0 {
		opt.SpoolBytes = 8 << 30
	}
	if opt.BatchSize < 1 || opt.SpoolBytes < 0 {
		return nil, &pipeline.Error{Kind: pipeline.Usage, Message: fmt.Sprintf("live feed of %s: batches of %d rows, %d bytes for shards", opt.Split, opt.BatchSize, opt.SpoolBytes), Hint: "use batches of 1 row or more"}
	}
	if s.id != live.Session {
		return nil, &pipeline.Error{Kind: pipeline.Usage, Message: "the live dataset belongs to another Spark session", Hint: "dial with ;session_id=" + live.Session}
	}
	f := &Feed{s: s, live: live, opt: opt, layout: newRowLayout(live.Columns), room: make(chan int64, 1)}
	f.room <- opt.SpoolBytes
	for _, sh := range live.Shards {
		if sh.Split == opt.Split {
			f.shards = append(f.shards, pipeline.Shard{ID: len(f.shards), Path: sh.Path, Rows: sh.Rows, Bytes: sh.Bytes})
			f.spools = append(f.spools, spool{token: make(chan struct{}, 1)})
		}
	}
	if len(f.shards) == 0 {
		return nil, dataErr("check split in the spec", "the live dataset has no rows of %s", opt.Split)
	}
	// Batches of about 2 MiB: larger ones are not faster and take more memory on both sides.
	rows := min(max(2<<20/max(1, f.layout.bytes), 64), 10_000)
	if err := s.SetConf(ctx, map[string]string{"spark.sql.execution.arrow.maxRecordsPerBatch": strconv.Itoa(rows)}); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(opt.Dir, "dkpipe-live-")
	if err != nil {
		return nil, localErr("folder for shards", err)
	}
	f.dir = dir
	return f, nil
}

func localErr(what string, err error) error {
	kind := pipeline.Internal
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind = pipeline.NoSpace
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		kind = pipeline.Denied
	}
	return &pipeline.Error{Kind: kind, Message: "the local copy of live rows: " + what, Hint: "set TMPDIR to a folder that exists, can be written and has space for a copy of the shards", Err: err}
}

// Close removes the files. Readers that are open keep theirs until they are closed.
func (f *Feed) Close() error {
	if err := os.RemoveAll(f.dir); err != nil {
		return localErr("removing shards", err)
	}
	return nil
}

// Shards lists the shards of the part.
func (f *Feed) Shards(ctx context.Context) ([]pipeline.Shard, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx, "shards of "+f.live.Table)
	}
	return slices.Clone(f.shards), nil
}

// Open gives a reader of a shard. The first one of a shard waits until the shard has been fetched.
func (f *Feed) Open(ctx context.Context, s pipeline.Shard, from pipeline.Cursor) (pipeline.BatchReader, error) {
	if s.ID < 0 || s.ID >= len(f.shards) || f.shards[s.ID] != s {
		return nil, &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("%s: no shard %d of %s", s.Path, s.ID, f.live.Table), Hint: "prepare the live dataset anew in every run"}
	}
	if from.Row < 0 || from.Row > s.Rows || from.Epoch < 0 {
		return nil, internalErr("%s: position %+v of %d rows", s.Path, from, s.Rows)
	}
	if ctx.Err() != nil {
		return nil, ended(ctx, s.Path)
	}
	file, err := f.fetched(ctx, s)
	if err != nil {
		return nil, err
	}
	return newSpoolReader(ctx, file, s, f.layout, f.opt, from), nil
}

// fetched opens the shard's local copy, which the caller closes. The first caller fetches it, others wait.
func (f *Feed) fetched(ctx context.Context, s pipeline.Shard) (*os.File, error) {
	sp := &f.spools[s.ID]
	select {
	case sp.token <- struct{}{}:
	case <-ctx.Done():
		return nil, ended(ctx, s.Path)
	}
	defer func() { <-sp.token }()
	if sp.file != "" {
		file, err := os.Open(sp.file)
		if err != nil {
			return nil, localErr(s.Path, err)
		}
		return file, nil
	}
	file, err := os.CreateTemp(f.dir, "shard-")
	if err != nil {
		return nil, localErr(s.Path, err)
	}
	if err := f.fetch(ctx, s, file); err != nil {
		_ = file.Close()
		_ = os.Remove(file.Name())
		return nil, err
	}
	room := <-f.room
	if room >= s.Bytes {
		room -= s.Bytes
		sp.file = filepath.Clean(file.Name())
	} else {
		// An open file outlives its name: the reader has the rows, and the disk gets its space back with it.
		err = os.Remove(file.Name())
	}
	f.room <- room
	if err != nil {
		_ = file.Close()
		return nil, localErr(s.Path, err)
	}
	return file, nil
}

// fetch writes the rows of a shard, in the order of files, into a file.
func (f *Feed) fetch(ctx context.Context, s pipeline.Shard, file *os.File) error {
	var names []string
	for _, c := range f.live.Columns {
		if c.Role != "keep" {
			id, err := identifier(c.Name)
			if err != nil {
				return err
			}
			names = append(names, id)
		}
	}
	_, number, _ := strings.Cut(s.Path, "/shard-")
	shard, err := strconv.Atoi(number)
	if err != nil {
		return internalErr("%s: no number of a shard", s.Path)
	}
	sql := fmt.Sprintf("SELECT %s FROM %s WHERE %s = %s AND %s = %d SORT BY %s", strings.Join(names, ", "), f.live.Table,
		partColumn, quoteText(f.opt.Split), shardColumn, shard, hashColumn)
	w := &spoolWriter{file: file, layout: f.layout, name: s.Path}
	if err := f.s.query(ctx, s.Path, "", sql, w.add); err != nil {
		return err
	}
	if w.rows != s.Rows {
		return &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("%s: Spark gave %d rows, there were %d", s.Path, w.rows, s.Rows),
			Hint: "the source has changed and Spark has computed the shard anew; run again"}
	}
	return nil
}

// spoolWriter writes rows as float32, one after the other.
type spoolWriter struct {
	file   *os.File
	layout rowLayout
	name   string
	rows   int64
	buf    []byte
	lists  []*array.List
	values [][]float32
}

func (w *spoolWriter) add(rec arrow.RecordBatch) error {
	n := int(rec.NumRows())
	bad := func(what string) error {
		return &pipeline.Error{Kind: pipeline.Corrupt, Message: w.name + ": " + what, Hint: "run again"}
	}
	if int(rec.NumCols()) != len(w.layout.widths) {
		return bad(fmt.Sprintf("%d columns from Spark, want %d", rec.NumCols(), len(w.layout.widths)))
	}
	w.lists, w.values = w.lists[:0], w.values[:0]
	for i, width := range w.layout.widths {
		l, ok := rec.Column(i).(*array.List)
		if !ok {
			return bad("column " + rec.ColumnName(i) + " is of the type " + rec.Column(i).DataType().String())
		}
		v, ok := l.ListValues().(*array.Float32)
		if !ok || l.NullN() > 0 || v.NullN() > 0 {
			return bad("column " + rec.ColumnName(i) + " holds NULL, or no float32")
		}
		for k := range n {
			if from, to := l.ValueOffsets(k); to-from != int64(width) {
				return bad(fmt.Sprintf("column %s has %d values in a row, want %d", rec.ColumnName(i), to-from, width))
			}
		}
		w.lists, w.values = append(w.lists, l), append(w.values, v.Float32Values())
	}
	w.buf = w.buf[:0]
	for k := range n {
		for i, l := range w.lists {
			from, to := l.ValueOffsets(k)
			w.buf = appendFloats(w.buf, w.values[i][from:to])
		}
	}
	w.rows += int64(n)
	if _, err := w.file.Write(w.buf); err != nil {
		return localErr(w.name, err)
	}
	return nil
}
