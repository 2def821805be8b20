package manifest_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
)

func parse(t *testing.T, yaml string) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Parse("template.yaml", []byte(yaml))
	if err != nil {
		t.Fatalf("Parse:\n%v", err)
	}
	return m
}

func TestParse(t *testing.T) {
	data, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, string(data))
	welcome := "Welcome"
	http := &manifest.Probe{HTTP: "8080/healthz"}
	health := &manifest.Health{Path: "/healthz"}
	want := &manifest.Manifest{
		Name:        "shop",
		Description: "A small shop with a database, two API servers and a web front",
		Params:      map[string]manifest.Param{"greeting": {Default: &welcome, Help: "what the front page says"}, "build": {}},
		Hosts: map[string]manifest.Host{
			"db":   {Address: 30, Run: []string{"bin/shop", "db"}, Ready: &manifest.Probe{TCP: 5400, Timeout: 30}},
			"api1": {Address: 20, Run: []string{"bin/shop", "api"}, Needs: []string{"db"}, Ready: http},
			"api2": {Address: 21, Run: []string{"bin/shop", "api"}, Needs: []string{"db"}, Ready: http},
			"web":  {Address: 10, Run: []string{"bin/shop", "web"}, Needs: []string{"api1", "api2"}, Ready: http, Env: map[string]string{"LOG_LEVEL": "info", "PORT": "8080", "VERSION": "1.10", "DEBUG": "on"}},
		},
		Services: map[string]manifest.Service{
			"www": {Hosts: []string{"web"}, Port: 8080, Default: true, Health: health},
			"api": {Hosts: []string{"api1", "api2"}, Port: 8080, Health: health},
		},
		Data:    []string{"data"},
		Records: []registry.Record{{Name: "_shop._tcp", Type: "SRV", TTL: 60, Data: "0 0 8080 web"}},
		Forward: []manifest.Forward{{Zone: "corp.example.com", Servers: []string{"10.0.0.53", "10.0.0.54:5353"}}},
		Startup: []string{"sh", "startup.sh"},

		Production:   map[string]string{"www.shop.example.com": "www", "*.api.shop.example.com": "api"},
		StripCookies: []string{"SHOP_SESSION"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
	again, err := manifest.FromJSON(got.JSON())
	if err != nil {
		t.Fatalf("FromJSON: %v", err)
	}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("FromJSON(JSON()) (-want +got):\n%s", diff)
	}
	if first, second := got.JSON(), again.JSON(); string(first) != string(second) {
		t.Errorf("JSON differs from time to time:\n%s\n%s", first, second)
	}
}

