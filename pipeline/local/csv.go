package local

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// blocks are the sizes in which text is read. The prefix suggests the types; a block fits into the second-level cache.
type blocks struct{ prefix, block int }

func textBlocks() blocks { return blocks{prefix: 1 << 20, block: 256 << 10} }

const (
	prefixRows  = 10000
	recordLimit = 64 << 20
	batchBytes  = 512 << 10 // of column memory
	padding     = 8         // zeros behind what is read
)

// csvReader reads RFC 4180 with a header row. encoding/csv cannot be used: it does not tell an unquoted empty field,
// which is NULL, from a quoted one, which is the empty string. It also allocates a string a field.
type csvReader struct {
	file string
	src  *stream
	cols []field
	rows int // rows a batch

	size     blocks
	buf      []byte // from buf[end] on there are padding zeros that stop every scan
	pos, end int
	eof      bool
	line     int64 // of the record at pos
	row      int64 // records before pos

	nulls   []bitmap
	fast    []uint8     // how the value of a column is scanned
	ints    [][]int64   // the batch's memory, a slice a column
	floats  [][]float64 // likewise
	scratch []byte
}

// openCSV reads the header and the types. With like, the file must have its columns, and its types are taken.
func openCSV(src *stream, size blocks, declared map[string]string, like []field) (*csvReader, error) {
	r := &csvReader{file: src.name, src: src, size: size, line: 1}
	if err := r.fillPrefix(); err != nil {
		return nil, err
	}
	names, err := r.header()
	if err != nil {
		return nil, err
	}
	r.cols = make([]field, len(names))
	for i, n := range names {
		r.cols[i].Name = n
	}
	if like != nil {
		if err := sameNames(r.file, r.cols, like); err != nil {
			return nil, err
		}
		copy(r.cols, like)
	} else if err := r.infer(declared); err != nil {
		return nil, err
	}
	r.retype(r.cols)
	return r, nil
}

// retype takes the columns with their types, before the first row is read.
func (r *csvReader) retype(cols []field) {
	n := len(cols)
	r.cols = cols
	r.nulls, r.fast = make([]bitmap, n), make([]uint8, n)
	r.ints, r.floats = make([][]int64, n), make([][]float64, n)
	for c, f := range cols {
		switch f.Type.Kind {
		case expr.Int64:
			r.fast[c] = fastInt
		case expr.Float64:
			r.fast[c] = fastFloat
		}
	}
	r.rows = batchRows(cols)
}

// Columns whose values are scanned in place; the others are split off first.
const (
	fastInt   = 1
	fastFloat = 2
)

// batchRows chooses a number of rows whose columns fit into the second-level cache.
func batchRows(cols []field) int {
	w := 0
	for _, f := range cols {
		w += 8 * max(1, f.Type.Width)
	}
	return min(4096, max(64, batchBytes/max(1, w)&^7))
}

func (r *csvReader) fields() []field { return r.cols }

func (r *csvReader) share() float64 { return r.src.share() }

// Close closes the file.
func (r *csvReader) Close() error { return r.src.Close() }

func (r *csvReader) fillPrefix() error {
	r.buf = make([]byte, r.size.prefix+padding)
	for r.end < r.size.prefix && !r.eof {
		n, err := r.src.Read(r.buf[r.end:r.size.prefix])
		r.end += n
		if err == io.EOF {
			r.eof = true
		} else if err != nil {
			return err
		}
	}
	r.buf = r.buf[:r.end+padding]
	if bytes.HasPrefix(r.buf, []byte("\xef\xbb\xbf")) {
		r.pos = 3
	}
	return nil
}

// more moves the unread bytes to the front and reads another block.
func (r *csvReader) more() error {
	left := r.end - r.pos
	if left >= recordLimit {
		return dataErr("look for a quote that is never closed", "%s, line %d: the record is longer than %d MiB", r.file, r.line, recordLimit>>20)
	}
	want := max(r.size.block, 2*left)
	if cap(r.buf) < want+padding || cap(r.buf) > r.size.prefix && left < r.size.block/2 {
		b := make([]byte, want+padding)
		copy(b, r.buf[r.pos:r.end])
		r.buf = b
	} else {
		copy(r.buf[:cap(r.buf)], r.buf[r.pos:r.end])
	}
	r.buf = r.buf[:cap(r.buf)]
	r.pos, r.end = 0, left
	for r.end == left && !r.eof {
		n, err := r.src.Read(r.buf[r.end : len(r.buf)-padding])
		r.end += n
		if err == io.EOF {
			r.eof = true
		} else if err != nil {
			return err
		}
	}
	clear(r.buf[r.end : r.end+padding])
	return nil
}

