package spec

import (
	"reflect"
	"strings"
	"testing"
)

// TestYAMLForms holds what job files use of YAML, whoever parses it.
func TestYAMLForms(t *testing.T) {
	type m = map[string]any
	for text, want := range map[string]any{
		"a: 1 # one\nb: 'x # y'\nc: \"# z\"\n":          m{"a": int64(1), "b": "x # y", "c": "# z"},
		"a: x#y\n":                                      m{"a": "x#y"},
		"a: [1,\n    2, # two\n    3,\n   ]\n":          m{"a": []any{int64(1), int64(2), int64(3)}},
		"a: {b: 1,\n    c: [x, 'y, z']}\n":              m{"a": m{"b": int64(1), "c": []any{"x", "y, z"}}},
		"a: |\n  x\n    y\n\n  z\nb: 1\n":               m{"a": "x\n  y\n\nz\n", "b": int64(1)},
		"a: |-\n  x\n  y\n":                             m{"a": "x\ny"},
		"a: >\n  x\n  y\n\n  z\n":                       m{"a": "x y\nz\n"},
		"a: >-\n  x\n  y\n":                             m{"a": "x y"},
		"a: x\n  y\n  z\nb: 1\n":                        m{"a": "x y z", "b": int64(1)},
		"a: \"x\n  y\"\n":                               m{"a": "x y"},
		"a:\n- b: 1\n  c: 2\n- b: 3\n":                  m{"a": []any{m{"b": int64(1), "c": int64(2)}, m{"b": int64(3)}}},
		"a:\n  - - 1\n    - 2\n  - []\n":                m{"a": []any{[]any{int64(1), int64(2)}, []any{}}},
		"a:\n  b:\n    c: 1\n  d: 2\ne: 3\n":            m{"a": m{"b": m{"c": int64(1)}, "d": int64(2)}, "e": int64(3)},
		"a:\nb: 1\n":                                    m{"a": nil, "b": int64(1)},
		"a: hdfs://ns/p\nb: {u: sc://h:1/;x=y}\n":       m{"a": "hdfs://ns/p", "b": m{"u": "sc://h:1/;x=y"}},
		"a: {\"b\": 1, 'c': 2}\n":                       m{"a": m{"b": int64(1), "c": int64(2)}},
		"{\"a\": {\"b\": [1, 2.5, null, \"x\\ny\"]}}\n": m{"a": m{"b": []any{int64(1), 2.5, nil, "x\ny"}}},
		"a: 'it''s'\n":                                  m{"a": "it's"},
		"a: \"\\u00e9\\t\\\\\"\n":                       m{"a": "é\t\\"},
		"ä: ö\n":                                        m{"ä": "ö"},
		"a: p*\nb: -x\nc: x-\nd: <3\n":                  m{"a": "p*", "b": "-x", "c": "x-", "d": "<3"},
		"---\na: 1\n...\n":                              m{"a": int64(1)},
		"# first\n\n\na: 1\n\n# last":                   m{"a": int64(1)},
		"0: a\n1: b\n":                                  m{"0": "a", "1": "b"},
		"a: SELECT x, y FROM t WHERE z = 'q'\n":         m{"a": "SELECT x, y FROM t WHERE z = 'q'"},
		"a: |\n  SELECT 1 -- x: y\n  # no comment\n":    m{"a": "SELECT 1 -- x: y\n# no comment\n"},
		"a: # nothing\n  b: 1\n":                        m{"a": m{"b": int64(1)}},
		"a: [x]\n\n\nb:   1   \n":                       m{"a": []any{"x"}, "b": int64(1)},
	} {
		for _, form := range []string{text, strings.ReplaceAll(text, "\n", "\r\n"), strings.TrimSuffix(text, "\n")} {
			if form != text && strings.Contains(text, "|\n") || strings.Contains(text, ">\n") && form != text {
				continue // the end of the text is part of a block
			}
			n, problems, err := parse(&source{name: "f", text: form})
			if err != nil || len(problems) > 0 {
				t.Errorf("%q: %v %v", form, err, problems)
				continue
			}
			if got := n.plain(); !reflect.DeepEqual(got, want) {
				t.Errorf("%q:\n got %#v\nwant %#v", form, got, want)
			}
		}
	}
}

// TestPositions says where names and values stand.
func TestPositions(t *testing.T) {
	const text = "a: 1\nb:\n  c: [x, \"y\"]\n  d:\n    - e: |\n        z\n    -  {f: ö, g: h}\n"
	for _, form := range []string{text, strings.ReplaceAll(text, "\n", "\r\n"), "# ä\n" + text} {
		n, _, err := parse(&source{name: "f", text: form})
		if err != nil {
			t.Fatal(err)
		}
		shift := strings.Count(form, "# ä")
		for path, want := range map[string][2]int{
			"a": {1, 4}, "b": {3, 3}, "b.c": {3, 6}, "b.c[0]": {3, 7}, "b.c[1]": {3, 10}, "b.d[0].e": {5, 10},
			"b.d[1]": {7, 8}, "b.d[1].f": {7, 12}, "b.d[1].g": {7, 18},
		} {
			at := n
			for _, s := range steps(path) {
				at = at.step(s)
			}
			if at == nil || at.at.line != want[0]+shift || at.at.col != want[1] {
				t.Errorf("%s of %q: %+v, want %v", path, form, at, want)
			}
		}
	}
}
