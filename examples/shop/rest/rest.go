// Package rest is how the processes of the shop speak to one another: HTTP and
// JSON, with a feed of server-sent events. The database and the API offer the
// same resources; the handler and the client of them are both here.
package rest

import (
	"context"
	"errors"
	"iter"
	"net/http"

	"github.com/clonegate/clonegate/examples/shop"
)

// A Backend answers for the shop's rows. Its errors wrap those of package shop.
type Backend interface {
	Healthy(context.Context) error
	Products(ctx context.Context, query string) ([]shop.Product, error)
	Product(ctx context.Context, sku string) (*shop.Product, error)
	Customer(ctx context.Context, email string) (*shop.Customer, error)
	Orders(ctx context.Context, before, limit int) ([]shop.Order, error)
	Order(ctx context.Context, number int) (*shop.Order, error)
	Place(context.Context, shop.Purchase) (*shop.Order, error)
	Review(context.Context, shop.Opinion) (*shop.Review, error)
	// Watch yields events after one that the caller has seen, beginning with
	// one that says where the feed begins.
	Watch(ctx context.Context, after uint64) iter.Seq2[shop.Event, error]
}

// A problem is the body of every answer that is not a success.
type problem struct {
	Error string `json:"error"`
}

// statuses maps errors to statuses, and back.
var statuses = []struct {
	err    error
	status int
}{
	{shop.ErrNotFound, http.StatusNotFound},
	{shop.ErrInvalid, http.StatusUnprocessableEntity},
	{shop.ErrSoldOut, http.StatusConflict},
	{shop.ErrUnavailable, http.StatusServiceUnavailable},
}

// StatusOf returns the HTTP status that says what err says.
func StatusOf(err error) int {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}

// A remoteError is an error as the other side worded it.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func errorOf(status int, text string) error {
	for _, s := range statuses {
		if status == s.status {
			return &remoteError{text, s.err}
		}
	}
	return &remoteError{text, shop.ErrUnavailable}
}
