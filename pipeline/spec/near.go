package spec

import (
	"slices"
	"strings"
)

// Nearest gives the known name that name was most likely meant to be, or the empty string when none is near.
// Case, '-' and '_' do not count (batchSize, batch-size), a beginning of at least three letters is near (batch),
// and so is a name with a few letters missing, added, changed or swapped: one for every three letters.
func Nearest(name string, known []string) string {
	if len(name) > 64 || len(name) < 2 {
		return ""
	}
	folded := fold(name)
	best, bestDistance := "", len(folded)/3+1
	for _, k := range known {
		if f := fold(k); f == folded {
			return k
		} else if d := distance(folded, f); d < bestDistance || (d == bestDistance && d == 1 && best == "") {
			best, bestDistance = k, d
		}
	}
	if best != "" || len(folded) < 3 {
		return best
	}
	for _, k := range known {
		if f := fold(k); strings.HasPrefix(f, folded) || (len(f) >= 3 && strings.HasPrefix(folded, f)) {
			if best != "" {
				return "" // two are as near
			}
			best = k
		}
	}
	return best
}

func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
}

// distance is the optimal string alignment distance: insertions, deletions, changes and swaps of neighbours.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if d := len(x) - len(y); d > 8 || d < -8 {
		return 9
	}
	prev2, prev, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			change := prev[j-1]
			if x[i-1] != y[j-1] {
				change++
			}
			row[j] = min(prev[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(y)]
}

// suggestion ends a sentence about an unknown name: "did you mean x?", else the known names.
func suggestion(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	if len(known) == 0 {
		return "none is known here"
	}
	return "known: " + list(known)
}

// list joins names, the first 30 of them.
func list(names []string) string {
	if len(names) > 30 {
		names = append(slices.Clone(names[:30]), "…")
	}
	return strings.Join(names, ", ")
}
