package config_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
)

// load reads a file with this text, with these variables and --set values.
func load(t *testing.T, text string, env, set []string) (*config.Config, []string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clonegate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(config.Sources{File: file, Env: env, Set: set})
}

func mustLoad(t *testing.T, text string, env, set []string) *config.Config {
	t.Helper()
	c, _, err := load(t, text, env, set)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLaterSourcesWin(t *testing.T) {
	const file = "zone: a.test\ngateway:\n  listen: 127.0.0.1:1000\n  redirect: off\n  drain: 5s\n"
	env := []string{"CLONEGATE_GATEWAY_LISTEN=127.0.0.1:2000", "CLONEGATE_ZONE_ALIASES=b.test,c.test", "CLONEGATE_GATEWAY_DRAIN=6s", "PATH=/bin"}
	set := []string{"gateway.drain=7s", `dns.resolvers=[{listen: 127.0.0.1:5300, clone: 1234, upstreams: ["[::1]:53"]}]`}
	c := mustLoad(t, file, env, set)
	for _, row := range []struct {
		key       string
		got, want any
	}{
		{"zone, from the file", string(c.Zone), "a.test"},
		{"gateway.listen, from the environment", c.Gateway.Listen.String(), "127.0.0.1:2000"},
		{"gateway.redirect, off in the file", c.Gateway.Redirect.On(), false},
		{"gateway.drain, from --set", c.Gateway.Drain, 7 * time.Second},
		{"leases.ttl, by default", c.Leases.TTL, 2 * time.Minute},
		{"gateway.access_log, by default", c.Gateway.AccessLog.OneIn(), 100},
		{"zone_aliases, with commas", len(c.ZoneAliases), 2},
		{"dns.resolvers[0].clone, a number", string(c.DNS.Resolvers[0].Clone), "1234"},
		{"dns.resolvers[0].upstreams[0]", c.DNS.Resolvers[0].Upstreams[0], netip.MustParseAddrPort("[::1]:53")},
	} {
		if row.got != row.want {
			t.Errorf("%s: got %v, want %v", row.key, row.got, row.want)
		}
	}
}

func TestProblemsHaveAPlaceAndAHint(t *testing.T) {
	tests := []struct {
		name, file string
		env, set   []string
		want       string // the file's name is F
	}{
		{
			name: "unknown key", file: "zone: a.test\ngatway:\n  listen: :8443\n",
			want: "F:2:1: unknown key \"gatway\"; did you mean \"gateway\"?\n" +
				"     1 | zone: a.test\n" +
				">    2 | gatway:\n" +
				"       | ^",
		},
		{name: "unknown key in a section", file: "zone: a.test\ngateway:\n  lissen: :8443\n", want: `F:3:3: unknown key "lissen" in gateway; did you mean "listen"?`},
		{name: "unknown key like no other", file: "zone: a.test\napi: {colour: red}\n", want: `F:2:7: unknown key "colour" in api; known are listen, hosts`},
		{name: "unknown key in a list", file: "zone: a.test\ncertificates:\n  files:\n    - cert: a\n      kay: b\n", want: `F:5:7: unknown key "kay" in certificates.files[0]; did you mean "key"?`},
		{name: "duplicate key", file: "zone: a.test\nzone: b.test\n", want: `F:2:1: mapping key "zone" already defined at [1:1]`},
		{name: "broken YAML", file: "zone: a.test\ngateway: {listen: \n", want: "F:2:"},
		{name: "second document", file: "zone: a.test\n---\nzone: b.test\n", want: "F:3:5: a second document begins here"},
		{name: "a list for a section", file: "zone: a.test\ngateway: [1]\n", want: `F:2:10: gateway: want keys such as "listen" below it`},
		{name: "a list for everything", file: "- zone\n", want: `F:1:1: the configuration: want keys such as "zone" below it`},
		{name: "a word for a list", file: "zone: a.test\nendpoints:\n  allow: 10.0.0.0/8\n", want: "F:3:10: endpoints.allow: want a list, as in [a, b]"},
		{name: "a section for a word", file: "zone: {name: a.test}\n", want: "F:1:7: zone: want a single value"},
		{name: "alias", file: "zone: &z a.test\n", want: "F:1:7: zone: anchors, aliases and tags are not used here"},
		{name: "no address", file: "zone: a.test\ngateway: {listen: localhost:443}\n", want: `gateway.listen: "localhost:443" is not an address and port such as 127.0.0.1:8443 or :443, or off`},
		{name: "no duration", file: "zone: a.test\nleases: {ttl: 120}\n", want: `F:2:15: leases.ttl: "120" is not a duration with its unit`},
		{name: "no bool", file: "zone: a.test\ncertificates: {acme: {nested: yes}}\n", want: `"yes" is not true or false`},
		{name: "no share", file: "zone: a.test\ngateway: {access_log: true}\n", want: `"true" is not off, all, or 1/N for one in N, such as 1/100`},
		{name: "a share of one", file: "zone: a.test\ngateway: {access_log: 1/1}\n", want: `"1/1" is not off, all, or 1/N`},
		{name: "a share of nothing", file: "zone: a.test\ngateway: {access_log: 1/0}\n", want: `"1/0" is not off, all, or 1/N`},
		{name: "a share in another spelling", file: "zone: a.test\ngateway: {access_log: 1/010}\n", want: `"1/010" is not off, all, or 1/N`},
		{name: "no URL for traces", file: "zone: a.test\ntraces: {endpoint: \"10.0.0.7:4318\"}\n", want: `traces.endpoint: "10.0.0.7:4318" is not a URL such as http://10.0.0.7:4318/v1/traces`},
		{name: "traces that go nowhere", file: "zone: a.test\ntraces: {begin: 1/10}\n", want: `traces.begin: 1/10 begin a trace, but traces.endpoint names nobody to send it to`},
		{name: "no network", file: "zone: a.test\nendpoints: {allow: [10.0.0.1]}\n", want: `F:2:21: endpoints.allow[0]: "10.0.0.1" is not a network`},
		{name: "network with host bits", file: "zone: a.test\nendpoints: {allow: [10.0.0.1/8]}\n", want: "the network is 10.0.0.0/8"},
		{name: "no level", file: "zone: a.test\nlog: {level: loud}\n", want: "log.level: \"loud\" is not debug, info, warn or error"},
		{name: "no port", file: "zone: a.test\ngateway: {public_port: 70000}\n", want: `"70000" is not a port, 0 to 65535`},
		{name: "no count", file: "zone: a.test\ngateway: {limits: {head_bytes: 0}}\n", want: `F:2:32: gateway.limits.head_bytes: "0" is not a whole number above 0`},
		{name: "no zone", file: "data: /tmp/x\n", want: "configuration: zone: is required"},
		{name: "bad zone", file: "zone: a..test\n", want: `F:1:7: zone: host "a..test" has an empty label`},
		{name: "zones that overlap", file: "zone: a.test\nzone_aliases: [b.test, x.a.test]\n", want: "F:2:24: zone_aliases[1]: zone a.test and zone x.a.test overlap"},
		{name: "one port twice", file: "zone: a.test\ngateway: {listen: 127.0.0.1:8080}\napi: {listen: ':8080'}\n", want: "F:3:15: api.listen: :8080 is taken by gateway.listen already"},
		{name: "gateway off", file: "zone: a.test\ngateway: {listen: off}\n", want: "gateway.listen: cannot be off"},
		{name: "half a certificate", file: "zone: a.test\ncertificates: {files: [{cert: a.pem}]}\n", want: "F:2:24: certificates.files[0]: want both cert and key"},
		{
			name: "underscores and ACME", file: "zone: test_envs.a.test\ncertificates:\n  acme:\n    directory: https://ca.test/dir\ndns: {listen: ':53'}\n",
			want: "F:4:16: certificates.acme.directory: no authority issues for a name with an underscore, as in test_envs.a.test; give the zone an alias with a hyphen (zone_aliases: [test-envs.a.test]), or leave this key out, for the internal CA\n" +
				"     3 |   acme:\n" +
				">    4 |     directory: https://ca.test/dir\n" +
				"       |                ^",
		},
		{name: "ACME without DNS", file: "zone: a.test\ncertificates: {acme: {directory: 'https://ca.test/dir'}}\n", want: "certificates.acme.directory: the authority asks this gateway for names in the zone, but dns.listen is off"},
		{name: "ACME and files", file: "zone: a.test\ncertificates: {files: [{cert: a, key: b}], acme: {directory: 'https://ca.test/dir'}}\ndns: {listen: ':53'}\n", want: "certificates.acme.directory: certificates.files are given, too"},
		{name: "ACME in plain text", file: "zone: a.test\ncertificates: {acme: {directory: 'http://ca.test/dir'}}\ndns: {listen: ':53'}\n", want: `certificates.acme.directory: "http://ca.test/dir" is not a URL such as https://`},
		{name: "ACME without a directory", file: "zone: a.test\ncertificates: {acme: {email: ops@a.test}}\n", want: "F:2:22: certificates.acme: want directory, the URL of the authority"},
		{name: "half an ACME account", file: "zone: a.test\ncertificates: {acme: {directory: 'https://ca.test/dir', account: {key_id: x}}}\ndns: {listen: ':53'}\n", want: "certificates.acme.account: want both key_id and key_file"},
		{name: "any rate", file: "zone: a.test\ndns: {rate_limit: {per_second: 1000001}}\n", want: "dns.rate_limit.per_second: 1000001 is more than 1000000"},
		{name: "rare slips", file: "zone: a.test\ndns: {rate_limit: {slip: 1/11}}\n", want: "dns.rate_limit.slip: 1/11 is less than 1/10"},
		{name: "resolver of nobody", file: "zone: a.test\ndns: {resolvers: [{listen: ':5300'}]}\n", want: "dns.resolvers[0]: want either clone"},
		{name: "resolver nowhere", file: "zone: a.test\ndns: {resolvers: [{clone: '7'}]}\n", want: "dns.resolvers[0]: want listen"},
		{name: "resolver in a namespace named by halves", file: "zone: a.test\ndns: {resolvers: [{listen: ':53', netns: clone-1, clone: '1'}]}\n", want: `dns.resolvers[0].netns: "clone-1" is not the whole path`},
		{name: "resolver in two clones' namespaces", file: "zone: a.test\ndns: {resolvers: [{listen: ':53', netns: '/run/netns/{id}', clone: '1'}]}\n", want: "dns.resolvers[0]: want neither clone nor view"},
		{name: "resolver in a folder of namespaces", file: "zone: a.test\ndns: {resolvers: [{listen: ':53', netns: '/run/{id}/net'}]}\n", want: "may hold {id} once, behind the last slash"},
		{name: "resolver in a namespace at any port", file: "zone: a.test\ndns: {resolvers: [{listen: ':0', netns: '/run/netns/{id}'}]}\n", want: "dns.resolvers[0].netns: want a port in listen"},
		{name: "bad ID", file: "zone: a.test\ndns: {resolvers: [{clone: A7}]}\n", want: `character 'A' is not allowed`},
		{name: "renewals too rare", file: "zone: a.test\nleases: {ttl: 30s}\n", want: "leases.renew_every: 20s is more than a third of leases.ttl (30s)"},
		{name: "address of everybody", file: "zone: a.test\ngateway: {addresses: [0.0.0.0]}\n", want: "gateway.addresses[0]: 0.0.0.0 is no address"},
		{name: "variable", file: "zone: a.test\n", env: []string{"CLONEGATE_LOG_LEVEL=loud"}, want: `CLONEGATE_LOG_LEVEL: "loud" is not debug`},
		{name: "variable that is checked", file: "zone: a.test\n", env: []string{"CLONEGATE_GATEWAY_DRAIN=48h"}, want: "CLONEGATE_GATEWAY_DRAIN: gateway.drain: 48h0m0s is not above 0s"},
		{name: "flag of no key", file: "zone: a.test\n", set: []string{"log.levle=warn"}, want: `--set log.levle: unknown key "log.levle"; did you mean "log.level"?`},
		{name: "flag without value", file: "zone: a.test\n", set: []string{"log.level"}, want: "--set log.level: want key=value"},
		{name: "flag of a list", file: "zone: a.test\n", set: []string{"endpoints.allow=10.0.0.0/8,x"}, want: `--set endpoints.allow: endpoints.allow[1]: "x" is not a network`},
		{name: "two at once", file: "zone: a.test\nlog: {level: loud, format: xml}\n", want: `"xml" is not auto, text or json`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := load(t, tt.file, tt.env, tt.set)
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Fatalf("got %v, want Problems", err)
			}
			got := err.Error()
			if i := strings.Index(got, "clonegate.yaml:"); i >= 0 {
				dir := got[strings.LastIndexByte(got[:i], '\n')+1 : i]
				got = strings.ReplaceAll(got, dir+"clonegate.yaml", "F")
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// TestCertificateDocs loads the configurations in docs/certificates.md.
func TestCertificateDocs(t *testing.T) {
	page, err := os.ReadFile("../../../docs/certificates.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```yaml\n")[1:]
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if c := mustLoad(t, text, nil, nil); c.Certificates.ACME.Directory == "" {
			t.Errorf("no authority in\n%s", text)
		}
	}
	if len(blocks) != 2 {
		t.Errorf("got %d blocks, want 2", len(blocks))
	}
}

func TestACMENeedsOneZoneWithoutAnUnderscore(t *testing.T) {
	c := mustLoad(t, "zone: test_envs.a.test\nzone_aliases: [test-envs.a.test]\ncertificates: {acme: {directory: 'https://ca.test/dir', root: root.pem}}\ndns: {listen: ':53'}\n", nil, nil)
	if got := c.Certificates.ACME.Root; !filepath.IsAbs(got) || filepath.Base(got) != "root.pem" {
		t.Errorf("root: got %s, want a path beside the file", got)
	}
}

func TestFileThatIsNotThere(t *testing.T) {
	_, _, err := config.Load(config.Sources{File: "/no/such/file.yaml"})
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v, want a missing file", err)
	}
}

func TestVariablesThatSetNothing(t *testing.T) {
	_, unused, err := load(t, "zone: a.test\n", []string{"CLONEGATE_GATWAY_LISTEN=:1", "CLONEGATE_LOG_LEVEL=warn", "HOME=/x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"CLONEGATE_GATWAY_LISTEN"}, unused); diff != "" {
		t.Error(diff)
	}
}

func TestPathsAreAbsolute(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("zone: a.test\ncertificates: {files: [{cert: a.pem, key: /k.pem}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(config.Sources{File: file, Set: []string{"data=here"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(file), "a.pem"); c.Certificates.Files[0].Cert != want {
		t.Errorf("certificate: got %s, want %s, beside the file", c.Certificates.Files[0].Cert, want)
	}
	if c.Certificates.Files[0].Key != "/k.pem" {
		t.Errorf("key: got %s, want /k.pem", c.Certificates.Files[0].Key)
	}
	wd, _ := os.Getwd()
	if want := filepath.Join(wd, "here"); c.Data != want {
		t.Errorf("data: got %s, want %s", c.Data, want)
	}
}

func TestReferenceIsWhatDefaultsPrint(t *testing.T) {
	c := mustLoad(t, "", nil, []string{"zone=a.test"})
	c.Zone, c.Data = "", ""
	if diff := cmp.Diff(config.Reference, c.String()); diff != "" {
		t.Errorf("the defaults print differently (-reference +printed):\n%s", diff)
	}
}

func TestPrintedConfigurationReadsBackTheSame(t *testing.T) {
	c := mustLoad(t, "", nil, []string{
		"zone=test_envs.example.com", "zone_aliases=test-envs.example.com", "data=/srv/cg", "gateway.listen=[::1]:8443",
		"gateway.addresses=10.0.0.5,fd00::5", "gateway.trusted_peers=10.0.0.0/8", "gateway.drain=90s", "log.level=warn",
		"certificates.files=[{cert: /a.pem, key: /a.key}]", "gateway.access_log=off", "traces.endpoint=http://[::1]:4318/v1/traces", "traces.begin=1/1000",
		"dns.resolvers=[{listen: 127.0.0.1:53, clone: 0012, upstreams: ['1.1.1.1:53']}, {listen: 127.0.0.2:53, view: world}, " +
			"{listen: '127.0.0.1:53', netns: '/run/netns/{id}', refuse_private: true, private_in: [corp.example]}]",
	})
	again := mustLoad(t, c.String(), nil, nil)
	if !reflect.DeepEqual(c, again) {
		t.Errorf("got %+v\nwant %+v\nfrom\n%s", again, c, c)
	}
}

// Every key must be in the reference, and every item key in its list's comment.
func TestReferenceDescribesEveryKey(t *testing.T) {
	for _, k := range config.Keys() {
		last := k.Path[strings.LastIndexByte(k.Path, '.')+1:]
		i := strings.Index(config.Reference, "\n"+strings.Repeat("  ", strings.Count(k.Path, "."))+last+":")
		if i < 0 {
			t.Errorf("%s is not in reference.yaml", k.Path)
			continue
		}
		above := config.Reference[:i]
		if line := above[strings.LastIndexByte(above, '\n')+1:]; !strings.HasPrefix(strings.TrimSpace(line), "#") {
			t.Errorf("%s has no comment above it in reference.yaml", k.Path)
		}
	}
	for _, item := range []any{config.CertificateFile{}, config.Resolver{}, config.Secondary{}} {
		for i := range reflect.TypeOf(item).NumField() {
			key := reflect.TypeOf(item).Field(i).Tag.Get("yaml")
			if !strings.Contains(config.Reference, key+": ") {
				t.Errorf("%T: key %s is not described in reference.yaml", item, key)
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("zone: a.test\ngateway: {listen: ':8443'}\n")
	f.Add(config.Reference)
	f.Add("zone: &a [*a]\n")
	f.Add("? {zone: x}\n: y\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := config.Load(config.Sources{File: file})
		if err != nil {
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Fatalf("got %v, want Problems", err)
			}
			return
		}
		if err := os.WriteFile(file, []byte(c.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		again, _, err := config.Load(config.Sources{File: file})
		if err != nil {
			t.Fatalf("what was printed cannot be read: %v\n%s", err, c)
		}
		if c.String() != again.String() {
			t.Errorf("printed\n%s\nread back\n%s", c, again)
		}
	})
}
