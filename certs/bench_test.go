package certs_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"github.com/clonegate/clonegate/certs"
)

// BenchmarkSign is the first handshake's share: a key, a signature, a check.
func BenchmarkSign(b *testing.B) {
	n := 0
	ca, _ := mustCA(b, func(c *certs.CAConfig) {
		c.Names = func(string) (string, []string) {
			n++
			key, names := clone1234("1234")
			return fmt.Sprint(key, n), names
		}
	})
	info := hello("www-1234." + zone)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ca.GetCertificate(info); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGetCertificate is every other handshake's share.
func BenchmarkGetCertificate(b *testing.B) {
	_, names := clone1234("1234")
	ca, _ := mustCA(b, func(c *certs.CAConfig) {
		c.Names = func(sub string) (string, []string) { return sub, names }
	})
	for _, clones := range []int{1, 100, 10_000} {
		var infos []*tls.ClientHelloInfo
		for i := range clones {
			infos = append(infos, hello(fmt.Sprintf("www-%d.%s", i, zone)))
			if _, err := ca.GetCertificate(infos[i]); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("clones=%d", clones), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := ca.GetCertificate(infos[i%clones]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkACMEGetCertificate is what a certificate that an authority issued
// costs in every handshake.
func BenchmarkACMEGetCertificate(b *testing.B) {
	a, _ := mustACME(b, map[string]site{alias: newSite(b, 0, alias), "*." + alias: newSite(b, 0, "*."+alias)})
	runACME(b, a)
	info := hello("www-1234." + alias)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.GetCertificate(info); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandshake is a full handshake, both sides, with the leaf cached.
func BenchmarkHandshake(b *testing.B) {
	ca, _ := mustCA(b)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b.Run(tls.VersionName(version), func(b *testing.B) {
			server := certs.TLSConfig(ca.GetCertificate)
			client := &tls.Config{RootCAs: pool(ca.RootPEM()), ServerName: "www-1234." + zone, MaxVersion: version}
			b.ReportAllocs()
			for b.Loop() {
				down, up := net.Pipe()
				done := make(chan error)
				go func() { done <- tls.Server(up, server).Handshake() }()
				conn := tls.Client(down, client)
				if err := conn.Handshake(); err != nil {
					b.Fatal(err)
				}
				down.Close() // ends the server if it is writing tickets
				<-done
				up.Close()
			}
		})
	}
}
