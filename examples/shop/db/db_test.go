package db_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/examples/shop"
	"github.com/clonegate/clonegate/examples/shop/db"
)

// copyData returns a directory with the shop's rows.
func copyData(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../data")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(dir string) (*db.DB, error) { return db.Open(dir, slog.New(slog.DiscardHandler)) }

func mustOpen(t *testing.T, dir string) *db.DB {
	t.Helper()
	d, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func place(t *testing.T, d *db.DB, name string) *shop.Order {
	t.Helper()
	o, err := d.Place(t.Context(), shop.Purchase{Name: name, Email: name + "@example.com", Items: []shop.Want{{SKU: "SEE-311", Quantity: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := copyData(t)
	d := mustOpen(t, dir)
	one, two := place(t, d, "ada"), place(t, d, "ada")
	if one.CustomerID != two.CustomerID || two.Number != one.Number+1 {
		t.Errorf("orders %+v and %+v, want the same customer and numbers in a row", one, two)
	}
	if _, err := d.Review(t.Context(), shop.Opinion{SKU: "SEE-311", Email: "ada@example.com", Stars: 5, Text: "Green."}); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	d = mustOpen(t, dir)
	if o, err := d.Order(t.Context(), two.Number); err != nil || o.Customer != "ada" {
		t.Errorf("order %d after reopening: %+v, %v", two.Number, o, err)
	}
	p, err := d.Product(t.Context(), "SEE-311")
	if err != nil {
		t.Fatal(err)
	}
	if p.Stock != 138 || len(p.Reviews) != 4 || p.Reviews[0].Text != "Green." {
		t.Errorf("product after reopening: stock %d, want 138; reviews %+v, want the new one first of 4", p.Stock, p.Reviews)
	}
	if three := place(t, d, "ada"); three.Number != two.Number+1 || three.CustomerID != one.CustomerID {
		t.Errorf("order %+v after reopening, want the next number and the same customer", three)
	}
}

func TestJournalDamage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		damage func(string) string
		says   string // "" opens
		orders int    // how many of two are left
	}{
		{"cut in the last line", func(s string) string { return s[:len(s)-7] }, "", 1},
		{"last line without its end", func(s string) string { return s[:len(s)-1] }, "", 1},
		{"half a line more", func(s string) string { return s + `{"order":{"num` }, "", 2},
		{"empty", func(string) string { return "" }, "", 0},
		{"a broken line before a whole one", func(s string) string { return "{" + s }, "line 1", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := copyData(t)
			d := mustOpen(t, dir)
			number := place(t, d, "ada").Number
			place(t, d, "bea")
			d.Close()
			path := filepath.Join(dir, "journal.jsonl")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.damage(string(text))), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err = open(dir)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path) {
					t.Fatalf("opening says %v, want %q and the file", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if got, want := place(t, d, "cleo").Number, number+tt.orders; got != want {
				t.Errorf("the next order is %d, want %d", got, want)
			}
			d.Close()
			if d, err = open(dir); err != nil {
				t.Fatalf("opening again after a write behind the damage: %v", err)
			}
			d.Close()
		})
	}
}

func TestOneProcessOnly(t *testing.T) {
	t.Parallel()
	dir := copyData(t)
	mustOpen(t, dir)
	if _, err := open(dir); err == nil || !strings.Contains(err.Error(), "another database process") {
		t.Errorf("a second database on the same directory: %v", err)
	}
}

func TestWriteAfterFailure(t *testing.T) {
	t.Parallel()
	d := mustOpen(t, copyData(t))
	d.Close() // the next write fails, as on a full disk
	p := shop.Purchase{Name: "ada", Email: "ada@example.com", Items: []shop.Want{{SKU: "SEE-311", Quantity: 1}}}
	if _, err := d.Place(t.Context(), p); !errors.Is(err, shop.ErrUnavailable) {
		t.Errorf("a failed write says %v, want ErrUnavailable", err)
	}
	if err := d.Healthy(t.Context()); !errors.Is(err, shop.ErrUnavailable) {
		t.Errorf("health after a failed write: %v, want ErrUnavailable", err)
	}
	if _, err := d.Customer(t.Context(), "ada@example.com"); !errors.Is(err, shop.ErrNotFound) {
		t.Errorf("what was not written is visible: %v", err)
	}
}

func TestTableFaults(t *testing.T) {
	t.Parallel()
	tests := []struct{ file, line, says string }{
		{"products.csv", "X-1,Thing,garden,3.5,1,Half a price", "line 50: price: \"3.5\": want euros with two decimals"},
		{"products.csv", "X-1,Thing,garden,3.50,many,Stock", "line 50: stock"},
		{"customers.csv", "c999,Nobody", "wrong number of fields"},
		{"orders.csv", "10999,2026-11-20T09:24:20Z,c999,placed", `no customer "c999"`},
		{"orders.csv", "10999,yesterday,c101,placed", "placed"},
		{"lines.csv", "10001,NO,1,1.00", `no product "NO"`},
		{"reviews.csv", "NO,c101,2026-11-20T09:24:20Z,5,x", `no product "NO"`},
	}
	for _, tt := range tests {
		t.Run(tt.file+" "+tt.line, func(t *testing.T) {
			t.Parallel()
			dir := copyData(t)
			f, err := os.OpenFile(filepath.Join(dir, tt.file), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(f, tt.line)
			f.Close()
			if _, err := open(dir); err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.file) {
				t.Errorf("opening says %v, want %q and %s", err, tt.says, tt.file)
			}
		})
	}
	dir := copyData(t)
	if err := os.WriteFile(filepath.Join(dir, "customers.csv"), []byte("id,name\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir); err == nil || !strings.Contains(err.Error(), "columns are") {
		t.Errorf("opening with other columns says %v", err)
	}
}

func TestOrdersPages(t *testing.T) {
	t.Parallel()
	d := mustOpen(t, copyData(t))
	seen, before := 0, 0
	for {
		page, err := d.Orders(t.Context(), before, 25)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for i, o := range page {
			if i > 0 && o.Number >= page[i-1].Number || before > 0 && o.Number >= before {
				t.Fatalf("order %d stands behind %d", o.Number, before)
			}
			if len(o.Items) == 0 || o.Total == 0 || o.Customer == "" {
				t.Errorf("order without items, total or customer: %+v", o)
			}
		}
		seen += len(page)
		before = page[len(page)-1].Number
	}
	if seen != 326 {
		t.Errorf("%d orders in pages, want 326", seen)
	}
}
