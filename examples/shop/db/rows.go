package db

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clonegate/clonegate/examples/shop"
)

// loadRows reads the five tables of dir.
func (d *DB) loadRows(dir string) error {
	customers := map[string]*shop.Customer{} // by ID
	orders := map[int]*shop.Order{}
	tables := []struct {
		file    string
		columns []string
		row     func(row) error
	}{
		{"products.csv", []string{"sku", "name", "category", "price", "stock", "description"}, d.loadProduct},
		{"customers.csv", []string{"id", "name", "email", "city", "since"}, func(r row) error {
			return d.loadCustomer(r, customers)
		}},
		{"orders.csv", []string{"number", "placed", "customer", "status"}, func(r row) error {
			return loadOrder(r, customers, orders)
		}},
		{"lines.csv", []string{"order", "sku", "quantity", "price"}, func(r row) error {
			return d.loadLine(r, orders)
		}},
		{"reviews.csv", []string{"sku", "customer", "written", "stars", "text"}, func(r row) error {
			return d.loadReview(r, customers)
		}},
	}
	for _, t := range tables {
		if err := readTable(filepath.Join(dir, t.file), t.columns, t.row); err != nil {
			return err
		}
	}
	for _, o := range orders {
		d.orders = append(d.orders, *o)
	}
	slices.SortFunc(d.orders, func(a, b shop.Order) int { return a.Number - b.Number })
	for _, rs := range d.reviews {
		slices.SortStableFunc(rs, func(a, b shop.Review) int { return b.Written.Compare(a.Written) })
	}
	return nil
}

func (d *DB) loadProduct(r row) error {
	p := &shop.Product{
		SKU: r.text("sku"), Name: r.text("name"), Category: r.text("category"),
		Price: r.cents("price"), Stock: r.number("stock"), Description: r.text("description"),
	}
	d.products = append(d.products, p)
	d.bySKU[p.SKU] = p
	return r.err()
}

func (d *DB) loadCustomer(r row, customers map[string]*shop.Customer) error {
	c := &shop.Customer{
		ID: r.text("id"), Name: r.text("name"), Email: r.text("email"),
		City: r.text("city"), Since: r.time("since", time.DateOnly),
	}
	customers[c.ID] = c
	d.customers[c.Email] = c
	return r.err()
}

func loadOrder(r row, customers map[string]*shop.Customer, orders map[int]*shop.Order) error {
	c := customers[r.text("customer")]
	if c == nil {
		return fmt.Errorf("no customer %q", r.text("customer"))
	}
	o := &shop.Order{
		Number: r.number("number"), Placed: r.time("placed", time.RFC3339), Status: r.text("status"),
		CustomerID: c.ID, Customer: c.Name, City: c.City,
	}
	orders[o.Number] = o
	return r.err()
}

func (d *DB) loadLine(r row, orders map[int]*shop.Order) error {
	o, p := orders[r.number("order")], d.bySKU[r.text("sku")]
	if o == nil || p == nil {
		return fmt.Errorf("no order %q or no product %q", r.text("order"), r.text("sku"))
	}
	item := shop.Item{SKU: p.SKU, Name: p.Name, Quantity: r.number("quantity"), Price: r.cents("price")}
	o.Items = append(o.Items, item)
	o.Total += item.Price * shop.Cents(item.Quantity)
	return r.err()
}

func (d *DB) loadReview(r row, customers map[string]*shop.Customer) error {
	p, c := d.bySKU[r.text("sku")], customers[r.text("customer")]
	if p == nil || c == nil {
		return fmt.Errorf("no product %q or no customer %q", r.text("sku"), r.text("customer"))
	}
	d.reviews[p.SKU] = append(d.reviews[p.SKU], shop.Review{
		SKU: p.SKU, Product: p.Name, Customer: c.Name,
		Written: r.time("written", time.RFC3339), Stars: r.number("stars"), Text: r.text("text"),
	})
	return r.err()
}

// A row is one line of a CSV file. Its getters collect what cannot be read.
type row struct {
	columns []string
	cells   []string
	errs    *[]error
}

func (r row) text(column string) string { return r.cells[slices.Index(r.columns, column)] }

func (r row) number(column string) int {
	n, err := strconv.Atoi(r.text(column))
	r.note(column, err)
	return n
}

// cents reads an amount in euros with two decimals, as in "34.50".
func (r row) cents(column string) shop.Cents {
	euros, rest, _ := strings.Cut(r.text(column), ".")
	n, err := strconv.ParseUint(euros+rest, 10, 32)
	if err == nil && len(rest) != 2 {
		err = fmt.Errorf("%q: want euros with two decimals, as in 34.50", r.text(column))
	}
	r.note(column, err)
	return shop.Cents(n)
}

func (r row) time(column, layout string) time.Time {
	t, err := time.Parse(layout, r.text(column))
	r.note(column, err)
	return t
}

func (r row) note(column string, err error) {
	if err != nil {
		*r.errs = append(*r.errs, fmt.Errorf("%s: %w", column, err))
	}
}

func (r row) err() error { return errors.Join(*r.errs...) }

// readTable hands every row of a CSV file, whose first line must name these
// columns, to load.
func readTable(path string, columns []string, load func(row) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("table: %w", err)
	}
	defer f.Close()
	table := csv.NewReader(f)
	head, err := table.Read()
	if err != nil {
		return fmt.Errorf("table %s: %w", path, err)
	}
	if !slices.Equal(head, columns) {
		return fmt.Errorf("table %s: columns are %q; want %q", path, head, columns)
	}
	for {
		cells, err := table.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", path, err)
		}
		if err := load(row{columns, cells, new([]error)}); err != nil {
			line, _ := table.FieldPos(0)
			return fmt.Errorf("table %s: line %d: %w", path, line, err)
		}
	}
}