// minimal is a manifest into which rows of the table below are put.
const minimal = "name: shop\nhosts:\n  web: {address: 10, run: [bin/web]}\n"

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		line, col  int
		want       string
	}{
		{"empty", "", 1, 1, "the file is empty"},
		{"only a comment", "# nothing\n", 1, 1, "the file is empty"},
		{"not UTF-8", "name: \xff\n", 1, 1, "not UTF-8"},
		{"syntax", "name: shop\nhosts: {web: [\n", 2, 14, "sequence end token ']' not found"},
		{"two documents", minimal + "---\nname: b\n", 5, 1, "2 documents"},
		{"a list", "- a\n- b\n", 1, 1, "want keys and values, got a list"},
		{"unknown key", "name: shop\nhots:\n  web: {}\n", 2, 1, `unknown key "hots"; did you mean "hosts"?`},
		{"unknown key in a host", "name: shop\nhosts:\n  web: {adress: 10, run: [w]}\n", 3, 9, `hosts.web: unknown key "adress"; did you mean "address"?`},
		{"key far from any", minimal + "zzzzzzzzzz: 1\n", 4, 1, "known are data, description, forward"},
		{"duplicate key", "name: shop\nname: again\n", 2, 1, `"name"`},
		{"duplicate host", minimal + "  web: {address: 11, run: [w]}\n", 4, 3, `"web"`},
		{"duplicate in flow", "name: shop\nhosts: {a: {address: 10, address: 11, run: [w]}}\n", 2, 26, `"address"`},
		{"text for a number", "name: shop\nhosts:\n  web: {address: ten, run: [w]}\n", 3, 18, "want a whole number, got a text"},
		{"keys for a list", "name: shop\nhosts:\n  web:\n    address: 10\n    run:\n      a: b\n", 6, 7, "want a list such as [a, b], got keys and values"},
		{"float for a number", "name: shop\nhosts:\n  web: {address: 1.5, run: [w]}\n", 3, 18, "want a whole number, got a number"},
		{"hexadecimal", "name: shop\nhosts:\n  web: {address: 0x10, run: [w]}\n", 3, 18, "0x10: want a whole number from 0 to 254"},
		{"list for a text", "name: [a]\n" + minimal[11:], 1, 7, "name: want a text, got a list"},
		{"null for a text", "name:\n" + minimal[11:], 1, 6, "want a text, got nothing"},
		{"text for a list", "name: shop\nhosts:\n  web: {address: 10, run: bin/web}\n", 3, 27, "want a list such as [a, b], got a text"},
		{"text for a flag", minimal + "services: {www: {hosts: [web], port: 80, default: yes}}\n", 4, 51, "want true or false, got a text"},
		{"no name", "hosts:\n  web: {address: 10, run: [w]}\n", 1, 1, "name: is missing"},
		{"name with capitals", "name: Shop\nhosts:\n  web: {address: 10, run: [w]}\n", 1, 7, `character 'S' is not allowed`},
		{"no hosts", "name: shop\n", 1, 1, "needs at least one host"},
		{"host name", "name: shop\nhosts:\n  we_b: {address: 10, run: [w]}\n", 3, 3, `character '_' is not allowed`},
		{"host of 64 octets", "name: shop\nhosts:\n  " + strings.Repeat("a", 64) + ": {address: 10, run: [w]}\n", 3, 3, "64 octets long"},
		{"host called startup", "name: shop\nhosts:\n  startup: {address: 10, run: [w]}\n", 3, 3, "stands for the startup command"},
		{"octet 0", "name: shop\nhosts:\n  web: {address: 0, run: [w]}\n", 3, 18, "2 to 254"},
		{"octet 1", "name: shop\nhosts:\n  web: {address: 1, run: [w]}\n", 3, 18, "2 to 254"},
		{"octet 255", "name: shop\nhosts:\n  web: {address: 255, run: [w]}\n", 3, 18, "from 0 to 254"},
		{"no octet", "name: shop\nhosts:\n  web: {run: [w]}\n", 3, 3, "hosts.web.address: want the last octet"},
		{"one address twice", minimal + "  api: {address: 10, run: [a]}\n", 3, 18, "10 is the address of host api already"},
		{"no program", "name: shop\nhosts:\n  web: {address: 10}\n", 3, 3, "names no program"},
		{"program outside", "name: shop\nhosts:\n  web: {address: 10, run: [../../bin/sh]}\n", 3, 27, "want a path inside the template"},
		{"unknown need", minimal + "  api: {address: 11, run: [a], needs: [web, dv]}\n  db: {address: 12, run: [d]}\n", 4, 45, `there is no host "dv"; did you mean "db"?`},
		{"need of itself", minimal + "  api: {address: 11, run: [a], needs: [api]}\n", 4, 40, "host api needs itself"},
		{"need twice", minimal + "  api: {address: 11, run: [a], needs: [web, web]}\n", 4, 45, "web stands twice"},
		{"circle", "name: shop\nhosts:\n  a: {address: 10, run: [w], needs: [b]}\n  b: {address: 11, run: [w], needs: [c]}\n  c: {address: 12, run: [w], needs: [a]}\n", 3, 37, "in a circle: a → b → c → a"},
		{"empty ready", "name: shop\nhosts:\n  web: {address: 10, run: [w], ready: {}}\n", 3, 39, "want {tcp: PORT} or"},
		{"both probes", "name: shop\nhosts:\n  web: {address: 10, run: [w], ready: {tcp: 80, http: \"80/\"}}\n", 3, 39, "exclude each other"},
		{"http probe without a path", "name: shop\nhosts:\n  web: {address: 10, run: [w], ready: {http: 8080}}\n", 3, 46, `want a port and a path, as in "8080/healthz"`},
		{"http probe with a URL", "name: shop\nhosts:\n  web: {address: 10, run: [w], ready: {http: \"http://x/\"}}\n", 3, 46, "want a port and a path"},
		{"port 65536", "name: shop\nhosts:\n  web: {address: 10, run: [w], ready: {tcp: 65536}}\n", 3, 45, "from 0 to 65535"},
		{"reserved variable", "name: shop\nhosts:\n  web: {address: 10, run: [w], env: {CLONEGATE_ID: x}}\n", 3, 38, "given by clonegate itself"},
		{"bad variable", "name: shop\nhosts:\n  web: {address: 10, run: [w], env: {A-B: x}}\n", 3, 38, "cannot name an environment variable"},
		{"unknown host of a service", minimal + "services:\n  www: {hosts: [wep], port: 80}\n", 5, 17, `there is no host "wep"; did you mean "web"?`},
		{"service without hosts", minimal + "services:\n  www: {port: 80}\n", 5, 3, "want at least one host"},
		{"service without a port", minimal + "services:\n  www: {hosts: [web]}\n", 5, 3, "want the port"},
		{"service name too long", minimal + "services:\n  " + strings.Repeat("a", 43) + ": {hosts: [web], port: 80}\n", 5, 3, "43 octets long; at most 42"},
		{"production without a service", minimal + "production: {www.example.com: ww}\nservices:\n  www: {hosts: [web], port: 80}\n", 4, 14, `there is no service "ww"; did you mean "www"?`},
		{"production by URL", minimal + "production: {\"https://www.example.com\": www}\n", 4, 14, "is not allowed"},
		{"cookie with a value", minimal + "strip_cookies: [a, b=c]\n", 4, 20, `character '=' is not allowed`},
		{"two defaults", minimal + "services:\n  a: {hosts: [web], port: 80, default: true}\n  b: {hosts: [web], port: 80, default: true}\n", 6, 40, "service a is the default already"},
		{"protocol", minimal + "services:\n  a: {hosts: [web], port: 80, protocol: spdy}\n", 5, 41, `"spdy" is not known; want http, https, h2c`},
		{"health path", minimal + "services:\n  a: {hosts: [web], port: 80, health: {path: healthz}}\n", 5, 46, "begins with /"},
		{"data outside", minimal + "data: [../x]\n", 4, 8, "want a directory inside the template"},
		{"data absolute", minimal + "data: [/var]\n", 4, 8, "want a directory inside the template"},
		{"data is everything", minimal + "data: [.]\n", 4, 8, "want a directory inside the template"},
		{"data overlaps", minimal + "data: [a, a/b]\n", 4, 11, "a/b and a overlap"},
		{"parameter name", minimal + "params:\n  Greeting: {}\n", 5, 3, "character 'G' is not allowed"},
		{"record without data", minimal + "records:\n  - {name: a, type: TXT}\n", 5, 5, "want 1 to 4096 octets"},
		{"forward server", minimal + "forward:\n  - {zone: a.b, servers: [dns]}\n", 5, 27, `"dns": want an address`},
		{"unknown anchor", minimal + "data: *x\n", 4, 7, "there is no anchor &x"},
		{"anchor in itself", minimal + "data: &x [*x]\n", 4, 11, "want a text, got a list"},
		{"merge key", "name: shop\nhosts:\n  web: &w {address: 10, run: [w]}\n  api:\n    <<: *w\n", 5, 5, "merge keys"},
		{"tag", minimal + "data: !mine [a]\n", 4, 7, "tags such as !mine"},
		{"deep", minimal + "data: " + strings.Repeat("[", 40000), 4, 39, "nested deeper than 32"},
		{"too large", minimal + "# " + strings.Repeat("x", manifest.MaxSize), 1, 1, "at most 65536"},
		{"startup without a program", minimal + "startup: ['']\n", 4, 10, "names no program"},
		{"NUL", minimal + "description: \"a\\0b\"\n", 4, 14, "holds a NUL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := manifest.Parse("template.yaml", []byte(tt.yaml))
			if err == nil {
				t.Fatalf("Parse took it: %s", m.JSON())
			}
			es, ok := errors.AsType[manifest.Errors](err)
			if !ok || !errors.Is(err, registry.ErrInvalid) {
				t.Fatalf("got a %T, want manifest.Errors that are registry.ErrInvalid", err)
			}
			place := fmt.Sprintf("template.yaml:%d:%d: ", tt.line, tt.col)
			for _, e := range es {
				if strings.HasPrefix(e.Error(), place) && strings.Contains(e.Error(), tt.want) {
					return
				}
			}
			t.Errorf("got\n%v\nwant %s… %s", err, place, tt.want)
		})
	}
}

