package sparkconn

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"github.com/google/uuid"
)

// source is a relation on the server with the columns that trees can use.
type source struct {
	s      *Session
	tag    string
	src    pipeline.Source
	from   string // what stands behind FROM
	view   string // a temporary view to drop, or empty
	cols   []sourceColumn
	schema expr.Schema
	nested bool               // for chain.nested: Spark knows rows that it has by their plan, but not when there is a WITH in it
	made   map[int]expr.Field // of a guessed source: what steps that cannot be shown are taken to make
}

// sourceColumn is one column of a source as Spark has it.
type sourceColumn struct {
	expr.Field
	sql     string // the column's value in its type
	check   string // true for a row whose value can be used; empty: always
	refused string // why trees cannot use the column, or empty
}

// tableName is a name of up to three parts.
var tableName = regexp.MustCompile("^(`[^`]+`|[\\pL0-9_]+)(\\.(`[^`]+`|[\\pL0-9_]+)){0,2}$")

// openSource finds out the columns of a source.
func (s *Session) openSource(ctx context.Context, tag string, src pipeline.Source) (*source, error) {
	o := &source{s: s, tag: tag, src: src}
	switch src.Format {
	case pipeline.Table:
		if !tableName.MatchString(src.Text) || strings.Contains(src.Text, "${") {
			return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("source.table: %.80q is no table's name", src.Text),
				Hint: "write name, schema.name or catalog.schema.name, with backticks round a part of other characters; a query goes into source.sql"}
		}
		o.from = src.Text
	case pipeline.SQL:
		o.from = "(\n" + o.text() + "\n)"
	case pipeline.CSV, pipeline.Parquet, pipeline.JSON:
		if err := o.createView(ctx); err != nil {
			return nil, err
		}
	default:
		return nil, unsupported("convert the files to Parquet, or use the embedded engine: leave spark.remote out", "source: Spark does not read %s", src.Format)
	}
	if err := o.describe(ctx); err != nil {
		o.locate(err)
		return nil, errors.Join(err, o.close(ctx))
	}
	return o, nil
}

// locate gives an error of Spark its place in the text of the source, when it is about that.
func (o *source) locate(err error) {
	switch o.src.Format {
	case pipeline.SQL:
		locate(err, "source.sql", o.text())
	case pipeline.Table:
		locate(err, "source.table", o.text())
	}
}

// text is what was written in source.sql or source.table, as it stands in statements.
func (o *source) text() string { return strings.TrimRight(o.src.Text, "; \t\r\n") }

// close drops what openSource made on the server.
func (o *source) close(ctx context.Context) error {
	if o.view == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
	defer cancel()
	view := o.view
	o.view = ""
	return o.s.Exec(ctx, "", "DROP VIEW IF EXISTS "+view)
}

// hasScheme finds a URI.
var hasScheme = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)

// sparkPath says expressly that a plain path is a local file: for Spark it would be one of its default file system.
func sparkPath(p string) string {
	if hasScheme.MatchString(p) {
		return p
	}
	if abs, err := filepath.Abs(p); err == nil {
		p = abs
	}
	return "file://" + filepath.ToSlash(p)
}

// createView makes a temporary view of files.
func (o *source) createView(ctx context.Context) error {
	if len(o.src.Files) == 0 {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("source: %s has no files", o.src.Format), Hint: "name at least one file"}
	}
	if len(o.src.Types) > 0 && o.src.Format == pipeline.Parquet {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: "source.types: a parquet file has types of its own", Hint: "remove source.types, or use the cast transformer"}
	}
	o.view = "dkpipe_source_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	o.from = o.view
	p := newMessage("Plan")
	v := p.in("command.create_dataframe_view").set("name", o.view).setBool("replace", true)
	ds := v.in("input.read.data_source").set("format", string(o.src.Format))
	for _, f := range o.src.Files {
		ds.append("paths", sparkPath(f))
	}
	if o.src.Format == pipeline.CSV {
		ds.put("options", map[string]string{
			"header": "true", "inferSchema": "false", "enforceSchema": "false", "mode": "FAILFAST", "quote": `"`, "escape": `"`,
			// A quoted empty field is the empty text, an unquoted one NULL: NULL needs a spelling of its own.
			"nullValue": "\u0000", "emptyValue": "",
		})
	}
	err := o.s.execute(ctx, "source", o.tag, p, func(message) error { return nil })
	if err != nil {
		o.view = ""
	}
	return err
}

