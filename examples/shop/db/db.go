// Package db is the shop's database: rows from CSV files, and a journal of
// what has been written since.
//
// It holds everything in memory. What it acknowledges has been synced to the
// journal before, so that a kill at any moment loses nothing that a customer
// was told. It does not speak HTTP; see package rest.
package db

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clonegate/clonegate/examples/shop"
)

// A DB holds the rows. Open makes one; its methods may be called concurrently.
type DB struct {
	writing sync.Mutex // held from the check of a write until it is visible
	journal *journal   // guarded by writing

	mu        sync.RWMutex // guards the following
	products  []*shop.Product
	bySKU     map[string]*shop.Product
	customers map[string]*shop.Customer // by e-mail address
	orders    []shop.Order              // by number, ascending
	reviews   map[string][]shop.Review  // by SKU, newest first
	events    []shop.Event              // numbered from first
	grown     chan struct{}             // closed when an event is added
	broken    error                     // why nothing can be written any more
}

// Open loads the CSV files of dir and replays the journal beside them. A last
// line that was cut short by a crash had not been acknowledged: it is dropped.
func Open(dir string, log *slog.Logger) (*DB, error) {
	d := &DB{
		bySKU:     map[string]*shop.Product{},
		customers: map[string]*shop.Customer{},
		reviews:   map[string][]shop.Review{},
		grown:     make(chan struct{}),
	}
	if err := d.loadRows(dir); err != nil {
		return nil, err
	}
	var err error
	d.journal, err = openJournal(filepath.Join(dir, "journal.jsonl"), d.apply)
	if err != nil {
		return nil, err
	}
	log.Info("opened", "dir", dir, "products", len(d.products), "customers", len(d.customers), "orders", len(d.orders), "journal", len(d.events))
	return d, nil
}

// Close closes the journal. Nothing can be written afterwards.
func (d *DB) Close() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	return d.journal.close()
}

// Healthy returns nil if rows can be written, and what is wrong otherwise.
func (d *DB) Healthy(context.Context) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.broken != nil {
		return fmt.Errorf("%w: %w", shop.ErrUnavailable, d.broken)
	}
	return nil
}

// Products returns the products that hold every word of the query, in the
// order of the catalogue. An empty query finds all.
func (d *DB) Products(_ context.Context, query string) ([]shop.Product, error) {
	words := strings.Fields(strings.ToLower(query))
	d.mu.RLock()
	defer d.mu.RUnlock()
	found := []shop.Product{}
	for _, p := range d.products {
		text := strings.ToLower(p.SKU + " " + p.Name + " " + p.Category + " " + p.Description)
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			found = append(found, *p)
		}
	}
	return found, nil
}

// Product returns one product with its reviews.
func (d *DB) Product(_ context.Context, sku string) (*shop.Product, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.bySKU[sku]
	if !ok {
		return nil, fmt.Errorf("product %.40q: %w", sku, shop.ErrNotFound)
	}
	with := *p
	with.Reviews = slices.Clone(d.reviews[sku])
	return &with, nil
}

// Customer returns the customer with an e-mail address.
func (d *DB) Customer(_ context.Context, email string) (*shop.Customer, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	c, ok := d.customers[strings.ToLower(strings.TrimSpace(email))]
	if !ok {
		return nil, fmt.Errorf("customer %.120q: %w", email, shop.ErrNotFound)
	}
	found := *c
	return &found, nil
}

// Orders returns up to limit orders with numbers below before, newest first.
// before 0 starts at the newest.
func (d *DB) Orders(_ context.Context, before, limit int) ([]shop.Order, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	end := len(d.orders)
	if before > 0 {
		end, _ = d.find(before)
	}
	page := slices.Clone(d.orders[max(0, end-limit):end])
	slices.Reverse(page)
	return page, nil
}

// Order returns one order.
func (d *DB) Order(_ context.Context, number int) (*shop.Order, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	i, ok := d.find(number)
	if !ok {
		return nil, fmt.Errorf("order %d: %w", number, shop.ErrNotFound)
	}
	o := d.orders[i]
	return &o, nil
}

// find returns where the order with a number is, or would be. d.mu is held.
func (d *DB) find(number int) (int, bool) {
	return slices.BinarySearchFunc(d.orders, number, func(o shop.Order, n int) int { return cmp.Compare(o.Number, n) })
}

