package spec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Resolved renders the job as YAML that says everything by itself: --set, --param, --slot and the environment are in it,
// and so are the defaults of the sections that the job has. Read with the same file name, and without options, it gives
// an equal Spec, but for positions, Bytes, SHA256 and Warnings. Paths stand as the file has them.
//
// Secrets are left out: of spark.remote, what is behind the ; that is a token. A number or a truth value that a variable
// gave to a transformer, layer or the like stays {{name}}, because only who decodes that Item knows whether it is
// wanted as text; its value stands under params.
func (s *Spec) Resolved() []byte {
	if s.resolvedText == nil {
		return nil
	}
	return slices.Clone(s.resolvedText)
}

// render makes the text of Resolved. It comes before paths are resolved.
func (s *Spec) render(vars *variables) []byte {
	root := &node{kind: mapKind}
	add := func(name string, n *node) {
		if n != nil {
			root.fields = append(root.fields, field{name: name, val: n})
		}
	}
	add("name", textNode(s.Name))
	add("params", vars.rendered())
	spark := &node{kind: mapKind, fields: []field{{name: "remote", val: textNode(withoutToken(s.Spark.Remote))}}} // also when it is empty
	others := s.Spark
	others.Remote = ""
	if n := render(reflect.ValueOf(others)); n != nil {
		spark.fields = append(spark.fields, n.fields...)
	}
	add("spark", spark)
	v := reflect.ValueOf(*s)
	known, err := members(v.Type(), nil)
	if err != nil {
		return nil // a test of this package decodes every struct, so there is none
	}
	for _, m := range known {
		f := v.FieldByIndex(m.index)
		switch {
		case m.name == "name" || m.name == "params" || m.name == "spark":
		case !s.has(m.name):
		default:
			add(m.name, render(f))
		}
	}
	var b bytes.Buffer
	emit(&b, root, 0)
	return b.Bytes()
}

// has says whether the job has a section: one that another needs would miss required fields.
func (s *Spec) has(section string) bool {
	switch section {
	case "dataset":
		return s.Dataset.Path != ""
	case "output":
		return s.Output.Path != ""
	case "train":
		return len(s.Train.Loss) > 0
	case "gate":
		return s.Gate != nil
	}
	return true
}

// withoutToken drops the token of a connection string.
func withoutToken(remote string) string {
	base, params, ok := strings.Cut(remote, "/;")
	if !ok {
		return remote
	}
	kept := slices.DeleteFunc(strings.Split(params, ";"), func(p string) bool {
		name, _, _ := strings.Cut(p, "=")
		return strings.EqualFold(strings.TrimSpace(name), "token") || p == ""
	})
	if len(kept) == 0 {
		return base + "/"
	}
	return base + "/;" + strings.Join(kept, ";")
}

// rendered gives the parameters with the values that they have. What could not be read back as a default is left out.
func (v *variables) rendered() *node {
	m := &node{kind: mapKind}
	for _, name := range v.names() {
		n := v.values[name]
		if n == nil || strings.Contains(n.text, "{{") {
			continue
		}
		one := *n
		if one.kind == dateKind { // an unquoted date is one
			one.quoted = false
		}
		m.fields = append(m.fields, field{name: name, val: &one})
	}
	if len(m.fields) == 0 {
		return nil
	}
	return m
}

func textNode(s string) *node { return &node{kind: textKind, text: s, quoted: true} }

// render makes a node of a decoded value; nil for what was not set and has no default.
func render(v reflect.Value) *node {
	if v.Type() == itemType {
		return v.Interface().(Item).render()
	}
	if v.Type() == serversType {
		return v.Interface().(Servers).render()
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if v.Elem().Kind() == reflect.Float64 { // 0 is a bound, too
			return &node{kind: floatKind, f: v.Elem().Float()}
		}
		return render(v.Elem())
	case reflect.String:
		if v.String() == "" {
			return nil
		}
		return textNode(v.String())
	case reflect.Bool:
		if !v.Bool() {
			return nil
		}
		return &node{kind: boolKind, b: true}
	case reflect.Int, reflect.Int64:
		if v.Int() == 0 {
			return nil
		}
		return &node{kind: intKind, i: v.Int()}
	case reflect.Float64:
		if v.Float() == 0 {
			return nil
		}
		return &node{kind: floatKind, f: v.Float()}
	case reflect.Slice:
		return renderList(v)
	case reflect.Map:
		return renderMap(v)
	case reflect.Struct:
		return renderStruct(v)
	}
	return nil
}

