package dnsd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// TestRefusePrivate: names of the outside lead nowhere inside, those of the
// clone and of domains that are known to be inside do.
func TestRefusePrivate(t *testing.T) {
	c := shop("1234")
	up := newUpstream(t, func(q asked, send func([]byte)) {
		name := strings.ToLower(q.msg.Question[0].Name)
		data := map[string][]string{
			"ten.evil.":           {" 60 IN A 10.0.0.1"},
			"public.evil.":        {" 60 IN A 192.88.99.1"},
			"both.evil.":          {" 60 IN A 192.88.99.1", " 60 IN A 192.168.0.1"},
			"loop.evil.":          {" 60 IN A 127.0.0.1"},
			"any.evil.":           {" 60 IN A 0.0.0.0"},
			"meta.evil.":          {" 60 IN A 169.254.169.254"},
			"cgnat.evil.":         {" 60 IN A 100.64.1.1"},
			"ula.evil.":           {" 60 IN AAAA fd00::1"},
			"mapped.evil.":        {" 60 IN AAAA ::ffff:10.0.0.1"},
			"https.evil.":         {" 60 IN HTTPS 1 . alpn=h2 ipv4hint=10.0.0.1"},
			"https6.evil.":        {" 60 IN HTTPS 1 . ipv6hint=fd00::1"},
			"plainhttps.evil.":    {" 60 IN HTTPS 1 . alpn=h2"},
			"text.evil.":          {` 60 IN TXT "10.0.0.1"`},
			"alias.evil.":         {" 60 IN CNAME wiki.corp.example.", "wiki.corp.example. 60 IN A 10.0.0.1"},
			"wiki.corp.example.":  {" 60 IN A 10.0.0.1"},
			"ldap.shop.internal.": {" 60 IN A 10.0.0.1"},
			"notcorp.example.":    {" 60 IN A 10.0.0.1"},
		}[name]
		send(pack(replyTo(q, 0, data, nil)))
	})
	c.Forward = []registry.Forward{{Zone: "shop.internal", Servers: to(up).Upstreams}}
	r := to(up)
	r.Clone, r.RefusePrivate, r.PrivateIn = "1234", true, []registry.Host{"corp.example"}
	s := serve(t, dnsd.Config{Directory: newWorld(t, c)}, r, to(up))
	for _, row := range []struct {
		name  string
		qtype uint16
		want  string // "" stands for no data, and why
	}{
		{"ten.evil.", dns.TypeA, ""},
		{"public.evil.", dns.TypeA, "NOERROR; A 192.88.99.1"},
		{"both.evil.", dns.TypeA, ""},
		{"loop.evil.", dns.TypeA, ""},
		{"any.evil.", dns.TypeA, ""},
		{"meta.evil.", dns.TypeA, ""},
		{"cgnat.evil.", dns.TypeA, ""},
		{"ula.evil.", dns.TypeAAAA, ""},
		{"mapped.evil.", dns.TypeAAAA, ""},
		{"https.evil.", dns.TypeHTTPS, ""},
		{"https6.evil.", dns.TypeHTTPS, ""},
		{"plainhttps.evil.", dns.TypeHTTPS, `NOERROR; HTTPS 1 . alpn="h2"`},
		{"text.evil.", dns.TypeTXT, `NOERROR; TXT "10.0.0.1"`},
		{"alias.evil.", dns.TypeA, ""},
		{"wiki.corp.example.", dns.TypeA, "NOERROR; A 10.0.0.1"},
		{"ldap.shop.internal.", dns.TypeA, "NOERROR; A 10.0.0.1"},
		{"notcorp.example.", dns.TypeA, ""},
		{"db.", dns.TypeA, "NOERROR; A 10.80.0.30"},
	} {
		m := new(dns.Msg)
		m.SetQuestion(row.name, row.qtype)
		m.SetEdns0(1232, false)
		for _, from := range []string{"upstream", "cache"} {
			got := send(t, s.addrs[0], m)
			if row.want == "" {
				if short(got) != "NOERROR" || len(got.Ns) != 1 || edeOf(got) != int(dns.ExtendedErrorCodeBlocked) {
					t.Errorf("%s from %s: got %v, want no data, an SOA and EDE 15", row.name, from, got)
				}
			} else if short(got) != row.want {
				t.Errorf("%s from %s: got %s, want %s", row.name, from, short(got), row.want)
			}
		}
		if got := short(send(t, s.addrs[1], m)); row.name == "ten.evil." && got != "NOERROR; A 10.0.0.1" {
			t.Errorf("without refuse_private: got %s", got)
		}
	}
}

// TestSearchLists: names that stub resolvers make of others by their search
// lists are denied at once, without a word to upstreams.
func TestSearchLists(t *testing.T) {
	up := newUpstream(t, silent)
	r := to(up)
	r.Clone = "1234"
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, r)
	start := time.Now()
	names := []string{
		"www.example.com.", "example.com.", "www.example.net.1234.", "api.www.example.net.1234.", "db.shop.example.com.pr-1234.",
		"a.b.c.d.e.f.", "com.", "net.1234.", "_sip._tcp.example.com.", "1.0.0.10.in-addr.arpa.", "missing.", "www.example.com.www-1234.",
	}
	for _, name := range names {
		for _, suffix := range []string{zone, alias} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT} {
				m := ask(t, s.addrs[0], name+suffix+".", qtype)
				want := dns.RcodeNameError
				if name == "db.shop.example.com.pr-1234." { // a host of that name is there
					want = dns.RcodeSuccess
				}
				if m.Rcode != want || want == dns.RcodeNameError && (len(m.Ns) != 1 || m.Ns[0].Header().Ttl > 5) {
					t.Errorf("%s%s: got %v", name, suffix, m)
				}
			}
		}
	}
	if took := time.Since(start); up.count() != 0 || took > 2*time.Second {
		t.Errorf("upstream was asked %d times, and %d questions took %v", up.count(), len(names)*8, took)
	}
}