// describe asks for the columns and gives each its type.
func (o *source) describe(ctx context.Context) error {
	req := o.s.request("AnalyzePlanRequest")
	sqlRelation(req.in("schema.plan.root"), "SELECT * FROM "+o.from)
	rep := newMessage("AnalyzePlanResponse")
	if err := o.s.unary(ctx, "AnalyzePlan", "source", req, rep); err != nil {
		return o.bare(ctx, withStatement(err, req.in("schema.plan")))
	}
	schema, _ := rep.has("schema")
	st, _ := schema.in("schema").has("struct")
	if !st.IsValid() {
		return &pipeline.Error{Kind: pipeline.Internal, Message: "source: Spark describes no columns"}
	}
	list := st.Get(st.field("fields")).List()
	seen := map[string]string{}
	for i := range list.Len() {
		f := message{list.Get(i).Message()}
		name := f.str("name")
		if other, twice := seen[strings.ToLower(name)]; twice {
			return unsupported("rename one of them", "source: Spark does not tell the columns %q and %q apart", other, name)
		}
		seen[strings.ToLower(name)] = name
		t, _ := f.has("data_type")
		c, err := o.column(name, t)
		if err != nil {
			return err
		}
		o.cols = append(o.cols, c)
	}
	if err := o.types(ctx); err != nil {
		return err
	}
	if err := o.widths(ctx); err != nil {
		return err
	}
	for _, c := range o.cols {
		if c.refused == "" {
			o.schema = append(o.schema, c.Field)
		}
	}
	return nil
}

// bare asks again about a query that is wrong by grammar, without the parentheses round it: they let Spark complain
// about those, and at the wrong place. EXPLAIN keeps a text that is no query from being carried out.
func (o *source) bare(ctx context.Context, err error) error {
	var e *ServerError
	if o.src.Format != pipeline.SQL || !errors.As(err, &e) || !e.is("PARSE_SYNTAX_ERROR") {
		return err
	}
	req := o.s.request("AnalyzePlanRequest")
	sqlRelation(req.in("schema.plan.root"), "EXPLAIN\n"+o.text())
	again := withStatement(o.s.unary(ctx, "AnalyzePlan", "source", req, newMessage("AnalyzePlanResponse")), req.in("schema.plan"))
	var better *ServerError
	if errors.As(again, &better) && better.is("PARSE_SYNTAX_ERROR") {
		return again
	}
	return err
}

// column maps a type of Spark.
func (o *source) column(name string, t message) (sourceColumn, error) {
	c := sourceColumn{Field: expr.Field{Name: name}}
	id, err := identifier(name)
	if err != nil {
		return c, err
	}
	c.sql = id
	kind := t.choice("kind")
	switch kind {
	case "boolean":
		c.Type.Kind = expr.Bool
	case "long":
		c.Type.Kind = expr.Int64
	case "byte", "short", "integer":
		c.Type.Kind, c.sql = expr.Int64, "CAST("+id+" AS BIGINT)"
	case "float":
		c.Type.Kind = expr.Float32
	case "double":
		c.Type.Kind = expr.Float64
	case "decimal":
		c.Type.Kind, c.sql = expr.Float64, "CAST("+id+" AS DOUBLE)"
	case "string":
		c.Type.Kind = expr.String
	case "char", "var_char", "date", "timestamp", "timestamp_ntz":
		c.Type.Kind, c.sql = expr.String, "CAST("+id+" AS STRING)"
	case "array":
		a, _ := t.has("array")
		elem, _ := a.has("element_type")
		switch elem.choice("kind") {
		case "float":
			c.Type = expr.Type{Kind: expr.Float32, Width: expr.AnyWidth}
		case "double", "byte", "short", "integer", "long", "decimal":
			c.Type, c.sql = expr.Type{Kind: expr.Float64, Width: expr.AnyWidth}, "CAST("+id+" AS ARRAY<DOUBLE>)"
		default:
			c.refused = "holds lists of " + elem.choice("kind")
		}
		if a.Get(a.field("contains_null")).Bool() && c.refused == "" { // trees know no NULL inside a vector
			c.sql = withoutNulls(c.sql, map[expr.Kind]string{expr.Float32: "float('NaN')", expr.Float64: nan}[c.Type.Kind])
		}
	default:
		c.refused = "is of the type " + kind
	}
	return c, nil
}