// whole renders what stands in a list or a map, where zero is a value.
func whole(v reflect.Value) *node {
	if n := render(v); n != nil {
		return n
	}
	switch v.Kind() {
	case reflect.String:
		return textNode("")
	case reflect.Bool:
		return &node{kind: boolKind}
	case reflect.Float64:
		return &node{kind: floatKind}
	case reflect.Slice:
		return &node{kind: listKind}
	}
	return &node{kind: intKind}
}

func renderList(v reflect.Value) *node {
	if v.IsNil() {
		return nil
	}
	l := &node{kind: listKind}
	for i := range v.Len() {
		l.list = append(l.list, whole(v.Index(i)))
	}
	return l
}

func renderMap(v reflect.Value) *node {
	if v.IsNil() {
		return nil
	}
	m := &node{kind: mapKind}
	for _, key := range v.MapKeys() {
		name := key.String()
		if key.Kind() == reflect.Int {
			name = strconv.FormatInt(key.Int(), 10)
		}
		m.fields = append(m.fields, field{name: name, val: whole(v.MapIndex(key))})
	}
	slices.SortFunc(m.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return m
}

func renderStruct(v reflect.Value) *node {
	known, err := members(v.Type(), nil)
	if err != nil {
		return nil
	}
	m := &node{kind: mapKind}
	for _, k := range known {
		f := v.FieldByIndex(k.index)
		if k.rules.single && f.Type().Elem() == itemType && f.Len() == 1 { // as most write it: loss: mse
			f = f.Index(0)
		}
		if n := render(f); n != nil {
			m.fields = append(m.fields, field{name: k.name, val: n})
		}
	}
	if len(m.fields) == 0 {
		return nil
	}
	return m
}

// render gives {name: fields}, or the bare name of an item without fields.
func (it Item) render() *node {
	if it.Name == "" {
		return nil
	}
	if it.body == nil || it.body.kind == nullKind {
		return textNode(it.Name)
	}
	return &node{kind: mapKind, fields: []field{{name: it.Name, val: it.body}}}
}

// emit writes the entries of a node that does not fit into one line, or of the whole job.
func emit(b *bytes.Buffer, n *node, indent int) {
	pad := strings.Repeat("  ", indent)
	switch {
	case n.kind == mapKind && (indent == 0 || !n.flat()):
		for i, f := range n.fields {
			if i > 0 || indent > 0 {
				b.WriteString(pad)
			}
			b.WriteString(nameText(f.name))
			b.WriteByte(':')
			emitValue(b, f.val, indent)
		}
	case n.kind == listKind && !n.flat():
		for _, e := range n.list {
			b.WriteString(pad)
			b.WriteByte('-')
			if e.kind == mapKind && len(e.fields) == 1 { // - dense: {units: 64}
				b.WriteString(" " + nameText(e.fields[0].name) + ":")
				emitValue(b, e.fields[0].val, indent+1)
				continue
			}
			emitValue(b, e, indent)
		}
	}
}

// emitValue writes what follows a colon or a dash, with the line end.
func emitValue(b *bytes.Buffer, n *node, indent int) {
	if n.kind == mapKind || n.kind == listKind {
		if !n.flat() {
			b.WriteByte('\n')
			emit(b, n, indent+1)
			return
		}
	}
	b.WriteByte(' ')
	if text, ok := blockText(n, indent); ok {
		b.WriteString(text)
		return
	}
	flow(b, n)
	b.WriteByte('\n')
}

// flat says whether a node fits into one line: no text of several lines in it, no list of maps, and not much text.
func (n *node) flat() bool {
	const most = 100
	length := 0
	var walk func(n *node) bool
	walk = func(n *node) bool {
		if length += len(n.text) + 2; n.kind != textKind {
			length += 3
		}
		if length > most || strings.Contains(n.text, "\n") {
			return false
		}
		for _, e := range n.list {
			if e.kind == mapKind || !walk(e) {
				return false
			}
		}
		for _, f := range n.fields {
			if length += len(f.name) + 2; !walk(f.val) {
				return false
			}
		}
		return true
	}
	return walk(n) || len(n.list) == 0 && len(n.fields) == 0
}

// flow writes a node in one line.
func flow(b *bytes.Buffer, n *node) {
	switch n.kind {
	case listKind:
		b.WriteByte('[')
		for i, e := range n.list {
			if i > 0 {
				b.WriteString(", ")
			}
			flow(b, e)
		}
		b.WriteByte(']')
	case mapKind:
		b.WriteByte('{')
		for i, f := range n.fields {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(nameText(f.name))
			b.WriteString(": ")
			flow(b, f.val)
		}
		b.WriteByte('}')
	default:
		b.WriteString(n.scalarText())
	}
}

// scalarText writes a scalar so that it is read back as what it is.
func (n *node) scalarText() string {
	if n.from != "" && (n.kind == boolKind || n.kind == intKind || n.kind == floatKind) {
		return `"{{` + n.from + `}}"`
	}
	switch n.kind {
	case boolKind:
		return strconv.FormatBool(n.b)
	case intKind:
		return strconv.FormatInt(n.i, 10)
	case floatKind:
		text := floatText(n.f)
		if n.text != "" && strings.Trim(text, "-0123456789") == "" {
			text += ".0" // as it was written: for who takes any value, 1.0 is no whole number
		}
		return text
	case dateKind:
		if n.from == "" {
			return n.text
		}
		return quotedText(n.text)
	case textKind:
		return plainOrQuoted(strings.ReplaceAll(n.text, "{{", "{{'{{'}}"))
	}
	return "null"
}

func floatText(f float64) string {
	switch text := strconv.FormatFloat(f, 'g', -1, 64); text {
	case "NaN":
		return ".nan"
	case "+Inf":
		return ".inf"
	case "-Inf":
		return "-.inf"
	default:
		return text
	}
}

// plainOrQuoted leaves quotes out where the text is a word that is nothing else.
func plainOrQuoted(s string) string {
	for i, r := range s {
		word := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !word && (i == 0 || r != '.' && r != '/' && r != '-' && (r < '0' || r > '9')) {
			return quotedText(s)
		}
	}
	if n := scalar(s, mark{}); n.kind != textKind || s == "" {
		return quotedText(s)
	}
	return s
}

// quotedText writes text in double quotes; JSON's escapes are YAML's.
func quotedText(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return strconv.QuoteToASCII(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// nameText writes a field's name.
func nameText(name string) string {
	if name != "" && strings.Trim(name, "0123456789") == "" {
		return name // of a class
	}
	return plainOrQuoted(name)
}

// blockText writes text of several lines, such as SQL, line by line, where that is read back as it is.
func blockText(n *node, indent int) (string, bool) {
	if n.kind != textKind || !strings.Contains(n.text, "\n") {
		return "", false
	}
	text := strings.ReplaceAll(n.text, "{{", "{{'{{'}}")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		odd := strings.ContainsFunc(line, func(r rune) bool {
			return r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff
		})
		if odd || line != strings.TrimRight(line, " ") || line == "" || i == 0 && line[0] == ' ' {
			return "", false
		}
	}
	pad := strings.Repeat("  ", indent+1)
	head := "|-\n"
	if strings.HasSuffix(text, "\n") {
		head = "|\n"
	}
	return head + pad + strings.Join(lines, "\n"+pad) + "\n", true
}
