package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// SplitSet cuts a --set argument into pairs at commas that stand outside of brackets, braces and quotes:
// train.epochs=3,columns.x=[a, b] gives two pairs. Brackets, braces and quotes count where YAML gives them a meaning,
// at the start of a value or of an element: it's and x[0] are plain text.
func SplitSet(arg string) []string {
	var pairs []string
	start, depth := 0, 0
	quote, opens := rune(0), false // opens: a bracket or a quote here begins a value
	escaped, first := false, true  // first: the = of this pair has not come
	for i, r := range arg {
		switch {
		case quote != 0:
			switch {
			case escaped:
				escaped = false
			case quote == '"' && r == '\\':
				escaped = true
			case quote == '\'' && strings.HasPrefix(arg[i:], "''"):
				escaped = true // two of them are one in the text
			case r == quote:
				quote = 0
			}
			continue
		case first && r == '"':
			quote = r // a step of the path in quotes
			continue
		case first && r == '=':
			first, opens = false, true
			continue
		case r == ',' && depth == 0:
			pairs = append(pairs, arg[start:i])
			start, first, opens = i+1, true, false
			continue
		case first:
			continue
		case opens && (r == '\'' || r == '"'):
			quote, opens = r, false
		case (r == '[' || r == '{') && (opens || depth > 0):
			depth++
			opens = true
		case (r == ']' || r == '}') && depth > 0:
			depth--
			opens = false
		case depth > 0 && (r == ',' || r == ':'):
			opens = true
		case r != ' ':
			opens = false
		}
	}
	return append(pairs, arg[start:])
}

// setting is one --set pair.
type setting struct {
	steps []string
	value *node
	flag  *cliFlag
}

// path is the normal form of where it goes: a.0.b and a[0].b are equal.
func (s setting) path() string { return strings.Join(s.steps, "\x00") }

// readSets parses the --set arguments.
func (d *decoder) readSets(args []string) []setting {
	var all []setting
	for _, arg := range args {
		for _, pair := range SplitSet(arg) {
			if s, ok := d.readSet(strings.TrimSpace(pair), arg); ok {
				all = append(all, s)
			}
		}
	}
	return all
}

func (d *decoder) readSet(pair, arg string) (setting, bool) {
	path, text, ok := cutPair(pair)
	f := &cliFlag{text: "--set " + shorten(pair), path: path}
	at := mark{flag: f}
	if !ok || path == "" {
		hint := "write --set train.epochs=3"
		if strings.Contains(arg, ",") && strings.Contains(arg, "=") {
			hint = "a comma separates pairs; put a value that has one in quotes or brackets"
		}
		d.problems = append(d.problems, Problem{Pos: Pos{File: f.text}, Text: "want field=value", Hint: hint})
		return setting{}, false
	}
	s := setting{steps: steps(path), flag: f}
	if len(s.steps) == 0 || len(s.steps) > maxDepth {
		d.fail(at, path, "write --set train.epochs=3", "want field=value")
		return setting{}, false
	}
	if s.steps[0] == "spark" {
		f.text = "--set " + path + "=…" // may hold a token
	}
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{{") && !strings.HasPrefix(text, "{{{") {
		s.value = &node{kind: textKind, text: text, quoted: true, at: at, key: at} // a variable, not fields
		return s, true
	}
	n, problems, err := parse(&source{flag: f, text: text})
	d.problems = append(d.problems, problems...)
	if err != nil {
		d.problems = append(d.problems, err.(*Error).Problems...)
		return setting{}, false
	}
	n.key = at
	s.value = n
	return s, true
}

// cutPair cuts a pair at its first = outside of quotes.
func cutPair(pair string) (path, value string, ok bool) {
	quoted := false
	for i, r := range pair {
		switch {
		case r == '"':
			quoted = !quoted
		case r == '=' && !quoted:
			return strings.TrimSpace(pair[:i]), pair[i+1:], true
		}
	}
	return strings.TrimSpace(pair), "", false
}

// shorten keeps a flag readable in a message.
func shorten(pair string) string {
	const most = 60
	if r := []rune(pair); len(r) > most {
		pair = string(r[:most-1]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, pair)
}

// apply puts a setting into the tree. Names that are not there yet are made; whether they are fields is seen when the
// tree is decoded.
func (d *decoder) apply(root *node, s setting) {
	at := mark{flag: s.flag}
	n := root
	for i, step := range s.steps {
		last := i == len(s.steps)-1
		switch n.kind {
		case nullKind:
			n.kind, n.at = mapKind, at
		case textKind:
			if n.text == step && !last && i > 0 { // trainer: agn, --set train.trainer.agn.window=3
				n.fields = []field{{name: step, at: n.at, val: &node{kind: nullKind, at: n.at, key: n.at}}}
				n.kind, n.text = mapKind, ""
			}
		}
		switch n.kind {
		case mapKind:
			j := n.index(step)
			if j < 0 {
				n.fields = append(n.fields, field{name: step, at: at, val: &node{kind: nullKind, at: at, key: at}})
				j = len(n.fields) - 1
			}
			if last {
				n.fields[j] = field{name: step, at: at, val: s.value}
			}
			n = n.fields[j].val
		case listKind:
			j, err := strconv.Atoi(step)
			above := strings.Join(s.steps[:i], ".")
			if err != nil {
				d.fail(at, s.flag.path, fmt.Sprintf("write %s.0 for its first element", above),
					"%s is a list of %d; %s is no index", above, len(n.list), quote(step))
				return
			}
			if j < 0 || j >= len(n.list) {
				d.fail(at, s.flag.path, "set the whole list instead", "%s has no element %d; it has %s", above, j, span(len(n.list)))
				return
			}
			if last {
				n.list[j] = s.value
			}
			n = n.list[j]
		default:
			above := strings.Join(s.steps[:i], ".")
			d.fail(at, s.flag.path, "set "+above+" itself", "%s is %s and has no fields", above, n.describe())
			return
		}
	}
}

func span(n int) string {
	switch n {
	case 0:
		return "none"
	case 1:
		return "only 0"
	}
	return fmt.Sprintf("0 to %d", n-1)
}

// effective leaves out settings that a later one replaces and sorts the others by path, so that equal effects have
// equal forms.
func effective(all []setting) []setting {
	var kept []setting
	for i, s := range all {
		replaced := false
		for _, later := range all[i+1:] {
			p := later.path()
			if s.path() == p || strings.HasPrefix(s.path(), p+"\x00") {
				replaced = true
				break
			}
		}
		if !replaced {
			kept = append(kept, s)
		}
	}
	return kept
}
