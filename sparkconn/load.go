package sparkconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"dkpipe/pipeline"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/google/uuid"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// LoadMode says what a Load does when its table exists.
type LoadMode string

// The modes.
const (
	LoadError     LoadMode = "error"     // the load is refused
	LoadOverwrite LoadMode = "overwrite" // the new rows take the place of the old ones, in one step
	LoadAppend    LoadMode = "append"    // the new rows join the old ones, in one step
)

// MaxInline is how many bytes of rows Load.Add takes. They are sent through the connection and wait in the memory of the
// server; more of them belong into files that it can read.
const MaxInline = 64 << 20

// inlinePart is about how many bytes of rows are sent at once.
const inlinePart = 4 << 20

// Load makes a table of rows that were made outside of Spark. Nothing of them is to be seen before Commit, and after it
// all: readers of the table never see a part.
//
// A new table appears when its files are complete. A table that exists is replaced as its catalog can: those of Delta,
// Iceberg and their like in one step of their own; of the others, which Spark keeps as folders of files, the new rows
// become a table of another name, and the two change names. Rows are appended to such a table as one file.
type Load struct {
	s     *Session
	mode  LoadMode
	name  tableRef
	owner string
	tag   string
	table tableInfo // as it was found

	views   []string // on the server, of rows that are to be loaded
	columns []string // of those rows
	inline  int64    // bytes of rows that were added
	buf     bytes.Buffer
	writer  *ipc.Writer
}

// tablePart is one part of a table's name.
var tablePart = regexp.MustCompile("`[^`]+`|[\\pL0-9_]+")

// IsTableName tells whether a text is a table's name of up to three parts: name, schema.name or catalog.schema.name, with
// backticks round a part of other characters than letters, digits and underscores.
func IsTableName(s string) bool { return tableName.MatchString(s) && !strings.Contains(s, "${") }

// tableRef is the name of a table, in parts and without quotes.
type tableRef []string

// String gives the name as SQL takes it.
func (t tableRef) String() string {
	quoted := make([]string, len(t))
	for i, p := range t {
		quoted[i], _ = identifier(p) // was checked
	}
	return strings.Join(quoted, ".")
}

// sibling is another table of the same schema.
func (t tableRef) sibling(name string) tableRef {
	return append(slices.Clone(t[:len(t)-1]), name)
}

func (t tableRef) last() string { return t[len(t)-1] }

// tableInfo is what Spark tells about a table.
type tableInfo struct {
	exists      bool
	detailed    bool   // Spark tells more than columns: not so of temporary views
	kind        string // MANAGED, EXTERNAL, VIEW; empty where the catalog does not tell
	provider    string // parquet, delta; may be empty
	folder      bool   // Spark itself keeps it, as a folder of files: nothing can be replaced in one step
	partitioned bool
	columns     []string
}

// NewLoad begins a load into a table of up to three parts, and finds out whether it may end well: a table that exists in
// mode error, a view, a schema that is not there and the like are told before there are any rows. owner goes into the
// names of tables that this load needs for itself; dead tells of the owner of such a table whether it has ended, and
// what it left is then put in order. Close must be called in the end.
func (s *Session) NewLoad(ctx context.Context, table string, mode LoadMode, owner string, dead func(owner string) bool) (*Load, error) {
	if !IsTableName(table) {
		return nil, &pipeline.Error{Kind: pipeline.Usage, Message: fmt.Sprintf("%.80q is no table's name", table),
			Hint: "write name, schema.name or catalog.schema.name, with backticks round a part of other characters"}
	}
	l := &Load{s: s, mode: mode, owner: owner, tag: "dkpipe-" + uuid.NewString()}
	for _, m := range tablePart.FindAllString(table, -1) {
		l.name = append(l.name, strings.Trim(m, "`"))
	}
	if err := l.repair(ctx, dead); err != nil {
		return nil, err
	}
	var err error
	if l.table, err = s.describeTable(ctx, l.tag, l.name); err != nil {
		return nil, err
	}
	return l, l.allowed()
}

