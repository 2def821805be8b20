package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestOpenAPI(t *testing.T) {
	d := start(t, nil)
	a := d.do("", "GET", "/openapi.json", "")
	if a.status != 200 || a.header.Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("status %d, Content-Type %q", a.status, a.header.Get("Content-Type"))
	}
	var got bytes.Buffer
	if err := json.Indent(&got, []byte(a.body), "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	const golden = "testdata/openapi.json"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got.Bytes()) {
		t.Errorf("/openapi.json differs from %s; if the change is meant, run this test with -update and review the difference", golden)
	}
}

// Every reference in the description leads somewhere, nothing leads outside,
// and every operation says what it answers, what errors look like and who may
// call it.
func TestOpenAPIIsWhole(t *testing.T) {
	d := start(t, nil)
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]map[string]any
		Components struct{ Schemas map[string]json.RawMessage }
	}
	a := d.do("", "GET", "/openapi.json", "")
	a.into(t, 200, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("openapi %q, want 3.1", doc.OpenAPI)
	}
	for _, part := range strings.Split(a.body, `"$ref":"`)[1:] {
		ref, _, _ := strings.Cut(part, `"`)
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if _, known := doc.Components.Schemas[name]; !ok || !known {
			t.Errorf("reference %q leads nowhere", ref)
		}
	}
	for _, not := range []string{"$schema", "ErrorModel", "https://", "http://"} {
		if strings.Contains(a.body, not) {
			t.Errorf("the description holds %q", not)
		}
	}
	open := []string{"/healthz", "/readyz", "/openapi.json", "/ca.pem"}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			responses, _ := op["responses"].(map[string]any)
			if responses["default"] == nil || len(responses) < 2 || op["summary"] == "" {
				t.Errorf("%s %s is not fully described", method, path)
			}
			for _, segment := range strings.Split(path, "{")[1:] {
				name, _, _ := strings.Cut(segment, "}")
				if !strings.Contains(fmt.Sprint(op["parameters"]), "in:path name:"+name) {
					t.Errorf("%s %s does not describe its parameter %s", method, path, name)
				}
			}
			if _, secured := op["security"]; secured == slices.Contains(open, path) {
				t.Errorf("%s %s: security described: %v", method, path, secured)
			}
		}
	}
}

// The filter by state knows every state there is.
func TestStatesAreFiltered(t *testing.T) {
	d := start(t, nil)
	for _, s := range registry.States {
		if a := d.do(viewer, "GET", "/v1/clones?state="+string(s), ""); a.status != 200 {
			t.Errorf("state %s: status %d: %s", s, a.status, a.body)
		}
	}
	if a := d.do(viewer, "GET", "/v1/clones?state=happy", ""); a.status != 422 {
		t.Errorf("state happy: status %d, want 422", a.status)
	}
}
