package model

import (
	"fmt"
	"strings"

	"dkpipe/pipeline"
)

// unknown reports a name that is not among the known ones, with the nearest of them.
func unknown(kind pipeline.Kind, what, name string, known []string) error {
	hint := "supported: " + strings.Join(known, ", ")
	if near := nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q? Supported: %s", near, strings.Join(known, ", "))
	}
	return &pipeline.Error{Kind: kind, Message: fmt.Sprintf("%s %q is not supported", what, name), Hint: hint}
}

// nearest gives the candidate with the fewest edits to name, or "" when none is near.
func nearest(name string, candidates []string) string {
	best, bestDist := "", 3
	for _, c := range candidates {
		if d := edits(strings.ToLower(name), c); d < bestDist && d < len(c) {
			best, bestDist = c, d
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
