package sparkconn

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// blame finds a row that breaks check k (from 1) of a chain and makes the error about it. rebuild gives the same
// chain with the file of each row. Of several rows it is the one with the least hash, so a run gives the same error
// again.
func (r *run) blame(ctx context.Context, k int, rebuild func(withFile bool) (*chain, error)) error {
	files := r.src.view != ""
	c, err := rebuild(files)
	if err != nil {
		return err
	}
	if k < 1 || k > len(c.checks) {
		return internalErr("check %d of %d is broken", k, len(c.checks))
	}
	bad := c.checks[k-1]
	sql := r.example(c, bad, files)
	t, err := r.table(ctx, "looking for the bad row", sql)
	if err != nil {
		return err
	}
	message := bad.op + ": " + bad.says
	if t.rows > 0 {
		message = r.place(t, files) + ": " + bad.op + ": " + bad.says + flaws(t, bad)
	}
	return &pipeline.Error{Kind: pipeline.Data, Message: message, Hint: bad.hint}
}

// example is a query for one row that breaks a check: its file, its key, and for each column that the check reads the
// value as text, and the position of a NaN in a vector.
func (r *run) example(c *chain, bad check, files bool) string {
	var items []string
	from, where, order := r.src.from, "NOT coalesce("+bad.sql+", false)", "1"
	if bad.level > 0 {
		from, where = c.name(bad.level-1), stateColumn+" IS NULL AND "+where
		order = hashColumn
	}
	switch {
	case files && bad.level > 0:
		items = append(items, fileColumn)
	case files:
		items = append(items, "input_file_name()")
	default:
		items = append(items, "''")
	}
	key := "''"
	if id, err := identifier(r.p.Split.Key); err == nil && r.p.Split.Key != "" && (bad.level == 0 || has(c, r.p.Split.Key, bad.level)) {
		key = "CAST(" + id + " AS STRING)"
	}
	items = append(items, key)
	for _, f := range bad.reads {
		id, _ := identifier(f.Name)
		switch {
		case f.Type.Width != 0 && bad.level > 0:
			items = append(items, "CAST(NULL AS STRING)", "CASE WHEN "+id+" IS NULL THEN -2L ELSE array_position("+id+", CAST('NaN' AS "+
				sparkType(expr.Type{Kind: f.Type.Kind})+")) - 1L END")
		case f.Type.Width != 0:
			items = append(items, "CAST(size("+id+") AS STRING)", "-3L")
		default:
			items = append(items, "CAST("+id+" AS STRING)", "-1L")
		}
	}
	if bad.level == 0 { // only the columns at fault: the check is a list of tests
		return "SELECT " + strings.Join(items, ", ") + " FROM " + from + " WHERE " + where + " LIMIT 1"
	}
	from = "(SELECT *, " + numberRows + " FROM " + from + ")"
	return c.upTo(bad.level, "SELECT "+strings.Join(items, ", ")+" FROM "+from+" WHERE "+where+" AND "+filterHere+" ORDER BY "+order+" LIMIT 1")
}

// has says whether the column is there before the SELECT of a level.
func has(c *chain, column string, level int) bool {
	id, err := identifier(column)
	return err == nil && (level <= 2 || strings.Contains(c.selects[level-1], id))
}

// place says which row it is.
func (r *run) place(t *table, files bool) string {
	row := "a row"
	if key := t.cols[1].texts[0]; key != "" {
		row = "the row with " + r.p.Split.Key + " " + shown(key)
	}
	if files {
		if name := t.cols[0].texts[0]; name != "" {
			return path.Base(name) + ", " + row
		}
	}
	return row
}

func shown(s string) string {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return s
	}
	return strconv.Quote(cut(s, 60))
}

// flaws says which columns of the row are NULL or NaN, or, when none is, what they hold.
func flaws(t *table, c check) string {
	var bad, plain []string
	for i, f := range c.reads {
		text, at := &t.cols[2+2*i], &t.cols[3+2*i]
		value := text.texts[0]
		name := strconv.Quote(f.Name)
		switch {
		case c.level == 0 && !text.null[0]:
			if f.Type.Width != 0 && value == strconv.Itoa(f.Type.Width) || f.Type.Width == 0 && fits(value, f.Type.Kind) {
				continue
			}
			if f.Type.Width != 0 {
				value = "a list of " + value + " elements, not of " + strconv.Itoa(f.Type.Width)
			} else {
				value = strconv.Quote(cut(value, 60)) + ", which is no " + string(f.Type.Kind)
			}
			bad = append(bad, "column "+name+" is "+value)
		case c.level == 0:
		case f.Type.Width != 0 && at.ints[0] == -2, f.Type.Width == 0 && text.null[0]:
			bad = append(bad, "column "+name+" is NULL")
		case f.Type.Width != 0 && at.ints[0] >= 0:
			bad = append(bad, fmt.Sprintf("column %s is NaN at position %d", name, at.ints[0]))
		case value == "NaN" && f.Type.Kind != expr.String:
			bad = append(bad, "column "+name+" is NaN")
		case f.Type.Width == 0 && f.Type.Kind == expr.String:
			plain = append(plain, "column "+name+" is "+strconv.Quote(cut(value, 60)))
		case f.Type.Width == 0:
			plain = append(plain, "column "+name+" is "+value)
		}
	}
	if bad == nil {
		bad = plain
	}
	if len(bad) > 3 {
		bad = append(bad[:3], fmt.Sprintf("and %d more", len(bad)-3))
	}
	if bad == nil {
		return ""
	}
	return ": " + strings.Join(bad, ", ")
}

// fits says whether a field of a text file can be read as a kind; it is only about which column to name.
func fits(s string, k expr.Kind) bool {
	var g guess
	g.see(s)
	switch k {
	case expr.Int64:
		return !g.noInt
	case expr.Float32, expr.Float64:
		return !g.noInt || !g.noFloat
	case expr.Bool:
		return !g.noBool
	}
	return true
}
