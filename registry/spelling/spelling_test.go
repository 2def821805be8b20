package spelling_test

import (
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry/spelling"
)

func TestDistance(t *testing.T) {
	long := strings.Repeat("x", spelling.MaxWord)
	for _, tt := range []struct {
		a, b       string
		most, want int
	}{
		{"", "", 3, 0},
		{"www-1234", "www-1234", 3, 0},
		{"www-1243", "www-1234", 3, 1}, // two neighbours swapped
		{"ww-1234", "www-1234", 3, 1},
		{"wwww-1234", "www-1234", 3, 1},
		{"www-123", "www-1234", 0, 1},
		{"www-1235", "www-1234", 3, 1},
		{"kitten", "sitting", 3, 3},
		{"kitten", "sitting", 2, 3},
		{"ca", "abc", 3, 3}, // no octet is moved more than once
		{"", "abc", 3, 3},
		{"", "abcd", 3, 4},
		{"acb", "abc", 0, 1},
		{"xbacdyy", "abcd", 4, 4},
		{long, long, 1, 0},
		{long + "x", long + "x", 1, 2},
	} {
		for _, pair := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			if got := spelling.Distance(pair[0], pair[1], tt.most); got != tt.want {
				t.Errorf("Distance(%q, %q, %d) = %d, want %d", pair[0], pair[1], tt.most, got, tt.want)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { spelling.Distance("www-1243", "www-1234", 3) }); n != 0 {
		t.Errorf("Distance allocates %v times, want 0", n)
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"services", "hosts", "data", "env", "dns"}
	for word, want := range map[string]string{
		"service":                 `; did you mean "services"?`,
		"sevrices":                `; did you mean "services"?`,
		"Hosts":                   `; did you mean "hosts"?`,
		"hots":                    `; did you mean "hosts"?`,
		"evn":                     `; did you mean "env"?`,
		"dsn":                     `; did you mean "dns"?`,
		"x":                       "; known are services, hosts, data, env, dns",
		"":                        "; known are services, hosts, data, env, dns",
		strings.Repeat("env", 99): "; known are services, hosts, data, env, dns",
	} {
		if got := spelling.Suggest(word, known); got != want {
			t.Errorf("Suggest(%.20q) = %q, want %q", word, got, want)
		}
	}
	if got := spelling.Suggest("x", nil); got != "" {
		t.Errorf("with nothing known: %q, want nothing", got)
	}
}

// FuzzDistance holds that the bound changes no distance that it lets through.
func FuzzDistance(f *testing.F) {
	f.Add("www-1243", "www-1234")
	f.Add("ab", "ba")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > spelling.MaxWord || len(b) > spelling.MaxWord {
			return
		}
		whole := spelling.Distance(a, b, spelling.MaxWord)
		for most := range 6 {
			if got := spelling.Distance(a, b, most); got != min(whole, most+1) {
				t.Errorf("Distance(%q, %q, %d) = %d, want %d", a, b, most, got, min(whole, most+1))
			}
		}
	})
}
