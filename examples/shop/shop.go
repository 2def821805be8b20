// Package shop has the words of Harrow & Finch, a small shop that plays the
// production in clonegate's examples: products, customers, orders, reviews.
//
// It runs as three processes, which are the hosts of a clone: a database
// (package db), an API in two instances (package api) and a web front (package
// web). They speak HTTP and JSON with one another (package rest).
package shop

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// What callers branch on. The text of an error that wraps one of these may be
// shown to a customer.
var (
	ErrNotFound    = errors.New("not found")
	ErrInvalid     = errors.New("not valid")
	ErrSoldOut     = errors.New("sold out")
	ErrUnavailable = errors.New("not available now")
)

// Cents is an amount of money in hundredths of a euro.
type Cents int64

// String returns c as in "€34.50".
func (c Cents) String() string { return fmt.Sprintf("€%d.%02d", c/100, c%100) }

// A Product is something on sale.
type Product struct {
	SKU         string   `json:"sku"`
	Name        string   `json:"name"`
	Category    string   `json:"category"` // garden, kitchen, table, light, desk or outdoors
	Price       Cents    `json:"price"`
	Stock       int      `json:"stock"`
	Description string   `json:"description"`
	Reviews     []Review `json:"reviews,omitempty"` // newest first; only when one product is asked for
}

// A Customer is somebody who has ordered.
type Customer struct {
	ID    string    `json:"id"`
	Name  string    `json:"name"`
	Email string    `json:"email"` // in lower case; no two customers share one
	City  string    `json:"city,omitempty"`
	Since time.Time `json:"since"`
}

// An Item is one line of an order.
type Item struct {
	SKU      string `json:"sku"`
	Name     string `json:"name"`
	Quantity int    `json:"quantity"`
	Price    Cents  `json:"price"` // of one, on the day of the order
}

// An Order is what a customer bought.
type Order struct {
	Number     int       `json:"number"`
	Placed     time.Time `json:"placed"`
	CustomerID string    `json:"customer_id"`
	Customer   string    `json:"customer"` // the customer's name
	City       string    `json:"city,omitempty"`
	Status     string    `json:"status"` // placed, packed, sent or returned
	Items      []Item    `json:"items"`
	Total      Cents     `json:"total"`
}

// A Review is what a customer thinks of a product.
type Review struct {
	SKU      string    `json:"sku"`
	Product  string    `json:"product"`  // the product's name
	Customer string    `json:"customer"` // the customer's name
	Written  time.Time `json:"written"`
	Stars    int       `json:"stars"` // 1 to 5
	Text     string    `json:"text"`
}

// An Event is one thing that happened in the shop. An event with neither order
// nor review opens every feed and says which event was the last before it.
type Event struct {
	Seq    uint64  `json:"seq"`
	Order  *Order  `json:"order,omitempty"`
	Review *Review `json:"review,omitempty"`
}

// A Purchase is an order that somebody wants to place.
type Purchase struct {
	Name  string `json:"name"` // for an e-mail address that is not known yet
	Email string `json:"email"`
	Items []Want `json:"items"`
}

// A Want is one line of a Purchase.
type Want struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Check returns an ErrInvalid that says what cannot be taken.
func (p Purchase) Check() error {
	if err := checkEmail(p.Email); err != nil {
		return err
	}
	if utf8.RuneCountInString(p.Name) > 80 {
		return fmt.Errorf("%w: the name is longer than 80 letters", ErrInvalid)
	}
	if len(p.Items) == 0 || len(p.Items) > 20 {
		return fmt.Errorf("%w: an order has 1 to 20 items, this one %d", ErrInvalid, len(p.Items))
	}
	for _, want := range p.Items {
		if want.Quantity < 1 || want.Quantity > 99 {
			return fmt.Errorf("%w: %s: a quantity of %d; want 1 to 99", ErrInvalid, cmp.Or(want.SKU, "no product"), want.Quantity)
		}
	}
	return nil
}

// An Opinion is a review that somebody wants to write.
type Opinion struct {
	SKU   string `json:"sku"`
	Email string `json:"email"` // of a customer
	Stars int    `json:"stars"`
	Text  string `json:"text"`
}

// Check returns an ErrInvalid that says what cannot be taken.
func (o Opinion) Check() error {
	if err := checkEmail(o.Email); err != nil {
		return err
	}
	if o.Stars < 1 || o.Stars > 5 {
		return fmt.Errorf("%w: %d stars; want 1 to 5", ErrInvalid, o.Stars)
	}
	if n := utf8.RuneCountInString(strings.TrimSpace(o.Text)); n == 0 || n > 500 {
		return fmt.Errorf("%w: a review has 1 to 500 letters, this one %d", ErrInvalid, n)
	}
	return nil
}

func checkEmail(email string) error {
	name, domain, _ := strings.Cut(email, "@")
	if name == "" || !strings.Contains(domain, ".") || len(email) > 120 || strings.ContainsAny(email, " \t\r\n") {
		return fmt.Errorf("%w: %.120q is not an e-mail address", ErrInvalid, email)
	}
	return nil
}
