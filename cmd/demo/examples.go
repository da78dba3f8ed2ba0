package demo

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// example is a query worth typing, with what it shows.
type example struct{ shows, sql string }

var examples = [...]example{
	{"the best customers", "SELECT name, country, orders, spent FROM customer_value ORDER BY spent DESC LIMIT 5"},
	{"the last week's revenue", "SELECT day::date, orders, revenue FROM revenue_by_day WHERE day > now() - interval '7 days' ORDER BY day"},
	{"what one user has bought", "SELECT o.id, o.status, i.quantity, p.name FROM orders o JOIN order_items i ON i.user_id = o.user_id AND i.order_id = o.id JOIN products p ON p.id = i.product_id WHERE o.user_id = 42 ORDER BY o.id DESC LIMIT 5"},
	{"a write in a function", "SELECT place_order(42, ARRAY[7, 8, 9])"},
	{"settings that follow you from server connection to server connection", "SET work_mem = '64MB'; SELECT pg_backend_pid(); SHOW work_mem"},
}

// weekAgo stands for the day a week ago in examples: each shard has a clock of its own, so that it is told the day.
const weekAgo = "a week ago"

// shardExamples stand in for examples where the shop is spread over shards: views and functions over all of them are not there. One server takes
// them, too.
var shardExamples = [...]example{
	{"one user, one shard", "SELECT u.name, o.id, o.status, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 42 ORDER BY o.id DESC LIMIT 5"},
	{"what one user has bought: the products are on every shard", "SELECT o.id, o.status, i.quantity, p.name FROM orders o JOIN order_items i ON i.user_id = o.user_id AND i.order_id = o.id " +
		"JOIN products p ON p.id = i.product_id WHERE o.user_id = 42 ORDER BY o.id DESC LIMIT 5"},
	{"the latest orders of all shards, merged in order", "SELECT id, user_id, status, total FROM orders ORDER BY placed_at DESC, id LIMIT 5"},
	{"the last week's revenue, added up over the shards", "SELECT date_trunc('day', placed_at)::date AS day, count(*) AS orders, sum(total) AS revenue FROM orders " +
		"WHERE placed_at > '" + weekAgo + "' GROUP BY 1 ORDER BY 1"},
	{"one INSERT, rows on several shards, one transaction", "INSERT INTO events (user_id, kind) VALUES (1, 'view'), (2, 'view'), (3, 'view'), (4, 'view') RETURNING id, user_id"},
	{"a change on all shards, atomic", "UPDATE users SET plan = 'pro' WHERE id IN (1, 2, 3, 4, 5)"},
	{"a function that writes: the statement does not show its key, so it is told", "/* pgtier: sharding_key=42 */ SELECT place_order(42, ARRAY[7, 8, 9])"},
}

// Examples returns shell lines to try, each under a comment that says what it shows. url is the proxy's.
func Examples(url string) string { return lines(url, examples[:]) }

// ShardExamples is Examples for several managers.
func ShardExamples(url string) string { return lines(url, shardExamples[:]) }

func lines(url string, all []example) string {
	var b strings.Builder
	for _, e := range all {
		b.WriteString("# " + e.shows + "\n")
		sql := strings.ReplaceAll(e.sql, weekAgo, time.Now().AddDate(0, 0, -7).Format(time.DateOnly))
		b.WriteString("psql " + shellQuote(url) + " -c " + shellQuote(sql) + "\n")
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

// MoveExamples returns lines that add a shard while the traffic goes on. program is pgtier as a shell finds it, file its configuration, admin the URL of the
// admin database.
func MoveExamples(program, file, admin, database, added string) string {
	command := func(verb, goal string) string {
		return fmt.Sprintf("%s reshard %s --config %s --database %s%s\n", shellWord(program), verb, shellWord(file), database, goal)
	}
	goal := " --add " + added
	return "# what moves when " + added + " is added, and what is in the way; nothing happens yet\n" + command("plan", goal) +
		"# add it while the sample application reads and writes: its share of the users moves there; at the end, how long statements were held\n" + command("start", goal+" --auto") +
		"# it serves its share now; give the way back up (or go it: rollback)\n" + command("finish", "") +
		"# the same from inside, and who has which buckets\npsql " + shellQuote(admin) + " -c 'SHOW RESHARD' -c 'SHOW SHARDS'\n"
}

// plainWord is what a shell takes as it stands.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)

// shellWord is shellQuote for people: what needs no quotes has none.
func shellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return shellQuote(text)
}

// shellQuote makes one word of any text for a POSIX shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
