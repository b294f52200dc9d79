package spec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// Limits of a job file. They bound the time and the memory that a hostile file can cost; the largest honest one is
// far below all of them.
const (
	MaxBytes   = 1 << 20 // of the file
	maxDepth   = 32      // of lists and fields in each other
	maxTokens  = 50_000  // names, values and signs
	maxNames   = 10_000  // name: value pairs
	maxLine    = 1 << 16 // characters in a line
	maxWork    = 1 << 26 // names' length × depth × tokens: what the parser spends on the paths of its nodes
	maxBlanks  = 100     // blank lines in a row
	maxTabs    = 64      // in one line
	maxRepeat  = 64      // '<' in a row
	maxSignals = 250_000 // characters that may separate tokens
)

// source is one piece of YAML: a file, or the value of a flag.
type source struct {
	name string
	flag *cliFlag
	text string
}

func (s *source) mark(line, col int) mark { return mark{line: line, col: col, flag: s.flag} }

func (s *source) pos(line, col int) Pos {
	if s.flag != nil {
		return Pos{File: s.flag.text}
	}
	return Pos{File: s.name, Line: line, Column: col}
}

func (s *source) fail(line, col int, hint, format string, args ...any) error {
	return newError([]Problem{{Pos: s.pos(line, col), Text: fmt.Sprintf(format, args...), Hint: hint}}, 0)
}

func (s *source) line(n int) string {
	lines := strings.SplitN(s.text, "\n", n+1)
	if n < 1 || n > len(lines) {
		return ""
	}
	return lines[n-1]
}

// parse turns YAML into a tree. Anchors, aliases, merge keys, tags, directives, complex keys and further documents
// are refused. The problems are those of single names; the error is one that ends the reading.
func parse(s *source) (*node, []Problem, error) {
	if err := guard(s); err != nil {
		return nil, nil, err
	}
	s.text = strings.ReplaceAll(s.text, "\r\n", "\n") // the parser folds them wrongly in quotes
	tokens, err := scan(s)
	if err != nil {
		return nil, nil, err
	}
	file, err := parseTokens(s, tokens)
	if err != nil {
		return nil, nil, err
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			t := doc.Body.GetToken()
			if doc.Start != nil {
				t = doc.Start
			}
			return nil, nil, s.fail(t.Position.Line, t.Position.Column, "put each job into a file of its own",
				"a second document; a job file holds one")
		}
		body = doc.Body
	}
	c := converter{source: s}
	if s.flag != nil {
		c.path = []string{s.flag.path}
	}
	n := c.convert(body, s.mark(1, 1), 0)
	return n, c.problems, c.err
}

// guard refuses what the parser would take long or crash on, in one pass over the characters.
func guard(s *source) error {
	if len(s.text) > MaxBytes {
		return s.fail(1, 1, "keep data, such as vocabularies, in files of their own",
			"%d bytes; a job file has at most %d", len(s.text), MaxBytes)
	}
	line, col, tabs, blanks, repeat, signals := 1, 0, 0, 0, 0, 0
	blank := true
	for i, r := range s.text {
		col++
		if r == '<' {
			repeat++
		} else {
			repeat = 0
		}
		switch r {
		case '\n':
			if blank {
				blanks++
			} else {
				blanks = 0
			}
			line, col, tabs, blank = line+1, 0, 0, true
		case '\t':
			tabs++
		case ' ', '\r':
		case ',', '[', ']', '{', '}', ':', '-':
			signals++
			blank = false
		case utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s.text[i:]); n == 1 {
				return s.fail(line, col, "save the file as UTF-8", "a byte that is not UTF-8 text")
			}
			blank = false
		default:
			if r < ' ' || r == 0x7f {
				return s.fail(line, col, "remove it", "a control character (%U) has no place in a job file", r)
			}
			blank = false
		}
		switch {
		case tabs > maxTabs:
			return s.fail(line, col, "use spaces", "more than %d tabs in one line", maxTabs)
		case blanks > maxBlanks:
			return s.fail(line, 1, "remove them", "more than %d blank lines in a row", maxBlanks)
		case repeat == 7 && col == 7:
			return s.fail(line, 1, "resolve the conflict and remove the marks", "a merge conflict is still in the file")
		case repeat > maxRepeat:
			return s.fail(line, col, "remove them", "more than %d '<' in a row", maxRepeat)
		case col > maxLine:
			return s.fail(line, 1, "break the line", "a line of more than %d characters", maxLine)
		case signals > maxSignals:
			return s.fail(line, col, "keep data in files of their own", "too many values for a job file")
		}
	}
	return nil
}

