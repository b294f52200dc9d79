package expr

import (
	"sort"
	"strconv"
	"strings"
)

// Columns gives the names of the columns that a tree reads, sorted, each once. It is meant for trees that Check accepts.
func Columns(n *Node) []string {
	seen := map[string]bool{}
	var walk func(n *Node)
	walk = func(n *Node) {
		if n.Op == Col {
			seen[n.Name] = true
		}
		for _, a := range n.Args {
			walk(a)
		}
	}
	if n != nil {
		walk(n)
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// String prints a tree for people: calls, infix arithmetic, long lists shortened. It never panics, so it may print a
// tree that Check refused.
func (n *Node) String() string {
	var b strings.Builder
	write(&b, n, 0)
	return b.String()
}

var infix = map[Op]string{Add: "+", Sub: "-", Mul: "*", Div: "/", Eq: "=", Ne: "<>", Lt: "<", Le: "<=", Gt: ">", Ge: ">=", And: "and", Or: "or"}

func write(b *strings.Builder, n *Node, depth int) {
	if n == nil || depth > MaxDepth {
		b.WriteString("…")
		return
	}
	if sign, ok := infix[n.Op]; ok && len(n.Args) >= 2 {
		b.WriteByte('(')
		for i, a := range n.Args {
			if i > 0 {
				b.WriteString(" " + sign + " ")
			}
			write(b, a, depth+1)
		}
		b.WriteByte(')')
		return
	}
	switch n.Op {
	case Col:
		b.WriteString(name(n.Name))
	case Param:
		b.WriteString(":" + n.Name)
	case Lit:
		b.WriteString(literal(n))
	default:
		b.WriteString(string(n.Op) + "(")
		writeList(b, len(n.Args), func(i int) { write(b, n.Args[i], depth+1) })
		for _, s := range details(n) {
			b.WriteString(", " + s)
		}
		b.WriteByte(')')
	}
}

// shown is how many arguments or elements of a list are printed at its start; the last one follows after an ellipsis.
const shown = 6

func writeList(b *strings.Builder, n int, item func(i int)) {
	for i := 0; i < n; i++ {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == shown && n > shown+2 {
			b.WriteString("… " + strconv.Itoa(n-shown-1) + " more …, ")
			i = n - 1
		}
		item(i)
	}
}

func details(n *Node) []string {
	switch n.Op {
	case Cast:
		return []string{string(n.Kind)}
	case OneHot:
		if n.Width == AnyWidth {
			return []string{"?"}
		}
		return []string{strconv.Itoa(n.Width)}
	case At:
		return []string{strconv.Itoa(n.From)}
	case Slice, Substr:
		return []string{strconv.Itoa(n.From), strconv.Itoa(n.Width)}
	case AtLeast:
		return []string{number(n.Num)}
	case Pmod:
		return []string{strconv.FormatInt(n.Int, 10)}
	case Bucket:
		return []string{vector(n.Vec)}
	case IndexOf:
		var b strings.Builder
		b.WriteByte('[')
		writeList(&b, len(n.Texts), func(i int) { b.WriteString(quote(n.Texts[i])) })
		return []string{b.String() + "]"}
	}
	return nil
}

func literal(n *Node) string {
	switch {
	case n.Null:
		return "null"
	case n.Width > 0:
		return vector(n.Vec)
	case n.Kind == Bool:
		return strconv.FormatBool(n.Int != 0)
	case n.Kind == Int64:
		return strconv.FormatInt(n.Int, 10)
	case n.Kind == String:
		return quote(n.Text)
	}
	return number(n.Num)
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func vector(v []float64) string {
	var b strings.Builder
	b.WriteByte('[')
	writeList(&b, len(v), func(i int) { b.WriteString(number(v[i])) })
	b.WriteByte(']')
	return b.String()
}

// name prints a column's name, quoted when it could be taken for something else.
func name(s string) string {
	for i, r := range s {
		if !(r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' && i > 0) {
			return quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

// Nearest gives the name that is most like s, or the empty string when none is close: letters of the other case, or
// at most a third of the letters wrong.
func Nearest(s string, names []string) string {
	if len(s) > 200 {
		return ""
	}
	best, dist := "", len([]rune(s))/3+1
	for _, n := range names {
		if strings.EqualFold(n, s) {
			return n
		}
		if len(n) > 200 {
			continue
		}
		if d := editDistance(strings.ToLower(s), strings.ToLower(n)); d < dist || d == dist && best == "" && d < len([]rune(n)) {
			best, dist = n, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours that make b of a.
func editDistance(s, t string) int {
	a, b := []rune(s), []rune(t)
	two, one, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(one[j]+cost, one[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], two[j-1]+1)
			}
		}
		two, one, row = one, row, two
	}
	return one[len(b)]
}