func TestErrorShowsTheLine(t *testing.T) {
	_, err := manifest.Parse("shop/template.yaml", []byte("name: shop\nhosts:\n  web: {adress: 10, run: [w]}\n"))
	want := `shop/template.yaml:3:9: hosts.web: unknown key "adress"; did you mean "address"?
    3 |   web: {adress: 10, run: [w]}
      |         ^`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestManyFaultsAreToldAtOnce(t *testing.T) {
	_, err := manifest.Parse("t", []byte("name: S\nhosts:\n  a: {address: 1, run: [w]}\n  b: {address: 10, run: []}\n"))
	es, _ := errors.AsType[manifest.Errors](err)
	if len(es) != 3 {
		t.Errorf("got %d faults, want 3:\n%v", len(es), err)
	}
}

func TestAliases(t *testing.T) {
	m := parse(t, `
name: shop
hosts:
  web: {address: 10, run: [w], env: &env {A: "1", B: &b two}}
  api: {address: 11, run: [w], env: *env}
  db:  {address: 12, run: [w, *b]}
`)
	if got := m.Hosts["api"].Env["B"]; got != "two" {
		t.Errorf("env of api: B = %q, want two", got)
	}
	if got := m.Hosts["db"].Run[1]; got != "two" {
		t.Errorf("run of db: %q, want two", got)
	}
}

func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("name: shop\nl0: &l0 [a,a,a,a,a,a,a,a,a]\n")
	for i := range 20 {
		fmt.Fprintf(&b, "l%d: &l%d [%s*l%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*l%d,", i), 8), i)
	}
	b.WriteString("hosts: *l20\n")
	// Wide rather than deep: every host is an alias of one with long lists.
	wide := "name: shop\nhosts:\n  a: &a {address: 10, run: [" + strings.Repeat("x,", 255) + "x]}\n"
	for i := range 250 {
		wide += fmt.Sprintf("  h%d: *a\n", i)
	}
	for name, yaml := range map[string]string{"deep": b.String(), "wide": wide} {
		start := time.Now()
		if _, err := manifest.Parse("t", []byte(yaml)); err == nil {
			t.Errorf("%s: taken", name)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func TestLevels(t *testing.T) {
	m := parse(t, `
name: shop
hosts:
  web:  {address: 10, run: [w], needs: [api1, api2]}
  api2: {address: 21, run: [w], needs: [db]}
  api1: {address: 20, run: [w], needs: [db]}
  mail: {address: 40, run: [w]}
  db:   {address: 30, run: [w]}
`)
	want := [][]string{{"db", "mail"}, {"api1", "api2"}, {"web"}}
	if diff := cmp.Diff(want, m.Levels()); diff != "" {
		t.Errorf("Levels (-want +got):\n%s", diff)
	}
}

func TestValues(t *testing.T) {
	m := parse(t, minimal+"params:\n  greeting: {default: Hello}\n  build:\n")
	for _, tt := range []struct {
		name  string
		given map[string]string
		want  map[string]string
		err   string
	}{
		{"default and given", map[string]string{"build": "7"}, map[string]string{"greeting": "Hello", "build": "7"}, ""},
		{"over the default", map[string]string{"build": "7", "greeting": ""}, map[string]string{"greeting": "", "build": "7"}, ""},
		{"missing", nil, nil, `params.build: template shop has no default for it`},
		{"unknown", map[string]string{"build": "7", "greting": "x"}, nil, `no parameter "greting"; did you mean "greeting"?`},
		{"NUL", map[string]string{"build": "\x00"}, nil, "holds a NUL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := m.Values(tt.given)
			if tt.err != "" {
				if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Values (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFromJSONRefuses(t *testing.T) {
	for name, json := range map[string]string{
		"not JSON":      "{",
		"unknown key":   `{"name":"a","hosts":{"w":{"address":10,"run":["x"]}},"color":"red"}`,
		"two values":    `{"name":"a","hosts":{"w":{"address":10,"run":["x"]}}} {}`,
		"no hosts":      `{"name":"a","hosts":{}}`,
		"circle":        `{"name":"a","hosts":{"w":{"address":10,"run":["x"],"needs":["v"]},"v":{"address":11,"run":["x"],"needs":["w"]}}}`,
		"null":          `null`,
		"wrong address": `{"name":"a","hosts":{"w":{"address":300,"run":["x"]}}}`,
	} {
		if m, err := manifest.FromJSON([]byte(json)); err == nil {
			t.Errorf("%s: taken as %s", name, m.JSON())
		}
	}
}

func FuzzParse(f *testing.F) {
	shop, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shop)
	f.Add([]byte(minimal))
	f.Add([]byte("name: a\nhosts: &h {w: {address: 3, run: [x, *h]}}\n"))
	f.Add([]byte("name: \"a\\u0001\"\nhosts: {w: {address: 3, run: [\"\\uFFFE<>&\"]}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := manifest.Parse("t", data)
		if err != nil {
			es, ok := errors.AsType[manifest.Errors](err)
			if !ok || len(es) == 0 {
				t.Fatalf("error is a %T", err)
			}
			for _, e := range es {
				if e.Line < 1 || e.Column < 1 || e.Message == "" {
					t.Fatalf("error without a place or words: %+v", e)
				}
			}
			return
		}
		again, err := manifest.FromJSON(m.JSON())
		if err != nil {
			t.Fatalf("FromJSON refuses what Parse took: %v\n%s", err, m.JSON())
		}
		if got, want := string(again.JSON()), string(m.JSON()); got != want {
			t.Fatalf("read back differently:\n%s\n%s", got, want)
		}
		if n := len(m.Levels()); n == 0 || n > len(m.Hosts) {
			t.Fatalf("%d levels for %d hosts", n, len(m.Hosts))
		}
	})
}
