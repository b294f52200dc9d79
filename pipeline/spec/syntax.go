package spec

import (
	"strings"

	"github.com/goccy/go-yaml/token"
)

// syntaxes says in other words what the YAML parser finds wrong.
// The words that the parser uses assume that one knows how it works.
var syntaxes = []struct{ has, text, hint string }{
	{"that cannot start any token", "a tab in the indentation", "indent with spaces"},
	{"tab character", "a tab in the indentation", "indent with spaces"},
	{"mapping value is not allowed", "a second colon in one line", "put text that contains \": \" in quotes, or start a new line"},
	{"non-map value is specified", "this line is not of the form name: value", "put a space after the colon, and check the indentation"},
	{"map key-value is pre-defined", "this line is indented deeper than the one above it, which has a value already", "line it up with its neighbours"},
	{"end character of", "the quoted text that starts here is never closed", "add the closing quote"},
	{"sequence end token", "the list that starts here is never closed", "add the closing ]"},
	{"flow mapping end token", "the fields that start here are never closed", "add the closing }"},
	{"',' or '}' must", "a comma or } is missing before this", "separate fields with commas; put text that contains , { } [ ] in quotes"},
	{"',' or ']' must", "a comma or ] is missing before this", "separate elements with commas; put text that contains , { } [ ] in quotes"},
	{"expected sequence element", "a comma with no element before it", "remove the comma"},
	{"corresponding to ']'", "a ] that closes nothing", "remove it, or put the text in quotes"},
	{"corresponding to '}'", "a } that closes nothing", "remove it, or put the text in quotes"},
	{"reserved character", "text cannot start with this character", "put the text in quotes"},
	{"invalid key for this map", "there is no name before this colon", "write name: value"},
	{"unexpected key name", "there is no name of one line before this colon", "write name: value"},
	{"could not find flow map content", "this is not of the form name: value", "write {name: value}"},
	{"block sequence entries are not allowed", "a list cannot start behind a name in the same line", "start it in the next line, or write [a, b]"},
	{"unknown escape character", "an unknown escape in double quotes", `write \\ for a backslash, or use single quotes`},
	{"value is not allowed in this context", "this lines up with nothing above it", "check the indentation of this line and the one above"},
	{"could not find multi-line content", "the text that should follow the | or > is missing", "indent it deeper than its name"},
}

// syntax makes an error of what the parser said about a token.
func (s *source) syntax(message string, t *token.Token) error {
	line, col := t.Position.Line, t.Position.Column
	if strings.Contains(s.line(line), "{{") {
		return s.fail(line, col, `write "{{name}}"`, "not valid YAML: a value with {{ }} must stand in quotes")
	}
	for _, n := range []int{line, line - 1} {
		if text := strings.TrimLeft(s.line(n), " -"); missingSpace(strings.TrimSpace(text)) {
			return s.fail(n, col, "put a space after the colon", "not valid YAML: name:value has no space after the colon")
		}
	}
	if strings.Contains(message, "mapping value is not allowed") && strings.Count(s.line(line)+" ", ": ") < 2 {
		return s.fail(line+1, 1, "line it up with its neighbours",
			"not valid YAML: this line is indented deeper than the one above it, which has a value already")
	}
	for _, known := range syntaxes {
		if strings.Contains(message, known.has) {
			return s.fail(line, col, known.hint, "not valid YAML: %s", known.text)
		}
	}
	return s.fail(line, col, "", "not valid YAML: %s", message)
}