// allowed says why the table cannot be loaded into.
func (l *Load) allowed() error {
	refuse := func(kind pipeline.Kind, hint, format string, a ...any) error {
		return &pipeline.Error{Kind: kind, Message: fmt.Sprintf("table %s ", l.name) + fmt.Sprintf(format, a...), Hint: hint}
	}
	t := l.table
	switch {
	case !t.exists:
		return nil
	case !t.detailed || strings.Contains(t.kind, "VIEW"):
		return refuse(pipeline.Usage, "name a table", "is a view")
	case l.mode == LoadError:
		return refuse(pipeline.Usage, "choose another name, or what becomes of it: overwrite or append", "exists")
	case l.mode == LoadAppend || !t.folder:
		return nil
	case t.kind == "EXTERNAL":
		return refuse(pipeline.Unsupported, "append to it, or drop it first; its files then stay where they are", "is kept in a folder of somebody's own (EXTERNAL) and cannot be replaced in one step")
	case t.partitioned:
		return refuse(pipeline.Unsupported, "append to it, or drop it first", "is partitioned and cannot be replaced in one step")
	}
	return nil
}

// describeTable asks for a table; one that is not there is no error.
func (s *Session) describeTable(ctx context.Context, tag string, name tableRef) (tableInfo, error) {
	var info tableInfo
	t, err := s.table(ctx, "table "+name.String(), tag, "DESCRIBE TABLE EXTENDED "+name.String())
	var said *ServerError
	if errors.As(err, &said) && said.is("TABLE_OR_VIEW_NOT_FOUND") {
		return info, nil
	}
	if err != nil {
		return info, err
	}
	info.exists = true
	catalog, section := "", ""
	for i := range t.rows {
		key, value := t.cols[0].texts[i], t.cols[1].texts[i]
		switch {
		case strings.HasPrefix(key, "#"):
			section = key
			info.detailed = info.detailed || key == "# Detailed Table Information"
			info.partitioned = info.partitioned || key == "# Partition Information"
		case section == "" && key != "":
			info.columns = append(info.columns, key)
		case section == "# Partitioning" && strings.HasPrefix(key, "Part "):
			info.partitioned = true
		case section == "# Detailed Table Information":
			switch key {
			case "Catalog":
				catalog = value
			case "Type":
				info.kind = strings.ToUpper(value)
			case "Provider":
				info.provider = strings.ToLower(value)
			}
		}
	}
	files := []string{"parquet", "orc", "csv", "json", "text", "avro", "hive", "xml"}
	info.folder = (catalog == "" || catalog == "spark_catalog") && slices.Contains(files, info.provider)
	return info, nil
}

// Tables that a load needs for itself are named after the one that is loaded, what they hold, and the load's owner.
const (
	newTable = "__dkpipe_new_"
	oldTable = "__dkpipe_old_"
)

