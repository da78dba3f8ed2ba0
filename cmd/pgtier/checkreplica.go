package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/router/balance"
)

// standing is where a server stands in the history of its system.
type standing struct {
	known      bool // it was asked; of a manager also: it takes writes
	inRecovery bool
	system     string // pg_control_system().system_identifier
	timeline   int64
	position   balance.LSN
}

// askStanding reads a manager's timeline from the name of its file, because the last checkpoint may be of before its promotion.
const askStanding = `SELECT pg_is_in_recovery(), (SELECT system_identifier::text FROM pg_control_system()),
	CASE WHEN pg_is_in_recovery() THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()),
		(SELECT min_recovery_end_timeline FROM pg_control_recovery()))::bigint
	ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END,
	CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END::text`

// stand asks conn's server where it stands.
func stand(ctx context.Context, conn *pgx.Conn) (standing, error) {
	s := standing{known: true}
	var position string
	if err := conn.QueryRow(ctx, askStanding).Scan(&s.inRecovery, &s.system, &s.timeline, &position); err != nil {
		return standing{}, err
	}
	at, err := balance.ParseLSN(position)
	s.position = at
	return s, err
}

// checkReplica looks at one replica of a manager that stands at m.
func checkReplica(ctx context.Context, r *report, c serverCheck, m standing, maxLag time.Duration) {
	if c.server.User == "" {
		return // said of the manager, whose role it is
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.timeout())
	defer cancel()
	conn, err := c.connect(ctx)
	if err != nil {
		r.add(broken, c.subject(), "%s", connectProblem(err))
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	r.add(fine, c.subject(), "reached, has the database, and the login of %s works", c.server.User)
	if err := c.checkVersion(ctx, r, conn); err != nil {
		r.add(broken, c.subject(), "ask for its version: %v", err)
		return
	}
	s, err := stand(ctx, conn)
	if err != nil {
		r.add(broken, c.subject(), "ask where it stands: %v; grant EXECUTE on pg_control_system, pg_control_checkpoint and pg_control_recovery to %s", err, c.server.User)
		return
	}
	if c.checkFollows(r, s, m) {
		c.checkLag(ctx, r, conn, s, m, maxLag)
	}
	if err := c.checkStandbySettings(ctx, r, conn); err != nil {
		r.add(broken, c.subject(), "ask for settings: %v", err)
	}
}

// checkVersion looks at a replica's version.
func (c serverCheck) checkVersion(ctx context.Context, r *report, conn *pgx.Conn) error {
	var number int
	var text string
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_version')").Scan(&number, &text); err != nil {
		return err
	}
	judged, words := judgeVersion(number, text, c.replicas)
	r.add(judged, c.subject(), "%s", words)
	return nil
}

// checkFollows compares where a replica stands with its manager, and reports whether it may follow it.
func (c serverCheck) checkFollows(r *report, s, m standing) bool {
	switch {
	case !s.inRecovery:
		r.add(broken, c.subject(), "takes writes: it is no replica; make it follow the manager (pg_basebackup, or pg_rewind after a failover), or take it out")
	case !m.known:
		r.add(doubtful, c.subject(), "is a replica; whether it follows the manager was not looked at, because that has failed")
	case s.system != m.system:
		r.add(broken, c.subject(), "is a replica of another system, %s instead of %s; make it anew from the manager (pg_basebackup)", s.system, m.system)
	case s.timeline < m.timeline:
		r.add(broken, c.subject(), "follows timeline %d, the manager is on %d; point primary_conninfo to the manager, with recovery_target_timeline = latest", s.timeline, m.timeline)
	case s.timeline > m.timeline:
		r.add(broken, c.subject(), "follows timeline %d, the manager is on %d: it follows another server, which was promoted later; that one should be the manager", s.timeline, m.timeline)
	default:
		r.add(fine, c.subject(), "is a replica of the manager, on timeline %d", s.timeline)
		return true
	}
	return false
}

// checkLag says how far a replica that follows is behind.
func (c serverCheck) checkLag(ctx context.Context, r *report, conn *pgx.Conn, s, m standing, maxLag time.Duration) {
	if s.position >= m.position {
		r.add(fine, c.subject(), "has replayed all that the manager had written, up to %s", m.position)
		return
	}
	var seconds *float64
	var receiving bool
	err := conn.QueryRow(ctx, `SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
		EXISTS (SELECT FROM pg_stat_wal_receiver)`).Scan(&seconds, &receiving)
	if err != nil {
		r.add(broken, c.subject(), "ask for its lag: %v", err)
		return
	}
	behind := fmt.Sprintf("is %d bytes behind the manager", uint64(m.position-s.position))
	if seconds != nil {
		behind += fmt.Sprintf(", its last transaction is %.1f s old", *seconds)
	}
	switch {
	case !receiving:
		r.add(doubtful, c.subject(), "%s and has no WAL receiver; look at primary_conninfo and at its log", behind)
	case maxLag > 0 && seconds != nil && *seconds > maxLag.Seconds():
		r.add(doubtful, c.subject(), "%s; beyond reads.max_lag (%s) it serves nothing", behind, maxLag)
	default:
		r.add(fine, c.subject(), "%s", behind)
	}
}

// checkStandbySettings looks at what decides how well reads and failovers go.
func (c serverCheck) checkStandbySettings(ctx context.Context, r *report, conn *pgx.Conn) error {
	var feedback, isolation string
	var monitor bool
	var maxConnections, reserved int
	err := conn.QueryRow(ctx, `SELECT current_setting('hot_standby_feedback'), current_setting('default_transaction_isolation'),
		pg_has_role(current_user, 'pg_monitor', 'USAGE'), `+askConnections).
		Scan(&feedback, &isolation, &monitor, &maxConnections, &reserved)
	if err != nil {
		return err
	}
	if feedback == "on" {
		r.add(fine, c.subject(), "hot_standby_feedback on")
	} else {
		r.add(fine, c.subject(), "hot_standby_feedback off: a long read that vacuum on the manager gets in the way of is cancelled; pgtier sends it again")
	}
	if isolation == "serializable" {
		r.add(broken, c.subject(), "default_transaction_isolation is serializable, which no replica can do; set another, or reads.consistency: manager")
	}
	if !monitor {
		r.add(doubtful, c.subject(), "%s is not in pg_monitor, so that it is seen late that the replica follows a new manager; GRANT pg_monitor TO %s", c.server.User, c.server.User)
	}
	c.checkConnections(r, maxConnections-reserved, maxConnections, reserved)
	return nil
}
