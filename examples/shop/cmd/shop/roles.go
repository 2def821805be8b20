package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/clonegate/clonegate/examples/shop"
	"github.com/clonegate/clonegate/examples/shop/api"
	"github.com/clonegate/clonegate/examples/shop/db"
	"github.com/clonegate/clonegate/examples/shop/rest"
	"github.com/clonegate/clonegate/examples/shop/web"
)

// The ports of the shop's hosts, the same in every clone.
const (
	dbPort   = "5400"
	httpPort = "8080"
)

func runDB(ctx context.Context, clone *shop.Clone, log *slog.Logger) error {
	rows, err := db.Open(filepath.Join(clone.Dir, "data"), log)
	if err != nil {
		return err
	}
	err = serve(ctx, net.JoinHostPort(clone.Address, dbPort), rest.Handler(rows, ctx.Done(), log), log)
	if closeErr := rows.Close(); err == nil {
		err = closeErr
	}
	return err
}

func runAPI(ctx context.Context, clone *shop.Clone, log *slog.Logger) error {
	database, err := clone.AddressOf("db")
	if err != nil {
		return err
	}
	front, err := clone.URL("www")
	if err != nil {
		return err
	}
	handler := api.New(api.Config{
		Backend: rest.NewClient("http://" + net.JoinHostPort(database, dbPort)),
		Front:   front,
		Host:    clone.Host,
		Stop:    ctx.Done(),
		Log:     log,
	})
	return serve(ctx, net.JoinHostPort(clone.Address, httpPort), handler, log)
}

func runWeb(ctx context.Context, clone *shop.Clone, log *slog.Logger) error {
	cfg := web.Config{Clone: clone, Stop: ctx.Done(), Log: log}
	var servers []string
	for _, host := range []string{"api1", "api2"} {
		address, err := clone.AddressOf(host)
		if err != nil {
			return err
		}
		servers = append(servers, "http://"+net.JoinHostPort(address, httpPort))
	}
	cfg.API = rest.NewClient(servers...)
	var err error
	if cfg.WWW, err = clone.URL("www"); err != nil {
		return err
	}
	if cfg.Calls, err = clone.URL("api"); err != nil {
		return err
	}
	front, err := web.New(cfg)
	if err != nil {
		return err
	}
	err = serve(ctx, net.JoinHostPort(clone.Address, httpPort), front, log)
	goodbye, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	front.Wait(goodbye)
	return err
}
