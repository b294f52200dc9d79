package spec

import (
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAWholeVariableTakesItsType(t *testing.T) {
	const text = `params: {n: 3, f: 0.5, on: true, s: "7", day: 2026-01-02}
name: "{{s}}"
spark: {remote: "sc://h:1"}
train: {loss: mse, epochs: "{{n}}", trainer: "{{t}}", metrics: ["{{s}}", "{{n}}", "{{on}}"]}
split: {key: id, train: "{{f}}", test: 0.5}
dataset: {path: "{{day}}", live: "{{ on }}", shards: "{{n}}"}
`
	s := read(t, strings.Replace(text, "{n: 3", "{t: agn, n: 3", 1), Options{Params: map[string]string{"n": "4", "f": "0.5"}})
	if s.Name != "7" || s.Train.Epochs != 4 || s.Train.Trainer.Name != "agn" || s.Split.Train != 0.5 || s.Dataset.Path != "2026-01-02" || !s.Dataset.Live {
		t.Errorf("%+v", s)
	}
	if want := []string{"7", "4", "true"}; !reflect.DeepEqual(s.Train.Metrics, want) {
		t.Errorf("a number in place of text: %q, want %q", s.Train.Metrics, want)
	}
	want := map[string]any{"t": "agn", "n": int64(4), "f": 0.5, "on": true, "s": "7", "day": Date("2026-01-02")}
	if !reflect.DeepEqual(s.Params, want) {
		t.Errorf("params %#v", s.Params)
	}
}

func TestVariablesInsideTextAreText(t *testing.T) {
	s := read(t, `params: {n: 3, s: it's}
name: "a{{n}}b{{s}}c{{'{{'}}n}}"
output: {path: "hdfs://ns/{{slot_date}}/{{slot}}"}
`, Options{Slot: "2026-11-22T03", Params: map[string]string{"s": "007"}})
	if s.Name != "a3b007c{{n}}" || s.Output.Path != "hdfs://ns/2026-11-22/2026-11-22T03" {
		t.Errorf("name %q, path %q", s.Name, s.Output.Path)
	}
}

func TestVariablesInSQL(t *testing.T) {
	const head = `params: {n: 3, f: 0.5, on: true, s: x, day: 2026-01-02}
spark: {remote: "sc://h:1"}
expect: {max_null: {a: "{{f}}"}}
split: {seed: "{{n}}"}
dataset: {path: "{{s}}{{on}}{{day}}"}
`
	for _, c := range []struct{ sql, s, want string }{
		{"WHERE a = {{s}}", "DE", "WHERE a = 'DE'"},
		{"WHERE a = {{s}}", "O'Brien", `WHERE a = 'O\'Brien'`},
		{"WHERE a = {{s}}", `\' OR 1=1 --`, `WHERE a = '\\\' OR 1=1 --'`},
		{"WHERE a = '{{s}}'", "O'Brien", `WHERE a = 'O\'Brien'`},
		{"WHERE a = '{{s}}' OR a = {{s}}", "${env:HOME}", `WHERE a = '\u0024{env:HOME}' OR a = '\u0024{env:HOME}'`},
		{"WHERE a = '${{s}}'", "{env:HOME}", `WHERE a = '$\u007benv:HOME}'`},
		{"WHERE a = r'{{s}}' AND for'{{s}}'", `\d$x`, `WHERE a = r'\d$x' AND for'\\d\u0024x'`},
		{"WHERE a = 'x-{{s}}-y' AND b = {{s}}", "q", "WHERE a = 'x-q-y' AND b = 'q'"},
		{`WHERE a = "{{s}}"`, `a"b'c`, `WHERE a = "a\"b'c"`},
		{"SELECT `{{s}}` FROM t", "a`b", "SELECT `a``b` FROM t"},
		{"a = {{n}} AND b = '{{n}}'", "", "a = 3 AND b = '3'"},
		{"a = {{f}} AND b = {{on}}", "", "a = 0.5 AND b = TRUE"},
		{"a = {{day}} AND b = '{{day}}'", "", "a = DATE '2026-01-02' AND b = '2026-01-02'"},
		{"ds = '{{slot_date}}' AND d = {{slot_date}} AND s = {{slot}}", "", "ds = '2026-11-22' AND d = DATE '2026-11-22' AND s = '2026-11-22T03'"},
		{"a = 'it''s' AND b = {{s}}", "q", "a = 'it''s' AND b = 'q'"},
		{`a = 'it\'s' AND b = {{s}}`, "q", `a = 'it\'s' AND b = 'q'`},
		{`a = '\\' AND b = {{s}}`, "q", `a = '\\' AND b = 'q'`},
		{"SELECT 1 -- it's\n, {{s}}", "q", "SELECT 1 -- it's\n, 'q'"},
		{"SELECT 1 /* it's */, {{s}}", "q", "SELECT 1 /* it's */, 'q'"},
		{"SELECT 1 -- slot {{slot}}", "", "SELECT 1 -- slot 2026-11-22T03"},
		{"SELECT 1 /* {{s}} */", "q", "SELECT 1 /* q */"},
		{"{{s}}", "SELECT 1", "SELECT 1"}, // the whole text is the parameter
	} {
		params := map[string]string{}
		if strings.Contains(c.sql, "{{s}}") {
			params["s"] = c.s
		}
		text := head + "source:\n  sql: |-\n    " + strings.ReplaceAll(c.sql, "\n", "\n    ") + "\n"
		if got := read(t, text, Options{Params: params, Slot: "2026-11-22T03"}).Source.SQL; got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}

func TestNegativeNumbersInSQLStandInParentheses(t *testing.T) {
	s := read(t, "params: {n: -1, f: -0.5}\nspark: {remote: 'sc://h:1'}\nsource: {sql: 'SELECT x-{{n}}, y-{{f}}, ''{{n}}'''}\n", Options{})
	if want := "SELECT x-(-1), y-(-0.5), '-1'"; s.Source.SQL != want {
		t.Errorf("got %s, want %s: -- starts a comment", s.Source.SQL, want)
	}
}

func TestTransformersWithSQLQuoteVariables(t *testing.T) {
	s := read(t, `params: {c: DE, col: age}
transform:
  - filter: {where: "country = {{c}}"}
  - sql: {statement: "SELECT {{c}} AS c FROM __THIS__", output: "{{col}}_x"}
  - clip: {input: "{{col}}_y"}
  - filter: "country = {{c}}"
`, Options{})
	var got []any
	for _, it := range s.Transform {
		var v any
		if err := it.Decode(&v); err != nil {
			t.Fatal(err)
		}
		got = append(got, v)
	}
	want := []any{
		map[string]any{"where": "country = 'DE'"},
		map[string]any{"statement": "SELECT 'DE' AS c FROM __THIS__", "output": "age_x"},
		map[string]any{"input": "age_y"},
		"country = 'DE'",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestInsertedTextCannotLeaveItsPlace inserts any text at any place of a query and checks, by following the SQL, that
// the text behind it means what it meant before.
func TestInsertedTextCannotLeaveItsPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.StringOf(rapid.SampledFrom([]rune("ar '\"`\\-/*\n$"))).Draw(t, "before")
		value := rapid.StringOf(rapid.SampledFrom([]rune("ab '\"`\\-/*\n;${"))).Draw(t, "value")
		var start sqlLexer
		start.read(before)
		text, err := start.insert(&node{kind: textKind, text: value})
		if err != nil {
			return // refused
		}
		if strings.Contains(text, "${") || strings.HasSuffix(text, "$") || strings.HasSuffix(before, "$") && strings.HasPrefix(text, "{") {
			t.Fatalf("%q behind %q became %q, in which Spark replaces variables", value, before, text)
		}
		after := sqlLexer{in: start.in}
		if start.in == sqlCode {
			if !strings.HasPrefix(text, "'") || !strings.HasSuffix(text, "'") {
				t.Fatalf("%q is no literal", text)
			}
		}
		after.read(text)
		after.inserted()
		if after.in != start.in {
			t.Fatalf("in place %d, %q became %q, which ends in place %d", start.in, value, text, after.in)
		}
		if start.in == sqlCode {
			if got := unquote(text[1 : len(text)-1]); got != value {
				t.Fatalf("%q became %s, which reads as %q", value, text, got)
			}
		}
	})
}

// unquote reads the inside of a literal as Spark does.
func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if i++; s[i] == 'u' {
				n, _ := strconv.ParseUint(s[i+1:i+5], 16, 16)
				b.WriteRune(rune(n))
				i += 4
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