// scan cuts the text into tokens, up to the first that is wrong, and refuses what job files do not use.
func scan(s *source) (token.Tokens, error) {
	var sc scanner.Scanner
	sc.Init(s.text + "\n") // the scanner loses a tag at the very end
	var tokens token.Tokens
	for len(tokens) <= maxTokens {
		some, err := sc.Scan()
		tokens.Add(some...)
		if err != nil {
			break // the end, or an invalid token, which is the last one then
		}
	}
	if len(tokens) > maxTokens {
		t := tokens[maxTokens]
		return nil, s.fail(t.Position.Line, t.Position.Column, "keep data in files of their own",
			"too many values for a job file")
	}
	shape := measure{}
	for _, t := range tokens {
		line, col := t.Position.Line, t.Position.Column
		if t.Type == token.InvalidType {
			return nil, s.syntax(t.Error, t)
		}
		if text, hint := refused(t); text != "" {
			return nil, s.fail(line, col, hint, "%s", text)
		}
		shape.add(t)
		switch {
		case shape.deepest > maxDepth:
			return nil, s.fail(line, col, "", "more than %d lists and fields inside each other", maxDepth)
		case shape.names > maxNames:
			return nil, s.fail(line, col, "keep data in files of their own", "more than %d names", maxNames)
		}
	}
	if shape.longest*shape.deepest*len(tokens) > maxWork {
		return nil, s.fail(1, 1, "keep data in files of their own", "too many long names for a job file")
	}
	return tokens, nil
}

// refused says why a token has no place in a job file, or gives an empty text.
func refused(t *token.Token) (text, hint string) {
	switch t.Type {
	case token.AnchorType:
		return "& starts an anchor, which job files do not have", "put text that starts with & in quotes"
	case token.AliasType:
		return "* starts an alias, which job files do not have", `put text that starts with * in quotes: "*.csv"`
	case token.TagType:
		return "! starts a tag, which job files do not have", "put text that starts with ! in quotes"
	case token.DirectiveType:
		return "% starts a directive, which job files do not have", "put text that starts with % in quotes"
	case token.MergeKeyType:
		return "<< is a merge key, which job files do not have", "write the fields out"
	case token.MappingKeyType:
		return "? starts a complex name, which job files do not have", "put text that starts with ? in quotes"
	}
	return "", ""
}

// measure follows how deep tokens nest, so that the parser, which recurses, is never given more than it can take.
type measure struct {
	columns []int // of the block lists and fields that are open
	flow    int
	deepest int
	names   int
	longest int // name
	last    *token.Token
}

func (m *measure) add(t *token.Token) {
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		m.flow++
	case token.MappingEndType, token.SequenceEndType:
		m.flow = max(m.flow-1, 0)
	case token.SequenceEntryType:
		m.open(t.Position.Column)
	case token.MappingValueType:
		m.names++
		if m.last != nil {
			m.longest = max(m.longest, len(m.last.Value))
			if m.flow == 0 {
				m.open(m.last.Position.Column)
			}
		}
	}
	m.deepest = max(m.deepest, len(m.columns)+m.flow)
	m.last = t
}

func (m *measure) open(column int) {
	for len(m.columns) > 0 && m.columns[len(m.columns)-1] >= column {
		m.columns = m.columns[:len(m.columns)-1]
	}
	m.columns = append(m.columns, column)
}

