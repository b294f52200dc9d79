package sparkconn

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// Columns that a chain carries beside those of the plan. Names of sources do not begin like this.
const (
	hashColumn  = "__dkpipe_hash"  // BIGINT: xxhash64(key, seed)
	stateColumn = "__dkpipe_state" // INT: NULL fine, -1 left out, k > 0 broke check k
	fileColumn  = "__dkpipe_file"  // STRING: the file, in queries for an example of a bad row
)

// rowColumn is a column whose only merit is that Spark does not take it for a function of the others, so a filter with
// a condition on it stays where it stands. Pushed down, a filter would compute wide columns once more for itself, and
// Spark's optimizer was seen to take minutes over what follows from such a filter.
const (
	rowColumn  = "__dkpipe_row"
	numberRows = "monotonically_increasing_id() AS " + rowColumn
	filterHere = rowColumn + " >= 0"
)

// A row's state takes the place of errors: no expression raises one, a row that breaks a check gets the check's number
// and keeps it, and whoever reads the chain decides what that means. The order in which Spark evaluates does not
// matter then.

// check is what must be true of every row.
type check struct {
	level int    // number of SELECTs before the one that checks
	sql   string // BOOLEAN
	op    string // the transformer, or the part of the plan
	says  string
	hint  string
	reads []expr.Field // columns to show
}

// chain is a source and steps over it, as a list of SELECTs, each over the one before.
type chain struct {
	selects []string
	checks  []check
	schema  expr.Schema // columns of the last SELECT
	carry   []string    // further columns, quoted, that every SELECT hands on
	filters bool        // a step may leave rows out
	train   string      // BOOLEAN over hashColumn: the row is a training row
	part    string      // STRING over hashColumn: the part's name
	number  string      // INT over hashColumn: the part's number
	parts   int         // how many there are
	file    bool
	nested  bool // each SELECT stands in the next one, not before it in a WITH
}

// hashRange is the number of hash classes that the parts of a split share.
const hashRange = 1_000_000

// extra is a column that the first SELECT computes over the source's columns.
type extra struct{ name, sql string }

// newChain begins a chain with the source's columns in their types, the hash of the key and the state.
func newChain(o *source, split pipeline.Split, withFile bool, extras []extra) (*chain, error) {
	c := &chain{schema: o.schema, file: withFile, nested: o.nested}
	if err := c.split(o, split); err != nil {
		return nil, err
	}
	key := "monotonically_increasing_id()"
	var items, outer, tests []string
	var bad []expr.Field
	for _, col := range o.cols {
		if hasPrefixFold(col.Name, "__dkpipe_") {
			return nil, unsupported("rename the column at its source", "column %q: names that begin with __dkpipe_ are taken", col.Name)
		}
		if col.refused != "" {
			continue
		}
		id, _ := identifier(col.Name)
		items = append(items, col.sql+" AS "+id)
		outer = append(outer, id)
		if col.Name == split.Key {
			key = id
		}
		if col.check != "" {
			tests = append(tests, col.check)
			bad = append(bad, col.Field)
		}
	}
	for _, x := range extras {
		items = append(items, x.sql+" AS "+x.name)
		c.carry = append(c.carry, x.name)
	}
	state := fine
	if tests != nil {
		cond := strings.Join(tests, " AND ")
		state = "CASE WHEN " + cond + " THEN " + fine + " ELSE 1 END"
		c.checks = append(c.checks, check{level: 0, sql: cond, op: "source", says: "a value is not of its column's type", reads: bad,
			hint: "correct the row, or declare the column's type in source.types"})
	}
	if withFile {
		items = append(items, "input_file_name() AS "+fileColumn)
		c.carry = append(c.carry, fileColumn)
	}
	items = append(items, state+" AS "+stateColumn)
	if split.Key == "" {
		items = append(items, key+" AS "+hashColumn)
		key = hashColumn
	}
	c.selects = append(c.selects, "SELECT "+strings.Join(items, ", ")+"\n  FROM "+o.from)
	hash := fmt.Sprintf("xxhash64(%s, %s)", key, negative(strconv.FormatInt(split.Seed, 10)+"L"))
	c.selects = append(c.selects, "SELECT "+strings.Join(slices.Concat(outer, c.carry), ", ")+", "+stateColumn+", "+hash+" AS "+hashColumn+" FROM "+c.name(0))
	return c, nil
}

// name is what stands for a SELECT behind FROM.
func (c *chain) name(level int) string {
	if c.nested {
		return "(\n  " + c.selects[level] + ")"
	}
	return "s" + strconv.Itoa(level)
}

// last is the name of the last SELECT.
func (c *chain) last() string { return c.name(len(c.selects) - 1) }

// with puts the chain before a query.
func (c *chain) with(query string) string { return c.upTo(len(c.selects), query) }

func (c *chain) upTo(levels int, query string) string {
	if c.nested {
		return query
	}
	var b strings.Builder
	b.WriteString("WITH ")
	for i, s := range c.selects[:levels] {
		if i > 0 {
			b.WriteString(",\n")
		}
		b.WriteString(c.name(i) + " AS (\n  " + s + ")")
	}
	b.WriteString("\n" + query)
	return b.String()
}

