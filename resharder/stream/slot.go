package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Slot is a new replication slot and the snapshot from which its stream goes on. The slot outlives it.
type Slot struct {
	// Name is the slot's.
	Name string
	// Start is the position from which the slot streams.
	Start LSN
	// Snapshot is for Copy. It can be taken up until Close.
	Snapshot string

	conn *pgconn.PgConn
}

// Close lets go of the snapshot. Transactions that have taken it up keep it.
func (s *Slot) Close() { hangUp(s.conn) }

// Holder is a transaction that the creation of a slot waits for: it has written something, in whatever database of the server.
type Holder struct {
	// PID is 0 for a prepared transaction, whose name is Query then.
	PID                                       int
	Database, User, Application, State, Query string
	For                                       time.Duration // since it began
}

// String says who it is.
func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("prepared transaction %q of %s in database %s, for %s", h.Query, h.User, h.Database, h.For.Round(time.Second))
	}
	return fmt.Sprintf("process %d (%s of %s in database %s, %s) for %s", h.PID, h.Application, h.User, h.Database, h.State, h.For.Round(time.Second))
}

// SlotBlocked is returned when a slot could not be made in the time there was, because transactions that write were open.
type SlotBlocked struct {
	Server, Slot string
	// Holders are the oldest of them, oldest first. There may be none any more.
	Holders []Holder
	Cause   error
}

// Error names the holders.
func (e *SlotBlocked) Error() string {
	list := make([]string, len(e.Holders))
	for i, h := range e.Holders {
		list[i] = h.String()
	}
	return fmt.Sprintf("%s: slot %s waits for transactions that have written to end: %s; end them, or try again", e.Server, e.Slot, strings.Join(list, "; "))
}

// Unwrap returns why the wait ended.
func (e *SlotBlocked) Unwrap() error { return e.Cause }

// askLimit bounds questions that are asked when a context has ended already.
const askLimit = 5 * time.Second

// CreateSlot makes a slot for Applier and exports its snapshot; a slot of the name must not exist. It waits for all transactions that have written
// something to end, as long as ctx lets it: then it is a *SlotBlocked, and no slot is left unless the server could not be asked any more (Drop removes it).
func CreateSlot(ctx context.Context, server Server, name string) (*Slot, error) {
	params := sessionParams()
	params["replication"] = "database"
	conn, err := server.Dial(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("%s: log in for replication: %w", server.Name, err)
	}
	rows, err := query(ctx, conn, "CREATE_REPLICATION_SLOT "+identifier(name)+" LOGICAL pgoutput EXPORT_SNAPSHOT")
	if err == nil && (len(rows) != 1 || len(rows[0]) != 4) {
		err = errors.New("an answer of another form")
	}
	var start LSN
	if err == nil {
		start, err = ParseLSN(string(rows[0][1]))
	}
	if err == nil {
		return &Slot{Name: name, Start: start, Snapshot: string(rows[0][2]), conn: conn}, nil
	}
	hangUp(conn)
	if ctx.Err() == nil {
		return nil, fmt.Errorf("%s: create slot %s: %w", server.Name, name, explainSlot(err))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLimit)
	defer cancel()
	holders, holdersErr := Holders(ctx, server)
	return nil, errors.Join(&SlotBlocked{Server: server.Name, Slot: name, Holders: holders, Cause: err}, holdersErr, Drop(ctx, server, Objects{Slot: name}))
}

// explainSlot adds what to do.
func explainSlot(err error) error {
	switch sqlState(err) {
	case "53400": // configuration_limit_exceeded
		return &Refused{Hint: "raise max_replication_slots and restart the server, or drop slots that nobody uses", Cause: err}
	case "55000": // object_not_in_prerequisite_state
		return &Refused{Hint: "set wal_level = logical and restart the server", Cause: err}
	}
	return mayNot(err, "the role needs REPLICATION")
}

// holdersMost is how many holders are told.
const holdersMost = 5

// Holders lists the oldest transactions that have written something, oldest first: those that a new slot would wait for.
func Holders(ctx context.Context, server Server) ([]Holder, error) {
	rows, err := server.ask(ctx, `SELECT pid, datname, usename, application_name, state, left(query, 200), began FROM (
  SELECT pid, datname, usename, application_name, state, query, extract(epoch FROM clock_timestamp() - xact_start)::int8 AS began, age(backend_xid) AS age
  FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
  UNION ALL
  SELECT 0, database, owner, '', 'prepared', gid, extract(epoch FROM clock_timestamp() - prepared)::int8, age(transaction) FROM pg_prepared_xacts
) h ORDER BY age DESC LIMIT `+strconv.Itoa(holdersMost))
	if err != nil {
		return nil, fmt.Errorf("ask who writes: %w", err)
	}
	var holders []Holder
	for _, r := range rows {
		pid, _ := strconv.Atoi(string(r[0])) // numbers by the server's own types; NULL is 0
		seconds, _ := strconv.Atoi(string(r[6]))
		holders = append(holders, Holder{PID: pid, Database: string(r[1]), User: string(r[2]), Application: string(r[3]), State: string(r[4]),
			Query: string(r[5]), For: time.Duration(seconds) * time.Second})
	}
	return holders, nil
}

// Objects are what a stream leaves at a server. "" is none.
type Objects struct{ Slot, Publication, Origin string }

// busyRest is how long Drop waits between two looks at a slot or origin that is in use.
const busyRest = 50 * time.Millisecond

// Drop removes what there is of the objects. A slot or origin that is in use is waited for while ctx lets it. An origin must stay until the stream
// of the other direction has ended: what it stands for would not be known there any more.
func Drop(ctx context.Context, server Server, o Objects) error {
	conn, err := server.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	for _, drop := range []struct{ what, name, sql string }{
		{"slot", o.Slot, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = " + literal(o.Slot)},
		{"publication", o.Publication, "DROP PUBLICATION IF EXISTS " + identifier(o.Publication)},
		{"origin", o.Origin, "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname = " + literal(o.Origin)},
	} {
		if drop.name == "" {
			continue
		}
		if err := dropOne(ctx, conn, drop.sql); err != nil {
			return fmt.Errorf("%s: drop %s %s: %w", server.Name, drop.what, drop.name, err)
		}
	}
	return nil
}

// dropOne runs SQL that drops something until it is not in use any more.
func dropOne(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	for {
		_, err := query(ctx, conn, sql)
		switch sqlState(err) {
		case codeUndefinedObject: // somebody else was faster
			return nil
		case codeInUse:
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(busyRest):
		}
	}
}

// CreateOrigin makes a replication origin at a target, unless it is there.
func CreateOrigin(ctx context.Context, server Server, name string) error {
	_, err := server.ask(ctx, "SELECT pg_replication_origin_create("+literal(name)+") WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = "+literal(name)+")")
	if code := sqlState(err); code == codeDuplicateObject || code == "23505" { // somebody else was faster
		return nil
	}
	if err != nil {
		return fmt.Errorf("create replication origin %s: %w", name, mayNot(err, "let a superuser GRANT EXECUTE on the functions pg_replication_origin_… to the role"))
	}
	return nil
}
