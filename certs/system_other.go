//go:build !linux

package certs

import "runtime"

// inSystem reports false: these systems are asked by installing once more,
// which changes nothing if the root is there.
func (t *trust) inSystem() bool { return false }

func (t *trust) systemInstallByHand() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain " + quote(t.file)}
	case "windows":
		return []string{"certutil -addstore -f ROOT " + quote(t.file)}
	}
	return []string{"add " + t.file + " to the roots that this system trusts"}
}

func (t *trust) systemUninstallByHand() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"sudo security remove-trusted-cert -d " + quote(t.file)}
	case "windows":
		return []string{"certutil -delstore ROOT " + t.cert.SerialNumber.Text(16)}
	}
	return []string{"remove " + t.file + " from the roots that this system trusts"}
}
