package har_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/proxy/har"
)

var started = time.Date(2026, 11, 21, 12, 30, 15, 123456000, time.UTC)

func records() []proxy.RequestRecord {
	return []proxy.RequestRecord{
		{
			Seq: 7, Time: started, ID: "00f067aa0ba902b7", Client: netip.MustParseAddr("192.0.2.7"), Protocol: "HTTP/2.0", Method: "POST",
			Host: "www-1234.zone", Path: "/a?b=*&*", Service: "www", Endpoint: netip.MustParseAddrPort("[fd00::1]:8080"),
			Status: 201, Received: 4, Sent: 5120, Duration: 12_345, Waited: 10_000, Connect: 1_500,
		},
		{Time: started, Protocol: "HTTP/1.1", Method: "OPTIONS", Host: "www-1234.zone", Path: "*", Status: 503, Reason: proxy.Unreachable, Duration: 400},
		{Time: started, Protocol: "HTTP/1.0", Method: "GET", Host: "www-1234.zone", Path: "/", Status: 301, Reason: proxy.Redirect},
	}
}

func archive(t *testing.T, o har.Origin) map[string]any {
	t.Helper()
	var b bytes.Buffer
	if err := har.Write(&b, o, records()); err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The fields that the specification requires of each object, by type; a question
// mark marks those that it allows. Fields that begin with an underscore may be
// anywhere.
var fields = map[string]string{
	"":            "log:log",
	"log":         "version:string creator:creator entries:[]entry pages?:[]page browser?:creator comment?:string",
	"creator":     "name:string version:string comment?:string",
	"entry":       "startedDateTime:date time:number request:request response:response cache:cache timings:timings serverIPAddress?:ip connection?:string pageref?:string comment?:string",
	"request":     "method:string url:string httpVersion:string cookies:[]cookie headers:[]pair queryString:[]pair headersSize:number bodySize:number postData?:postData comment?:string",
	"response":    "status:number statusText:string httpVersion:string cookies:[]cookie headers:[]pair content:content redirectURL:string headersSize:number bodySize:number comment?:string",
	"pair":        "name:string value:string comment?:string",
	"content":     "size:number mimeType:string compression?:number text?:string encoding?:string comment?:string",
	"cache":       "beforeRequest?:cached afterRequest?:cached comment?:string",
	"timings":     "send:number wait:number receive:number blocked?:number dns?:number connect?:number ssl?:number comment?:string",
	"page":        "startedDateTime:date id:string title:string pageTimings:pageTimings",
	"cookie":      "name:string value:string",
	"pageTimings": "",
}

// check holds a value against the specification (HAR 1.2).
func check(t *testing.T, at, kind string, v any) {
	t.Helper()
	wrong := func() { t.Errorf("%s: %v (%T) is no %s", at, v, v, kind) }
	if of, ok := strings.CutPrefix(kind, "[]"); ok {
		list, ok := v.([]any)
		if !ok {
			wrong()
		}
		for i, item := range list {
			check(t, fmt.Sprintf("%s[%d]", at, i), of, item)
		}
		return
	}
	switch kind {
	case "string":
		if _, ok := v.(string); !ok {
			wrong()
		}
	case "number":
		if n, ok := v.(float64); !ok || n < -1 {
			wrong()
		}
	case "date":
		s, _ := v.(string)
		if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
			wrong()
		}
	case "ip":
		s, _ := v.(string)
		if _, err := netip.ParseAddr(s); err != nil {
			wrong()
		}
	default:
		object, ok := v.(map[string]any)
		if !ok {
			wrong()
		}
		checkObject(t, at, kind, object)
	}
}

func checkObject(t *testing.T, at, kind string, object map[string]any) {
	t.Helper()
	var known []string
	for _, f := range strings.Fields(fields[kind]) {
		name, of, _ := strings.Cut(f, ":")
		name, optional := strings.CutSuffix(name, "?")
		known = append(known, name)
		value, there := object[name]
		if !there && !optional {
			t.Errorf("%s: %s is missing", at, name)
		}
		if there {
			check(t, at+"."+name, of, value)
		}
	}
	for name := range object {
		if !slices.Contains(known, name) && !strings.HasPrefix(name, "_") {
			t.Errorf("%s: %s is not in the specification", at, name)
		}
	}
}

func TestArchiveIsValid(t *testing.T) {
	all := archive(t, har.Origin{Version: "1.0", Port: "8443"})
	check(t, "", "", all)
	log := all["log"].(map[string]any)
	if log["version"] != "1.2" {
		t.Errorf("version %v; want 1.2", log["version"])
	}
	entries := log["entries"].([]any)
	if len(entries) != 3 {
		t.Fatalf("%d entries; want 3", len(entries))
	}
	for i, e := range entries {
		e := e.(map[string]any)
		sum := 0.0
		for phase, ms := range e["timings"].(map[string]any) {
			if n := ms.(float64); n > 0 && phase != "ssl" {
				sum += n
			}
		}
		if math.Abs(sum-e["time"].(float64)) > 1e-9 {
			t.Errorf("entry %d: its phases take %v; want its time, %v", i, sum, e["time"])
		}
	}
}

func TestEntries(t *testing.T) {
	entries := archive(t, har.Origin{Port: "8443"})["log"].(map[string]any)["entries"].([]any)
	at := func(i int, path string) any {
		var v any = entries[i]
		for name := range strings.SplitSeq(path, ".") {
			v = v.(map[string]any)[name]
		}
		return v
	}
	for _, tt := range []struct {
		entry int
		path  string
		want  any
	}{
		{0, "startedDateTime", "2026-11-21T12:30:15.123456Z"},
		{0, "time", 12.345},
		{0, "timings.connect", 1.5},
		{0, "timings.wait", 8.5},
		{0, "timings.receive", 2.345},
		{0, "request.url", "https://www-1234.zone:8443/a?b=*&*"},
		{0, "request.bodySize", 4.0},
		{0, "response.status", 201.0},
		{0, "response.statusText", "Created"},
		{0, "response.httpVersion", "HTTP/2.0"},
		{0, "response.content.size", 5120.0},
		{0, "serverIPAddress", "fd00::1"},
		{0, "_clonegate.request", "00f067aa0ba902b7"},
		{1, "request.url", "https://www-1234.zone:8443/*"},
		{1, "comment", "clonegate: unreachable"},
		{1, "timings.wait", 0.4},
		{1, "timings.connect", -1.0},
		{2, "request.url", "http://www-1234.zone/"},
	} {
		if got := at(tt.entry, tt.path); got != tt.want {
			t.Errorf("entry %d: %s is %v; want %v", tt.entry, tt.path, got, tt.want)
		}
	}
	if got := fmt.Sprint(at(0, "request.queryString")); got != "[map[name:b value:*] map[name:* value:]]" {
		t.Errorf("query %s", got)
	}
	if got := archive(t, har.Origin{})["log"].(map[string]any)["entries"].([]any)[0].(map[string]any)["request"].(map[string]any)["url"]; got != "https://www-1234.zone/a?b=*&*" {
		t.Errorf("without a port the URL is %v", got)
	}
}
