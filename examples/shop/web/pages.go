package web

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/clonegate/clonegate/examples/shop"
	"github.com/clonegate/clonegate/examples/shop/rest"
)

// A page is what every template is filled with; each page adds its own data.
type page struct {
	*Front
	Title   string
	Visitor *visitor     // nil: not signed in
	Latest  []shop.Order // for the ticker
	Data    any
}

var functions = template.FuncMap{
	"stars": func(n int) string { return strings.Repeat("★", n) + strings.Repeat("☆", 5-n) },
	"when":  func(t time.Time) string { return t.Format("2 Jan 2006, 15:04") },
	"short": func(t time.Time) string { return t.Format("2 Jan 2006") },
}

// Greeting returns what the front page says first; a template's parameter.
func (p *page) Greeting() string { return cmp.Or(p.Clone.Param("greeting"), "Welcome") }

// show renders a page into memory first, so that a fault is a clean answer.
func (f *Front) show(w http.ResponseWriter, r *http.Request, status int, name, title string, data any) {
	p := &page{Front: f, Title: title, Visitor: f.sessions.visitor(r), Data: data}
	if status < 500 {
		p.Latest, _ = f.API.Orders(r.Context(), 0, 6) // the ticker is empty without them
	}
	var body bytes.Buffer
	if err := f.pages[name].Execute(&body, p); err != nil {
		f.Log.Error("page not rendered", "page", name, "err", err)
		http.Error(w, "this page is broken", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	body.WriteTo(w) // the browser has gone if this fails
}

// fail shows what went wrong, in the words of the error.
func (f *Front) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := rest.StatusOf(err)
	if status >= 500 {
		f.Log.Error("page not served", "path", r.URL.Path, "err", err)
	}
	f.show(w, r, status, "problem", http.StatusText(status), err.Error())
}

func (f *Front) unknown(w http.ResponseWriter, r *http.Request) {
	f.fail(w, r, fmt.Errorf("page %s: %w", r.URL.Path, shop.ErrNotFound))
}

type frontData struct {
	Query    string
	Found    []shop.Product // what the query finds
	Products []shop.Product // what can be ordered
}

func (f *Front) front(w http.ResponseWriter, r *http.Request) {
	d := frontData{Query: strings.TrimSpace(r.FormValue("q"))}
	var err error
	if d.Products, err = f.API.Products(r.Context(), ""); err != nil {
		f.fail(w, r, err)
		return
	}
	d.Found = d.Products
	if d.Query != "" {
		if d.Found, err = f.API.Products(r.Context(), d.Query); err != nil {
			f.fail(w, r, err)
			return
		}
	}
	f.show(w, r, http.StatusOK, "front", "Goods for house and garden", d)
}

func (f *Front) product(w http.ResponseWriter, r *http.Request) {
	p, err := f.API.Product(r.Context(), r.PathValue("sku"))
	if err != nil {
		f.fail(w, r, err)
		return
	}
	f.show(w, r, http.StatusOK, "product", p.Name, p)
}

// review takes the form of a product's page and goes back to it.
func (f *Front) review(w http.ResponseWriter, r *http.Request) {
	limitForm(w, r)
	v := f.sessions.visitor(r)
	if v == nil {
		http.Redirect(w, r, f.WWW+"/login", http.StatusSeeOther)
		return
	}
	stars, _ := strconv.Atoi(r.FormValue("stars")) // unreadable: 0, which is refused
	made, err := f.API.Review(r.Context(), shop.Opinion{
		SKU: r.PathValue("sku"), Email: v.Email, Stars: stars, Text: r.FormValue("text"),
	})
	if err != nil {
		f.fail(w, r, err)
		return
	}
	http.Redirect(w, r, f.WWW+"/products/"+made.SKU, http.StatusSeeOther)
}

type ordersData struct {
	Orders []shop.Order
	Newest bool // the first page, on which new orders appear by themselves
	Before int  // where the next page begins; 0: there is none
}

const ordersPerPage = 25

func (f *Front) orders(w http.ResponseWriter, r *http.Request) {
	before, _ := strconv.Atoi(r.FormValue("before")) // unreadable: the newest
	before = max(0, before)
	list, err := f.API.Orders(r.Context(), before, ordersPerPage)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	d := ordersData{Orders: list, Newest: before == 0}
	if len(list) == ordersPerPage {
		d.Before = list[len(list)-1].Number
	}
	f.show(w, r, http.StatusOK, "orders", "Orders", d)
}

func (f *Front) order(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.PathValue("number"))
	if err != nil {
		f.unknown(w, r)
		return
	}
	o, err := f.API.Order(r.Context(), number)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	f.show(w, r, http.StatusOK, "order", "Order "+strconv.Itoa(o.Number), o)
}

// place takes the order form and goes to the page of the new order, by its
// public URL.
func (f *Front) place(w http.ResponseWriter, r *http.Request) {
	limitForm(w, r)
	quantity, _ := strconv.Atoi(cmp.Or(r.FormValue("quantity"), "1")) // unreadable: 0, which is refused
	o, err := f.API.Place(r.Context(), shop.Purchase{
		Name:  r.FormValue("name"),
		Email: r.FormValue("email"),
		Items: []shop.Want{{SKU: r.FormValue("sku"), Quantity: quantity}},
	})
	if err != nil {
		f.fail(w, r, err)
		return
	}
	http.Redirect(w, r, fmt.Sprintf("%s/orders/%d", f.WWW, o.Number), http.StatusSeeOther)
}

func limitForm(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
}
