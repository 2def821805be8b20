// Package e2e holds the proof that the program keeps its promises: its tests
// build the real binary, run it as people do, and use it with the programs they
// have: curl, dig, a browser. It has no code beside them.
//
// A test that misses a program says "NOT TESTED" and is skipped; -short leaves
// out what takes long.
package e2e
