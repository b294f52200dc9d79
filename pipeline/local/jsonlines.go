package local

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"

	"dkpipe/pipeline/expr"
)

// jsonReader reads JSON lines: one object a line. A key that a line lacks is NULL. The columns are the keys of the
// prefix in order of appearance; lists of numbers are vectors.
type jsonReader struct {
	file string
	src  *stream
	cols []field
	rows int

	size     blocks
	buf      []byte
	pos, end int
	eof      bool
	line     int64 // lines before pos
	row      int64

	scan  jsonScanner
	index map[string]int
	seen  []int64 // row number in which a column last had a value, to find doubled keys
	nulls []bitmap
	word  []byte
}

func openJSON(src *stream, size blocks, declared map[string]string, like []field) (*jsonReader, error) {
	r := &jsonReader{file: src.name, src: src, size: size, index: map[string]int{}}
	r.buf = make([]byte, r.size.prefix)
	for r.end < r.size.prefix && !r.eof {
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	if bytes.HasPrefix(r.buf[:r.end], []byte("\xef\xbb\xbf")) {
		r.pos = 3
	}
	if like != nil {
		r.cols = slices.Clone(like)
		for i, f := range like {
			r.index[f.Name] = i
		}
	} else if err := r.infer(declared); err != nil {
		return nil, err
	}
	r.seen = make([]int64, len(r.cols))
	r.retype(r.cols)
	return r, nil
}

// retype takes the columns with their types, before the first row is read.
func (r *jsonReader) retype(cols []field) {
	r.cols = cols
	r.nulls = make([]bitmap, len(cols))
	r.rows = batchRows(cols)
}

func (r *jsonReader) fields() []field { return r.cols }

func (r *jsonReader) share() float64 { return r.src.share() }

// Close closes the file.
func (r *jsonReader) Close() error { return r.src.Close() }

func (r *jsonReader) fill() error {
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	if err == io.EOF {
		r.eof = true
		return nil
	}
	return err
}

// nextLine gives the next line that is not blank. With peek nothing is read from the file, and the end of what is in
// memory is io.EOF too.
func (r *jsonReader) nextLine(peek bool) ([]byte, error) {
	for {
		i := bytes.IndexByte(r.buf[r.pos:r.end], '\n')
		if i < 0 && !r.eof {
			if peek {
				return nil, io.EOF
			}
			if err := r.more(); err != nil {
				return nil, err
			}
			continue
		}
		if i < 0 && r.pos == r.end {
			return nil, io.EOF
		}
		next := r.pos + i + 1
		if i < 0 {
			next, i = r.end, r.end-r.pos
		}
		line := r.buf[r.pos : r.pos+i]
		r.pos = next
		r.line++
		if len(bytes.TrimSpace(line)) > 0 {
			return line, nil
		}
	}
}

func (r *jsonReader) more() error {
	left := r.end - r.pos
	if left >= recordLimit {
		return dataErr("write one object a line", "%s, line %d: the line is longer than %d MiB", r.file, r.line+1, recordLimit>>20)
	}
	if want := max(r.size.block, 2*left); want > len(r.buf) || len(r.buf) >= r.size.prefix && left < r.size.block/2 {
		b := make([]byte, want)
		copy(b, r.buf[r.pos:r.end])
		r.buf = b
	} else {
		copy(r.buf, r.buf[r.pos:r.end])
	}
	r.pos, r.end = 0, left
	for r.end == left && !r.eof {
		if err := r.fill(); err != nil {
			return err
		}
	}
	return nil
}

// object calls f with every key and value of a line.
func (r *jsonReader) object(line []byte, f func(key []byte, s *jsonScanner) error) error {
	s := &r.scan
	s.b, s.i = line, 0
	if !s.token('{') {
		hint := "write one object a line"
		if s.i < len(line) && line[s.i] == '[' {
			hint = "write the list's objects one a line, for example with: jq -c '.[]'"
		}
		return corruptErr(nil, hint, "%s, line %d: not a JSON object: %s", r.file, r.line, shown(line))
	}
	if s.token('}') {
		return r.endOf(s)
	}
	for {
		s.space()
		key, ok := s.text()
		if !ok || !s.token(':') {
			return r.broken(s)
		}
		if err := f(key, s); err != nil {
			return err
		}
		if s.token(',') {
			continue
		}
		if !s.token('}') {
			return r.broken(s)
		}
		return r.endOf(s)
	}
}

func (r *jsonReader) endOf(s *jsonScanner) error {
	if s.space(); s.i < len(s.b) {
		return r.broken(s)
	}
	return nil
}

func (r *jsonReader) broken(s *jsonScanner) error {
	at := min(s.i, len(s.b))
	if at == len(s.b) {
		return corruptErr(nil, "write one object a line", "%s, line %d: the object does not end on its line", r.file, r.line)
	}
	return corruptErr(nil, "write one object a line", "%s, line %d: not JSON at byte %d: %s", r.file, r.line, at+1, shown(s.b[at:]))
}

// jsonGuess is what the values of a key allow its column to be.
type jsonGuess struct {
	guess
	bools, numbers, texts, lists, others bool
	width                                int
}

func (g *jsonGuess) see(v jsonValue) {
	switch v.kind {
	case jsonBool:
		g.bools = true
	case jsonNumber:
		g.numbers = true
		g.guess.see(v.raw)
	case jsonText:
		g.texts = true
		g.values++
	case jsonList:
		g.lists = true
		if g.width == 0 {
			g.width = len(v.list)
		}
	case jsonOther:
		g.others = true
	}
}

func (g *jsonGuess) field(f *field) {
	only := b2i(g.bools) + b2i(g.numbers) + b2i(g.texts) + b2i(g.lists) + b2i(g.others)
	switch {
	case g.others || g.lists && only > 1:
		f.refused = "holds objects or mixed lists"
	case g.lists && g.width == 0:
		f.refused = "holds lists without elements only"
	case g.lists:
		f.Type = expr.Type{Kind: expr.Float64, Width: g.width}
	case only != 1 || g.texts:
		f.Type.Kind = expr.String
	case g.bools:
		f.Type.Kind = expr.Bool
	default:
		f.Type.Kind = g.guess.kind()
	}
}

// infer reads the prefix without consuming it.
func (r *jsonReader) infer(declared map[string]string) error {
	for bytes.IndexByte(r.buf[r.pos:r.end], '\n') < 0 && !r.eof { // a first line longer than the prefix
		if err := r.more(); err != nil {
			return err
		}
	}
	pos, line := r.pos, r.line
	defer func() { r.pos, r.line = pos, line }()
	var guesses []*jsonGuess
	sample := int64(0)
	for sample < prefixRows {
		b, err := r.nextLine(true)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		err = r.object(b, func(key []byte, s *jsonScanner) error {
			c, ok := r.index[view(key)]
			if !ok {
				if !utf8.Valid(key) || len(key) == 0 {
					return corruptErr(nil, "name every value with UTF-8 text", "%s, line %d: the key %s is no column name", r.file, r.line, shown(key))
				}
				c = len(r.cols)
				r.index[string(key)] = c
				r.cols = append(r.cols, field{Field: expr.Field{Name: string(key)}})
				guesses = append(guesses, &jsonGuess{})
			}
			v, ok := s.value(0)
			if !ok {
				return r.broken(s)
			}
			guesses[c].see(v)
			return nil
		})
		if err != nil {
			return err
		}
		sample++
	}
	for c, g := range guesses {
		g.field(&r.cols[c])
		f := &r.cols[c]
		if f.sample = sample; f.refused == "" && f.Type.Width == 0 {
			f.suggest(&g.guess, f.Type, sample)
		}
	}
	if len(r.cols) == 0 {
		return dataErr("check that the file was written to its end", "empty source: %s: no object with a key in it", r.file)
	}
	return r.declare(declared)
}

// declare adds the declared columns that the prefix does not show, in name order, and sets the declared types.
func (r *jsonReader) declare(declared map[string]string) error {
	var extra []string
	for name := range declared {
		if _, ok := r.index[name]; !ok {
			extra = append(extra, name)
		}
	}
	slices.Sort(extra)
	for _, name := range extra {
		r.index[name] = len(r.cols)
		r.cols = append(r.cols, field{Field: expr.Field{Name: name}})
	}
	if err := declare(r.file, r.cols, declared); err != nil {
		return err
	}
	for c := range r.cols {
		if r.cols[c].declared {
			r.cols[c].refused = ""
		}
	}
	return nil
}

func (r *jsonReader) next(b *batch) error {
	b.file, b.first, b.n = r.file, r.row+1, 0
	b.cols = grow(b.cols, len(r.cols))
	b.lines = grow(b.lines, r.rows)
	for c := range b.cols {
		if r.cols[c].refused == "" {
			b.cols[c].reset(r.cols[c].Type, r.rows)
		}
	}
	for size := 0; b.n < r.rows && size < 4<<20; b.n++ {
		line, err := r.nextLine(false)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		size += len(line)
		r.row++
		b.lines[b.n] = r.line
		if err := r.record(b, line); err != nil {
			return err
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

func (r *jsonReader) record(b *batch, line []byte) error {
	guess := 0 // keys mostly come in the order of the columns
	err := r.object(line, func(key []byte, s *jsonScanner) error {
		c := guess
		if c >= len(r.cols) || r.cols[c].Name != string(key) {
			var ok bool
			if c, ok = r.index[view(key)]; !ok {
				return dataErr(fmt.Sprintf("declare it: source: {types: {%s: float64}}", yamlKey(string(key))),
					"%s, line %d: the key %q is not among those of the first %d rows", r.file, r.line, key, r.cols[0].sample)
			}
		}
		guess = c + 1
		if r.seen[c] == r.row {
			return corruptErr(nil, "name every value once", "%s, line %d: the key %q is there twice", r.file, r.line, key)
		}
		r.seen[c] = r.row
		v, ok := s.value(0)
		if !ok {
			return r.broken(s)
		}
		if r.cols[c].refused != "" {
			return nil
		}
		return r.store(b, c, v)
	})
	if err != nil {
		return err
	}
	for c := range r.cols {
		if r.seen[c] != r.row && r.cols[c].refused == "" {
			r.null(b, c)
		}
	}
	return nil
}

func (r *jsonReader) null(b *batch, c int) {
	col := &b.cols[c]
	if col.valid == nil {
		r.nulls[c] = r.nulls[c].ones(r.rows)
		col.valid = r.nulls[c]
	}
	bitmap(col.valid).clear(b.n)
	if w := col.typ.Width; w > 0 {
		clear(col.f64[b.n*w : (b.n+1)*w])
		return
	}
	col.putNull(b.n)
}

func (r *jsonReader) store(b *batch, c int, v jsonValue) error {
	col := &b.cols[c]
	k := b.n
	if v.kind == jsonNull {
		r.null(b, c)
		return nil
	}
	text, ok := v.raw, false
	if v.kind == jsonBool {
		r.word = strconv.AppendBool(r.word[:0], v.bool)
		text = r.word
	}
	switch {
	case v.kind == jsonOther:
		text = []byte("an object or a mixed list")
	case v.kind == jsonList || col.typ.Width > 0:
		if v.kind == jsonList && len(v.list) == col.typ.Width {
			copy(col.f64[k*col.typ.Width:], v.list)
			return nil
		}
		if col.typ.Width > 0 {
			return dataErr("give every row a list of one length", "%s, line %d, column %q: %d elements, others have %d",
				r.file, r.line, r.cols[c].Name, len(v.list), col.typ.Width)
		}
		text = []byte("a list")
	case col.typ.Kind == expr.String:
		if !utf8.Valid(text) {
			return corruptErr(nil, "write UTF-8", "%s, line %d, column %q: %s is not UTF-8", r.file, r.line, r.cols[c].Name, shown(text))
		}
		col.text = append(col.text, text...)
		col.off[k+1] = int32(len(col.text))
		return nil
	case col.typ.Kind == expr.Bool:
		col.bool[k], ok = v.bool, v.kind == jsonBool
	case v.kind == jsonBool:
	case col.typ.Kind == expr.Int64:
		col.i64[k], ok = parseInt(text)
	case col.typ.Kind == expr.Float64:
		col.f64[k], ok = parseFloat(text)
	case col.typ.Kind == expr.Float32:
		var x float64
		x, ok = parseFloat(text)
		col.f32[k] = float32(x)
	}
	if ok {
		return nil
	}
	return misfit(fmt.Sprintf("%s, line %d", r.file, r.line), r.cols[c], text)
}
