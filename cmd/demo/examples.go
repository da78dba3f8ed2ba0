package demo

import (
	"strings"
)

// example is a query worth typing, with what it shows.
type example struct{ shows, sql string }

var examples = [...]example{
	{"the best customers", "SELECT name, country, orders, spent FROM customer_value ORDER BY spent DESC LIMIT 5"},
	{"the last week's revenue", "SELECT day::date, orders, revenue FROM revenue_by_day WHERE day > now() - interval '7 days' ORDER BY day"},
	{"what one user has bought", "SELECT o.id, o.status, i.quantity, p.name FROM orders o JOIN order_items i ON i.order_id = o.id JOIN products p ON p.id = i.product_id WHERE o.user_id = 42 ORDER BY o.id DESC LIMIT 5"},
	{"a write in a function", "SELECT place_order(42, ARRAY[7, 8, 9])"},
	{"settings that follow you from server connection to server connection", "SET work_mem = '64MB'; SELECT pg_backend_pid(); SHOW work_mem"},
}

// Examples returns shell lines to try, each under a comment that says what it shows. url is the proxy's.
func Examples(url string) string {
	var b strings.Builder
	for _, e := range examples {
		b.WriteString("# " + e.shows + "\n")
		b.WriteString("psql " + shellQuote(url) + " -c " + shellQuote(e.sql) + "\n")
	}
	b.WriteString("# orders as they come in\n")
	b.WriteString("psql " + shellQuote(url) + " -c 'LISTEN orders' -c 'SELECT pg_sleep(2)' -c 'SELECT 1'\n")
	return b.String()
}

// ReplicaExamples returns further lines, for where there are replicas. admin is the URL of the admin database, database the
// name of the sample application's.
func ReplicaExamples(url, admin, database string) string {
	var b strings.Builder
	line := func(shows, url string, commands ...string) {
		b.WriteString("# " + shows + "\npsql " + shellQuote(url))
		for _, c := range commands {
			b.WriteString(" -c " + shellQuote(c))
		}
		b.WriteString("\n")
	}
	const read, route = "SELECT count(*) FROM orders WHERE user_id = 42", "SHOW pgtier.last_route"
	line("where a read went, and why", url, read, route)
	line("the same from the manager, because the session asks for it", url, "SET pgtier.consistency = 'manager'", read, route)
	line("a write, the position that shows it (another session may SET pgtier.lsn to it), and a read that must", url,
		"SELECT place_order(42, ARRAY[7, 8, 9])", "SHOW pgtier.lsn", read, route)
	line("the servers, where requests went, and where one would go", admin, "SHOW REPLICAS", "SHOW ROUTES",
		"EXPLAIN ROUTE "+database+": SELECT * FROM customer_value")
	return b.String()
}

// shellQuote makes one word of any text for a POSIX shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
