package pipeline_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be a host of a clone, and the daemon that is
// killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "host" {
		beHost(os.Args[2:])
		return
	}
	if dir := os.Getenv("CLONEGATE_TEST_DAEMON"); dir != "" {
		beDaemon(dir)
	}
	goleak.VerifyTestMain(m)
}

// beHost serves on port 8080 of the host's address: /healthz, its rows at
// /rows, and its environment at /env. Options: ready=DURATION until it
// listens, exit=STATUS instead, sick to answer 503 to probes, deaf to ignore
// SIGTERM.
func beHost(options []string) {
	note("begin")
	var delay time.Duration
	sick := false
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "ready":
			delay, _ = time.ParseDuration(value)
		case "exit":
			var status int
			fmt.Sscan(value, &status)
			fmt.Println("I cannot go on:", strings.Repeat("x", 20))
			os.Exit(status)
		case "sick":
			sick = true
		case "deaf":
			signal.Ignore(syscall.SIGTERM)
		}
	}
	time.Sleep(delay)
	ln, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("CLONEGATE_ADDRESS"), "8080"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick {
			http.Error(w, "the database is away", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	http.HandleFunc("/rows", serveRows)
	note("listen")
	fmt.Println(os.Getenv("CLONEGATE_HOST"), "serves")
	go func() {
		<-stop
		note("stop")
		os.Exit(0)
	}()
	fmt.Println(http.Serve(ln, nil))
}

// serveRows shows the rows of the clone's data, and takes one more by POST.
func serveRows(w http.ResponseWriter, r *http.Request) {
	name := filepath.Join(os.Getenv("CLONEGATE_DIR"), "data", "rows")
	if r.Method == http.MethodPost {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(f, r.FormValue("row"))
		f.Close()
	}
	http.ServeFile(w, r, name)
}

// note appends a line to the file that EVENTS names: what happened to which
// host of which clone.
func note(what string) {
	f, err := os.OpenFile(os.Getenv("EVENTS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s %s %s\n", os.Getenv("CLONEGATE_ID"), os.Getenv("CLONEGATE_HOST"), what)
}

var background = context.Background()
