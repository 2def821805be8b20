package daemon_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// The account that the authority has given out.
const (
	accountID  = "clonegate-test"
	accountKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
)

// An authority is Pebble, Let's Encrypt's ACME server for tests, which asks
// the gateway's own DNS server.
type authority struct {
	*httptest.Server
	dns  chan string // the DNS server's address, once
	root *x509.CertPool

	start   sync.Once
	handler http.Handler
	mu      sync.Mutex
	ordered map[string]int // guarded by mu; how often by name
}

// newAuthority starts an authority whose certificates live for some seconds.
// It answers nobody until it is told where to ask; see asks.
func newAuthority(t *testing.T, life time.Duration, wantAccount bool) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_AUTHZREUSE", "0") // every order is a challenge
	a := &authority{dns: make(chan string, 1), root: x509.NewCertPool(), ordered: map[string]int{}}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	if err := store.AddExternalAccountKeyByID(accountID, accountKey); err != nil {
		t.Fatal(err)
	}
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: uint64(life / time.Second)}})
	if !a.root.AppendCertsFromPEM(issuer.GetRootCert(0).PEM()) {
		t.Fatal("the authority has no root")
	}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.start.Do(func() {
			front := wfe.New(quiet, store, va.New(quiet, 0, 0, true, <-a.dns, store), issuer, []string{"pebble.test"}, true, wantAccount, 1, 1)
			a.handler = front.Handler()
		})
		a.note(r)
		if r.URL.Path == wfe.DirectoryPath {
			a.directory(w, r)
			return
		}
		a.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

// asks lets the authority begin: it asks this DNS server.
func (a *authority) asks(dns string) { a.dns <- dns }

// directory leaves renewal information out of the directory: Pebble's windows
// are two days wide, and certificates here live for seconds.
func (a *authority) directory(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	a.handler.ServeHTTP(rec, r)
	var dir map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &dir); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	delete(dir, "renewalInfo")
	maps.Copy(w.Header(), rec.Header())
	w.Header().Del("Content-Length")
	json.NewEncoder(w).Encode(dir)
}

// note remembers the names in an order.
func (a *authority) note(r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "order-plz") {
		return
	}
	text, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(text)))
	var signed struct{ Payload string }
	var order struct{ Identifiers []struct{ Value string } }
	if json.Unmarshal(text, &signed) != nil {
		return
	}
	payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
	if json.Unmarshal(payload, &order) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range order.Identifiers {
		a.ordered[id.Value]++
	}
}

// names returns every name that was ever ordered.
func (a *authority) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.ordered))
}

// settings returns the configuration that has a daemon use the authority.
func (a *authority) settings(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	root := write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw}))
	return []string{
		"certificates.acme.directory=" + a.URL + wfe.DirectoryPath,
		"certificates.acme.root=" + root,
		"certificates.acme.email=ops@example.com",
		"certificates.acme.account.key_id=" + accountID,
		"certificates.acme.account.key_file=" + write("key", []byte(accountKey+"\n")),
	}
}
