package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/bench/lab"
)

// Names that are asked for.
const (
	localNames = "www-%d." + lab.Zone  // one for every clone
	unknown    = "no-%d." + lab.Zone   // none exists
	forwarded  = "h%d." + upstreamZone // few, asked again and again
)

// zipfNames is how many forwarded names there are.
const zipfNames = 10_000

// questions are files of names for dnsperf. Every server is asked the same.
type questions struct {
	local, unknown, zipf, zipfAll string // files
}

// writeQuestions writes the files into dir, each with n names.
func writeQuestions(dir string, clones, n int) (questions, error) {
	q := questions{dir + "/local", dir + "/unknown", dir + "/zipf", dir + "/zipf-all"}
	random := rand.New(rand.NewPCG(1, 2)) // the same in every run
	rank := zipf(random)
	for _, f := range []struct {
		file, name string
		n          int
		next       func(i int) int
	}{
		{q.local, localNames, n, func(int) int { return random.IntN(clones) }},
		{q.unknown, unknown, n, func(int) int { return random.IntN(1e8) }},
		{q.zipf, forwarded, n, func(int) int { return rank() }},
		{q.zipfAll, forwarded, min(n, zipfNames), func(i int) int { return i }},
	} {
		if err := writeNames(f.file, f.name, f.n, f.next); err != nil {
			return questions{}, err
		}
	}
	return q, nil
}

func writeNames(file, name string, n int, next func(i int) int) error {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, name+" A\n", next(i))
	}
	return os.WriteFile(file, []byte(text.String()), 0o600)
}

// zipf returns a source of ranks from 0 to zipfNames-1, distributed as names
// that people ask for: with exponent 1.
func zipf(random *rand.Rand) func() int {
	sums := make([]float64, zipfNames)
	sum := 0.0
	for i := range sums {
		sum += 1 / float64(i+1)
		sums[i] = sum
	}
	return func() int {
		i, _ := slices.BinarySearch(sums, random.Float64()*sum)
		return min(i, zipfNames-1)
	}
}

// query is the message that asks for the address of a name.
func query(id uint16, name string) []byte {
	msg := binary.BigEndian.AppendUint16(nil, id)
	msg = append(msg, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired, one question
	for label := range strings.SplitSeq(name, ".") {
		msg = append(append(msg, byte(len(label))), label...)
	}
	return append(msg, 0, 0, 1, 0, 1) // A, IN
}
