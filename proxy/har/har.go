// Package har writes recorded requests as an HTTP Archive, version 1.2, which
// browsers' developer tools and many other programs read.
//
// The gateway records no header fields, cookies or bodies, and no values of query
// parameters: the lists of the former are empty, and values are "*".
package har

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/clonegate/clonegate/proxy"
)

// Origin says where an archive comes from.
type Origin struct {
	Version string // of the program that makes it
	Port    string // of the public URLs; "" if they show none
}

// Write writes records as one archive.
func Write(w io.Writer, o Origin, records []proxy.RequestRecord) error {
	l := log{Version: "1.2", Creator: creator{"clonegate", o.Version}, Pages: []struct{}{}, Entries: make([]entry, len(records))}
	for i := range records {
		l.Entries[i] = o.entry(&records[i])
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Log log `json:"log"`
	}{l})
}

// The names and order of fields are those of the specification. Fields with an
// underscore are ours, as it allows.
type (
	log struct {
		Version string     `json:"version"`
		Creator creator    `json:"creator"`
		Pages   []struct{} `json:"pages"`
		Entries []entry    `json:"entries"`
	}
	creator struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	entry struct {
		Started  string    `json:"startedDateTime"`
		Time     float64   `json:"time"` // milliseconds, as in timings
		Request  request   `json:"request"`
		Response response  `json:"response"`
		Cache    struct{}  `json:"cache"`
		Timings  timings   `json:"timings"`
		Server   string    `json:"serverIPAddress,omitempty"`
		Comment  string    `json:"comment,omitempty"`
		Clone    clonegate `json:"_clonegate"`
	}
	request struct {
		Method      string `json:"method"`
		URL         string `json:"url"`
		HTTPVersion string `json:"httpVersion"`
		Cookies     []pair `json:"cookies"`
		Headers     []pair `json:"headers"`
		QueryString []pair `json:"queryString"`
		HeadersSize int64  `json:"headersSize"` // -1: not known
		BodySize    int64  `json:"bodySize"`
	}
	response struct {
		Status      int     `json:"status"`
		StatusText  string  `json:"statusText"`
		HTTPVersion string  `json:"httpVersion"`
		Cookies     []pair  `json:"cookies"`
		Headers     []pair  `json:"headers"`
		Content     content `json:"content"`
		RedirectURL string  `json:"redirectURL"`
		HeadersSize int64   `json:"headersSize"`
		BodySize    int64   `json:"bodySize"`
	}
	pair struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	content struct {
		Size     int64  `json:"size"`
		MimeType string `json:"mimeType"`
	}
	// timings are in milliseconds; -1 means that a phase did not take place, or
	// is not known.
	timings struct {
		Blocked float64 `json:"blocked"`
		DNS     float64 `json:"dns"`
		Connect float64 `json:"connect"`
		Send    float64 `json:"send"`
		Wait    float64 `json:"wait"`
		Receive float64 `json:"receive"`
		SSL     float64 `json:"ssl"`
	}
	clonegate struct {
		Request  string         `json:"request"`
		Trace    string         `json:"trace,omitempty"`
		Service  string         `json:"service,omitempty"`
		Reason   proxy.Reason   `json:"reason,omitempty"`
		Client   netip.Addr     `json:"client"`
		Endpoint netip.AddrPort `json:"endpoint,omitzero"`
	}
)

// unknownType is what browsers write for a media type that is not known.
const unknownType = "x-unknown"

func (o Origin) entry(r *proxy.RequestRecord) entry {
	e := entry{
		Started: r.Time.Format("2006-01-02T15:04:05.000000Z07:00"),
		Time:    ms(r.Duration),
		Request: request{
			Method: r.Method, URL: o.url(r), HTTPVersion: r.Protocol, Cookies: []pair{}, Headers: []pair{},
			QueryString: query(r.Path), HeadersSize: -1, BodySize: int64(r.Received),
		},
		Response: response{
			Status: r.Status, StatusText: http.StatusText(r.Status), HTTPVersion: r.Protocol, Cookies: []pair{}, Headers: []pair{},
			Content: content{int64(r.Sent), unknownType}, HeadersSize: -1, BodySize: int64(r.Sent),
		},
		Timings: timingsOf(r),
		Clone:   clonegate{r.ID, r.Trace, r.Service, r.Reason, r.Client, r.Endpoint},
	}
	if r.Endpoint.IsValid() {
		e.Server = r.Endpoint.Addr().String()
	}
	if r.Reason != "" {
		e.Comment = "clonegate: " + string(r.Reason)
	}
	return e
}

// url returns the URL that was asked for, as far as it was recorded.
func (o Origin) url(r *proxy.RequestRecord) string {
	path := r.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if r.Reason == proxy.Redirect {
		return "http://" + r.Host + path
	}
	if o.Port != "" {
		return "https://" + r.Host + ":" + o.Port + path
	}
	return "https://" + r.Host + path
}

func query(path string) []pair {
	out := []pair{}
	_, words, _ := strings.Cut(path, "?")
	for word := range strings.SplitSeq(words, "&") {
		if name, value, _ := strings.Cut(word, "="); word != "" {
			out = append(out, pair{name, value})
		}
	}
	return out
}

// timingsOf returns the phases of a request, whose sum is its duration.
func timingsOf(r *proxy.RequestRecord) timings {
	t := timings{Blocked: -1, DNS: -1, Connect: -1, SSL: -1, Wait: ms(r.Duration)}
	if r.Waited > 0 {
		t.Wait, t.Receive = ms(r.Waited-r.Connect), ms(r.Duration-r.Waited)
	}
	if r.Waited > 0 && r.Connect > 0 {
		t.Connect = ms(r.Connect)
	}
	return t
}

func ms(m proxy.Micros) float64 { return float64(m) / 1000 }
