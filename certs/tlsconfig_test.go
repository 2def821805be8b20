package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestTLSConfig shakes hands in every version and cipher that clients have.
func TestTLSConfig(t *testing.T) {
	ca, _ := mustCA(t)
	port := serve(t, ca.GetCertificate)
	dial := func(cfg *tls.Config) (tls.ConnectionState, error) {
		cfg.RootCAs, cfg.ServerName = pool(ca.RootPEM()), "www-1234."+zone
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, cfg)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.Close()
		return conn.ConnectionState(), nil
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if slices.Contains(suite.SupportedVersions, tls.VersionTLS13) {
			continue
		}
		_, err := dial(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
		want := strings.HasPrefix(suite.Name, "TLS_ECDHE_ECDSA") && !strings.Contains(suite.Name, "CBC") && !strings.Contains(suite.Name, "RC4")
		if (err == nil) != want {
			t.Errorf("%s: got error %v, want taken %t", suite.Name, err, want)
		}
	}
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		_, err := dial(&tls.Config{MinVersion: version, MaxVersion: version})
		if (err == nil) != want {
			t.Errorf("%s: got error %v, want taken %t", tls.VersionName(version), err, want)
		}
	}
}

func TestSessionsResume(t *testing.T) {
	ca, _ := mustCA(t)
	port := serve(t, ca.GetCertificate)
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: pool(ca.RootPEM()), ClientSessionCache: tls.NewLRUClientSessionCache(1)},
	}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
	}
	client := &http.Client{Transport: transport}
	for i, want := range []bool{false, true} {
		res, err := client.Get("https://www-1234." + zone + ":" + port)
		if err != nil {
			t.Fatal(err)
		}
		buf := new(bytes.Buffer)
		buf.ReadFrom(res.Body)
		res.Body.Close()
		if res.TLS.DidResume != want {
			t.Errorf("connection %d: resumed %t, want %t", i+1, res.TLS.DidResume, want)
		}
	}
}
