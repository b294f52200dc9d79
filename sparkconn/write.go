package sparkconn

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// Encodings of vectors in the files: Avro's array<float> in a BINARY column reads about twice as fast as Parquet's own
// lists, but needs the spark-avro JAR on the server.
const (
	encodingList  = "list"
	encodingAvro  = "avro_f32"
	encodingPlain = "plain"
)

// Where files go below the stage: Spark names them itself, and folders after the columns that it partitions by.
const (
	dataFolder  = "data"
	partColumn  = "dkpipe_part"
	shardColumn = "dkpipe_shard"
)

// Files are read a row group at a time, and shuffled by row groups: these are small.
const (
	groupBytes = 2 << 20
	pageBytes  = 256 << 10
)

// checkMark begins the message that the write job raises at a row that breaks a check; the number follows.
const checkMark = "dkpipe-check-"

// output is one column of the finished rows.
type output struct {
	info pipeline.ColumnInfo
	sql  string // over the last step's columns
}

// Write runs a fitted plan as one job that writes Parquet files below Stage.URI + "/data": a file a shard, rows sorted
// by the hash of their key. Stage.URI must name the place as Spark sees it: hdfs://host:port/path or file:///path.
// ShardInfo.Path is relative to the stage; SHA256 is empty unless Engine.Adopt is set. Nothing below the stage is a
// result unless the error is nil.
func (e Engine) Write(ctx context.Context, p pipeline.Plan, stage pipeline.Stage) (pipeline.Written, error) {
	var done pipeline.Written
	if len(p.Fitted) != len(p.Steps) {
		return done, internalErr("%d of %d steps are fitted: Fit comes before Write", len(p.Fitted), len(p.Steps))
	}
	if stage.URI == "" {
		return done, internalErr("Spark writes below Stage.URI, and the stage has none")
	}
	err := e.run(ctx, p, func(ctx context.Context, r *run) error {
		avro, err := false, error(nil)
		if !e.Lists {
			avro, err = r.hasAvro(ctx)
		}
		if err != nil {
			return err
		}
		c, outputs, err := r.finished(false, avro)
		if err != nil {
			return err
		}
		for _, o := range outputs {
			done.Columns = append(done.Columns, o.info)
		}
		if err := r.writeFiles(ctx, c, outputs, stage, avro); err != nil {
			return err
		}
		if done.Shards, err = r.listFiles(ctx, stage); err != nil {
			return err
		}
		done.Skipped, err = r.skipped(ctx, c, done.Shards)
		return err
	})
	if err != nil {
		return done, err
	}
	rows := int64(0)
	for i := range done.Shards {
		s := &done.Shards[i]
		rows += s.Rows
		if e.Adopt != nil {
			if s.Bytes, s.SHA256, err = e.Adopt(ctx, s.Path); err != nil {
				return done, err
			}
		}
	}
	if stage.Progress != nil {
		stage.Progress(rows+done.Skipped, rows+done.Skipped)
	}
	return done, nil
}

// hasAvro asks whether the server has spark-avro, by writing two floats with it.
func (r *run) hasAvro(ctx context.Context) (bool, error) {
	t, err := r.table(ctx, "looking for spark-avro", "SELECT hex("+toAvro("array(1F, 2F)")+")")
	var said *ServerError
	if errors.As(err, &said) && ctx.Err() == nil && kindOf(err) != pipeline.Unreachable {
		return false, nil
	}
	return err == nil && t.rows == 1 && t.cols[0].texts[0] == "040000803F0000004000", err
}