// How a field ends.
type fieldEnd int

const (
	endField  fieldEnd = iota // a comma: another field follows
	endRecord                 // a line end or the end of the file
	endBuffer                 // more bytes are needed to know
)

// split finds the field at i. It gives the field's bytes (valid until the next call), whether it was quoted, where
// the next field starts, the line ends inside it, and how it ended.
func (r *csvReader) split(i int) (f []byte, quoted bool, next, lines int, end fieldEnd, err error) {
	if r.buf[i] == '"' && i < r.end {
		return r.splitQuoted(i)
	}
	j := i
	for {
		switch c := r.buf[j]; {
		case c == ',':
			return r.buf[i:j], false, j + 1, 0, endField, nil
		case c == '\n':
			k := j
			if k > i && r.buf[k-1] == '\r' {
				k--
			}
			return r.buf[i:k], false, j + 1, 0, endRecord, nil
		case c == 0 && j == r.end:
			if !r.eof {
				return nil, false, 0, 0, endBuffer, nil
			}
			k := j
			if k > i && r.buf[k-1] == '\r' {
				k--
			}
			return r.buf[i:k], false, j, 0, endRecord, nil
		}
		j++
	}
}

func (r *csvReader) splitQuoted(i int) (f []byte, quoted bool, next, lines int, end fieldEnd, err error) {
	j := i + 1
	start, escaped := j, false
	r.scratch = r.scratch[:0]
	for {
		q := bytes.IndexByte(r.buf[j:r.end], '"')
		if q < 0 {
			if r.eof {
				return nil, true, 0, 0, endRecord, dataErr("close the quote, or double a quote that belongs to the value",
					"%s: the quote opened in the record at line %d is never closed", r.file, r.line)
			}
			return nil, true, 0, 0, endBuffer, nil
		}
		j += q + 1
		if j == r.end && !r.eof {
			return nil, true, 0, 0, endBuffer, nil
		}
		if r.buf[j] != '"' {
			break
		}
		r.scratch = append(r.scratch, r.buf[start:j]...)
		escaped = true
		j++
		start = j
	}
	f = r.buf[start : j-1]
	if escaped {
		r.scratch = append(r.scratch, f...)
		f = r.scratch
	}
	lines = bytes.Count(f, []byte{'\n'})
	if r.buf[j] == '\r' && j < r.end {
		if j+1 == r.end && !r.eof {
			return nil, true, 0, 0, endBuffer, nil
		}
		if r.buf[j+1] == '\n' || j+1 == r.end {
			j++
		}
	}
	switch {
	case j == r.end:
		return f, true, j, lines, endRecord, nil
	case r.buf[j] == '\n':
		return f, true, j + 1, lines, endRecord, nil
	case r.buf[j] == ',':
		return f, true, j + 1, lines, endField, nil
	}
	return nil, true, 0, 0, endRecord, dataErr("double a quote that belongs to the value",
		"%s, line %d: text follows the closing quote of %s", r.file, r.line+int64(lines), shown(f))
}

// header reads the names.
func (r *csvReader) header() ([]string, error) {
	var names []string
	seen := map[string]int{}
	for i, end := r.pos, endField; end == endField; {
		f, quoted, next, lines, e, err := r.split(i)
		if err != nil {
			return nil, err
		}
		if e == endBuffer {
			return nil, dataErr("the first line must hold the column names", "%s: the header row is longer than %d MiB", r.file, r.size.prefix>>20)
		}
		name, err := headerName(r.file, f, quoted, len(names))
		if err != nil {
			return nil, err
		}
		if first, dup := seen[name]; dup {
			return nil, dataErr("the first line must hold the column names, each once",
				"%s, line 1: fields %d and %d are both named %q", r.file, first+1, len(names)+1, name)
		}
		seen[name] = len(names)
		names = append(names, name)
		r.line += int64(lines)
		i, end, r.pos = next, e, next
	}
	r.line++
	if len(names) == 1 && strings.ContainsAny(names[0], ";\t|") {
		return nil, dataErr("separate the columns by commas", "%s, line 1: the header has no comma but is %s", r.file, shown([]byte(names[0])))
	}
	return names, nil
}

