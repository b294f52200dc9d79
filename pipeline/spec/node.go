package spec

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what a value is.
type kind int

const (
	nullKind kind = iota
	boolKind
	intKind
	floatKind
	textKind
	dateKind // only from variables; a file has text that looks like a date
	listKind
	mapKind
	badKind // something was wrong with it and has been reported: decodes to nothing, silently
)

// node is a value of the job file. --set and variables change the tree before it is decoded.
type node struct {
	kind   kind
	text   string // of a scalar, as it was written
	quoted bool   // text in quotes or a block: never a number
	b      bool
	i      int64
	f      float64
	from   string // the variable that gave the whole value, or empty
	list   []*node
	fields []field
	at     mark
	key    mark // of the name or the list element that holds it: where a missing field is reported
}

// field is one name of a map.
type field struct {
	name string
	at   mark
	val  *node
}

// mark is where a node was written: a place in the file, or a flag.
type mark struct {
	line, col int
	flag      *cliFlag
}

// cliFlag is a --set or --param that gave a value.
type cliFlag struct {
	text string // --set train.window=3
	path string // train.window
}

// get finds a field of a map.
func (n *node) get(name string) *node {
	if n == nil || n.kind != mapKind {
		return nil
	}
	if i := n.index(name); i >= 0 {
		return n.fields[i].val
	}
	return nil
}

func (n *node) index(name string) int {
	return slices.IndexFunc(n.fields, func(f field) bool { return f.name == name })
}

// empty says that there is no value: no node, or null.
func (n *node) empty() bool { return n == nil || n.kind == nullKind }

// describe says what a value is, for "want a number, got …".
func (n *node) describe() string {
	s := ""
	switch n.kind {
	case nullKind:
		return "nothing"
	case listKind:
		return "a list"
	case mapKind:
		return "fields (name: value)"
	case boolKind:
		s = strconv.FormatBool(n.b)
	case intKind, floatKind:
		s = "the number " + n.text
	case dateKind:
		s = "the date " + n.text
	default:
		s = "the text " + quote(n.text)
	}
	if n.from != "" {
		s += " from {{" + n.from + "}}"
	}
	return s
}

var (
	intForm   = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*(_[0-9]+)*)$`)
	hexForm   = regexp.MustCompile(`^0(x[0-9a-fA-F]+|o[0-7]+)$`)
	floatForm = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	dateForm  = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
)

// scalar makes the node of an unquoted scalar, by the core schema of YAML 1.2: yes, no, on, off and dates are text.
// 1_000 is a number too, and 007 is text, because it means 7 to some readers and 07 octal to others.
func scalar(text string, at mark) *node {
	n := &node{kind: textKind, text: text, at: at}
	switch text {
	case "", "~", "null", "Null", "NULL":
		n.kind = nullKind
		return n
	case "true", "True", "TRUE":
		n.kind, n.b = boolKind, true
		return n
	case "false", "False", "FALSE":
		n.kind = boolKind
		return n
	case ".nan", ".NaN", ".NAN":
		n.kind, n.f = floatKind, math.NaN()
		return n
	case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF":
		n.kind, n.f = floatKind, math.Inf(1)
		return n
	case "-.inf", "-.Inf", "-.INF":
		n.kind, n.f = floatKind, math.Inf(-1)
		return n
	}
	if len(text) > 400 {
		return n
	}
	digits := strings.ReplaceAll(text, "_", "")
	switch {
	case intForm.MatchString(text):
		if i, err := strconv.ParseInt(digits, 10, 64); err == nil {
			n.kind, n.i = intKind, i
			return n
		}
		n.kind = floatKind // beyond int64: no whole number that dkpipe can hold
		n.f, _ = strconv.ParseFloat(digits, 64)
	case hexForm.MatchString(text):
		if i, err := strconv.ParseInt(text, 0, 64); err == nil {
			n.kind, n.i = intKind, i
		}
	case floatForm.MatchString(text) && !leadingZero(text):
		n.kind = floatKind
		n.f, _ = strconv.ParseFloat(digits, 64) // a range error leaves ±Inf, which decoding refuses
	}
	return n
}

func leadingZero(text string) bool {
	t := strings.TrimLeft(text, "+-")
	return len(t) > 1 && t[0] == '0' && t[1] >= '0' && t[1] <= '9'
}

// isDate says whether text is a day of the calendar, yyyy-mm-dd.
func isDate(text string) bool {
	if !dateForm.MatchString(text) {
		return false
	}
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}

// canonical appends a form that is equal for equal values, whatever their notation and the order of names.
func (n *node) canonical(b []byte) []byte {
	switch n.kind {
	case nullKind, badKind:
		return append(b, "null"...)
	case boolKind:
		return strconv.AppendBool(b, n.b)
	case intKind:
		return strconv.AppendInt(b, n.i, 10)
	case floatKind:
		return strconv.AppendFloat(append(b, 'f'), n.f, 'g', -1, 64)
	case dateKind:
		return append(append(b, 'd'), n.text...)
	case listKind:
		b = append(b, '[')
		for _, v := range n.list {
			b = append(v.canonical(b), ',')
		}
		return append(b, ']')
	case mapKind:
		sorted := slices.Clone(n.fields)
		slices.SortStableFunc(sorted, func(a, b field) int { return strings.Compare(a.name, b.name) })
		b = append(b, '{')
		for _, f := range sorted {
			b = append(strconv.AppendQuote(b, f.name), ':')
			b = append(f.val.canonical(b), ',')
		}
		return append(b, '}')
	}
	return strconv.AppendQuote(b, n.text)
}