// withoutNulls makes NaN of the NULLs inside a vector. Only a vector that has some, or a NaN, goes through the lambda:
// the search is compiled and costs a tenth of it. It gives NULL when it finds no NaN but a NULL.
func withoutNulls(v, nan string) string {
	return "if(coalesce(array_contains(" + v + ", " + nan + "), true), transform(" + v + ", e -> coalesce(e, " + nan + ")), " + v + ")"
}

// widths finds the number of elements of array columns in the first row that has some; every row must have as many.
func (o *source) widths(ctx context.Context) error {
	var at []int
	var items []string
	for i, c := range o.cols {
		if c.refused == "" && c.Type.Width == expr.AnyWidth {
			id, _ := identifier(c.Name)
			at = append(at, i)
			items = append(items, "(SELECT size("+id+") FROM "+o.from+" WHERE "+id+" IS NOT NULL LIMIT 1)")
		}
	}
	if at == nil {
		return nil
	}
	t, err := o.s.table(ctx, "source", o.tag, "SELECT "+strings.Join(items, ", "))
	if err != nil {
		return err
	}
	if t.rows == 1 && !slices.Contains(t.nulls(), false) { // no vector anywhere: perhaps there is no row
		some, err := o.s.table(ctx, "source", o.tag, "SELECT 1 FROM "+o.from+" LIMIT 1")
		if err == nil && some.rows == 0 {
			err = o.empty()
		}
		if err != nil {
			return err
		}
	}
	for k, i := range at {
		c := &o.cols[i]
		if t.rows != 1 || t.cols[k].null[0] || t.cols[k].ints[0] < 1 || t.cols[k].ints[0] > expr.MaxWidth {
			c.refused = "holds lists without elements"
			continue
		}
		c.Type.Width = int(t.cols[k].ints[0])
		id, _ := identifier(c.Name)
		c.check = "(" + id + " IS NULL OR size(" + id + ") = " + strconv.Itoa(c.Type.Width) + ")"
	}
	return nil
}

// types gives the columns of text files the types that are declared, or that their first values suggest.
func (o *source) types(ctx context.Context) error {
	for name, kind := range o.src.Types {
		if !slices.ContainsFunc(o.cols, func(c sourceColumn) bool { return c.Name == name }) {
			return &pipeline.Error{Kind: pipeline.MissingColumn, Message: fmt.Sprintf("source.types: the source has no column %q", name), Hint: o.near(name)}
		}
		switch expr.Kind(kind) {
		case expr.Bool, expr.Int64, expr.Float32, expr.Float64, expr.String:
		default:
			return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("source.types: column %q has the unknown type %q", name, kind), Hint: "use bool, int64, float64 or string"}
		}
	}
	var guesses []guess
	if o.src.Format == pipeline.CSV && len(o.src.Types) < len(o.cols) {
		var err error
		if guesses, err = o.sample(ctx); err != nil {
			return err
		}
	}
	for i := range o.cols {
		c := &o.cols[i]
		kind, declared := o.src.Types[c.Name]
		if !declared && guesses != nil {
			kind = string(guesses[i].kind())
		}
		if kind == "" || kind == string(c.Type.Kind) && c.Type.Width == 0 || c.refused != "" {
			continue
		}
		if c.Type.Kind != expr.String {
			p, err := newRenderer(nil).cast(expr.Kind(kind), piece{text: c.sql, typ: c.Type})
			if err != nil || c.Type.Width != 0 {
				return unsupported("leave it out of source.types", "source.types: column %q is %s", c.Name, c.Type)
			}
			c.sql, c.Type = p.text, p.typ
			continue
		}
		id := c.sql
		c.Type.Kind = expr.Kind(kind)
		c.sql = fromText(id, c.Type.Kind)
		c.check = "(" + id + " IS NULL OR " + c.sql + " IS NOT NULL)"
	}
	return nil
}

// Patterns of fields of text files, as the embedded engine takes them: blanks and tabs around a value do not count.
const (
	fieldReal  = `^[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*$`
	fieldOther = `(?i)^[ \t]*([+-]?inf|[+-]?infinity|[+-]?nan)[ \t]*$`
)