func kindOf(err error) pipeline.Kind {
	var e *pipeline.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func toAvro(sql string) string { return "to_avro(" + sql + `, '{"type":"array","items":"float"}')` }

// finished is the chain of all fitted steps and a last SELECT of the finished columns, with the checks of their roles.
func (r *run) finished(withFile, avro bool) (*chain, []output, error) {
	c, err := r.chain(r.p.Fitted, withFile, nil)
	if err != nil {
		return nil, nil, err
	}
	outputs, err := c.roles(r.src, r.p, avro)
	return c, outputs, err
}

// roles appends a SELECT that checks the finished columns, and gives them.
func (c *chain) roles(o *source, p pipeline.Plan, avro bool) ([]output, error) {
	kept, shapes := expr.KeptOnPurpose(p.Fitted), expr.Shapes(p.Fitted)
	state := stateColumn
	var outputs []output
	add := func(role, name string) error {
		f, err := c.role(o, role, name)
		if err != nil {
			return err
		}
		id, err := identifier(name)
		if err != nil {
			return err
		}
		out := output{info: pipeline.ColumnInfo{Name: name, Role: role, Scale: 1}}
		if role == "keep" {
			out.info.Encoding, out.sql = encodingPlain, id
			out.info.DType, err = keepType(f)
			switch {
			case f.Type.Kind == expr.Bool:
				out.sql = "CAST(" + id + " AS BIGINT)"
			case f.Type.Kind == expr.Float32:
				out.sql = "CAST(" + id + " AS DOUBLE)"
			}
			outputs = append(outputs, out)
			return err
		}
		if err := vectorType(role, f); err != nil {
			return err
		}
		out.info.DType, out.info.Shape = "float32", []int{max(1, f.Type.Width)}
		if s := shapes[name]; s != nil && (pipeline.ColumnInfo{Shape: s}).Width() == out.info.Shape[0] {
			out.info.Shape = s
		}
		out.sql = floats(id, f.Type, kept[name] && role != "weight")
		if k, ok := roleCheck(role, id, f, kept[name]); ok {
			k.level = len(c.selects)
			state = c.demand(state, k)
		}
		out.info.Encoding = encodingList
		if avro {
			out.info.Encoding, out.sql = encodingAvro, toAvro(out.sql)
		}
		outputs = append(outputs, out)
		return nil
	}
	roles := []struct {
		role  string
		names []string
	}{{"x", p.Columns.X}, {"y", p.Columns.Y}, {"weight", nil}, {"keep", p.Columns.Keep}}
	if p.Columns.Weight != "" {
		roles[2].names = []string{p.Columns.Weight}
	}
	for _, r := range roles {
		for _, name := range r.names {
			if hasPrefixFold(name, "dkpipe_") {
				return nil, unsupported("rename the column", "columns.%s: names that begin with dkpipe_ are taken", r.role)
			}
			if err := add(r.role, name); err != nil {
				return nil, err
			}
		}
	}
	return outputs, c.push(c.schema, nil, state, numberRows)
}

// role finds a column that has a role.
func (c *chain) role(o *source, role, name string) (expr.Field, error) {
	if f, ok := c.schema.Lookup(name); ok {
		return f, nil
	}
	if o != nil {
		for _, s := range o.cols {
			if s.Name == name && s.refused != "" {
				return expr.Field{}, unsupported("leave the column out, or convert it before", "columns.%s: column %q %s", role, name, s.refused)
			}
		}
	}
	names := make([]string, len(c.schema))
	for i, f := range c.schema {
		names[i] = f.Name
	}
	return expr.Field{}, &pipeline.Error{Kind: pipeline.MissingColumn, Message: fmt.Sprintf("columns.%s: there is no column %q", role, name), Hint: didYouMean(name, names)}
}

func vectorType(role string, f expr.Field) error {
	bad := func(hint, what string) error {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("columns.%s: %q is %s", role, f.Name, what), Hint: hint}
	}
	switch {
	case f.Type.Kind == expr.String:
		return bad("turn it into numbers, for example with string_index and one_hot", "text")
	case f.Type.Kind == expr.Bool:
		return bad("cast it to float32", "bool")
	case role == "weight" && f.Type.Width > 1:
		return bad("name a column with one number a row", f.Type.String())
	}
	return nil
}

func keepType(f expr.Field) (string, error) {
	switch {
	case f.Type.Width != 0:
		return "", &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("columns.keep: %q is %s", f.Name, f.Type), Hint: "keep scalar columns only"}
	case f.Type.Kind == expr.String:
		return "string", nil
	case f.Type.Kind == expr.Int64, f.Type.Kind == expr.Bool:
		return "int64", nil
	}
	return "float64", nil
}

// floats is a column as array<float>. With nulls, NULL becomes NaN in every position.
func floats(id string, t expr.Type, nulls bool) string {
	if t.Width == 0 {
		v := "CAST(" + double(piece{text: id, typ: t}).text + " AS FLOAT)"
		if nulls {
			v = "coalesce(" + v + ", float('NaN'))"
		}
		return "array(" + v + ")"
	}
	v := id
	if t.Kind != expr.Float32 {
		v = "CAST(" + id + " AS ARRAY<FLOAT>)"
	}
	if nulls {
		w := strconv.Itoa(t.Width)
		if t.Width == expr.AnyWidth {
			w = ":size"
		}
		v = "coalesce(" + v + ", array_repeat(float('NaN'), " + w + "))"
	}
	return v
}