// repair puts in order what loads that were killed have left. A load that was killed between the two renames has left
// its table under the name of the old rows.
func (l *Load) repair(ctx context.Context, dead func(string) bool) error {
	in := ""
	if len(l.name) > 1 {
		in = " IN " + l.name[:len(l.name)-1].String()
	}
	t, err := l.s.table(ctx, "looking for table "+l.name.String(), l.tag, "SHOW TABLES"+in+" LIKE "+quoteText(l.name.last()+"__dkpipe_*"))
	if err != nil {
		return err
	}
	now, err := l.s.describeTable(ctx, l.tag, l.name)
	if err != nil {
		return err
	}
	for i := range t.rows {
		name := t.cols[1].texts[i]
		rest := name[min(len(name), len(l.name.last())):]
		owner, fresh := strings.CutPrefix(rest, newTable)
		old := false
		if !fresh {
			owner, old = strings.CutPrefix(rest, oldTable)
		}
		table := l.name.sibling(name)
		switch {
		case !fresh && !old:
		case old && !now.exists && !dead(owner):
			return &pipeline.Error{Kind: pipeline.Busy, Message: fmt.Sprintf("table %s is just being replaced; its former rows are in %s", l.name, table),
				Hint: fmt.Sprintf("wait for that load; if it has died: ALTER TABLE %s RENAME TO %s", table, l.name)}
		case old && !now.exists:
			if err := l.rename(ctx, table, l.name); err != nil {
				return err
			}
			now.exists = true
		case dead(owner):
			if err := l.s.Exec(ctx, l.tag, "DROP TABLE IF EXISTS "+table.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Load) rename(ctx context.Context, from, to tableRef) error {
	return l.s.Exec(ctx, l.tag, "ALTER TABLE "+from.String()+" RENAME TO "+to.String())
}

// Fits tells whether rows of these columns can be loaded: those of a table that is appended to must have its columns.
func (l *Load) Fits(columns []string) error {
	l.columns = columns
	seen := map[string]string{}
	for _, c := range columns {
		if _, err := identifier(c); err != nil {
			return err
		}
		if other, twice := seen[strings.ToLower(c)]; twice {
			return unsupported("rename one of them, or leave it out", "table %s: Spark does not tell the columns %q and %q apart", l.name, other, c)
		}
		seen[strings.ToLower(c)] = c
	}
	if l.mode != LoadAppend || !l.table.exists {
		return nil
	}
	var extra, missing []string
	for _, c := range l.table.columns {
		if _, ok := seen[strings.ToLower(c)]; !ok {
			missing = append(missing, c)
		}
		delete(seen, strings.ToLower(c))
	}
	for _, c := range columns {
		if _, ok := seen[strings.ToLower(c)]; ok {
			extra = append(extra, c)
		}
	}
	if len(extra)+len(missing) == 0 {
		return nil
	}
	text := fmt.Sprintf("table %s has the columns %s, the rows have %s", l.name, strings.Join(l.table.columns, ", "), strings.Join(columns, ", "))
	return &pipeline.Error{Kind: pipeline.Usage, Message: text, Hint: "append rows with the table's columns, or overwrite the table"}
}

// Add sends rows through the connection, MaxInline bytes of them at most. A fixed-size list is not known to Spark.
// The record is not kept. More rows than that are an error of kind Usage.
func (l *Load) Add(ctx context.Context, rec arrow.RecordBatch) error {
	if l.writer == nil {
		l.buf.Reset()
		l.writer = ipc.NewWriter(&l.buf, ipc.WithSchema(rec.Schema()))
	}
	before := l.buf.Len()
	if err := l.writer.Write(rec); err != nil {
		return &pipeline.Error{Kind: pipeline.Internal, Message: "rows for table " + l.name.String(), Err: err}
	}
	if l.inline += int64(l.buf.Len() - before); l.inline > MaxInline {
		return &pipeline.Error{Kind: pipeline.Usage, Message: fmt.Sprintf("more than %d MiB of rows for table %s", MaxInline>>20, l.name),
			Hint: "name a folder that Spark can read, where they are put as files first"}
	}
	if l.buf.Len() < inlinePart {
		return nil
	}
	return l.send(ctx)
}

// send makes a view of the rows that wait.
func (l *Load) send(ctx context.Context) error {
	if l.writer == nil {
		return nil
	}
	if err := l.writer.Close(); err != nil {
		return &pipeline.Error{Kind: pipeline.Internal, Message: "rows for table " + l.name.String(), Err: err}
	}
	l.writer = nil
	p := newMessage("Plan")
	local := l.newView(p).in("input.local_relation")
	local.Set(local.field("data"), protoreflect.ValueOfBytes(bytes.Clone(l.buf.Bytes())))
	return l.view(ctx, p)
}

// Files takes the rows of Parquet files: path is a folder or a file as Spark names it, for example
// hdfs://namenode:8020/tmp/rows. The files must stay until Commit or Close. Spark's refusal to read them is told here.
func (l *Load) Files(ctx context.Context, path string) error {
	p := newMessage("Plan")
	l.newView(p).in("input.read.data_source").set("format", "parquet").append("paths", sparkPath(path))
	return l.view(ctx, p)
}

func (l *Load) newView(p message) message {
	name := "dkpipe_load_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	l.views = append(l.views, name)
	return p.in("command.create_dataframe_view").set("name", name).setBool("replace", true)
}

func (l *Load) view(ctx context.Context, p message) error {
	err := l.s.execute(ctx, "rows for table "+l.name.String(), l.tag, p, func(message) error { return nil })
	if err != nil {
		l.views = l.views[:len(l.views)-1]
	}
	return err
}

// rows is a query for all rows.
func (l *Load) rows(hint string) string {
	var parts []string
	for _, v := range l.views {
		parts = append(parts, "SELECT * FROM "+v)
	}
	return "SELECT " + hint + "* FROM (" + strings.Join(parts, " UNION ALL ") + ")"
}

// Commit makes the rows the table's, and gives their number. want is how many there must be: Spark counts them before
// anything is changed.
func (l *Load) Commit(ctx context.Context, want int64) error {
	if err := l.send(ctx); err != nil {
		return err
	}
	if len(l.views) == 0 {
		return internalErr("table %s: no rows were added", l.name)
	}
	t, err := l.s.table(ctx, "counting rows for table "+l.name.String(), l.tag, "SELECT count(*) FROM ("+l.rows("")+")")
	if err != nil {
		return err
	}
	if got := t.cols[0].ints[0]; got != want {
		return &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("Spark reads %d rows for table %s, %d were written", got, l.name, want),
			Hint: "somebody else changed the files meanwhile; run again"}
	}
	switch {
	case !l.table.exists:
		return l.create(ctx, l.name, "")
	case l.mode == LoadAppend:
		hint := ""
		if l.table.folder { // one file appears in one step
			hint = "/*+ COALESCE(1) */ "
		}
		return l.refused(l.s.Exec(ctx, l.tag, "INSERT INTO "+l.name.String()+" BY NAME "+l.rows(hint)))
	case !l.table.folder:
		using := ""
		if l.table.provider != "" {
			using = " USING " + l.table.provider
		}
		err := l.s.Exec(ctx, l.tag, "CREATE OR REPLACE TABLE "+l.name.String()+using+" AS "+l.rows(""))
		var said *ServerError
		if !errors.As(err, &said) || !said.is("UNSUPPORTED_FEATURE") {
			return l.refused(err)
		}
	}
	return l.swap(ctx)
}

// create makes a new table, which its catalog shows when it is complete.
func (l *Load) create(ctx context.Context, name tableRef, provider string) error {
	p := newMessage("Plan")
	w := p.in("command.write_operation").setEnum("mode", "SAVE_MODE_ERROR_IF_EXISTS")
	if provider != "" {
		w.set("source", provider)
	}
	w.in("table").set("table_name", name.String()).setEnum("save_method", "TABLE_SAVE_METHOD_SAVE_AS_TABLE")
	sqlRelation(w.in("input"), l.rows(""))
	return l.refused(l.s.execute(ctx, "writing table "+l.name.String(), l.tag, p, func(message) error { return nil }))
}

// swap gives the table's name to a new table with the rows. Between the two renames there is none of that name; if
// this process dies there, the next load gives the old rows their name back.
func (l *Load) swap(ctx context.Context) error {
	fresh, old := l.name.sibling(l.name.last()+newTable+l.owner), l.name.sibling(l.name.last()+oldTable+l.owner)
	if err := l.create(ctx, fresh, l.table.provider); err != nil {
		return errors.Join(err, l.drop(ctx, fresh))
	}
	// From here on the names are changed to the end: being asked to stop does not stop it half way.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.s.patience)
	defer cancel()
	if err := l.rename(ctx, l.name, old); err != nil {
		return errors.Join(err, l.drop(ctx, fresh))
	}
	if err := l.rename(ctx, fresh, l.name); err != nil {
		return errors.Join(err, l.rename(ctx, old, l.name), l.drop(ctx, fresh))
	}
	return l.drop(ctx, old)
}

func (l *Load) drop(ctx context.Context, name tableRef) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.s.patience)
	defer cancel()
	return l.s.Exec(ctx, l.tag, "DROP TABLE IF EXISTS "+name.String())
}

