package proxy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/proxy"
	"pgtier/proxy/wire"
)

// bind sends sql by the extended protocol with its parameters, all of them as text.
func bind(sql string, params ...string) func(ctx context.Context, c *pgx.Conn) error {
	return func(ctx context.Context, c *pgx.Conn) error {
		values := make([][]byte, len(params))
		for i, p := range params {
			if p != "NULL" {
				values[i] = []byte(p)
			}
		}
		return c.PgConn().ExecParams(ctx, sql, values, nil, nil, nil).Read().Err
	}
}

// bindLater prepares sql under a name and runs it with its parameters.
func bindLater(sql string, params ...string) func(ctx context.Context, c *pgx.Conn) error {
	return func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.PgConn().Prepare(ctx, "later", sql, nil); err != nil {
			return err
		}
		values := make([][]byte, len(params))
		for i := range params {
			values[i] = []byte(params[i])
		}
		return c.PgConn().ExecPrepared(ctx, "later", values, nil, nil).Read().Err
	}
}

// query sends texts one after the other as Query messages.
func query(texts ...string) func(ctx context.Context, c *pgx.Conn) error {
	return func(ctx context.Context, c *pgx.Conn) error {
		for _, text := range texts {
			if _, err := c.PgConn().Exec(ctx, text).ReadAll(); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestOwnSettingsAreChecked: what means nothing is refused in every way to say it, with or without replicas, and nothing of
// it stays.
func TestOwnSettingsAreChecked(t *testing.T) {
	t.Parallel()
	const bad, none, one, fine = "22023 invalid value for setting \"pgtier.", "22023 unknown setting \"pgtier.nonsense\"", "0A000 setting \"pgtier.consistency\" cannot be set for one transaction", ""
	cases := map[string]struct {
		do    func(ctx context.Context, c *pgx.Conn) error
		want  string // SQLSTATE and beginning of the message, "" for success
		level string // afterwards; "" for the one of the configuration
	}{
		"SET":                            {query("SET pgtier.consistency = 'nonsense'"), bad, ""},
		"SET, extended":                  {bind("SET pgtier.consistency = 'nonsense'"), bad, ""},
		"SET of nothing, extended":       {bind("SET pgtier.nonsense = 1"), none, ""},
		"SHOW of nothing, extended":      {bind("SHOW pgtier.nonsense"), none, ""},
		"SET LOCAL":                      {query("BEGIN", "SET LOCAL pgtier.consistency = 'strong'"), one, ""},
		"set_config":                     {query("SELECT set_config('pgtier.consistency', 'nonsense', false)"), bad, ""},
		"set_config, extended":           {bind("SELECT set_config('PGTIER.Consistency', 'nonsense', false)"), bad, ""},
		"set_config, good":               {query("SELECT set_config('pgtier.consistency', 'strong'::text, false)"), fine, "strong"},
		"set_config of a position":       {query("SELECT set_config('pgtier.lsn', '16', false)"), bad, ""},
		"set_config of the cache":        {query("SELECT set_config('pgtier.cache', 'maybe', false)"), bad, ""},
		"set_config of nothing":          {query("SELECT set_config('pgtier.nonsense', 'x', false)"), none, ""},
		"set_config of NULL":             {query("SET pgtier.consistency = 'strong'", "SELECT set_config('pgtier.consistency', NULL, false)"), fine, ""},
		"set_config by names":            {query("SELECT set_config(new_value => 'nonsense', is_local => false, setting_name => 'pgtier.consistency')"), bad, ""},
		"set_config, one of two":         {query("SELECT set_config('work_mem', '1MB', false), set_config('pgtier.consistency', 'nonsense', false)"), bad, ""},
		"set_config for the transaction": {query("BEGIN; SELECT set_config('pgtier.consistency', 'strong', true); COMMIT"), one, ""},
		"set_config for who knows":       {query("SELECT set_config('pgtier.consistency', 'strong', now() IS NULL)"), one, ""},
		"in a transaction":               {query("BEGIN", "SELECT set_config('pgtier.consistency', 'nonsense', false)"), bad, ""},
		"in a text of several":           {query("SELECT 1; SELECT set_config('pgtier.consistency', 'nonsense', false); SELECT 2"), bad, ""},
		"PREPARE":                        {query("PREPARE p AS SELECT set_config('pgtier.consistency', 'nonsense', false)"), bad, ""},
		"EXPLAIN ANALYZE":                {query("EXPLAIN ANALYZE SELECT set_config('pgtier.consistency', 'nonsense', false)"), bad, ""},
		"a cursor":                       {query("BEGIN", "DECLARE c CURSOR FOR SELECT set_config('pgtier.consistency', 'nonsense', false)"), bad, ""},
		"parameter":                      {bind("SELECT set_config('pgtier.consistency', $1, false)", "nonsense"), bad, ""},
		"parameter, good":                {bind("SELECT set_config('pgtier.consistency', $1, false)", "eventual"), fine, "eventual"},
		"parameter, NULL":                {bind("SELECT set_config('pgtier.consistency', $1, false)", "NULL"), fine, ""},
		"second parameter":               {bind("SELECT set_config('pgtier.consistency', $2::text, false), $1::text", "strong", "nonsense"), bad, ""},
		"parameter for a position":       {bind("SELECT set_config('pgtier.lsn', $1, false)", "here"), bad, ""},
		"parameter, prepared":            {bindLater("SELECT set_config('pgtier.consistency', $1, false)", "nonsense"), bad, ""},
		"parameter, prepared, good":      {bindLater("SELECT set_config('pgtier.consistency', $1, false)", "strong"), fine, "strong"},
		"name by parameter":              {bind("SELECT set_config($1, $2, false)", "pgtier.consistency", "nonsense"), bad, ""},
		"another's name by parameter":    {bind("SELECT set_config($1, $2, false)", "app.tenant", "nonsense"), fine, ""},
		"nothing's name by parameter":    {bind("SELECT set_config($1, $2, true)", "pgtier.nonsense", "x"), none, ""},
		"computed, good":                 {query("SELECT set_config('pgtier.consistency', lower('STRONG'), false)"), fine, "strong"},
	}
	check := func(t *testing.T, p *running, level string) {
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				c := p.client(t)
				err := tc.do(bounded(t), c)
				if state, words, found := strings.Cut(tc.want, " "); found {
					wantError(t, err, state, words)
				} else if err != nil {
					t.Error(err)
				}
				if c.IsClosed() {
					t.Fatal("the session has ended")
				}
				mustValue(t, c, "ROLLBACK")
				want := level
				if tc.level != "" {
					want = tc.level
				}
				wantValue(t, c, "SHOW pgtier.consistency", want)
			})
		}
	}
	t.Run("replicas", func(t *testing.T) {
		c := newCrew(t, 1, nil)
		p := c.serve(t, nil)
		c.settle(t, p)
		check(t, p, "session")
	})
	t.Run("none", func(t *testing.T) {
		r := newRig(t)
		check(t, r.serve(t, func(cfg *proxy.Config) {
			d := cfg.Databases[r.database]
			d.Reads.Consistency = "eventual"
			cfg.Databases[r.database] = d
		}), "eventual")
	})
}

