// Package demo is the sample application of `pgtier demo`: the schema and data of a shop, example queries, and live
// traffic as an application would make it.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

//go:embed tables.sql
var tablesSQL string

//go:embed rules.sql
var rulesSQL string

//go:embed triggers.sql
var triggersSQL string

// Progress hears how far the load is: rows of total are in the table. It is called from the goroutine that
// loads, every few thousand rows and at the end of each table.
type Progress func(table string, rows, total int64)

// progressRows is how many rows lie between two calls of Progress.
const progressRows = 5000

// CreateDatabase makes a role that may log in and a database that it owns. superuserURL leads to any database of the
// server. A role that exists already gets the password; a database that exists already is an error.
func CreateDatabase(ctx context.Context, superuserURL, database, role, password string) error {
	conn, err := pgx.Connect(ctx, superuserURL)
	if err != nil {
		return fmt.Errorf("create demo database: %w", err)
	}
	defer conn.Close(ctx)
	owner := pgx.Identifier{role}.Sanitize()
	_, err = conn.Exec(ctx, "CREATE ROLE "+owner)
	if pgError := (*pgconn.PgError)(nil); err != nil && !(errors.As(err, &pgError) && pgError.Code == "42710") {
		return fmt.Errorf("create demo role: %w", err)
	}
	// Utility statements take no parameters; format() quotes on the server.
	var alter string
	err = conn.QueryRow(ctx, "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)", role, password).Scan(&alter)
	if err != nil {
		return fmt.Errorf("create demo role: %w", err)
	}
	if _, err := conn.Exec(ctx, alter); err != nil {
		return fmt.Errorf("create demo role: %w", err)
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{database}.Sanitize()+" OWNER "+owner); err != nil {
		return fmt.Errorf("create demo database: %w", err)
	}
	return nil
}

// AllowMoves gives a role what it needs beside its database to move rows between shards (pgtier reshard). superuserURL leads to that database: the
// functions of replication origins are granted in each. PostgreSQL 15 is the oldest that can.
func AllowMoves(ctx context.Context, superuserURL, role string) error {
	conn, err := pgx.Connect(ctx, superuserURL)
	if err != nil {
		return fmt.Errorf("allow %s to move rows: %w", role, err)
	}
	defer conn.Close(ctx)
	name := pgx.Identifier{role}.Sanitize()
	var functions string
	err = conn.QueryRow(ctx, `SELECT string_agg(oid::regprocedure::text, ', ') FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname LIKE 'pg\_replication\_origin\_%'`).Scan(&functions)
	if err == nil {
		_, err = conn.Exec(ctx, fmt.Sprintf("ALTER ROLE %[1]s REPLICATION; GRANT pg_read_all_stats TO %[1]s; GRANT SET ON PARAMETER session_replication_role TO %[1]s; GRANT EXECUTE ON FUNCTION %[2]s TO %[1]s", name, functions))
	}
	if err != nil {
		return fmt.Errorf("allow %s to move rows: %w", role, err)
	}
	return nil
}

// Load creates the schema in the database of every manager and fills it, straight past any proxy: countries and products
// everywhere, and of what belongs to users on each manager what its shard owns (see ShardName and Keys). The databases must not
// hold it yet; one that fails is left as it was. progress may be nil; it hears of each manager in turn.
func Load(ctx context.Context, managerURLs []string, progress Progress) error {
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	shards, err := newShards(len(managerURLs))
	if err != nil {
		return fmt.Errorf("load sample data: %w", err)
	}
	g := generator{now: time.Now().Truncate(time.Minute)}
	for i, url := range managerURLs {
		if err := loadManager(ctx, url, g, part{shards, i}, progress); err != nil {
			return fmt.Errorf("load sample data into manager %d: %w", i, err)
		}
	}
	return nil
}

func loadManager(ctx context.Context, url string, g generator, p part, progress Progress) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return fill(ctx, tx, g, p, progress) })
	if err != nil {
		return err
	}
	// Visibility maps and statistics now, rather than when autovacuum comes by in the middle of the demo.
	if _, err := conn.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	return nil
}

