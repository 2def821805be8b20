package api

import (
	"fmt"
	"slices"
	"strings"
)

// suggest returns words to append to a complaint about an unknown name: the
// nearest known one, or all of them.
func suggest(name string, known []string) string {
	if best := nearest(name, known); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	if len(known) == 0 {
		return ""
	}
	known = slices.Sorted(slices.Values(known))
	return "; known are " + strings.Join(known, ", ")
}

// nearest returns the known name that differs from name in few enough letters
// to be what was meant, "" if there is none.
func nearest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	most := 1 // letters that may differ
	if len(name) > 3 {
		most = max(2, len(name)/3)
	}
	name = strings.ToLower(name)
	best, least := "", most+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(name, strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to insert, remove or replace to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