// parseTokens runs the YAML parser. It is not ours, so a panic in it becomes an error here.
func parseTokens(s *source, tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			file, err = nil, s.fail(1, 1, "simplify the file, or report the text that causes this",
				"the YAML parser gave up (%v)", r)
		}
	}()
	file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			return nil, s.syntax(syntax.Message, syntax.Token)
		}
		return nil, s.fail(1, 1, "", "not valid YAML: %s", strings.TrimSpace(err.Error()))
	}
	return file, nil
}

// converter makes our tree of the parser's.
type converter struct {
	source   *source
	path     []string // where it is: .train .optimizer
	problems []Problem
	err      error
}

// inside converts a value one level down.
func (c *converter) inside(step string, n ast.Node, at mark, depth int) *node {
	c.path = append(c.path, step)
	v := c.convert(n, at, depth+1)
	c.path = c.path[:len(c.path)-1]
	v.key = at
	return v
}

func (c *converter) convert(n ast.Node, at mark, depth int) *node {
	null := &node{kind: nullKind, at: at}
	if n == nil || c.err != nil {
		return null
	}
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return null
	}
	if depth > 2*maxDepth {
		c.err = c.source.fail(t.Position.Line, t.Position.Column, "", "more than %d lists and fields inside each other", maxDepth)
		return null
	}
	here := c.source.mark(t.Position.Line, t.Position.Column)
	switch n := n.(type) {
	case *ast.NullNode:
		if t.Type != token.ImplicitNullType {
			null.at = here
		}
		return null
	case *ast.StringNode:
		if t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType {
			return &node{kind: textKind, text: n.Value, quoted: true, at: here}
		}
		return scalar(n.Value, here)
	case *ast.LiteralNode:
		start := n.Start.Position
		return &node{kind: textKind, text: n.Value.Value, quoted: true, at: c.source.mark(start.Line, start.Column)}
	case *ast.MappingNode:
		return c.fields(n.Values, here, n.IsFlowStyle, depth)
	case *ast.MappingValueNode:
		return c.fields([]*ast.MappingValueNode{n}, here, false, depth)
	case *ast.SequenceNode:
		l := &node{kind: listKind, at: here}
		for i, v := range n.Values {
			e := c.inside("["+strconv.Itoa(i)+"]", v, here, depth)
			e.key = e.at
			l.list = append(l.list, e)
		}
		return l
	case ast.ScalarNode:
		return scalar(t.Value, here)
	}
	c.err = c.source.fail(here.line, here.col, "", "%s has no place in a job file", strings.ToLower(n.Type().YAMLName()))
	return null
}

func (c *converter) fields(values []*ast.MappingValueNode, at mark, flow bool, depth int) *node {
	m := &node{kind: mapKind, at: at}
	first := map[string]int{}
	for i, v := range values {
		t := v.Key.GetToken()
		if _, ok := v.Key.(ast.ScalarNode); !ok || t == nil || t.Position == nil {
			c.err = c.source.fail(at.line, at.col, "", "a name that is not text")
			return m
		}
		key := c.source.mark(t.Position.Line, t.Position.Column)
		if i == 0 && !flow {
			m.at = key // the first name, rather than its colon
		}
		name := t.Value
		if line, ok := first[name]; ok {
			pos := c.source.pos(key.line, key.col)
			pos.Field = join(strings.TrimPrefix(strings.Join(c.path, ""), "."), name)
			text := "written twice"
			if c.source.flag == nil {
				text += fmt.Sprintf("; the first one is in line %d", line)
			}
			c.problems = append(c.problems, Problem{Pos: pos, Text: text, Hint: "remove one of the two"})
			continue
		}
		first[name] = key.line
		m.fields = append(m.fields, field{name: name, at: key, val: c.inside("."+join("", name), v.Value, key, depth)})
	}
	return m
}
