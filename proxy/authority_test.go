package proxy

import (
	"strings"
	"testing"
)

func TestParseAuthority(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "www-1234.zone", "www-1234.zone"},
		{"capitals", "WWW-1234.Zone", "www-1234.zone"},
		{"port", "www-1234.zone:8443", "www-1234.zone"},
		{"empty port", "www-1234.zone:", "www-1234.zone"},
		{"trailing dot", "www-1234.zone.", "www-1234.zone"},
		{"trailing dot and port", "www-1234.zone.:443", "www-1234.zone"},
		{"underscore", "www-1234.test_envs.example.com", "www-1234.test_envs.example.com"},
		{"IPv4", "192.0.2.1:443", "192.0.2.1"},
		{"IPv6", "[2001:DB8::1]:443", "[2001:db8::1]"},
		{"IPv6 without port", "[::1]", "[::1]"},
		{"legal but odd", "+1234.zone", "+1234.zone"},
		{"percent", "%31234.zone", "%31234.zone"},
		{"label of 64 octets", long + "a.zone", long + "a.zone"},

		{"empty", "", ""},
		{"dot", ".", ""},
		{"two trailing dots", "zone..", ""},
		{"leading dot", ".zone", ""},
		{"empty label", "www..zone", ""},
		{"only a port", ":443", ""},
		{"userinfo", "www-1234.zone@evil.example", ""},
		{"user and password", "a:b@www-1234.zone", ""},
		{"path", "www-1234.zone/x", ""},
		{"backslash", `www-1234.zone\x`, ""},
		{"query", "www-1234.zone?x", ""},
		{"fragment", "www-1234.zone#x", ""},
		{"list", "www-1234.zone,www-1.zone", ""},
		{"space", "www-1234.zone www-1.zone", ""},
		{"NUL", "www-1234.zone\x00", ""},
		{"tab", "www-1234.zone\t", ""},
		{"line feed", "www-1234.zone\n", ""},
		{"full-width digits", "１２３４.zone", ""},
		{"IDN", "bücher.zone", ""},
		{"port 0", "zone:0", ""},
		{"port 65536", "zone:65536", ""},
		{"port with sign", "zone:+80", ""},
		{"port in hexadecimal", "zone:0x50", ""},
		{"two ports", "zone:80:81", ""},
		{"IPv6 without brackets", "::1", ""},
		{"IPv6 with zone", "[fe80::1%eth0]", ""},
		{"IPv4 in brackets", "[192.0.2.1]", ""},
		{"open bracket", "[::1", ""},
		{"text behind the bracket", "[::1]x", ""},
		{"too long", strings.Repeat(long+".", 5), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseAuthority(tt.in)
			if tt.want == "" && err == nil {
				t.Errorf("parseAuthority(%q) = %q; want an error", tt.in, got)
			}
			if tt.want != "" && (err != nil || got != tt.want) {
				t.Errorf("parseAuthority(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
			}
		})
	}
}

// FuzzParseAuthority holds that every spelling of one name is one string, and
// that nothing which could delimit something else is left in it.
func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"www-1234.zone", "WWW.Zone.:443", "[::1]:8443", "a@b", "a:b:c", "%41.zone", "zone:", "a..b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := parseAuthority(s)
		if err != nil {
			return
		}
		if host == "" || strings.ToLower(host) != host || strings.HasSuffix(host, ".") {
			t.Fatalf("parseAuthority(%q) = %q: not canonical", s, host)
		}
		if host[0] != '[' && strings.ContainsAny(host, ":/@?#\\,[] \t\r\n\x00") {
			t.Fatalf("parseAuthority(%q) = %q: holds a delimiter", s, host)
		}
		if len(host) > 255 {
			return
		}
		for _, spelling := range []string{host, host + ":443", strings.ToUpper(host)} {
			if again, err := parseAuthority(spelling); err != nil || again != host {
				t.Fatalf("parseAuthority(%q) = %q, %v; want %q as for %q", spelling, again, err, host, s)
			}
		}
	})
}
