package spec

import (
	"errors"
	"strconv"
	"strings"
)

// sqlLexer follows Spark SQL text as far as needed to know what a character inside it would mean: code, a literal in
// quotes, a name in backticks or a comment.
type sqlLexer struct {
	in   sqlPlace
	skip bool // the character before was a backslash inside a literal
	last rune
}

type sqlPlace int

const (
	sqlCode sqlPlace = iota
	sqlSingle
	sqlDouble
	sqlName
	sqlLineComment
	sqlComment
)

// read follows a piece of text.
func (l *sqlLexer) read(text string) {
	for _, r := range text {
		last := l.last
		l.last = r
		switch l.in {
		case sqlCode:
			switch {
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
func (l *sqlLexer) inserted() { l.last, l.skip = 0, false }

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
		return escape(n.text, "'"), nil
	case sqlDouble:
		return escape(n.text, `"`), nil
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
	return "'" + escape(n.text, "'") + "'", nil
}

// escape doubles a quote and escapes backslashes, as Spark reads literals.
func escape(text, quote string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), quote, quote+quote)
}

// signed puts a negative number in parentheses: x-{{n}} must not become x--1, which is a comment.
func signed(text string) string {
	if strings.HasPrefix(text, "-") {
		return "(" + text + ")"
	}
	return text
}
