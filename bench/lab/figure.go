package lab

import (
	"fmt"
	"slices"
	"strings"
)

// Ours is the server that has to meet the goals.
const Ours = "clonegate"

// Best, as what a Goal is held against, is the best of the rivals.
const Best = "the best"

// A Figure is something that is measured on several servers. Smaller is better,
// but for figures that have no goal.
type Figure struct {
	Key   string // for Results.Add
	Name  string // for people
	Unit  string
	Goals []Goal
}

// A Goal is how far our figure may lie from another server's.
type Goal struct {
	Than string  // Best, or a server's name; empty: Max is the value itself
	Max  float64 // ratio to the other's figure
}

// Results collects what rounds have measured.
type Results struct {
	Servers []string // in the order of the columns
	Rivals  []string // which of them Best is looked for among

	values   map[cell][]float64
	failures map[cell][]string
}

type cell struct{ figure, server string }

// Add notes one round's value of a figure.
func (r *Results) Add(figure, server string, value float64) {
	if r.values == nil {
		r.values = map[cell][]float64{}
	}
	c := cell{figure, server}
	r.values[c] = append(r.values[c], value)
}

// Fail notes that a figure is not to be trusted, and why.
func (r *Results) Fail(figure, server, why string) {
	if r.failures == nil {
		r.failures = map[cell][]string{}
	}
	c := cell{figure, server}
	r.failures[c] = append(r.failures[c], why)
}

// Failures returns every noted failure, for people.
func (r *Results) Failures() []string {
	var all []string
	for c, whys := range r.failures {
		for _, why := range whys {
			all = append(all, fmt.Sprintf("%s: %s: %s", c.server, c.figure, why))
		}
	}
	slices.Sort(all)
	return all
}

// Median returns the median of a figure; ok is false if it was not measured.
func (r *Results) Median(figure, server string) (median float64, ok bool) {
	return middle(r.values[cell{figure, server}])
}

// middle returns the middle value, or the mean of the two in the middle.
func middle(values []float64) (float64, bool) {
	n := len(values)
	if n == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, true
}

// Last returns the value of a figure that was noted last.
func (r *Results) Last(figure, server string) (value float64, ok bool) {
	values := r.values[cell{figure, server}]
	if len(values) == 0 {
		return 0, false
	}
	return values[len(values)-1], true
}

// Worst returns the largest value of a figure.
func (r *Results) Worst(figure, server string) float64 {
	values := r.values[cell{figure, server}]
	if len(values) == 0 {
		return 0
	}
	return slices.Max(values)
}

// best returns the rival with the smallest median.
func (r *Results) best(figure string) (server string, median float64, ok bool) {
	for _, rival := range r.Rivals {
		if m, measured := r.Median(figure, rival); measured && (!ok || m < median) {
			server, median, ok = rival, m, true
		}
	}
	return server, median, ok
}

// verdict says how our figure stands to one goal, as in
// "0.69 of nginx ≤ 0.85: ok". It is empty if that cannot be said.
func (r *Results) verdict(f Figure, g Goal) string {
	ours, ok := r.Median(f.Key, Ours)
	if !ok {
		return ""
	}
	met := func(holds bool) string {
		if holds && len(r.failures[cell{f.Key, Ours}]) == 0 {
			return "ok"
		}
		return "**no**"
	}
	if g.Than == "" {
		return fmt.Sprintf("≤ %s: %s", show(g.Max), met(ours <= g.Max))
	}
	than, theirs, ok := g.Than, 0.0, false
	if than == Best {
		than, theirs, ok = r.best(f.Key)
	} else {
		theirs, ok = r.Median(f.Key, than)
	}
	switch {
	case !ok:
		return ""
	case theirs <= 0:
		return fmt.Sprintf("%s had %s: %s", than, show(theirs), met(ours <= theirs))
	}
	return fmt.Sprintf("%.2f of %s ≤ %.2f: %s", ours/theirs, than, g.Max, met(ours/theirs <= g.Max))
}

// Table returns the figures as a Markdown table: a row each, a column for every
// server with the median and, in brackets, the least and the greatest value,
// and a last one that holds ours against the goals, if there are any. Rows that
// nobody has measured are left out.
func (r *Results) Table(figures []Figure) string {
	goals := slices.ContainsFunc(figures, func(f Figure) bool { return len(f.Goals) > 0 })
	columns := append([]string{""}, r.Servers...)
	if goals {
		columns = append(columns, "ours against the goal")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, f := range figures {
		if row, measured := r.row(f); measured {
			if goals {
				row = append(row, r.verdicts(f))
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
	}
	return b.String()
}

// row returns the name of a figure and what was measured on every server.
func (r *Results) row(f Figure) (row []string, measured bool) {
	name := f.Name
	if f.Unit != "" {
		name += ", " + f.Unit
	}
	row = []string{name}
	for _, server := range r.Servers {
		text := r.text(cell{f.Key, server})
		measured = measured || text != absent
		row = append(row, text)
	}
	return row, measured
}

// verdicts says how our figure stands to all its goals.
func (r *Results) verdicts(f Figure) string {
	var all []string
	for _, g := range f.Goals {
		if v := r.verdict(f, g); v != "" {
			all = append(all, v)
		}
	}
	return strings.Join(all, "; ")
}

// absent stands where nothing was measured.
const absent = "–"

// text returns what stands in one cell.
func (r *Results) text(c cell) string {
	values := r.values[c]
	failed := ""
	if n := len(r.failures[c]); n > 0 {
		failed = fmt.Sprintf(" (**failed in %d**)", n)
	}
	median, ok := middle(values)
	if !ok {
		return absent + failed
	}
	spread := ""
	if least, most := show(slices.Min(values)), show(slices.Max(values)); least != most {
		spread = fmt.Sprintf(" (%s–%s)", least, most)
	}
	return show(median) + spread + failed
}

// show writes a number with about three digits.
func show(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
