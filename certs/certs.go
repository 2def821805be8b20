// Package certs is where the gateway's certificates come from: an internal CA
// made at first start (CA), an authority that issues by itself (ACME), or
// certificate files that are loaded again when they change (Files). Install
// makes this machine trust the CA's root.
//
// All sources answer GetCertificate; TLSConfig makes a server's configuration
// of any. No name is ever put through IDNA: zones such as test_envs.example
// hold underscores. Package certmagic speaks ACME here and is seen nowhere
// else.
//
// The package does not know clones: who is registered, under which names, it
// learns from a function in CAConfig.
package certs

import "crypto/tls"

// TLSConfig returns the configuration of a TLS server whose certificates come
// from get, which is GetCertificate of a CA, an ACME or a Files, or what
// CA.ServerCertificate returned. It takes TLS 1.2 and 1.3, forward secrecy and
// AEAD ciphers alone, and resumes sessions with tickets whose keys crypto/tls
// rotates. The caller sets NextProtos.
func TLSConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		GetCertificate: get,
		MinVersion:     tls.VersionTLS12,
		// For TLS 1.2; those of TLS 1.3 are fixed. What crypto/tls offers by
		// default beside these is CBC.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}
