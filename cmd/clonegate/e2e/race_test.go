//go:build race

package e2e

// raced tells whether these tests, and so the programs they run, look for
// data races.
const raced = true
