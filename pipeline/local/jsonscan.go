package local

import (
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonKind is what a JSON value is.
type jsonKind uint8

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonNumber
	jsonText
	jsonList  // of numbers and nulls
	jsonOther // an object, or a list of anything else
)

// jsonValue is a scanned value. Its memory is valid until the scanner's next value.
type jsonValue struct {
	kind jsonKind
	raw  []byte    // number: its text; text: its bytes, unescaped
	bool bool      // bool
	list []float64 // list: null as NaN
}

// jsonScanner takes one line apart. Its methods give false where the line is not JSON.
type jsonScanner struct {
	b       []byte
	i       int
	scratch []byte
	list    []float64
}

// jsonDepth bounds objects in objects: a line from outside must not exhaust the stack.
const jsonDepth = 64

func (s *jsonScanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\r') {
		s.i++
	}
}

// token consumes c, with space before it.
func (s *jsonScanner) token(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *jsonScanner) word(w string) bool {
	if len(s.b)-s.i >= len(w) && string(s.b[s.i:s.i+len(w)]) == w {
		s.i += len(w)
		return true
	}
	return false
}

// value scans the next value.
func (s *jsonScanner) value(depth int) (v jsonValue, ok bool) {
	s.space()
	if s.i == len(s.b) || depth > jsonDepth {
		return v, false
	}
	switch c := s.b[s.i]; {
	case c == '"':
		v.kind = jsonText
		v.raw, ok = s.text()
		return v, ok
	case c == '{':
		v.kind = jsonOther
		return v, s.skipObject(depth)
	case c == '[':
		return s.array(depth)
	case s.word("null"):
		return v, true
	case s.word("true"):
		return jsonValue{kind: jsonBool, bool: true}, true
	case s.word("false"):
		return jsonValue{kind: jsonBool}, true
	}
	v.kind = jsonNumber
	v.raw, ok = s.number()
	return v, ok
}

// number scans a number as JSON has it, and NaN, Infinity and -Infinity, which several programs write.
func (s *jsonScanner) number() ([]byte, bool) {
	start := s.i
	if s.word("NaN") || s.word("Infinity") || s.word("-Infinity") {
		return s.b[start:s.i], true
	}
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	first := s.i
	n := s.digits()
	if n == 0 || n > 1 && s.b[first] == '0' {
		return nil, false
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if s.digits() == 0 {
			return nil, false
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if s.digits() == 0 {
			return nil, false
		}
	}
	return s.b[start:s.i], true
}

func (s *jsonScanner) digits() int {
	start := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i - start
}

// text scans a string and unescapes it.
func (s *jsonScanner) text() ([]byte, bool) {
	if s.i == len(s.b) || s.b[s.i] != '"' {
		return nil, false
	}
	s.i++
	start := s.i
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], true
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return nil, false
		}
		s.i++
	}
	return nil, false
}

func (s *jsonScanner) escaped(start int) ([]byte, bool) {
	s.scratch = append(s.scratch[:0], s.b[start:s.i]...)
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == '"':
			return s.scratch, true
		case c < 0x20:
			return nil, false
		case c != '\\':
			s.scratch = append(s.scratch, c)
			continue
		}
		if s.i == len(s.b) || !s.escape() {
			return nil, false
		}
	}
	return nil, false
}

// escape scans what follows a backslash.
func (s *jsonScanner) escape() bool {
	c := s.b[s.i]
	s.i++
	switch c {
	case '"', '\\', '/':
		s.scratch = append(s.scratch, c)
	case 'b':
		s.scratch = append(s.scratch, '\b')
	case 'f':
		s.scratch = append(s.scratch, '\f')
	case 'n':
		s.scratch = append(s.scratch, '\n')
	case 'r':
		s.scratch = append(s.scratch, '\r')
	case 't':
		s.scratch = append(s.scratch, '\t')
	case 'u':
		r, ok := s.hex4()
		if !ok {
			return false
		}
		if utf16.IsSurrogate(r) {
			mark := s.i
			r2, ok := rune(utf8.RuneError), false
			if s.word(`\u`) {
				r2, ok = s.hex4()
			}
			if r = utf16.DecodeRune(r, r2); !ok || r == utf8.RuneError {
				r, s.i = utf8.RuneError, mark // half a pair stands for no character
			}
		}
		s.scratch = utf8.AppendRune(s.scratch, r)
	default:
		return false
	}
	return true
}

func (s *jsonScanner) hex4() (rune, bool) {
	if len(s.b)-s.i < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s.b[s.i : s.i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	s.i += 4
	return r, true
}

// array scans a list; it is a jsonList as long as it holds numbers and nulls only.
func (s *jsonScanner) array(depth int) (v jsonValue, ok bool) {
	v.kind = jsonList
	s.i++
	s.list = s.list[:0]
	if s.token(']') {
		v.list = s.list
		return v, true
	}
	for {
		s.space()
		if s.i == len(s.b) {
			return v, false
		}
		if v.kind == jsonOther {
			if _, ok := s.value(depth + 1); !ok {
				return v, false
			}
		} else {
			e, ok := s.element(depth)
			switch {
			case !ok:
				return v, false
			case e.kind == jsonNull:
				s.list = append(s.list, math.NaN())
			case e.kind == jsonNumber:
				x, ok := parseFloat(e.raw)
				if !ok {
					return v, false
				}
				s.list = append(s.list, x)
			default:
				v.kind = jsonOther
			}
		}
		if s.token(',') {
			continue
		}
		v.list = s.list
		return v, s.token(']')
	}
}

// element scans a list's element; what is in a list in it does not matter.
func (s *jsonScanner) element(depth int) (jsonValue, bool) {
	keep := s.list
	e, ok := s.value(depth + 1)
	s.list = keep
	return e, ok
}

func (s *jsonScanner) skipObject(depth int) bool {
	s.i++
	if s.token('}') {
		return true
	}
	for {
		s.space()
		if _, ok := s.text(); !ok || !s.token(':') {
			return false
		}
		if _, ok := s.value(depth + 1); !ok {
			return false
		}
		if s.token(',') {
			continue
		}
		return s.token('}')
	}
}
