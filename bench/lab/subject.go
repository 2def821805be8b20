package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// A Server is one that a bench can start.
type Server struct {
	Name    string
	Program Program // the zero Program: ours

	// Start starts the server on a site; it need not answer yet. Those that
	// Start returns are running, whatever the error. One program may be more than
	// one Subject.
	Start func(ctx context.Context, site *Site) ([]*Subject, error)
}

// A Site is what a server is started with in one round.
type Site struct {
	Dir     string // of its own, which is not there yet
	CertDir string // where WriteCertificate wrote
	Program string // path of the executable
	Clones  int
	Backend netip.AddrPort // what stands behind the server
}

// A Subject is a server under test, running and with all its clones.
type Subject struct {
	Name    string
	Addr    netip.AddrPort
	Process *Process // the first, if there are several
	PIDs    []int
	Lacks   map[string]bool // keys of tests that it has nothing for
	Gate    *Gate           // if it is ours
	Stop    func()

	// Register gives another clone a route. It is nil where no test does that.
	Register func(ctx context.Context, id int) error
}

// Cert returns the path of the certificate, and of its key.
func (s *Site) Cert() (cert, key string) {
	return filepath.Join(s.CertDir, CertFile), filepath.Join(s.CertDir, KeyFile)
}

// Launch writes files and starts the program so many times with them, as one
// subject.
func (s *Site) Launch(subject *Subject, files map[string]string, processes int, args ...string) ([]*Subject, error) {
	if err := WriteFiles(s.Dir, files); err != nil {
		return nil, err
	}
	var started []*Process
	subject.Stop = func() {
		for _, p := range started {
			p.Stop()
		}
	}
	for i := range processes {
		p, err := Start(s.Dir, fmt.Sprintf("process-%d", i), s.Program, args...)
		if err != nil {
			subject.Stop()
			return nil, err
		}
		started = append(started, p)
		subject.PIDs = append(subject.PIDs, p.PID)
	}
	subject.Process = started[0]
	return []*Subject{subject}, nil
}

// WriteFiles writes texts under their names into dir, which it makes.
func WriteFiles(dir string, texts map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
