package config

import "strings"

// Suggest returns the word of known that is nearest to word: one a careless
// typist could have meant. Case, '-' and '_' make no difference. It returns ""
// when none is near; of several equally near the first in the alphabet.
func Suggest(word string, known []string) string {
	const longest = 64
	w := fold(word)
	if len(w) == 0 || len(w) > longest {
		return ""
	}
	best, nearest := "", 1+min(max(1, len(w)/3), 3)
	for _, k := range known {
		f := fold(k)
		if len(f) > longest {
			continue
		}
		d := distance(w, f)
		if d >= max(len(w), len(f)) {
			continue // nothing in common
		}
		if d < nearest || d == nearest && best != "" && k < best {
			best, nearest = k, d
		}
	}
	return best
}

func fold(s string) []rune {
	return []rune(strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)))
}

// distance is the number of letters to insert, delete, change or swap with their
// neighbour to make b of a.
func distance(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
