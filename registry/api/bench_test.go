package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// bench serves requests without a network, so that what is measured is ours.
func bench(b *testing.B, clones int) (http.Handler, string) {
	b.Helper()
	zones, err := registry.NewZones(zone)
	if err != nil {
		b.Fatal(err)
	}
	r, err := registry.Open(b.Context(), registry.Config{Store: registrytest.NewStore(), Zones: zones})
	if err != nil {
		b.Fatal(err)
	}
	go r.Run(b.Context())
	a, err := api.New(api.Config{Registry: r})
	if err != nil {
		b.Fatal(err)
	}
	for i := range clones {
		reg := registry.Registration{Instance: "x", Owner: fmt.Sprint("owner", i%100)}
		if _, err := r.Register(b.Context(), registry.System, registry.ID(fmt.Sprint(i)), reg, false); err != nil {
			b.Fatal(err)
		}
	}
	_, secret, err := r.CreateToken(b.Context(), registry.System, registry.TokenRequest{Name: "x", Role: registry.RoleAdmin})
	if err != nil {
		b.Fatal(err)
	}
	return a.Handler(), secret
}

func call(b *testing.B, h http.Handler, secret, method, path, body string) {
	b.Helper()
	r := httptest.NewRequestWithContext(b.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+secret)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code/100 != 2 {
		b.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

func BenchmarkRenew(b *testing.B) {
	for _, clones := range []int{10, 10_000} {
		b.Run(fmt.Sprint(clones), func(b *testing.B) {
			h, secret := bench(b, clones)
			b.ReportAllocs()
			for b.Loop() {
				call(b, h, secret, "POST", "/v1/clones/7/renew", `{"instance":"x"}`)
			}
		})
	}
}

func BenchmarkRegister(b *testing.B) {
	h, secret := bench(b, 10)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		call(b, h, secret, "PUT", "/v1/clones/7", fmt.Sprintf(`{"instance":"x","owner":"o%d","services":{"www":{"endpoints":["10.0.0.1:80"]}}}`, n))
	}
}

func BenchmarkListPage(b *testing.B) {
	for _, clones := range []int{100, 10_000} {
		b.Run(fmt.Sprint(clones), func(b *testing.B) {
			h, secret := bench(b, clones)
			b.ReportAllocs()
			for b.Loop() {
				call(b, h, secret, "GET", "/v1/clones?owner=owner7", "")
			}
		})
	}
}
