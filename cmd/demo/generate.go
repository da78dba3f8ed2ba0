package demo

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Sizes of the sample. They load in a few seconds and are large enough that plans differ.
const (
	userCount    = 10_000
	productCount = len(styles) * len(materials) * 15 // 1200
	orderCount   = 50_000
	eventCount   = 30_000
)

// history is how far back the first user goes.
const history = 2 * 365 * 24 * time.Hour

// kind keeps the random streams of different tables apart.
type kind uint64

const (
	userKind kind = iota + 1
	productKind
	orderKind
	eventKind
)

// generator makes the rows. Row i of a table depends on i and now alone, so that orders, their lines and their payments
// can be made in separate passes and still agree, and every demo shows the same shop.
type generator struct {
	now time.Time // the newest row's time
}

// source is the stream of random numbers of one row.
func source(k kind, id int64) *rand.Rand { return rand.New(rand.NewPCG(uint64(k), uint64(id))) }

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// moment spreads the rows of a table evenly over a span that ends now, in the order of their ids.
func (g generator) moment(id, count int64, span time.Duration) time.Time {
	return g.now.Add(-span + time.Duration(float64(span)*float64(id)/float64(count)))
}

type userRow struct {
	name, email, country, plan, settings string
	created                              time.Time
}

func (g generator) user(id int64) userRow {
	r := source(userKind, id)
	given, family := pick(r, givenNames[:]), pick(r, familyNames[:])
	return userRow{
		name:     given + " " + family,
		email:    fmt.Sprintf("%s.%s%d@example.com", mailName(given), mailName(family), id),
		country:  pick(r, countries[:]).code,
		plan:     pick(r, plans[:]),
		settings: fmt.Sprintf(`{"theme": %q, "newsletter": %t}`, pick(r, themes[:]), r.IntN(3) == 0),
		created:  g.moment(id, userCount, history),
	}
}

// mailName keeps what every mail server takes.
func mailName(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 'a' || r > 'z' {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

type productRow struct {
	sku, name, category string
	cents               int64
}

func (g generator) product(id int64) productRow {
	r := source(productKind, id)
	c := categories[id%int64(len(categories))]
	cents := c.cheapest + r.Int64N(c.dearest-c.cheapest)
	return productRow{
		sku:      fmt.Sprintf("%s-%05d", strings.ToUpper(c.name[:3]), id),
		name:     strings.Join([]string{pick(r, styles[:]), pick(r, materials[:]), pick(r, c.things)}, " "),
		category: c.name,
		cents:    cents - cents%100 + 99,
	}
}

type itemRow struct {
	product  int64
	quantity int64
	cents    int64 // for one
}

type orderRow struct {
	user   int64
	status string
	placed time.Time
	method string // of payment; "" when it is not paid
	items  []itemRow
	cents  int64 // the sum of items
}

func (g generator) order(id int64) orderRow {
	r := source(orderKind, id)
	placed := g.moment(id, orderCount, history/2)
	o := orderRow{placed: placed, user: g.customer(r, placed)}
	for range 1 + r.IntN(4) {
		item := itemRow{product: skewed(r, int64(productCount)), quantity: 1 + r.Int64N(3)}
		item.cents = g.product(item.product).cents
		o.items = append(o.items, item)
		o.cents += item.quantity * item.cents
	}
	age := g.now.Sub(placed)
	switch {
	case r.IntN(20) == 0:
		o.status = "cancelled"
	case age < 12*time.Hour:
		o.status = "new"
	case age < 2*24*time.Hour:
		o.status = "paid"
	case age < 7*24*time.Hour:
		o.status = "shipped"
	default:
		o.status = "delivered"
	}
	if o.status != "new" && o.status != "cancelled" {
		o.method = pick(r, paymentMethods[:])
	}
	return o
}

type eventRow struct {
	user          int64
	kind, payload string
	at            time.Time
}

func (g generator) event(id int64) eventRow {
	r := source(eventKind, id)
	at := g.moment(id, eventCount, 30*24*time.Hour)
	e := eventRow{user: g.customer(r, at), kind: pick(r, eventKinds[:]), payload: "{}", at: at}
	switch e.kind {
	case "search":
		e.payload = fmt.Sprintf(`{"query": %q}`, strings.ToLower(pick(r, materials[:])))
	case "view", "cart":
		e.payload = fmt.Sprintf(`{"product": %d}`, skewed(r, int64(productCount)))
	}
	return e
}

// customer draws a user who had signed up by then; early users are the most faithful.
func (g generator) customer(r *rand.Rand, then time.Time) int64 {
	share := 1 - float64(g.now.Sub(then))/float64(history)
	return skewed(r, max(1, int64(share*userCount)))
}

// skewed draws from 1 to count, small numbers more often: the first tenth gets about a third of the draws.
func skewed(r *rand.Rand, count int64) int64 {
	f := r.Float64()
	return 1 + int64(f*f*float64(count))
}
