package proxy

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the page
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/clonegate/clonegate/proxy/http1"
)

//go:embed page.html
var pageSource string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// pages turns answers into what clients can show: HTML for browsers, an
// RFC 9457 problem for all others.
type pages struct {
	page   *template.Template
	policy string // Content-Security-Policy
}

// newPages compiles the page. Its style and its script are the same in every
// page, so that the policy can name them by hash and forbid all else.
func newPages() (*pages, error) {
	page, err := template.New("page").Funcs(template.FuncMap{
		"style":  func() template.CSS { return template.CSS(pageStyle) },
		"script": func() template.JS { return template.JS(pageScript) },
	}).Parse(pageSource)
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return &pages{
		page: page,
		policy: "default-src 'none'; style-src " + sourceHash(pageStyle) + "; script-src " + sourceHash(pageScript) +
			"; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
	}, nil
}

func sourceHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// render returns an answer's headers and body, as HTML if the client is a
// browser. A page goes on by itself only if a person navigated to it.
func (p *pages) render(a answer, browser, navigated bool) (http.Header, []byte, error) {
	h := http.Header{
		"Clonegate-Reason":       {string(a.Code)},
		"Cache-Control":          {"no-store"},
		"Vary":                   {"Accept"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if a.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(a.RetryAfter))
	}
	var body bytes.Buffer
	if browser {
		a.Passes = a.Passes && navigated
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", p.policy)
		h.Set("Referrer-Policy", "no-referrer")
		if err := p.page.Execute(&body, a); err != nil {
			return nil, nil, fmt.Errorf("page about %s: %w", a.Code, err)
		}
	} else {
		h.Set("Content-Type", "application/problem+json")
		enc := json.NewEncoder(&body)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(a); err != nil {
			return nil, nil, fmt.Errorf("problem about %s: %w", a.Code, err)
		}
	}
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	return h, body.Bytes(), nil
}

// wantsPage reports whether the Accept field names HTML, as browsers' do for
// what a person looks at and those of API clients do not.
func wantsPage(fields *http1.Section) bool {
	for accept := range fields.All("accept") {
		for element := range http1.Elements(accept) {
			kind, params, err := mime.ParseMediaType(string(element))
			q, weighed := params["q"]
			if err == nil && kind == "text/html" && (!weighed || strings.Trim(q, "0.") != "") {
				return true
			}
		}
	}
	return false
}

// isNavigation reports whether a request is a person opening a page. Browsers
// say so (Fetch Metadata); old ones say nothing.
func isNavigation(rq *request) bool {
	mode, said := rq.fields.Find("sec-fetch-mode")
	return rq.method == http.MethodGet && (!said || http1.EqualFold(mode, "navigate"))
}
