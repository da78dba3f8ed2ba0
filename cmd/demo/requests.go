package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// request is something an application does. To add one, add it to the table.
type request struct {
	name   string
	weight int // how often, relative to the others
	writes bool
	run    func(context.Context, *pgx.Conn) error
	// sharded is what is done instead where the shop is spread over shards, nil where that makes no difference.
	sharded func(context.Context, *pgx.Conn) error
}

var requests = [...]request{
	{name: "show profile", weight: 30, run: showProfile},
	{name: "list orders", weight: 20, run: listOrders},
	{name: "browse category", weight: 15, run: browseCategory},
	{name: "open dashboard", weight: 10, run: openDashboard},
	{name: "report revenue", weight: 1, run: reportRevenue, sharded: reportRevenueOfShards},
	{name: "log event", weight: 10, writes: true, run: logEvent},
	{name: "change settings", weight: 4, writes: true, run: changeSettings},
	{name: "place order", weight: 6, writes: true, run: placeOrder, sharded: placeOrderOfUser},
	{name: "move order on", weight: 4, writes: true, run: moveOrderOn, sharded: moveUsersOrderOn},
}

func someUser() int64 { return 1 + rand.Int64N(userCount) }

func someProduct() int64 { return 1 + rand.Int64N(int64(productCount)) }

// drain runs a query to its end and forgets its rows.
func drain(ctx context.Context, conn *pgx.Conn, sql string, args ...any) error {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// showProfile is the most frequent kind of query there is: one row by primary key, prepared.
func showProfile(ctx context.Context, conn *pgx.Conn) error {
	return drain(ctx, conn, "SELECT id, name, email, plan::text, settings FROM users WHERE id = $1", someUser())
}

func listOrders(ctx context.Context, conn *pgx.Conn) error {
	return drain(ctx, conn, "SELECT id, status::text, total, placed_at FROM orders WHERE user_id = $1 ORDER BY placed_at DESC LIMIT 10", someUser())
}

// browseCategory uses the simple protocol.
func browseCategory(ctx context.Context, conn *pgx.Conn) error {
	c := categories[rand.IntN(len(categories))]
	return drain(ctx, conn, "SELECT id, name, price FROM products WHERE category = $1 ORDER BY price LIMIT 20", pgx.QueryExecModeSimpleProtocol, c.name)
}

// openDashboard sends three queries in one pipeline.
func openDashboard(ctx context.Context, conn *pgx.Conn) error {
	user := someUser()
	batch := &pgx.Batch{}
	batch.Queue("SELECT name FROM users WHERE id = $1", user)
	batch.Queue("SELECT count(*), sum(total) FROM orders WHERE user_id = $1", user)
	batch.Queue("SELECT kind, at FROM events WHERE user_id = $1 ORDER BY at DESC LIMIT 5", user)
	return conn.SendBatch(ctx, batch).Close()
}

// reportRevenue guards a heavy query with a time limit of its own transaction.
func reportRevenue(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = '10s'"); err != nil {
			return err
		}
		return drain(ctx, tx.Conn(), "SELECT day, orders, revenue FROM revenue_by_day WHERE day > now() - interval '30 days' ORDER BY day")
	})
}

func logEvent(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "INSERT INTO events (user_id, kind, payload) VALUES ($1, 'view', jsonb_build_object('product', $2::bigint))", someUser(), someProduct())
	return err
}

func changeSettings(ctx context.Context, conn *pgx.Conn) error {
	theme := themes[rand.IntN(len(themes))]
	_, err := conn.Exec(ctx, "UPDATE users SET settings = settings || jsonb_build_object('theme', $2::text) WHERE id = $1", someUser(), theme)
	return err
}

// placeOrder and moveOrderOn cause a notification each.
func placeOrder(ctx context.Context, conn *pgx.Conn) error {
	user := someUser()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var plan string
		if err := tx.QueryRow(ctx, "SELECT plan::text FROM users WHERE id = $1 FOR SHARE", user).Scan(&plan); err != nil {
			return err
		}
		var order int64
		return tx.QueryRow(ctx, "SELECT place_order($1, $2)", user, []int64{someProduct(), someProduct()}).Scan(&order)
	})
}

func moveOrderOn(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `UPDATE orders SET status = CASE status WHEN 'new' THEN 'paid' WHEN 'paid' THEN 'shipped' ELSE 'delivered' END::order_status
WHERE id = (SELECT id FROM orders WHERE status IN ('new', 'paid', 'shipped') ORDER BY placed_at LIMIT 1 FOR UPDATE SKIP LOCKED)`)
	return err
}

// reportRevenueOfShards writes the view out: what it groups is added up over the shards. Its beginning is by the application's clock, because each shard
// has one of its own.
func reportRevenueOfShards(ctx context.Context, conn *pgx.Conn) error {
	return drain(ctx, conn, `SELECT date_trunc('day', placed_at) AS day, count(*), sum(total) FROM orders
WHERE status <> 'cancelled' AND placed_at > $1 GROUP BY 1 ORDER BY 1`, time.Now().AddDate(0, 0, -30))
}

// announce does what a trigger does on one server: those who listen do so at the home shard, and hear of it when the transaction is over on all shards.
func announce(ctx context.Context, tx pgx.Tx, order int64, status string) error {
	_, err := tx.Exec(ctx, "SELECT pg_notify('orders', $1)", fmt.Sprintf(`{"id": %d, "status": %q}`, order, status))
	return err
}

// placeOrderOfUser does what the function place_order does, statement by statement: each has the user, which says which shard.
func placeOrderOfUser(ctx context.Context, conn *pgx.Conn) error {
	user, products := someUser(), []int64{someProduct(), someProduct()}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var plan string
		if err := tx.QueryRow(ctx, "SELECT plan::text FROM users WHERE id = $1 FOR SHARE", user).Scan(&plan); err != nil {
			return err
		}
		var order int64
		if err := tx.QueryRow(ctx, "INSERT INTO orders (user_id) VALUES ($1) RETURNING id", user).Scan(&order); err != nil {
			return err
		}
		for line, product := range products {
			var price pgtype.Numeric
			if err := tx.QueryRow(ctx, "SELECT price FROM products WHERE id = $1", product).Scan(&price); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "INSERT INTO order_items (user_id, order_id, line, product_id, quantity, unit_price) VALUES ($1, $2, $3, $4, 1, $5)",
				user, order, line+1, product, price); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "UPDATE orders SET total = total + $3 WHERE user_id = $1 AND id = $2", user, order, price); err != nil {
				return err
			}
		}
		return announce(ctx, tx, order, "new")
	})
}

// moveUsersOrderOn moves an order of one user on, so that it is looked for on one shard.
func moveUsersOrderOn(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var order int64
		var status string
		err := tx.QueryRow(ctx, `UPDATE orders SET status = CASE status WHEN 'new' THEN 'paid' WHEN 'paid' THEN 'shipped' ELSE 'delivered' END::order_status, updated_at = now()
WHERE user_id = $1 AND id = (SELECT id FROM orders WHERE user_id = $1 AND status <> 'cancelled' ORDER BY placed_at DESC LIMIT 1)
RETURNING id, status::text`, someUser()).Scan(&order, &status)
		if errors.Is(err, pgx.ErrNoRows) { // who has ordered nothing
			return nil
		}
		if err != nil {
			return err
		}
		return announce(ctx, tx, order, status)
	})
}
