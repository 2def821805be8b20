//go:build race

package e2e

// raced tells whether these tests, and so the program they run, look for data
// races.
const raced = true