// refused adds what to do to errors that only a load meets.
func (l *Load) refused(err error) error {
	var said *ServerError
	var e *pipeline.Error
	if !errors.As(err, &said) || !errors.As(err, &e) {
		return err
	}
	with := func(kind pipeline.Kind, hint string) error {
		return &pipeline.Error{Kind: kind, Message: "table " + l.name.String(), Hint: hint, Err: said}
	}
	switch {
	case said.is("LOCATION_ALREADY_EXISTS"):
		return with(pipeline.Denied, "a write that died has left files where the table's shall be: remove that folder, or choose another name")
	case said.is("TABLE_OR_VIEW_ALREADY_EXISTS", "TABLE_ALREADY_EXISTS"):
		return with(pipeline.Busy, "somebody else has made it meanwhile; choose another name, or overwrite or append")
	case said.is("INSERT_COLUMN_ARITY_MISMATCH", "INCOMPATIBLE_DATA_FOR_TABLE", "INSERT_PARTITION_COLUMN_ARITY_MISMATCH"):
		return with(pipeline.Usage, "append rows with the table's columns and types, or overwrite the table")
	}
	return err
}

// Close removes what the load keeps on the server. It does so also when ctx is over.
func (l *Load) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
	defer cancel()
	var errs []error
	for _, v := range l.views {
		errs = append(errs, l.s.Exec(ctx, "", "DROP VIEW IF EXISTS "+v))
	}
	l.views = nil
	return errors.Join(errs...)
}
