package spec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// sqlLexer follows Spark SQL text as far as needed to know what a character inside it would mean: code, a literal in
// quotes, a name in backticks or a comment.
type sqlLexer struct {
	in     sqlPlace
	skip   bool // the character before was a backslash inside a literal
	last   rune
	before rune // the one before last
}

type sqlPlace int

const (
	sqlCode sqlPlace = iota
	sqlSingle
	sqlDouble
	sqlRawSingle // r'…', in which nothing can be escaped
	sqlRawDouble
	sqlName
	sqlLineComment
	sqlComment
)

// read follows a piece of text.
func (l *sqlLexer) read(text string) {
	for _, r := range text {
		last, raw := l.last, (l.last == 'r' || l.last == 'R') && !wordRune(l.before)
		l.last, l.before = r, last
		switch l.in {
		case sqlCode:
			switch {
			case r == '\'' && raw:
				l.in = sqlRawSingle
			case r == '"' && raw:
				l.in = sqlRawDouble
			case r == '\'':
				l.in = sqlSingle
			case r == '"':
				l.in = sqlDouble
			case r == '`':
				l.in = sqlName
			case r == '-' && last == '-':
				l.in = sqlLineComment
			case r == '*' && last == '/':
				l.in, l.last = sqlComment, 0
			}
		case sqlSingle, sqlDouble:
			end := '\''
			if l.in == sqlDouble {
				end = '"'
			}
			switch {
			case l.skip:
				l.skip = false
			case r == '\\':
				l.skip = true
			case r == end: // a doubled quote ends the literal and starts the next: the place after it is the same
				l.in = sqlCode
			}
		case sqlRawSingle:
			if r == '\'' {
				l.in = sqlCode
			}
		case sqlRawDouble:
			if r == '"' {
				l.in = sqlCode
			}
		case sqlName:
			if r == '`' {
				l.in = sqlCode
			}
		case sqlLineComment:
			if r == '\n' {
				l.in = sqlCode
			}
		case sqlComment:
			if r == '/' && last == '*' {
				l.in = sqlCode
			}
		}
	}
}

// inserted forgets the last characters: what comes next stands behind a value.
func (l *sqlLexer) inserted() { l.last, l.before, l.skip = 0, 0, false }

// wordRune tells whether a character may stand in a name without quotes, where r is no prefix of a literal.
func wordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// insert gives the text of a value for the place that the lexer has come to. In code it is a literal of its type, in
// quotes it is escaped text without quotes of its own. Text cannot leave the place where it stands.
func (l *sqlLexer) insert(n *node) (string, error) {
	if strings.ContainsRune(n.text, 0) {
		return "", errors.New("a zero byte has no place in SQL")
	}
	if l.skip {
		return "", errors.New("a backslash stands before it")
	}
	switch l.in {
	case sqlSingle:
		return l.escape(n.text, '\''), nil
	case sqlDouble:
		return l.escape(n.text, '"'), nil
	case sqlRawSingle, sqlRawDouble:
		if strings.ContainsAny(n.text, `'"`) {
			return "", errors.New("text with a quote has no place in a raw literal; write it without the r")
		}
	}
	if l.in != sqlCode && l.substituted(n.text) {
		return "", errors.New("text with a dollar sign has no place here: Spark replaces ${…}")
	}
	switch l.in {
	case sqlRawSingle, sqlRawDouble:
		return n.text, nil
	case sqlName:
		return strings.ReplaceAll(n.text, "`", "``"), nil
	case sqlLineComment, sqlComment:
		if strings.ContainsAny(n.text, "\r\n\u2028\u2029") || strings.Contains(n.text, "*/") || strings.Contains(n.text, "/*") {
			return "", errors.New("this text has no place in a comment")
		}
		return n.text, nil
	}
	switch n.kind {
	case boolKind:
		return strings.ToUpper(strconv.FormatBool(n.b)), nil
	case intKind:
		return signed(strconv.FormatInt(n.i, 10)), nil
	case floatKind:
		text := strconv.FormatFloat(n.f, 'g', -1, 64)
		if !strings.ContainsAny(text, "0123456789") {
			return "double('" + text + "')", nil // NaN, +Inf, -Inf
		}
		return signed(text), nil
	case dateKind:
		return "DATE '" + n.text + "'", nil
	}
	return "'" + l.escape(n.text, '\'') + "'", nil
}

// escape writes text for the inside of a literal. A quote gets a backslash: doubled, it is a quote for some versions of
// Spark only, and nothing for the others. A dollar sign, and a brace behind one, are written by their numbers, because
// Spark replaces ${…} by its settings and variables of its environment before it reads anything else.
func (l *sqlLexer) escape(text string, quote rune) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '$', r == '{' && i == 0 && l.last == '$' && l.in != sqlCode:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// substituted tells whether text may become a part of what Spark replaces.
func (l *sqlLexer) substituted(text string) bool {
	return strings.Contains(text, "${") || strings.HasSuffix(text, "$") || l.last == '$' && strings.HasPrefix(text, "{")
}

// signed puts a negative number in parentheses: x-{{n}} must not become x--1, which is a comment.
func signed(text string) string {
	if strings.HasPrefix(text, "-") {
		return "(" + text + ")"
	}
	return text
}
