package sparkconn

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"dkpipe/pipeline"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// Query runs a query and gives its rows to each, batch by batch, in order; a record is valid until each returns. The
// memory does not depend on the size of the result. Rows that each has seen before an error are no result. tag, if
// not empty, lets Interrupt stop the query. Errors of each come back as they are and end the query on the server.
func (s *Session) Query(ctx context.Context, tag, sql string, each func(arrow.RecordBatch) error) error {
	return s.query(ctx, "query", tag, sql, each)
}

// Exec runs a statement that gives no rows, for example CREATE VIEW.
func (s *Session) Exec(ctx context.Context, tag, sql string) error {
	p := newMessage("Plan")
	p.in("command.sql_command").set("sql", sql)
	return s.execute(ctx, "statement", tag, p, func(message) error { return nil })
}

func (s *Session) query(ctx context.Context, what, tag, sql string, each func(arrow.RecordBatch) error) error {
	return s.execute(ctx, what, tag, sqlPlan(sql), func(rep message) error {
		batch, ok := rep.has("arrow_batch")
		if !ok {
			return nil
		}
		return eachRecord(what, batch.Get(batch.field("data")).Bytes(), each)
	})
}

// eachRecord decodes one batch of the protocol: a complete Arrow stream with a schema and a record.
func eachRecord(what string, data []byte, each func(arrow.RecordBatch) error) (err error) {
	broken := func(err error) error {
		return &pipeline.Error{Kind: pipeline.Corrupt, Message: what + ": a batch from Spark is not Arrow", Err: err}
	}
	decoding := true
	defer func() { // arrow-go panics on some bad bytes
		if r := recover(); r != nil {
			if !decoding {
				panic(r)
			}
			err = broken(fmt.Errorf("%v", r))
		}
	}()
	r, err := ipc.NewReader(bytes.NewReader(data), ipc.WithDelayReadSchema(false))
	if err != nil {
		return broken(err)
	}
	defer r.Release()
	for r.Next() {
		decoding = false
		if err := each(r.RecordBatch()); err != nil {
			return err
		}
		decoding = true
	}
	if r.Err() != nil {
		return broken(r.Err())
	}
	return nil
}

// table is a small result, held in memory.
type table struct {
	what string
	rows int
	cols []tableColumn
}

// tableColumn holds the values of one column of a table. Numbers are in both ints and floats.
type tableColumn struct {
	name   string
	null   []bool
	ints   []int64
	floats []float64
	texts  []string
	vecs   [][]float64
}

// nulls says for each column of the first row whether it is NULL.
func (t *table) nulls() []bool {
	null := make([]bool, len(t.cols))
	for i := range t.cols {
		null[i] = t.cols[i].null[0]
	}
	return null
}

// maxTable bounds the rows of a small result.
const maxTable = 4 << 20

// table runs a query with a small result.
func (s *Session) table(ctx context.Context, what, tag, sql string) (*table, error) {
	t := &table{what: what}
	err := s.query(ctx, what, tag, sql, t.add)
	return t, err
}

func (t *table) add(rec arrow.RecordBatch) error {
	if t.cols == nil {
		t.cols = make([]tableColumn, rec.NumCols())
		for i := range t.cols {
			t.cols[i].name = rec.ColumnName(i)
		}
	}
	if t.rows += int(rec.NumRows()); t.rows > maxTable || int(rec.NumCols()) != len(t.cols) {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("%s: a result of more than %d rows, or of changing columns", t.what, maxTable)}
	}
	for i := range t.cols {
		if err := t.cols[i].add(rec.Column(i)); err != nil {
			return &pipeline.Error{Kind: pipeline.Unsupported, Message: t.what + ": column " + t.cols[i].name, Err: err}
		}
	}
	return nil
}

func (c *tableColumn) add(a arrow.Array) error {
	for i := range a.Len() {
		c.null = append(c.null, a.IsNull(i))
	}
	for i := range a.Len() {
		v := math.NaN()
		n := int64(0)
		text := ""
		var vec []float64
		if a.IsNull(i) {
			c.push(n, v, text, vec)
			continue
		}
		switch a := a.(type) {
		case *array.Boolean:
			if a.Value(i) {
				n = 1
			}
			v = float64(n)
		case *array.Int8:
			n, v = int64(a.Value(i)), float64(a.Value(i))
		case *array.Int16:
			n, v = int64(a.Value(i)), float64(a.Value(i))
		case *array.Int32:
			n, v = int64(a.Value(i)), float64(a.Value(i))
		case *array.Int64:
			n, v = a.Value(i), float64(a.Value(i))
		case *array.Float32:
			v = float64(a.Value(i))
		case *array.Float64:
			v = a.Value(i)
		case *array.String:
			text = string([]byte(a.Value(i))) // the record's memory goes
		case *array.LargeString:
			text = string([]byte(a.Value(i)))
		case array.ListLike:
			from, to := a.ValueOffsets(i)
			var inner tableColumn
			values := array.NewSlice(a.ListValues(), from, to)
			err := inner.add(values)
			values.Release()
			if err != nil {
				return err
			}
			vec = append(make([]float64, 0, len(inner.floats)), inner.floats...)
		case *array.Null:
		default:
			return fmt.Errorf("the type %s", a.DataType())
		}
		c.push(n, v, text, vec)
	}
	return nil
}

func (c *tableColumn) push(n int64, v float64, text string, vec []float64) {
	c.ints, c.floats, c.texts, c.vecs = append(c.ints, n), append(c.floats, v), append(c.texts, text), append(c.vecs, vec)
}
