package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/shard"
)

// TestWhatCannotBeStreamedIsHopeless has for each kind what a source or a target can do to a stream.
func TestWhatCannotBeStreamedIsHopeless(t *testing.T) {
	const schema = `CREATE TABLE t (id int8 PRIMARY KEY, a text, big text); ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL; CREATE TABLE ref (code text PRIMARY KEY)`
	layout := Layout{Function: shard.Hash, Buckets: 64, Tables: []Wanted{{"", "t", []string{"id"}}, {"", "ref", nil}}}
	for name, tc := range map[string]struct {
		source, target string
		want           HopelessKind
		table          string
	}{
		"TRUNCATE":            {source: "TRUNCATE t", want: Truncated, table: "public.t"},
		"TRUNCATE of several": {source: "INSERT INTO ref VALUES ('x'); TRUNCATE t, ref", want: Truncated, table: "public.ref"},
		"column added":        {source: "ALTER TABLE t ADD COLUMN more int; UPDATE t SET a = 'b'", want: SchemaChanged, table: "public.t"},
		"column dropped":      {source: "ALTER TABLE t DROP COLUMN a; DELETE FROM t", want: SchemaChanged, table: "public.t"},
		"type changed":        {source: "ALTER TABLE t ALTER COLUMN a TYPE varchar(10); DELETE FROM t", want: SchemaChanged, table: "public.t"},
		"renamed":             {source: "ALTER TABLE t RENAME TO u; DELETE FROM u", want: SchemaChanged, table: "public.u"},
		"identity changed":    {source: "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET a = 'b'", want: SchemaChanged, table: "public.t"},
		"target changed":      {target: "ALTER TABLE t DROP COLUMN a", source: "UPDATE t SET a = 'b'", want: SchemaChanged, table: "public.t"},
		"row gone":            {target: "DELETE FROM t", source: "UPDATE t SET a = 'b'", want: RowMissing, table: "public.t"},
		"row gone, DELETE":    {target: "DELETE FROM t", source: "DELETE FROM t", want: RowMissing, table: "public.t"},
		"row there already":   {target: "INSERT INTO ref VALUES ('x')", source: "INSERT INTO ref VALUES ('x')", want: RowRefused, table: "public.ref"},
		"value not sent":      {source: "UPDATE t SET id = id + 1000", want: Unsendable, table: "public.t"},
		"publication gone":    {source: "DROP PUBLICATION %s; UPDATE t SET a = 'b'", want: SlotLost},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, schema, layout)
			p.source.exec("INSERT INTO t SELECT i, 'a', repeat('x', 3000) FROM generate_series(1, 200) i")
			p.copy(p.prepare(p.forward()))
			_, _, hopeless := run(t, p.forward())
			p.awaitStream()
			if tc.target != "" {
				p.target.exec("SET session_replication_role = replica; " + tc.target)
			}
			p.source.exec(strings.ReplaceAll(tc.source, "%s", identifier(p.forward().Publication)))
			select {
			case h := <-hopeless:
				if h.Kind != tc.want || !strings.Contains(h.Table, tc.table) {
					t.Errorf("got %v, want %s of %s", h, tc.want, tc.table)
				}
			case <-time.After(patience):
				t.Error("the stream goes on")
			}
		})
	}
}

