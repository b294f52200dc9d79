package sparkconn

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"dkpipe/pipeline/expr"
)

func golden(t *testing.T) []expr.Golden {
	t.Helper()
	data, err := os.ReadFile("../pipeline/expr/testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	cases, err := expr.ParseGolden(data)
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// valueSQL writes a value of a row.
func valueSQL(t expr.Type, v expr.Value) string {
	n := &expr.Node{Op: expr.Lit, Kind: t.Kind, Width: t.Width, Null: v.Null, Num: v.Num, Int: v.Int, Text: v.Text, Vec: v.Vec}
	return "CAST(" + literal(n).text + " AS " + sparkType(t) + ")"
}

// valuesSQL is a relation of the rows with their numbers in column #.
func valuesSQL(schema expr.Schema, rows [][]expr.Value) string {
	var b strings.Builder
	b.WriteString("(VALUES ")
	for i, row := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%d", i)
		for k, v := range row {
			b.WriteString(", " + valueSQL(schema[k].Type, v))
		}
		b.WriteString(")")
	}
	b.WriteString(" AS t(`#`")
	for _, f := range schema {
		name, _ := identifier(f.Name)
		b.WriteString(", " + name)
	}
	return b.String() + "))"
}

// valueAt reads a result.
func valueAt(c *tableColumn, i int, t expr.Type) expr.Value {
	v := expr.Value{Kind: t.Kind, Null: c.null[i]}
	switch {
	case v.Null:
	case t.Width > 0:
		v.Vec = c.vecs[i]
	case t.Kind == expr.String:
		v.Text = c.texts[i]
	case t.Kind == expr.Bool || t.Kind == expr.Int64:
		v.Int = c.ints[i]
	default:
		v.Num = c.floats[i]
	}
	return v
}

func sameValue(a, b expr.Value, near bool) bool {
	if a.Null || b.Null {
		return a.Null == b.Null
	}
	if a.Int != b.Int || a.Text != b.Text || len(a.Vec) != len(b.Vec) || !sameNumber(a.Num, b.Num, near) {
		return false
	}
	for i := range a.Vec {
		if !sameNumber(a.Vec[i], b.Vec[i], near) {
			return false
		}
	}
	return true
}

func sameNumber(a, b float64, near bool) bool {
	if a != a || b != b {
		return a != a && b != b
	}
	return math.Float64bits(a) == math.Float64bits(b) || near && math.Abs(a-b) <= math.Abs(b)*0x1p-23
}

// interpreted and compiled are the two ways in which Spark evaluates an expression.
var evaluations = map[string]map[string]string{
	"interpreted": {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"},
	"compiled":    {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "CODEGEN_ONLY", "spark.sql.optimizer.excludedRules": "org.apache.spark.sql.catalyst.optimizer.ConvertToLocalRelation"},
}

func TestSparkGivesTheGoldenResults(t *testing.T) {
	s := dialReal(t)
	for name, conf := range evaluations {
		if err := s.SetConf(t.Context(), conf); err != nil {
			t.Fatal(err)
		}
		for _, g := range golden(t) {
			text, err := sqlOf(g.Expr, g.Schema)
			if err != nil {
				t.Errorf("%s: %v", g.Name, err)
				continue
			}
			got, err := s.table(t.Context(), g.Name, "", "SELECT `#`, "+text+" AS x, typeof("+text+") FROM "+valuesSQL(g.Schema, g.Rows))
			if err != nil {
				t.Errorf("%s, %s: %v\n%s", name, g.Name, err, text)
				continue
			}
			for k := range got.rows {
				i := int(got.cols[0].ints[k])
				if v := valueAt(&got.cols[1], k, g.Type); !sameValue(v, g.Want[i], g.Near) {
					t.Errorf("%s, %s, row %d %+v: Spark gives %+v, want %+v\n%s", name, g.Name, i, g.Rows[i], v, g.Want[i], text)
				}
				if typ := strings.ToUpper(got.cols[2].texts[k]); typ != sparkType(g.Type) {
					t.Errorf("%s, %s: Spark's type is %s, want %s\n%s", name, g.Name, typ, sparkType(g.Type), text)
				}
			}
		}
	}
}