// TestComputedOwnSettings: a value that the server itself computes is known only when it is in force. If it means nothing,
// the client is warned and the manager serves until there is another.
func TestComputedOwnSettings(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	p := c.serve(t, nil)
	c.settle(t, p)
	warnings := make(chan *pgconn.Notice, 10)
	config, err := pgx.ParseConfig(p.dsn("postgres", ""))
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { warnings <- n }
	for name, tc := range map[string]struct{ set, back string }{
		"level":                   {"SELECT set_config('pgtier.consistency', lower('NONSENSE'), false)", "RESET pgtier.consistency"},
		"level, in a transaction": {"BEGIN; SELECT set_config('pgtier.consistency', lower('NONSENSE'), false); COMMIT", "SET pgtier.consistency = 'session'"},
		"position":                {"SELECT set_config('pgtier.lsn', lower('HERE'), false)", "SET pgtier.lsn = '0/1'"},
		"position, reset":         {"SELECT set_config('pgtier.lsn', lower('HERE'), false)", "RESET pgtier.lsn"},
		"RESET in a transaction":  {"SELECT set_config('pgtier.lsn', lower('HERE'), false)", "BEGIN; RESET pgtier.lsn; COMMIT"},
		"RESET ALL":               {"SELECT set_config('pgtier.lsn', lower('HERE'), false)", "RESET ALL"},
		"DISCARD ALL":             {"SELECT set_config('pgtier.lsn', lower('HERE'), false)", "DISCARD ALL"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := pgx.ConnectConfig(bounded(t), config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			mustValue(t, conn, tc.set)
			select {
			case n := <-warnings:
				if n.Severity != "WARNING" || n.Code != "22023" || !strings.HasPrefix(n.Message, "invalid value for setting \"pgtier.") {
					t.Errorf("got notice %+v", n)
				}
			default:
				t.Error("no warning came before the end of the answer")
			}
			wantValue(t, conn, "SHOW pgtier.consistency", "manager")
			for range 5 {
				mustValue(t, conn, "SELECT 1")
				if got := mustValue(t, conn, "SHOW pgtier.last_route"); !strings.HasPrefix(got, "manager") || !strings.Contains(got, "consistency level manager") {
					t.Errorf("the read went to %q", got)
				}
			}
			mustValue(t, conn, tc.back)
			wantValue(t, conn, "SHOW pgtier.consistency", "session")
			if err := untilReplica(context.WithValue(bounded(t), throughProxy{}, p), conn); err != nil {
				t.Error(err)
			}
			if len(warnings) > 0 {
				t.Errorf("another warning: %+v", <-warnings)
			}
		})
	}
}

