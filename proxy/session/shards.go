package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/plan"
)

// A sharded database has a Database for each shard. What goes to one shard runs as it does without shards: the session
// moves to that shard's Database first, and everything else is as ever (survey.go decides). What goes to several is
// the business of wide.

// Cluster is what the shards of one database share. Safe for concurrent use.
type Cluster struct {
	// Layout returns the shards and the planner in force. The error is for the client.
	Layout func() (*Layout, error)
	// Number is that of the motion that Layout goes by, or an older one's.
	Number func() int64
	// Finish carries out on a shard what a transaction's anchor has decided, where the session could not: it tries, as the role that has prepared the part of
	// that name, until ctx ends, and returns nil when it is done.
	Finish func(ctx context.Context, shard, role, part string) error
	// Unsettled is told that a transaction prepared on several shards may be left for recovery.
	Unsettled func()
	// Stuck is told that a session has waited for a shard for so long that others may be waiting for it in turn.
	Stuck func()
	// Touch has the map of buckets and the motion asked for at once.
	Touch func()
	// Decision is the statement by which a transaction's anchor decides that it is committed.
	Decision func(gid string) (string, error)
	// Prefix begins the identifiers of the database's prepared transactions (IdentifierPrefix).
	Prefix string
}

// Layout is a sharded database as it is now. Immutable.
type Layout struct {
	Schema *plan.Schema
	// Epoch numbers what is planned by: layouts with the same have the same Schema and Shards. It is never 0.
	Epoch uint64
	// Shards are by the planner's indexes; Home is the index of the one that holds what is not sharded, Members are those that may be asked.
	Shards  []*Database
	Home    int
	Members []int
	// Motion is what moves of buckets ask now; Holds says that statements wait for some.
	Motion shardmap.Motion
	Holds  bool
	// Replaced is closed when the map or the motion may be others.
	Replaced <-chan struct{}
	// Unnumbered are the tables, as "schema.name", whose sequences may give one number on several shards, and why.
	Unnumbered map[string]error
	// Fault says why nothing may be sent to a shard now, nil if it may.
	Fault func(shard int) error
	// Fits returns why the schema that home sees cannot be the next one, which is for the client, or that it could not be read. Where all
	// members see it, in their order, it has their sequences give no number twice. It asks as the transaction that has made the schema.
	Fits func(ctx context.Context, home catalog.Querier, all []catalog.Querier) error
	// Shapes remember what the answers of statements look like.
	Shapes *Shapes
}

// member reports whether statements may go to a shard at all.
func (l *Layout) member(at int) bool { return slices.Contains(l.Members, at) }

// named reports whether there is a shard of that name.
func (l *Layout) named(name string) bool {
	return slices.ContainsFunc(l.Shards, func(db *Database) bool { return db.Shard() == name })
}

// index is the place of db, -1 if it has gone.
func (l *Layout) index(db *Database) int {
	for i := range l.Shards {
		if l.Shards[i] == db {
			return i
		}
	}
	return -1
}

// spot is what a session knows of a shard that it is not at.
type spot struct {
	db     *Database
	home   *pool.Pool[*backend.Conn]
	ticket fleet.Ticket
	seen   fleet.Ticket
	seenOn string
	seenAt time.Time
	behind int
}

// moveTo makes the next turn one for db's servers. The session holds no connection.
func (s *Session) moveTo(db *Database) {
	if s.at == db {
		s.moveHome()
		return
	}
	now := spot{db: s.at, home: s.home, ticket: s.ticket, seen: s.seen, seenOn: s.seenOn, seenAt: s.seenAt, behind: s.behind}
	next := spot{db: db}
	for i := range s.spots {
		if s.spots[i].db == db {
			next = s.spots[i]
			s.spots[i] = now
			now.db = nil
			break
		}
	}
	if now.db != nil {
		s.spots = append(s.spots, now)
	}
	s.at = db
	s.ticket, s.seen, s.seenOn, s.seenAt, s.behind = next.ticket, next.seen, next.seenOn, next.seenAt, next.behind
	s.home = next.home
	s.moveHome()
}

// moveHome makes the pool of the shard's manager the one that is used where no fleet chooses.
func (s *Session) moveHome() {
	if name := s.at.Manager(); s.home == nil || s.home.Key().Server != name {
		s.home = s.poolOf(name)
	}
}

// Passes reports whether an error of asking a shard says nothing but that it cannot be asked now.
func Passes(err error) bool {
	var said *wire.Error
	if !errors.As(err, &said) {
		return errors.As(err, new(net.Error)) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	}
	// Connections lost or refused, limits of resources, locks and time.
	return strings.HasPrefix(said.Code, "08") || strings.HasPrefix(said.Code, "53") || strings.HasPrefix(said.Code, "57") || said.Code == "55P03"
}

// unnumbered refuses rows for a table whose sequences may give one number on several shards. The table may be another of the
// same name in a schema that the text does not show.
func (l *Layout) unnumbered(st *parser.Statement) *wire.Error {
	if len(l.Unnumbered) == 0 {
		return nil
	}
	for i := range st.Commands {
		cmd := &st.Commands[i]
		if cmd.Kind != parser.Insert && cmd.Effects&parser.CopyIn == 0 && cmd.Kind != parser.Merge {
			continue
		}
		for _, t := range cmd.Tables {
			for name, why := range l.Unnumbered {
				schema, table, _ := strings.Cut(name, ".")
				if t.Access&parser.Alters != 0 && t.Name == table && (t.Schema == "" || t.Schema == schema) {
					if Passes(why) {
						return &wire.Error{Code: wire.CodeCannotConnectNow, Message: fmt.Sprintf("whether the sequences of table %q give every number once is not known now", name),
							Detail: why.Error(), Hint: "Try again: pgtier looks at them on all shards as soon as these answer."}
					}
					return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: fmt.Sprintf("the sequences of table %q may give the same numbers on several shards", name),
						Detail: why.Error(), Hint: "Let pgtier log in as the owner of the sequence, which then steps by shard."}
				}
			}
		}
	}
	return nil
}
