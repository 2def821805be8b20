// Package client calls the API of a clonegate daemon from Go. The command line
// uses nothing else.
//
// Its methods send one request each, wait within their context, and repeat a
// request only if that does no harm. An answer that is not a success is an
// *Error, which errors.Is compares with the errors of package registry.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// Config is what a Client needs. URL is required.
type Config struct {
	URL string // of the API, without a path: "https://127.0.0.1:8444"

	// Token authenticates; TokenFile names a file with it, which is read for
	// every request, so that it may be replaced. At most one of them. Without
	// either, only what is open to everybody answers.
	Token     string
	TokenFile string

	// CAFile names a PEM file with the roots to trust, and RootCAs holds them;
	// at most one. Without either, the system's roots are trusted.
	CAFile  string
	RootCAs *x509.CertPool

	UserAgent string // empty: "clonegate"

	// Lost is told when a followed stream breaks off, once until it goes on: the
	// client waits for the daemon and then resumes. Nil: nobody is told.
	Lost func(error)
}

// A Client calls one daemon. Its methods may be called at the same time.
type Client struct {
	base    *url.URL
	cfg     Config
	http    *http.Client
	silence time.Duration // after which a stream is taken for dead
}

// New returns a client. It connects to nothing yet.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("API URL %q: want http://host:port or https://host:port", redact(cfg.URL))
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("API URL %q: want scheme, host and port only; a token belongs in a file", redact(cfg.URL))
	}
	if cfg.Token != "" && cfg.TokenFile != "" {
		return nil, errors.New("API client: Token and TokenFile exclude each other")
	}
	if base.Scheme == "http" && !loopback(base.Hostname()) && cfg.Token+cfg.TokenFile != "" {
		return nil, fmt.Errorf("API URL %s: a token is not sent in clear to another machine; use https", cfg.URL)
	}
	roots, err := cfg.roots()
	if err != nil {
		return nil, err
	}
	base.Path = ""
	cfg.UserAgent = cmp.Or(cfg.UserAgent, "clonegate")
	if cfg.Lost == nil {
		cfg.Lost = func(error) {}
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &Client{
		base: base, cfg: cfg, silence: silence,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                 proxyOf,
				DialContext:           dialer.DialContext,
				TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout:   10 * time.Second,
				ResponseHeaderTimeout: 90 * time.Second,
				IdleConnTimeout:       time.Minute,
				ForceAttemptHTTP2:     true,
			},
			// Whoever redirects an API call is not the API.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (cfg *Config) roots() (*x509.CertPool, error) {
	if cfg.CAFile == "" {
		return cfg.RootCAs, nil
	}
	if cfg.RootCAs != nil {
		return nil, errors.New("API client: CAFile and RootCAs exclude each other")
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA of the API: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA of the API: %s holds no certificate in PEM", cfg.CAFile)
	}
	return pool, nil
}

// redact takes the password out of a URL that is about to be told.
func redact(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	return "(not a URL)"
}

// proxyOf is the environment's proxy, but for this machine: no proxy is to see
// a token that goes in clear.
func proxyOf(r *http.Request) (*url.URL, error) {
	if loopback(r.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

func loopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// A Request is one call of the API.
type Request struct {
	Method string
	Path   string     // escaped, as by Path
	Query  url.Values // nil for none
	Body   any        // sent as JSON; nil for none

	// Repeatable says that the request does no harm if it arrives twice. GET,
	// PUT and DELETE are repeatable anyway.
	Repeatable bool
}

func (r *Request) repeatable() bool {
	switch r.Method {
	case http.MethodGet, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.Repeatable
}

// Path joins the segments of a path and escapes each.
func Path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// Do sends a request and decodes the answer into out: JSON, or the bytes as
// they are if out is a *[]byte; nil drops it. It returns the status of a
// success, and an *Error for every other answer.
//
// A connection that is refused is tried three times, for nothing was sent; a
// request that is Repeatable is sent again, as often, after an answer that
// says when to retry.
func (c *Client) Do(ctx context.Context, req Request, out any) (status int, err error) {
	var body []byte
	if req.Body != nil {
		if body, err = json.Marshal(req.Body); err != nil {
			return 0, fmt.Errorf("%s %s: %w", req.Method, req.Path, err)
		}
	}
	for try := 1; ; try++ {
		status, err = c.once(ctx, &req, body, out)
		wait, again := retry(&req, err, try)
		if !again {
			return status, err
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
			return status, err
		}
		if pause(ctx, wait) != nil {
			return status, err
		}
	}
}

const (
	maxTries = 3
	maxPause = 10 * time.Second

	// maxAnswer bounds how much of an answer is read.
	maxAnswer = 64 << 20
)

// retry says whether a failure is worth another try, and when.
func retry(req *Request, err error, try int) (time.Duration, bool) {
	if try >= maxTries {
		return 0, false
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return time.Duration(try*try) * 100 * time.Millisecond, true
	}
	if e, ok := errors.AsType[*Error](err); ok && e.RetryAfter > 0 && e.Status == http.StatusServiceUnavailable && req.repeatable() {
		return min(e.RetryAfter, maxPause), true
	}
	return 0, false
}

// pause waits, or returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) once(ctx context.Context, req *Request, body []byte, out any) (int, error) {
	var content io.Reader
	header := http.Header{}
	if body != nil {
		content = bytes.NewReader(body)
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.send(ctx, req, content, header)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("%s %s: answer: %w", req.Method, req.Path, err)
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = answer
	default:
		if err := json.Unmarshal(answer, out); err != nil {
			return 0, fmt.Errorf("%s %s: answer: %w", req.Method, req.Path, err)
		}
	}
	return resp.StatusCode, nil
}

// Send sends a request whose body, of any size and of the content type given,
// is read while it is sent; nil is none. It takes the place of req.Body. The
// request is sent once, for a body cannot be read twice. A success is returned
// as a stream that the caller closes, every other answer as an *Error.
func (c *Client) Send(ctx context.Context, req Request, contentType string, body io.Reader) (*http.Response, error) {
	header := http.Header{}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	return c.send(ctx, &req, body, header)
}

// send sends a request and returns a success, whose body the caller closes.
func (c *Client) send(ctx context.Context, req *Request, content io.Reader, header http.Header) (*http.Response, error) {
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	target := *c.base
	target.RawQuery = req.Query.Encode()
	if target.Path, err = url.PathUnescape(req.Path); err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.Path, err)
	}
	target.RawPath = req.Path
	r, err := http.NewRequestWithContext(ctx, req.Method, target.String(), content)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.Path, err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("User-Agent", c.cfg.UserAgent)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the query, which may name an instance
		}
		return nil, fmt.Errorf("%s %s at %s: %w", req.Method, req.Path, c.base, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, errorOf(req, resp)
	}
	return resp, nil
}

// token returns what authenticates the next request. No error holds any of it.
func (c *Client) token() (string, error) {
	token := c.cfg.Token
	if c.cfg.TokenFile != "" {
		b, err := os.ReadFile(c.cfg.TokenFile)
		if err != nil {
			return "", fmt.Errorf("API token: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("API token: it holds characters that no token has")
	}
	return token, nil
}
