package main

import "testing"

func TestParseOutcome(t *testing.T) {
	const text = `Statistics:

  Queries sent:         1000
  Queries completed:    998 (99.80%)
  Queries lost:         2 (0.20%)

  Response codes:       NOERROR 997 (99.90%), SERVFAIL 1 (0.10%)
  Average packet size:  request 50, response 66
  Run time (s):         0.010000
  Queries per second:   99800.000000
`
	got, err := parseOutcome(text)
	want := outcome{done: 998, lost: 2, rate: 99800, codes: "NOERROR 997 (99.90%), SERVFAIL 1 (0.10%)"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if got.only("NOERROR") {
		t.Error("a SERVFAIL passed for NOERROR only")
	}
	if _, err := parseOutcome("Error: no server"); err == nil {
		t.Error("a run without statistics passed")
	}
}