func fill(ctx context.Context, tx pgx.Tx, g generator, p part, progress Progress) error {
	if _, err := tx.Exec(ctx, tablesSQL); err != nil {
		return fmt.Errorf("create tables: %w", err)
	}
	// COPY in binary needs to know what an enum is.
	types, err := tx.Conn().LoadTypes(ctx, []string{"plan", "order_status"})
	if err != nil {
		return fmt.Errorf("look up types: %w", err)
	}
	tx.Conn().TypeMap().RegisterTypes(types)
	for _, t := range append(g.referenceTables(), g.userTables()...) {
		if err := t.copy(ctx, tx, p, progress); err != nil {
			return fmt.Errorf("fill %s: %w", t.name, err)
		}
	}
	if _, err := tx.Exec(ctx, p.emailIndex()+rulesSQL+p.triggers()); err != nil {
		return fmt.Errorf("create indexes, keys and functions: %w", err)
	}
	return nil
}

// table is one table's data: rows returns the rows, none or several, that number i of count stands for.
type table struct {
	name    string
	columns []string
	count   int64
	rows    func(i int64) [][]any
	// identity says that the table's sequence must go on behind count.
	identity bool
}

// copy writes the rows that the part owns.
func (t table) copy(ctx context.Context, tx pgx.Tx, p part, progress Progress) error {
	var next, made int64
	var pending [][]any
	key := slices.Index(t.columns, Keys()[t.name])
	_, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromFunc(func() ([]any, error) {
		for len(pending) == 0 {
			if next == t.count {
				return nil, nil
			}
			next++
			pending = t.rows(next)
			made += int64(len(pending))
			if key >= 0 {
				pending = slices.DeleteFunc(pending, func(row []any) bool { return !p.owns(row[key].(int64)) })
			}
			if next%progressRows == 0 {
				progress(t.name, next, t.count)
			}
		}
		row := pending[0]
		pending = pending[1:]
		return row, nil
	}))
	if err != nil {
		return err
	}
	if t.identity {
		if _, err := tx.Exec(ctx, p.sequence(t.name, key >= 0, made)); err != nil {
			return fmt.Errorf("set sequence: %w", err)
		}
	}
	progress(t.name, t.count, t.count)
	return nil
}

func (g generator) referenceTables() []table {
	return []table{
		{name: "countries", columns: []string{"code", "name"}, count: int64(len(countries)), rows: func(i int64) [][]any {
			return [][]any{{countries[i-1].code, countries[i-1].name}}
		}},
		{name: "products", columns: []string{"id", "sku", "name", "category", "price"}, count: int64(productCount), identity: true,
			rows: func(i int64) [][]any {
				p := g.product(i)
				return [][]any{{i, p.sku, p.name, p.category, money(p.cents)}}
			}},
	}
}

func (g generator) userTables() []table {
	var payments int64
	return []table{
		{name: "users", columns: []string{"id", "email", "name", "country", "plan", "settings", "created_at"}, count: userCount, identity: true,
			rows: func(i int64) [][]any {
				u := g.user(i)
				return [][]any{{i, u.email, u.name, u.country, u.plan, u.settings, u.created}}
			}},
		{name: "orders", columns: []string{"id", "user_id", "status", "total", "placed_at", "updated_at"}, count: orderCount, identity: true,
			rows: func(i int64) [][]any {
				o := g.order(i)
				return [][]any{{i, o.user, o.status, money(o.cents), o.placed, o.placed}}
			}},
		{name: "order_items", columns: []string{"order_id", "line", "user_id", "product_id", "quantity", "unit_price"}, count: orderCount,
			rows: func(i int64) [][]any {
				o := g.order(i)
				var rows [][]any
				for line, item := range o.items {
					rows = append(rows, []any{i, line + 1, o.user, item.product, item.quantity, money(item.cents)})
				}
				return rows
			}},
		{name: "payments", columns: []string{"id", "order_id", "user_id", "method", "amount", "paid_at"}, count: orderCount, identity: true,
			rows: func(i int64) [][]any {
				o := g.order(i)
				if o.method == "" {
					return nil
				}
				payments++
				return [][]any{{payments, i, o.user, o.method, money(o.cents), o.placed.Add(time.Hour)}}
			}},
		{name: "events", columns: []string{"id", "user_id", "kind", "payload", "at"}, count: eventCount, identity: true,
			rows: func(i int64) [][]any {
				e := g.event(i)
				return [][]any{{i, e.user, e.kind, e.payload, e.at}}
			}},
	}
}

// money is a numeric with two decimals.
func money(cents int64) pgtype.Numeric {
	return pgtype.Numeric{Int: big.NewInt(cents), Exp: -2, Valid: true}
}