// split makes the expressions for parts.
func (c *chain) split(o *source, s pipeline.Split) error {
	bad := func(hint, format string, a ...any) error {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: "split: " + fmt.Sprintf(format, a...), Hint: hint}
	}
	parts := s.Parts
	if len(parts) == 0 {
		parts = []pipeline.Part{{Name: trainPart, Fraction: 1}}
	}
	sum := 0.0
	var names, numbers strings.Builder
	low, train := "0L", ""
	for i, p := range parts {
		if !(p.Fraction >= 0 && p.Fraction <= 1) {
			return bad("use fractions between 0 and 1", "the fraction of %s is %v", p.Name, p.Fraction)
		}
		sum += p.Fraction
		class := "pmod(" + hashColumn + ", " + strconv.Itoa(hashRange) + "L)"
		bound := strconv.FormatInt(int64(math.Round(sum*hashRange)), 10) + "L"
		if i == len(parts)-1 {
			names.WriteString(" ELSE " + quoteText(p.Name))
			numbers.WriteString(" ELSE " + strconv.Itoa(i))
			bound = strconv.Itoa(hashRange) + "L"
		} else {
			when := " WHEN " + class + " < " + bound + " THEN "
			names.WriteString(when + quoteText(p.Name))
			numbers.WriteString(when + strconv.Itoa(i))
		}
		if p.Name == trainPart {
			train = "(" + class + " >= " + low + " AND " + class + " < " + bound + ")"
		}
		low = bound
	}
	switch {
	case train == "":
		return bad("add train: 0.8 to split", "there is no part named train")
	case math.Abs(sum-1) > 1e-6:
		return bad("make the fractions sum to 1", "the fractions sum to %v", sum)
	}
	c.part, c.number, c.parts, c.train = "CASE"+names.String()+" END", "CASE"+numbers.String()+" END", len(parts), train
	if len(parts) == 1 {
		c.part, c.number = quoteText(parts[0].Name), "0"
	}
	if s.Key == "" { // every row is a training row
		c.part, c.number, c.parts, c.train = quoteText(trainPart), "0", 1, "true"
		return nil
	}
	t, err := o.find("split.key", s.Key)
	if err == nil && t.Width != 0 {
		err = unsupported("split by a scalar column", "split.key: column %q is %s", s.Key, t)
	}
	return err
}

// trainPart is the part that statistics come from.
const trainPart = "train"

// add appends a fitted step. With preview, placeholders are allowed.
func (c *chain) add(f expr.Fitted, preview bool) error {
	apply := f.Apply
	if preview {
		apply = f.ApplyPreview
	}
	next, err := apply(c.schema)
	if err != nil {
		return err
	}
	made := make(map[string]string, len(f.Outputs))
	for _, o := range f.Outputs {
		if made[o.Name], err = sqlOf(o.Expr, c.schema); err != nil {
			return err
		}
	}
	state := stateColumn
	for _, g := range f.Guards {
		cond, err := sqlOf(g.Expr, c.schema)
		if err != nil {
			return err
		}
		if f.Invalid == expr.Skip {
			state = c.leaveOut(state, cond)
			continue
		}
		k := check{level: len(c.selects), sql: cond, op: f.Op, says: g.Says,
			hint: "correct the row, or set handle_invalid: skip (or keep, where the transformer has it) for " + f.Op}
		for _, name := range expr.Columns(g.Expr) {
			col, _ := c.schema.Lookup(name)
			k.reads = append(k.reads, col)
		}
		state = c.demand(state, k)
	}
	if f.Filter != nil {
		cond, err := sqlOf(f.Filter, c.schema)
		if err != nil {
			return err
		}
		state = c.leaveOut(state, cond)
	}
	return c.push(next, made, state)
}

// leaveOut and demand extend the expression of the state; cond is its only text that they repeat.
func (c *chain) leaveOut(state, cond string) string {
	c.filters = true
	return c.then(state, cond, -1)
}

func (c *chain) demand(state string, k check) string {
	c.checks = append(c.checks, k)
	return c.then(state, k.sql, len(c.checks))
}

// fine is the state of a row that has broken nothing.
const fine = "CAST(NULL AS INT)"

// then gives rows that are fine so far and do not meet cond another state. States of one SELECT are collected in one
// CASE, in order. The state before stands once in the text: Spark puts expressions into each other, and what stands
// twice at every step would double with every step.
func (c *chain) then(state, cond string, code int) string {
	branch := " WHEN NOT coalesce(" + cond + ", false) THEN " + strconv.Itoa(code)
	if head, ok := strings.CutSuffix(state, " END)"); ok {
		return head + branch + " END)"
	}
	return "coalesce(" + state + ", CASE" + branch + " END)"
}

// push appends a SELECT of the columns of next, those of made computed anew, and further items.
func (c *chain) push(next expr.Schema, made map[string]string, state string, more ...string) error {
	items := make([]string, 0, len(next)+len(c.carry)+2)
	for _, f := range next {
		id, err := identifier(f.Name)
		if err != nil {
			return err
		}
		if sql, ok := made[f.Name]; ok {
			id = sql + " AS " + id
		}
		items = append(items, id)
	}
	items = append(items, c.carry...)
	if state != stateColumn {
		state += " AS " + stateColumn
	}
	items = append(append(items, state, hashColumn), more...)
	if err := distinctNames(next); err != nil {
		return err
	}
	c.selects = append(c.selects, "SELECT "+strings.Join(items, ", ")+" FROM "+c.last())
	c.schema = next
	return nil
}

// distinctNames refuses names that Spark does not tell apart.
func distinctNames(s expr.Schema) error {
	seen := make(map[string]string, len(s))
	for _, f := range s {
		low := strings.ToLower(f.Name)
		if other, ok := seen[low]; ok {
			return unsupported("name one of them otherwise", "Spark does not tell the columns %q and %q apart", other, f.Name)
		}
		seen[low] = f.Name
	}
	return nil
}