func headerName(file string, f []byte, quoted bool, at int) (string, error) {
	if !utf8.Valid(f) {
		return "", corruptErr(nil, "convert the file to UTF-8, for example with iconv", "%s, line 1: the name of field %d is not UTF-8", file, at+1)
	}
	if bytes.IndexByte(f, 0) >= 0 {
		return "", corruptErr(nil, "check that the file is CSV text", "%s, line 1: the name of field %d has zero bytes", file, at+1)
	}
	if !quoted && bytes.IndexByte(f, '\r') >= 0 {
		return "", corruptErr(nil, "convert the line ends to \\n", "%s: lines end with \\r alone", file)
	}
	if len(f) == 0 {
		return fmt.Sprintf("_c%d", at), nil // as Spark names it
	}
	return string(f), nil
}

// blank says whether the record at i is an empty line, which is skipped when there are several columns, and where
// the next record starts.
func (r *csvReader) blank(i int) (next int, is bool) {
	if len(r.cols) == 1 {
		return i, false
	}
	if r.buf[i] == '\n' {
		return i + 1, true
	}
	if r.buf[i] == '\r' && r.buf[i+1] == '\n' && i+1 < r.end {
		return i + 2, true
	}
	return i, false
}

// next fills b with up to r.rows records.
func (r *csvReader) next(b *batch) error {
	b.file, b.first, b.n = r.file, r.row+1, 0
	b.cols = grow(b.cols, len(r.cols))
	b.lines = grow(b.lines, r.rows)
	for c := range b.cols {
		b.cols[c].reset(r.cols[c].Type, r.rows)
		r.ints[c], r.floats[c] = b.cols[c].i64, b.cols[c].f64
	}
	for bytesIn := 0; b.n < r.rows && bytesIn < 4<<20; {
		from := r.pos
		ok, err := r.record(b, b.n)
		if err != nil {
			return err
		}
		bytesIn += r.pos - from
		if ok {
			b.n++
			r.row++
			continue
		}
		if r.eof && r.pos == r.end {
			break
		}
		if r.eof {
			continue
		}
		if err := r.more(); err != nil {
			return err
		}
		if r.eof && r.pos == r.end {
			break
		}
	}
	if b.n == 0 {
		return io.EOF
	}
	for c := range b.cols {
		b.cols[c].n = b.n
	}
	b.lines = b.lines[:b.n]
	return nil
}

// record reads one record into row k of b. It gives false, with the position unchanged but for blank lines, when the
// buffer ends inside the record.
func (r *csvReader) record(b *batch, k int) (bool, error) {
	for r.pos < r.end {
		next, is := r.blank(r.pos)
		if !is {
			break
		}
		r.pos = next
		r.line++
	}
	if r.pos >= r.end {
		return false, nil
	}
	i, last, lines := r.pos, len(r.cols)-1, 0
	buf := r.buf
	for c, fast := range r.fast {
		j := i
		ok := false
		switch fast {
		case fastInt:
			if v, n := digits7(binary.LittleEndian.Uint64(buf[i:])); n > 0 && n < 8 && buf[i+n] == ',' && c != last {
				r.ints[c][k] = v
				i += n + 1
				continue
			}
			r.ints[c][k], j, ok = scanInt(buf, i)
		case fastFloat:
			r.floats[c][k], j, ok = scanFloat(buf, i)
		}
		if ok && c != last && buf[j] == ',' {
			i = j + 1
			continue
		}
		if ok && c == last && buf[j] == '\n' {
			i = j + 1
			break
		}
		if ok && c == last && buf[j] == '\r' && buf[j+1] == '\n' {
			i = j + 2
			break
		}
		f, quoted, next, ln, end, err := r.split(i)
		if err != nil {
			return false, err
		}
		if end == endBuffer {
			return false, nil
		}
		if (end == endRecord) != (c == last) {
			return r.ragged()
		}
		if err := r.store(&b.cols[c], c, k, f, quoted, int64(lines)); err != nil {
			return false, err
		}
		lines += ln
		i = next
	}
	b.lines[k] = r.line
	r.pos = i
	r.line += int64(1 + lines)
	return true, nil
}

