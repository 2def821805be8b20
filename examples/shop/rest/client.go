package rest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/examples/shop"
)

// A Client asks the servers of a backend, each in turn. It is a Backend itself.
type Client struct {
	servers []string // "http://127.0.4.20:8080"
	turn    atomic.Uint32
	calls   *http.Client
	streams *http.Client
}

// NewClient returns a client of servers that all know the same, named by their
// base URLs. When one cannot be reached the next is asked.
func NewClient(servers ...string) *Client {
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		ResponseHeaderTimeout: 5 * time.Second,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
	}
	return &Client{
		servers: servers,
		calls:   &http.Client{Transport: transport, Timeout: 10 * time.Second},
		streams: &http.Client{Transport: transport},
	}
}

// Healthy returns nil if a server answers that it is healthy.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := call[any](ctx, c, "GET", "/healthz", nil)
	return err
}

// Products returns the products that hold every word of the query.
func (c *Client) Products(ctx context.Context, query string) ([]shop.Product, error) {
	return call[[]shop.Product](ctx, c, "GET", "/products?q="+url.QueryEscape(query), nil)
}

// Product returns one product with its reviews.
func (c *Client) Product(ctx context.Context, sku string) (*shop.Product, error) {
	return call[*shop.Product](ctx, c, "GET", "/products/"+url.PathEscape(sku), nil)
}

// Customer returns the customer with an e-mail address.
func (c *Client) Customer(ctx context.Context, email string) (*shop.Customer, error) {
	return call[*shop.Customer](ctx, c, "GET", "/customers/"+url.PathEscape(email), nil)
}

// Orders returns up to limit orders with numbers below before, newest first.
func (c *Client) Orders(ctx context.Context, before, limit int) ([]shop.Order, error) {
	return call[[]shop.Order](ctx, c, "GET", fmt.Sprintf("/orders?before=%d&limit=%d", before, limit), nil)
}

// Order returns one order.
func (c *Client) Order(ctx context.Context, number int) (*shop.Order, error) {
	return call[*shop.Order](ctx, c, "GET", "/orders/"+strconv.Itoa(number), nil)
}

// Place writes an order.
func (c *Client) Place(ctx context.Context, p shop.Purchase) (*shop.Order, error) {
	return call[*shop.Order](ctx, c, "POST", "/orders", p)
}

// Review writes a review.
func (c *Client) Review(ctx context.Context, op shop.Opinion) (*shop.Review, error) {
	return call[*shop.Review](ctx, c, "POST", "/reviews", op)
}

// call sends in, unless it is nil, as JSON and returns the answer.
func call[Out any](ctx context.Context, c *Client, method, path string, in any) (Out, error) {
	var out Out
	var body []byte
	header := http.Header{}
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return out, err
		}
		header.Set("Content-Type", "application/json")
	}
	res, err := c.send(ctx, c.calls, method, path, header, body)
	if err != nil {
		return out, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("%w: %s %s: %w", shop.ErrUnavailable, method, res.Request.URL, err)
	}
	return out, nil
}

// send asks one server after the other until one has answered, and turns an
// answer that is no success into an error. A write goes to the next server
// only if the one before was not even connected to: it may have been done.
func (c *Client) send(ctx context.Context, client *http.Client, method, path string, header http.Header, body []byte) (*http.Response, error) {
	first := int(c.turn.Add(1))
	var lastErr error
	for i := range c.servers {
		server := c.servers[(first+i)%len(c.servers)]
		req, err := http.NewRequestWithContext(ctx, method, server+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header = header.Clone()
		res, err := client.Do(req)
		if err == nil {
			return checked(res)
		}
		lastErr = err
		if dial, ok := errors.AsType[*net.OpError](err); method != "GET" && (!ok || dial.Op != "dial") {
			break
		}
	}
	return nil, fmt.Errorf("%w: %w", shop.ErrUnavailable, lastErr)
}

func checked(res *http.Response) (*http.Response, error) {
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	var p problem
	json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&p) // the status says enough without it
	return nil, errorOf(res.StatusCode, cmp.Or(p.Error, res.Status))
}