// awaitStream waits until the slot is streamed from.
func (p *pair) awaitStream() {
	for ctx := contextFor(p.t); p.source.value("SELECT count(*) FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = '"+p.forward().Slot+"' AND r.state = 'streaming'") != "1"; {
		if ctx.Err() != nil {
			p.t.Fatal("nobody streams")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestSecondApplierIsBusyAndLostSlotIsHopeless(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.copy(p.prepare(p.forward()))
	a, stop, _ := run(t, p.forward())
	must(t, a.Barrier(contextFor(t)))
	if err := NewApplier(p.forward()).Run(contextFor(t)); !errors.Is(err, ErrBusy) {
		t.Errorf("second applier with the origin: %v", err)
	}
	other := p.forward()
	other.Origin += "_other"
	must(t, CreateOrigin(contextFor(t), other.Target, other.Origin))
	must(t, CreateOrigin(contextFor(t), other.Target, other.Origin)) // as after a crash
	if err := NewApplier(other).Run(contextFor(t)); !errors.Is(err, ErrBusy) {
		t.Errorf("second applier with the slot: %v", err)
	}
	stop()
	for range 2 {
		must(t, Drop(contextFor(t), p.source.Server, Objects{Slot: p.forward().Slot, Publication: p.forward().Publication}))
		must(t, Drop(contextFor(t), p.target.Server, Objects{Origin: other.Origin}))
	}
	var h *Hopeless
	if err := NewApplier(p.forward()).Run(contextFor(t)); !errors.As(err, &h) || h.Kind != SlotLost {
		t.Errorf("without the slot: %v", err)
	}
}

func TestSlotThatIsHeldUpNamesTheHolder(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	conn, err := p.source.Dial(contextFor(t), map[string]string{"application_name": "sleepy"})
	must(t, err)
	defer hangUp(conn)
	_, err = query(contextFor(t), conn, "BEGIN; INSERT INTO countries VALUES ('xx', 'y')")
	must(t, err)
	ctx, cancel := context.WithTimeout(contextFor(t), 300*time.Millisecond)
	defer cancel()
	name := p.forward().Slot
	slot, err := CreateSlot(ctx, p.source.Server, name)
	var blocked *SlotBlocked
	if !errors.As(err, &blocked) || !slices.ContainsFunc(blocked.Holders, func(h Holder) bool { return h.PID == int(conn.PID()) && h.Application == "sleepy" }) ||
		!strings.Contains(err.Error(), "sleepy") {
		t.Fatalf("slot %v, error %v", slot, err)
	}
	if got := p.source.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + name + "'"); got != "0" {
		t.Errorf("the slot is left")
	}
	_, err = query(contextFor(t), conn, "COMMIT")
	must(t, err)
	slot, err = CreateSlot(contextFor(t), p.source.Server, name)
	must(t, err)
	slot.Close()
	must(t, Drop(contextFor(t), p.source.Server, Objects{Slot: name}))
}

func TestProblemsHaveRemedies(t *testing.T) {
	by := []string{"id"}
	wanted := func(name string) Wanted { return Wanted{"", name, by} }
	for name, tc := range map[string]struct {
		both, source, target string
		want                 string // "" for none
		hint                 string
		tables, references   []Wanted
	}{
		"fine":                     {both: "CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id + 1) STORED)"},
		"other order":              {source: "CREATE TABLE t (id int PRIMARY KEY, a text)", target: "CREATE TABLE t (a text, id int PRIMARY KEY)"},
		"dropped column":           {source: "CREATE TABLE t (x int, id int PRIMARY KEY); ALTER TABLE t DROP x", target: "CREATE TABLE t (id int PRIMARY KEY)"},
		"full":                     {both: "CREATE TABLE t (id int); ALTER TABLE t REPLICA IDENTITY FULL"},
		"partitioned":              {both: "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t DEFAULT"},
		"other partitions":         {source: "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t DEFAULT", target: "CREATE TABLE t (id int PRIMARY KEY)"},
		"foreign key with the key": {both: "CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY REFERENCES u)", tables: []Wanted{wanted("t"), wanted("u")}},
		"foreign key to reference": {both: "CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, u int REFERENCES u)", tables: []Wanted{wanted("t"), {Name: "u"}}},

		"missing at source":        {target: "CREATE TABLE t (id int PRIMARY KEY)", want: "the source does not have it", hint: "create it"},
		"missing at target":        {source: "CREATE TABLE t (id int PRIMARY KEY)", want: "the target does not have it", hint: "create it"},
		"no identity":              {both: "CREATE TABLE t (id int)", want: "no primary key", hint: "REPLICA IDENTITY FULL"},
		"identity nothing":         {both: "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", want: "no primary key", hint: "REPLICA IDENTITY FULL"},
		"key not in identity":      {both: "CREATE TABLE t (id int, x int PRIMARY KEY)", want: `column "id" of its key is not in its replica identity`, hint: "REPLICA IDENTITY FULL"},
		"no such column":           {both: "CREATE TABLE t (x int PRIMARY KEY)", want: `no column "id"`, hint: "configuration"},
		"key cannot be hashed":     {both: "CREATE TABLE t (id interval PRIMARY KEY)", want: "cannot be hashed", hint: "another key"},
		"collation":                {both: "CREATE COLLATION c (provider = icu, locale = 'und', deterministic = false); CREATE TABLE t (id text COLLATE c PRIMARY KEY)", want: "not deterministic", hint: "deterministic collation"},
		"unlogged":                 {both: "CREATE UNLOGGED TABLE t (id int PRIMARY KEY)", want: "unlogged", hint: "SET LOGGED"},
		"foreign key beside":       {both: "CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, u int REFERENCES u)", references: []Wanted{{Name: "u"}}},
		"foreign":                  {both: "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE t (id int) SERVER s", want: "no ordinary table", hint: "take it out"},
		"view":                     {both: "CREATE VIEW t AS SELECT 1 AS id", want: "no ordinary table", hint: "take it out"},
		"inheritance":              {both: "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child () INHERITS (t)", want: "inherit", hint: "NO INHERIT"},
		"child":                    {both: "CREATE TABLE parent (id int); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (parent)", want: "inherit", hint: "NO INHERIT"},
		"partition":                {both: "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t PARTITION OF p DEFAULT", want: "a partition", hint: "partitioned table"},
		"partition's identity":     {both: "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t DEFAULT; ALTER TABLE t1 REPLICA IDENTITY FULL", want: "another replica identity", hint: "on the partition as on the table"},
		"foreign partition":        {both: "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE TABLE t (id int) PARTITION BY RANGE (id); ALTER TABLE t REPLICA IDENTITY FULL; CREATE FOREIGN TABLE t1 PARTITION OF t DEFAULT SERVER s", want: "t1 is no ordinary table", hint: "detach"},
		"large objects":            {both: "SELECT lo_create(0); CREATE TABLE t (id int PRIMARY KEY, o oid)", want: "large objects", hint: "bytea"},
		"lo":                       {both: "CREATE DOMAIN lo AS oid; CREATE TABLE t (id int PRIMARY KEY, o lo)", want: "large objects", hint: "bytea"},
		"trigger that always runs": {both: "CREATE TABLE t (id int PRIMARY KEY); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE t ENABLE ALWAYS TRIGGER x", want: "x fire for replicated rows", hint: "ENABLE TRIGGER"},
		"column missing":           {source: "CREATE TABLE t (id int PRIMARY KEY, a int)", target: "CREATE TABLE t (id int PRIMARY KEY)", want: `column "a" is missing at the target`, hint: "the same"},
		"column more":              {source: "CREATE TABLE t (id int PRIMARY KEY)", target: "CREATE TABLE t (id int PRIMARY KEY, a int)", want: `column "a" is missing at the source`, hint: "the same"},
		"type":                     {source: "CREATE TABLE t (id int PRIMARY KEY, a varchar(5))", target: "CREATE TABLE t (id int PRIMARY KEY, a varchar(6))", want: "character varying(5) at the source and character varying(6)", hint: "the same"},
		"not null":                 {source: "CREATE TABLE t (id int PRIMARY KEY, a int)", target: "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL)", want: "NULL on one side", hint: "the same"},
		"identity differs":         {source: "CREATE TABLE t (id int PRIMARY KEY)", target: "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY FULL", want: `"default" at the source and "full"`, hint: "the same"},
		"generated":                {source: "CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id + 1) STORED)", target: "CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id + 2) STORED)", want: "generated columns differ", hint: "the same"},
		"schema":                   {source: "CREATE TABLE t (id int PRIMARY KEY)", target: "CREATE SCHEMA postgres; CREATE TABLE postgres.t (id int PRIMARY KEY)", want: "in schema public at the source and postgres at", hint: "the same"},
		"foreign key to another":   {both: "CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, u int REFERENCES u)", tables: []Wanted{wanted("t"), wanted("u")}, want: "may be on another shard", hint: "drop the foreign key"},
		"foreign key to home":      {both: "CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY REFERENCES u)", want: "on one shard only", hint: "drop the foreign key"},
		"foreign key from home":    {both: "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (t int REFERENCES t)", want: "not sharded, refers to it", hint: "drop the foreign key"},
	} {
		t.Run(name, func(t *testing.T) {
			layout := Layout{Function: shard.Hash, Buckets: 64, Tables: tc.tables, References: tc.references}
			if layout.Tables == nil {
				layout.Tables = []Wanted{wanted("t")}
			}
			p := newPair(t, tc.both, layout)
			p.source.exec(tc.source)
			p.target.exec(tc.target)
			problems := Problems(layout, p.tables(p.source), p.tables(p.target))
			if tc.want == "" {
				if problems != nil {
					t.Errorf("problems: %v", problems)
				}
				return
			}
			if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.Message, tc.want) && strings.Contains(p.Hint, tc.hint) }) {
				t.Errorf("problems %v, want one of %q with %q", problems, tc.want, tc.hint)
			}
		})
	}
}

