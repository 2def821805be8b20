package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// object is JSON that Caddy reads.
type object map[string]any

// mapping is one clone in Caddy's map handler, of its set-ups for many hosts the
// cheapest.
func mapping(site *lab.Site, id int) object {
	return object{"input": load.Host(id), "outputs": []string{endpoint(site, id).String()}}
}

func startCaddy(_ context.Context, site *lab.Site) ([]*lab.Subject, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	admin, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	mappings := make([]object, site.Clones)
	for id := range mappings {
		mappings[id] = mapping(site, id)
	}
	route := object{"handle": []object{
		{"handler": "map", "source": "{http.request.host}", "destinations": []string{"{clone}"}, "mappings": mappings},
		{
			"handler":   "reverse_proxy",
			"transport": object{"protocol": "http", "keep_alive": object{"max_idle_conns_per_host": 256, "max_idle_conns": 0}},
			"upstreams": []object{{"dial": "{clone}"}},
		},
	}}
	server := object{
		"listen": []string{addr.String()}, "protocols": []string{"h1", "h2"}, "idle_timeout": "300s",
		"automatic_https":         object{"disable": true},
		"tls_connection_policies": []object{{"alpn": []string{"h2", "http/1.1"}, "curves": []string{"x25519"}, "protocol_min": "tls1.3"}},
		"routes":                  []object{route},
	}
	cert, key := site.Cert()
	text, err := json.Marshal(object{
		"admin":   object{"listen": admin.String(), "config": object{"persist": false}},
		"logging": object{"logs": object{"default": object{"level": "ERROR"}}},
		"apps": object{
			"tls":  object{"certificates": object{"load_files": []object{{"certificate": cert, "key": key}}}},
			"http": object{"servers": object{"clones": server}},
		},
	})
	if err != nil {
		return nil, err
	}
	s := &lab.Subject{Name: "Caddy", Addr: addr}
	api := fmt.Sprintf("http://%s/config/apps/http/servers/clones/routes/0/handle/0/mappings/0", admin)
	s.Register = func(ctx context.Context, id int) error { return put(ctx, api, mapping(site, id)) }
	return site.Launch(s, map[string]string{"caddy.json": string(text)}, 1, "run", "--config", filepath.Join(site.Dir, "caddy.json"))
}

// put sends JSON to an API.
func put(ctx context.Context, url string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT %s: %s: %s", url, resp.Status, answer)
	}
	return nil
}
