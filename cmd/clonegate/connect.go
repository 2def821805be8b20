package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
	"github.com/clonegate/clonegate/registry/client"
)

// getenv returns a variable of the environment the command was given.
func (a *app) getenv(name string) string {
	for _, pair := range slices.Backward(a.env) {
		if n, value, _ := strings.Cut(pair, "="); n == name {
			return value
		}
	}
	return ""
}

// firstOf returns the first text that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// dataDir returns the data directory of the daemon of this machine.
func (a *app) dataDir() string {
	return firstOf(a.data, a.getenv("CLONEGATE_DATA"), config.DefaultData(a.env))
}

// An access is how to reach a daemon's API. Empty files are not used.
type access struct {
	url, tokenFile, caFile string
}

// access finds the API to call: the one that was named, or that of the daemon
// of this machine. The machine's own admin token is sent to no other, and not to
// whoever took the port of a daemon that was killed.
func (a *app) access() (access, error) {
	data := a.dataDir()
	acc := access{
		url:       firstOf(a.api, a.getenv("CLONEGATE_API")),
		tokenFile: firstOf(a.tokenFile, a.getenv("CLONEGATE_TOKEN_FILE")),
		caFile:    firstOf(a.caFile, a.getenv("CLONEGATE_CA_FILE")),
	}
	local, err := daemon.ReadAddresses(data)
	switch {
	case acc.url == "" && errors.Is(err, fs.ErrNotExist):
		return access{}, &noDaemonError{data}
	case acc.url == "" && err != nil:
		return access{}, fmt.Errorf("find the daemon of this machine: %w", err)
	case acc.url == "" && !daemon.Runs(data):
		return access{}, &noDaemonError{data}
	case acc.url == "":
		acc.url = local.API.URL
	}
	if err != nil || acc.url != local.API.URL || !daemon.Runs(data) {
		return acc, nil
	}
	if own := daemon.AdminTokenFile(data); acc.tokenFile == "" && isReadable(own) {
		acc.tokenFile = own
	}
	if own := daemon.CAFile(data); acc.caFile == "" && strings.HasPrefix(acc.url, "https:") && isReadable(own) {
		acc.caFile = own
	}
	return acc, nil
}

func isReadable(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// A noDaemonError says that no daemon was named and none runs here.
type noDaemonError struct {
	data string
}

func (e *noDaemonError) Error() string {
	return fmt.Sprintf("no daemon runs on data directory %s; start one with  clonegate serve  or  clonegate demo, or name another with --data or --api; clonegate doctor looks closer", e.data)
}

// client returns a client of the daemon's API.
func (a *app) client() (*client.Client, error) {
	acc, err := a.access()
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{
		URL: acc.url, TokenFile: acc.tokenFile, CAFile: acc.caFile,
		UserAgent: "clonegate/" + buildVersion(),
		Lost:      func(err error) { a.say("the daemon does not answer any more, waiting for it: %v", err) },
	})
}

// isUnreachable reports whether a call did not reach a daemon.
func isUnreachable(err error) bool {
	if _, ok := errors.AsType[*noDaemonError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}