// roleCheck is what must be true of a finished column: numbers that a float32 can hold, weights of 0 or more.
func roleCheck(role, id string, f expr.Field, kept bool) (check, bool) {
	k := check{op: "columns." + role, reads: []expr.Field{f},
		hint: "correct the row, filter it out, or use a transformer with handle_invalid: skip or keep"}
	low, high := "array_min("+id+")", "array_max("+id+")"
	if f.Type.Width == 0 {
		low, high = id, id
	}
	switch {
	case role == "weight":
		k.says = "a weight is a number of 0 or more"
		k.sql = id + " IS NOT NULL AND " + low + " >= 0 AND " + high + " < " + beyondFloat32
	case kept:
		return k, false
	default:
		k.says = "a value is no number that a float32 can hold"
		k.sql = id + " IS NOT NULL AND " + low + " > -" + beyondFloat32 + " AND " + high + " < " + beyondFloat32
	}
	return k, true
}

// beyondFloat32 is the least number that a float32 rounds to infinity: 2^128 - 2^103, half a step above the greatest.
const beyondFloat32 = "3.4028235677973366E38D"

// rowsSQL is the query for the finished rows: sorted by hash within a shard, a shard in one task, a task for every
// shard. withHash adds the hash to the columns.
func rowsSQL(c *chain, outputs []output, shards int, withHash bool) string {
	shards = max(1, shards)
	items := make([]string, 0, len(outputs)+3)
	names := make([]string, 0, len(outputs)+2)
	for _, o := range outputs {
		id, _ := identifier(o.info.Name) // was checked
		items = append(items, o.sql+" AS "+id)
		names = append(names, id)
	}
	shard := "CAST(pmod(" + hashColumn + ", " + strconv.Itoa(shards) + "L) AS INT)"
	items = append(items, c.part+" AS "+partColumn, shard+" AS "+shardColumn, hashColumn)
	tasks, by := c.parts*shards, partColumn+", "+shardColumn
	if keys := taskKeys(tasks); keys != "" {
		by = taskColumn
		items = append(items, "element_at("+keys+", 1 + "+c.number+" * "+strconv.Itoa(shards)+" + "+shard+") AS "+taskColumn)
	}
	names = append(names, partColumn, shardColumn)
	if withHash {
		names = append(names, hashColumn)
	}
	where := stateColumn + " IS NULL"
	if len(c.checks) > 0 {
		where = "CASE WHEN " + stateColumn + " > 0 THEN CAST(raise_error(concat('" + checkMark + "', " + stateColumn + ")) AS BOOLEAN) ELSE " + where + " END"
	}
	where += " AND " + filterHere
	return c.with(fmt.Sprintf("SELECT %s FROM (\n  SELECT * FROM (\n    SELECT /*+ REPARTITION(%d, %s) */ * FROM (\n      SELECT %s\n      FROM %s\n      WHERE %s))\n  SORT BY %s, %s, %s)",
		strings.Join(names, ", "), tasks, by, strings.Join(items, ", "), c.last(), where, partColumn, shardColumn, hashColumn))
}

// stageFolder is the folder below the stage as Spark sees it.
func stageFolder(stage pipeline.Stage) string {
	return strings.TrimRight(sparkPath(stage.URI), "/") + "/" + dataFolder
}

func (r *run) writeFiles(ctx context.Context, c *chain, outputs []output, stage pipeline.Stage, avro bool) error {
	p := newMessage("Plan")
	w := p.in("command.write_operation").set("source", "parquet").set("path", stageFolder(stage)).setEnum("mode", "SAVE_MODE_ERROR_IF_EXISTS")
	sqlRelation(w.in("input"), rowsSQL(c, outputs, r.p.Shards, false))
	w.append("partitioning_columns", partColumn, shardColumn)
	w.put("options", fileOptions())
	return r.checked(ctx, r.s.execute(ctx, "writing shards", r.tag, p, watch(r.progress, int64(c.parts*max(1, r.p.Shards)))), avro)
}