// ragged counts the fields of the record at pos for the error.
func (r *csvReader) ragged() (bool, error) {
	n := 0
	for i, end := r.pos, endField; end == endField; n++ {
		var err error
		_, _, i, _, end, err = r.split(i)
		if err != nil {
			return false, err
		}
		if end == endBuffer {
			return false, nil
		}
	}
	return false, dataErr("give every row one field a column; quote a value that has a comma in it",
		"%s, line %d: %d fields, the header has %d", r.file, r.line, n, len(r.cols))
}

// store puts a field that the fast path did not take into row k of column c.
func (r *csvReader) store(col *column, c, k int, f []byte, quoted bool, lines int64) error {
	null := len(f) == 0 && !quoted
	if null && col.valid == nil {
		r.nulls[c] = r.nulls[c].ones(r.rows)
		col.valid = r.nulls[c]
	}
	if null {
		bitmap(col.valid).clear(k)
	}
	var ok bool
	switch col.typ.Kind {
	case expr.String:
		if !utf8.Valid(f) {
			return corruptErr(nil, "convert the file to UTF-8, for example with iconv",
				"%s, line %d, column %q: %s is not UTF-8", r.file, r.line+lines, r.cols[c].Name, shown(f))
		}
		col.text = append(col.text[:col.off[k]], f...)
		col.off[k+1] = int32(len(col.text))
		return nil
	case expr.Int64:
		col.i64[k], ok = parseInt(trim(f))
	case expr.Float64:
		col.f64[k], ok = parseFloat(trim(f))
	case expr.Float32:
		var v float64
		v, ok = parseFloat(trim(f))
		col.f32[k] = float32(v)
	case expr.Bool:
		col.bool[k], ok = parseBool(trim(f))
	}
	if ok || null {
		return nil
	}
	return misfit(fmt.Sprintf("%s, line %d", r.file, r.line+lines), r.cols[c], f)
}

// Misfit is the error for a value of a text file that is not of its column's type. It is of kind Data.
type Misfit struct {
	Column string
	Better expr.Kind // the type that would take the value, when nothing but the first rows suggested the column's; else empty

	err pipeline.Error
}

// Error names file, line, column and value.
func (m *Misfit) Error() string { return m.err.Error() }

// ErrorKind gives the kind as text.
func (m *Misfit) ErrorKind() string { return m.err.ErrorKind() }

// ErrorHint gives the next step.
func (m *Misfit) ErrorHint() string { return m.err.ErrorHint() }

// Unwrap gives the error as the other packages of pipeline give theirs.
func (m *Misfit) Unwrap() error { return &m.err }

// misfit is the error for a text value that is not of its column's type.
func misfit(where string, f field, value []byte) error {
	m := &Misfit{Column: f.Name, err: pipeline.Error{Kind: pipeline.Data}}
	say := func(hint, format string, a ...any) error {
		m.err.Hint, m.err.Message = hint, fmt.Sprintf("%s, column %q: %s is not ", where, f.Name, shown(value))+fmt.Sprintf(format, a...)
		return m
	}
	switch {
	case f.declared:
		return say("correct the value, or declare another type in source.types", "of the declared type %s", f.Type.Kind)
	case f.needs != "" && f.Type.Kind == expr.Bool:
		return say("correct the value: write true or false", "true or false, which %s needs", f.needs)
	case f.needs != "" && f.Type.Kind == expr.Int64:
		return say("correct the value", "a whole number, which %s needs", f.needs)
	case f.needs != "":
		return say("correct the value, or leave the field empty and fill or leave out such rows", "a number, which %s needs", f.needs)
	}
	m.Better = expr.String
	if _, ok := parseFloat(trim(value)); ok && f.Type.Kind == expr.Int64 {
		m.Better = expr.Float64
	}
	return say(fmt.Sprintf("correct the value, or declare the type: source: {types: {%s: %s}}", yamlKey(f.Name), m.Better),
		"%s, the type that the first %d rows suggest", f.Type.Kind, f.sample)
}

// yamlKey quotes a column's name where YAML would not take it as it is.
func yamlKey(s string) string {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_') {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}