// TestOwnSettingsBehindFlush: where the answer must not wait for Sync, what means nothing ends the session.
func TestOwnSettingsBehindFlush(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	p := c.serve(t, nil)
	c.settle(t, p)
	nonsense := "nonsense"
	for name, tc := range map[string]struct {
		sql    string
		params []*string
	}{
		"SET":       {"SET pgtier.consistency = 'nonsense'", nil},
		"parameter": {"SELECT set_config('pgtier.consistency', $1, false)", []*string{&nonsense}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := p.rawDial(t, wire.Protocol30)
			msgs := wire.AppendExecute(wire.AppendBindText(wire.AppendParse(nil, "", []byte(tc.sql), nil), "", tc.params))
			if _, err := raw.nc.Write(append(msgs, wire.MsgFlush, 0, 0, 0, 4)); err != nil {
				t.Fatal(err)
			}
			raw.wantFarewell(t, "22023")
		})
	}
}

// TestOwnSettingsOfASessionThatKeepsItsConnection: they are shown as they were set, and go with DISCARD ALL.
func TestOwnSettingsOfASessionThatKeepsItsConnection(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	p := c.serve(t, nil)
	c.settle(t, p)
	for _, back := range []string{"RESET pgtier.consistency", "DISCARD ALL"} {
		conn := p.client(t)
		mustValue(t, conn, "CREATE TEMP TABLE own ()")
		wantValue(t, conn, "SHOW pgtier.consistency", "session")
		mustValue(t, conn, "SET pgtier.consistency = 'strong'")
		wantValue(t, conn, "SHOW pgtier.consistency", "strong")
		_, err := value(conn, "SET pgtier.consistency = 'nonsense'")
		wantError(t, err, "22023", "invalid value")
		mustValue(t, conn, back)
		wantValue(t, conn, "SHOW pgtier.consistency", "session")
	}
}