func TestRoleWithoutRightsIsToldWhatItNeeds(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	role := "app_" + p.target.database
	pgtest.Exec(t, p.target.server, p.target.database, fmt.Sprintf("CREATE ROLE %[1]s LOGIN PASSWORD 'x'; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %[1]s", role))
	t.Cleanup(func() { p.target.dropRole(role) })
	p.fill(50)
	slot := p.prepare(p.forward())
	url := p.target.server.URL(p.target.database, role, "x")
	weak := p.target.Server
	weak.Dial = dialURL(t, url)
	c := &Copy{Source: p.source.Server, Target: weak, Tables: p.tables(p.source), Spans: p.spans, Snapshot: slot.Snapshot}
	err := c.Run(contextFor(t))
	if err == nil || !strings.Contains(err.Error(), "GRANT SET ON PARAMETER session_replication_role") {
		t.Errorf("copy without the right: %v", err)
	}
	p.target.exec("GRANT SET ON PARAMETER session_replication_role TO " + role)
	t.Cleanup(func() {
		_ = p.target.server.Exec(context.Background(), p.target.database, "REVOKE SET ON PARAMETER session_replication_role FROM "+role)
	})
	must(t, c.Run(contextFor(t)))
	config := p.forward()
	config.Target = weak
	if err := NewApplier(config).Run(contextFor(t)); err == nil || !strings.Contains(err.Error(), "GRANT EXECUTE on the functions pg_replication_origin_") {
		t.Errorf("stream without the right: %v", err)
	}
	p.target.exec(`GRANT EXECUTE ON FUNCTION pg_replication_origin_session_setup, pg_replication_origin_session_progress, pg_replication_origin_xact_setup TO ` + role)
	a, _, hopeless := run(t, config)
	settled(t, a, hopeless)
	p.same()
}
