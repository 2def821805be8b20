// Shop is one process of the example production: its database, its API or its
// web front. Each runs as a host of a clone and reads what it needs to know
// from the environment that the clone's provider gives it.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/clonegate/clonegate/examples/shop"
)

const usage = `usage: shop db|api|web

  db   the database, on port 5400
  api  the API, on port 8080; asks db
  web  the web front, on port 8080; asks api1 and api2

The address to listen on is CLONEGATE_ADDRESS. LOG_LEVEL is debug, info
(default), warn or error.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	status := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	stop()
	os.Exit(status)
}

// run returns the exit status: 0 when it was told to stop, 1 when it could not
// go on, 2 when it was called wrongly.
func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) int {
	roles := map[string]func(context.Context, *shop.Clone, *slog.Logger) error{"db": runDB, "api": runAPI, "web": runWeb}
	if len(args) != 1 || roles[args[0]] == nil {
		fmt.Fprint(stderr, usage)
		return 2
	}
	var level slog.Level
	if text := getenv("LOG_LEVEL"); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			fmt.Fprintf(stderr, "shop: LOG_LEVEL: %v\n%s", err, usage)
			return 2
		}
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	clone, err := shop.CloneFromEnv(getenv)
	if err == nil {
		err = roles[args[0]](ctx, clone, log.With("clone", clone.ID, "host", clone.Host))
	}
	if err != nil {
		log.Error("shop "+args[0], "err", err)
		return 1
	}
	return 0
}