// fileOptions are what Spark's writer of Parquet is told.
func fileOptions() map[string]string {
	return map[string]string{
		"compression": "none", "maxRecordsPerFile": "0", "parquet.enable.dictionary": "false",
		"parquet.block.size": strconv.Itoa(groupBytes), "parquet.page.size": strconv.Itoa(pageBytes),
	}
}

// checked turns the error that a bad row raised into one about that row.
func (r *run) checked(ctx context.Context, err error, avro bool) error {
	var said *ServerError
	if !errors.As(err, &said) {
		return err
	}
	_, after, ok := strings.Cut(said.Message, checkMark)
	digits := strings.TrimLeft(after, "0123456789")
	k, bad := strconv.Atoi(strings.TrimSuffix(after, digits))
	if !ok || bad != nil {
		return err
	}
	return r.blame(ctx, k, func(withFile bool) (*chain, error) {
		c, _, err := r.finished(withFile, avro)
		return c, err
	})
}

// listFiles asks Spark for the files that it wrote: their rows and bytes come from the files themselves.
func (r *run) listFiles(ctx context.Context, stage pipeline.Stage) ([]pipeline.ShardInfo, error) {
	folder := stageFolder(stage)
	t, err := r.table(ctx, "listing shards", "SELECT _metadata.file_path, _metadata.file_size, count(*) FROM parquet.`"+strings.ReplaceAll(folder, "`", "``")+"` GROUP BY 1, 2")
	var said *ServerError
	if errors.As(err, &said) && said.is("UNABLE_TO_INFER_SCHEMA", "PATH_NOT_FOUND") {
		return nil, nil // no row, no file
	}
	if err != nil {
		return nil, err
	}
	type numbered struct {
		pipeline.ShardInfo
		part, shard int
	}
	var found []numbered
	for i := range t.rows {
		path, ok := strings.CutPrefix(t.cols[0].texts[i][max(0, strings.LastIndex(t.cols[0].texts[i], "/"+dataFolder+"/"+partColumn+"=")):], "/")
		if unescaped, err := url.PathUnescape(path); err == nil {
			path = unescaped
		}
		folders := strings.Split(path, "/")
		if !ok || len(folders) != 4 {
			return nil, internalErr("listing shards: Spark wrote %q, which is no shard", t.cols[0].texts[i])
		}
		part := strings.TrimPrefix(folders[1], partColumn+"=")
		shard, err := strconv.Atoi(strings.TrimPrefix(folders[2], shardColumn+"="))
		if err != nil {
			return nil, internalErr("listing shards: Spark wrote %q, which is no shard", path)
		}
		found = append(found, numbered{pipeline.ShardInfo{Split: part, Path: path, Rows: t.cols[2].ints[i], Bytes: t.cols[1].ints[i]}, r.partIndex(part), shard})
	}
	slices.SortFunc(found, func(a, b numbered) int {
		if a.part != b.part {
			return a.part - b.part
		}
		return a.shard - b.shard
	})
	out := make([]pipeline.ShardInfo, len(found))
	for i, f := range found {
		if i > 0 && found[i-1].part == f.part && found[i-1].shard == f.shard {
			return nil, internalErr("Spark wrote shard %d of %s in two files", f.shard, f.Split)
		}
		out[i] = f.ShardInfo
	}
	return out, nil
}

func (r *run) partIndex(name string) int {
	return slices.IndexFunc(r.p.Split.Parts, func(p pipeline.Part) bool { return p.Name == name })
}

// skipped counts the rows that were left out. Rows that nobody can leave out need no counting.
func (r *run) skipped(ctx context.Context, c *chain, shards []pipeline.ShardInfo) (int64, error) {
	rows := int64(0)
	for _, s := range shards {
		rows += s.Rows
	}
	if rows > 0 && !c.filters {
		return 0, nil
	}
	t, err := r.table(ctx, "counting rows", "SELECT count(*) FROM "+r.src.from)
	if err != nil {
		return 0, err
	}
	all := t.cols[0].ints[0]
	switch {
	case all == 0:
		return 0, r.empty()
	case rows == 0:
		return all, dataErr("check the filters and handle_invalid: skip of the transform", "none of the %d rows is left after the transform", all)
	}
	return all - rows, nil
}
