package config

import (
	"fmt"
	"strconv"
	"strings"
)

// A Share is a part of all requests: "all", one in N as "1/N", or none, "off".
type Share struct{ oneIn int }

// OneIn returns N of a Share of one in N: 1 for all, 0 for none.
func (s Share) OneIn() int { return s.oneIn }

// String returns s as an operator writes it.
func (s Share) String() string {
	switch s.oneIn {
	case 0:
		return "off"
	case 1:
		return "all"
	}
	return "1/" + strconv.Itoa(s.oneIn)
}

// parseShare reads what String writes, and nothing else.
func parseShare(text string) (Share, error) {
	switch text {
	case "off":
		return Share{}, nil
	case "all":
		return Share{1}, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(text, "1/"))
	if s := (Share{n}); err == nil && n > 1 && n <= 1_000_000_000 && s.String() == text {
		return s, nil
	}
	return Share{}, fmt.Errorf("%q is no share", text)
}