// fromText reads a field of a text file; what is not of the kind becomes NULL.
func fromText(id string, kind expr.Kind) string {
	switch kind {
	case expr.Int64:
		return "try_cast(" + id + " AS BIGINT)"
	case expr.Bool:
		return "CASE lower(trim(both ' \t' FROM " + id + ")) WHEN 'true' THEN true WHEN 'false' THEN false END"
	case expr.Float32:
		return "CAST(" + fromText(id, expr.Float64) + " AS FLOAT)"
	}
	return "CASE WHEN " + id + " RLIKE " + quoteText(fieldReal) + " THEN nullif(nullif(try_cast(" + id + " AS DOUBLE), double('Infinity')), double('-Infinity'))" +
		" WHEN " + id + " RLIKE " + quoteText(fieldOther) + " THEN if(lower(" + id + ") LIKE '%nan%', " + nan + ", try_cast(" + id + " AS DOUBLE)) END"
}

// guess is what the values seen so far allow a column to be.
type guess struct{ some, noInt, noFloat, noBool bool }

func (g *guess) see(s string) {
	s = strings.Trim(s, " \t")
	g.some = true
	if !g.noInt {
		_, err := strconv.ParseInt(s, 10, 64)
		g.noInt = err != nil
	}
	if g.noInt && !g.noFloat {
		_, err := strconv.ParseFloat(s, 64)
		g.noFloat = err != nil || strings.ContainsAny(s, "_xXpP")
	}
	g.noBool = g.noBool || !strings.EqualFold(s, "true") && !strings.EqualFold(s, "false")
}

// kind is the narrowest kind that takes every value; a column without values is text.
func (g *guess) kind() expr.Kind {
	switch {
	case !g.some:
		return expr.String
	case !g.noBool:
		return expr.Bool
	case !g.noInt:
		return expr.Int64
	case !g.noFloat:
		return expr.Float64
	}
	return expr.String
}

// sampleFields is about how many fields of a text file suggest the types.
const sampleFields = 1 << 18

func (o *source) sample(ctx context.Context) ([]guess, error) {
	limit := min(10000, max(100, sampleFields/max(1, len(o.cols))))
	t, err := o.s.table(ctx, "source", o.tag, fmt.Sprintf("SELECT * FROM %s LIMIT %d", o.from, limit))
	if err != nil {
		return nil, err
	}
	g := make([]guess, len(o.cols))
	for i := range t.cols {
		for k, null := range t.cols[i].null {
			if !null {
				g[i].see(t.cols[i].texts[k])
			}
		}
	}
	return g, nil
}

func (o *source) names() []string {
	all := make([]string, len(o.cols))
	for i, c := range o.cols {
		all[i] = c.Name
	}
	return all
}

func (o *source) near(name string) string { return didYouMean(name, o.names()) }

// didYouMean is the hint for a name that is not among the columns.
func didYouMean(name string, all []string) string {
	if near := expr.Nearest(name, all); near != "" {
		return "did you mean " + strconv.Quote(near) + "?"
	}
	if len(all) > 12 {
		return "the columns are " + strings.Join(all[:10], ", ") + " and " + strconv.Itoa(len(all)-10) + " more"
	}
	return "the columns are " + strings.Join(all, ", ")
}

// empty is the error of a source without rows.
func (o *source) empty() error {
	what := string(o.src.Format)
	if len(o.src.Files) > 0 {
		what = o.src.Files[0]
		if n := len(o.src.Files); n > 1 {
			what = fmt.Sprintf("%s and %d more", what, n-1)
		}
	} else if o.src.Format == pipeline.Table {
		what = "table " + o.src.Text
	}
	return dataErr("check that the source was written to its end", "empty source: %s: columns, but no rows", what)
}

// find gives a column that a part of the plan names.
func (o *source) find(what, name string) (expr.Type, error) {
	for _, c := range o.cols {
		if c.Name != name {
			continue
		}
		if c.refused != "" {
			return c.Type, unsupported("leave the column out, or convert it in source.sql", "%s: column %q %s", what, name, c.refused)
		}
		return c.Type, nil
	}
	return expr.Type{}, &pipeline.Error{Kind: pipeline.MissingColumn, Message: fmt.Sprintf("%s: the source has no column %q", what, name), Hint: o.near(name)}
}