// Place writes an order and returns it. A customer who is not known by e-mail
// address becomes one.
func (d *DB) Place(_ context.Context, p shop.Purchase) (*shop.Order, error) {
	p.Email = strings.ToLower(strings.TrimSpace(p.Email))
	p.Name = strings.TrimSpace(p.Name)
	if err := p.Check(); err != nil {
		return nil, err
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	e, err := d.order(p)
	if err != nil {
		return nil, err
	}
	if err := d.write(e); err != nil {
		return nil, fmt.Errorf("order of %s: %w", p.Email, err)
	}
	return e.Order, nil
}

// order makes the journal entry of a purchase. d.writing is held.
func (d *DB) order(p shop.Purchase) (entry, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	now := time.Now().UTC().Truncate(time.Second)
	o := &shop.Order{Number: 1, Placed: now, Status: "placed"}
	if n := len(d.orders); n > 0 {
		o.Number = d.orders[n-1].Number + 1
	}
	e := entry{Order: o}
	c, known := d.customers[p.Email]
	if !known {
		if p.Name == "" {
			return entry{}, fmt.Errorf("%w: the first order of %s needs a name", shop.ErrInvalid, p.Email)
		}
		c = &shop.Customer{ID: fmt.Sprintf("c%d", 101+len(d.customers)), Name: p.Name, Email: p.Email, Since: now}
		e.Customer = c
	}
	o.CustomerID, o.Customer, o.City = c.ID, c.Name, c.City

	taken := map[string]int{}
	for _, want := range p.Items {
		product, ok := d.bySKU[want.SKU]
		if !ok {
			return entry{}, fmt.Errorf("product %.40q: %w", want.SKU, shop.ErrNotFound)
		}
		taken[want.SKU] += want.Quantity
		if taken[want.SKU] > product.Stock {
			return entry{}, fmt.Errorf("%s: %w: %d left, %d wanted", product.Name, shop.ErrSoldOut, product.Stock, taken[want.SKU])
		}
		o.Items = append(o.Items, shop.Item{SKU: want.SKU, Name: product.Name, Quantity: want.Quantity, Price: product.Price})
		o.Total += product.Price * shop.Cents(want.Quantity)
	}
	return e, nil
}

// Review writes a review and returns it. Only customers may review.
func (d *DB) Review(ctx context.Context, op shop.Opinion) (*shop.Review, error) {
	if err := op.Check(); err != nil {
		return nil, err
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	p, err := d.Product(ctx, op.SKU)
	if err != nil {
		return nil, err
	}
	c, err := d.Customer(ctx, op.Email)
	if err != nil {
		return nil, err
	}
	r := &shop.Review{
		SKU: p.SKU, Product: p.Name, Customer: c.Name,
		Written: time.Now().UTC().Truncate(time.Second), Stars: op.Stars, Text: strings.TrimSpace(op.Text),
	}
	if err := d.write(entry{Review: r}); err != nil {
		return nil, fmt.Errorf("review of %s: %w", op.SKU, err)
	}
	return r, nil
}

// write makes an entry durable and then visible. d.writing is held. After a
// write that failed nobody knows what the disk holds, so nothing more is
// written until a restart has read it.
func (d *DB) write(e entry) error {
	if err := d.Healthy(context.Background()); err != nil {
		return err
	}
	if err := d.journal.append(e); err != nil {
		d.mu.Lock()
		d.broken = err
		d.mu.Unlock()
		return fmt.Errorf("%w: %w", shop.ErrUnavailable, err)
	}
	d.apply(e)
	return nil
}

// apply makes an entry of the journal visible.
func (d *DB) apply(e entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Customer != nil {
		d.customers[e.Customer.Email] = e.Customer
	}
	if e.Order != nil {
		d.orders = append(d.orders, *e.Order)
		for _, item := range e.Order.Items {
			if p := d.bySKU[item.SKU]; p != nil {
				p.Stock -= item.Quantity
			}
		}
	}
	if e.Review != nil {
		d.reviews[e.Review.SKU] = slices.Insert(d.reviews[e.Review.SKU], 0, *e.Review)
	}
	d.events = append(d.events, shop.Event{Seq: uint64(first + len(d.events)), Order: e.Order, Review: e.Review})
	close(d.grown)
	d.grown = make(chan struct{})
}
