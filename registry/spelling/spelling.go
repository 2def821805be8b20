// Package spelling finds what somebody may have meant by a word that is not
// known.
package spelling

import (
	"fmt"
	"strings"
)

// MaxWord bounds the words that are compared, in octets; a longer one is near
// nothing.
const MaxWord = 64

// Suggest returns words to append to a complaint about an unknown word: the
// nearest of those that are known, or all of them in their order.
func Suggest(word string, known []string) string {
	if best := Nearest(word, known); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	if len(known) == 0 {
		return ""
	}
	return "; known are " + strings.Join(known, ", ")
}

// Nearest returns the known word that differs from word, but for capitals, in
// few enough letters to be what was meant: the first of the nearest, "" if
// there is none.
func Nearest(word string, known []string) string {
	most := 1 // letters that may differ
	if len(word) > 3 {
		most += len(word) / 3
	}
	best, word := "", strings.ToLower(word)
	for _, k := range known {
		if d := Distance(word, strings.ToLower(k), most); d <= most {
			best, most = k, d-1
		}
	}
	return best
}

// Distance counts the octets to insert, remove, replace or swap with their
// neighbour to make b of a, no octet more than once (optimal string alignment).
// It is most+1 if they are more than most, or a word is longer than MaxWord. It
// allocates nothing.
func Distance(a, b string, most int) int {
	if len(a) > MaxWord || len(b) > MaxWord || len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	var room [3][MaxWord + 1]int
	before, row, next := &room[0], &room[1], &room[2] // before is of the last octet but one of a
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		least := next[0]
		for j := range len(b) {
			next[j+1] = min(row[j+1], next[j]) + 1
			if a[i] == b[j] {
				next[j+1] = min(next[j+1], row[j])
			} else {
				next[j+1] = min(next[j+1], row[j]+1)
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
			least = min(least, next[j+1])
		}
		if least > most+1 { // a swap reaches back by two rows, and costs one
			return most + 1
		}
		before, row, next = row, next, before
	}
	return min(row[len(b)], most+1)
}
