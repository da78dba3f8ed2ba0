package shardmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pgtier/router/shard"
)

// record is what the control database says of one database.
type record struct {
	id, secret, function, home string
	buckets                    int
	version                    shard.Version
	owners, members            string // of the map; owners is "" if the version is the one that was known
	motion                     Motion
}

// Questions for the record in force, by the known version and the database. That of a control database that no newer version has made whole knows no
// members and no motion.
const (
	askRecord = `SELECT s.id, s.secret, s.buckets, s.function, s.home, m.version, CASE WHEN m.version <> %d THEN m.owners END, m.members,
n.number, n.moving, n.held, n.held_references, n.frozen, n.near, n.groups
FROM pgtier.sharding AS s JOIN pgtier.map AS m ON m.database = s.database LEFT JOIN pgtier.motion AS n ON n.database = s.database
WHERE s.database = %s ORDER BY m.version DESC LIMIT 1`
	askOlder = `SELECT s.id, s.secret, s.buckets, s.function, s.home, m.version, CASE WHEN m.version <> %d THEN m.owners END, '', NULL
FROM pgtier.sharding AS s JOIN pgtier.map AS m ON m.database = s.database WHERE s.database = %s ORDER BY m.version DESC LIMIT 1`
)

// read reads the map and the motion in force. known is the version whose owners need not be sent. There is none (nil) if there are no objects or no row.
func read(ctx context.Context, q Querier, database string, known shard.Version) (*record, error) {
	sql := askRecord
	if known == 0 { // a query would fail without the tables, and fill the server's log
		if there, err := isTrue(ctx, q, controlThere); err != nil || !there {
			return nil, err
		}
		if whole, err := isTrue(ctx, q, controlWhole); err != nil {
			return nil, err
		} else if !whole {
			sql = askOlder
		}
	}
	var found *record
	err := q.Query(ctx, fmt.Sprintf(sql, known, literal(database)), func(fields [][]byte) error {
		buckets, err := strconv.Atoi(string(fields[2]))
		if err != nil {
			return fmt.Errorf("read number: %w", err)
		}
		version, err := strconv.ParseUint(string(fields[5]), 10, 64)
		if err != nil {
			return fmt.Errorf("read number: %w", err)
		}
		found = &record{id: string(fields[0]), secret: string(fields[1]), buckets: buckets, function: string(fields[3]), home: string(fields[4]),
			version: shard.Version(version), owners: string(fields[6]), members: string(fields[7])}
		if fields[8] != nil {
			found.motion, err = readMotion(buckets, fields[8:])
		}
		return err
	})
	switch sqlState(err) {
	case codeNoSchema, codeNoTable:
		return nil, nil
	case codeNoRight:
		return nil, fmt.Errorf("%w; pgtier's tables belong to another role than the proxy logs in with", err)
	}
	return found, err
}

// create makes the first map, unless another proxy was quicker.
func create(ctx context.Context, q Querier, c *Config) error {
	first, err := shard.Even(1, c.Buckets, c.Shards...)
	if err != nil {
		return fmt.Errorf("make the first map: %w", err)
	}
	// Whoever makes the row of the database makes its map: no other configuration can come between.
	return q.Query(ctx, fmt.Sprintf(`WITH made AS (
INSERT INTO pgtier.sharding (database, id, secret, buckets, function, home)
VALUES (%s, pg_catalog.gen_random_uuid()::text, pg_catalog.replace(pg_catalog.gen_random_uuid()::text || pg_catalog.gen_random_uuid()::text, '-', ''), %d, %s, %s)
ON CONFLICT DO NOTHING RETURNING database)
INSERT INTO pgtier.map (database, version, owners, members, made_by) SELECT database, 1, %s, %s, %s FROM made`,
		literal(c.Database), c.Buckets, literal(c.Function.String()), literal(string(c.Home)), literal(first.String()), literal(namesText(c.Shards)), literal(c.Who)), nothing)
}

// agree compares what is fixed with the configuration.
func (r *record) agree(c *Config) error {
	for _, fixed := range []struct{ key, stored, configured string }{
		{"sharding.buckets", strconv.Itoa(r.buckets), strconv.Itoa(c.Buckets)}, {"sharding.function", r.function, c.Function.String()}, {"sharding.home", r.home, string(c.Home)},
	} {
		if fixed.stored != fixed.configured {
			return fmt.Errorf("the rows of database %s were placed with %s %s, the configuration says %s; it cannot be changed, put the old value back",
				c.Database, fixed.key, fixed.stored, fixed.configured)
		}
	}
	return nil
}

// parse makes the map of the record, whose shards the configuration must have.
func (r *record) parse(c *Config) (*shard.Map, error) {
	m, err := shard.ParseMap(r.version, r.buckets, r.owners)
	if err != nil {
		return nil, fmt.Errorf("read map %d of database %s: %w", r.version, c.Database, err)
	}
	return m, nil
}

// named are the members of the record's version; where it names none, the owners and home, in the configuration's order. The configuration must have all owners
// and members.
func (r *record) named(c *Config, m *shard.Map) ([]shard.Name, error) {
	owners := m.Shards()
	for _, name := range owners {
		if !slices.Contains(c.Shards, name) {
			return nil, fmt.Errorf("map %d of database %s has buckets on shard %q, which the configuration does not name; add the shard with its manager's URL", r.version, c.Database, name)
		}
	}
	if r.members == "" {
		return slices.DeleteFunc(slices.Clone(c.Shards), func(name shard.Name) bool { return name != c.Home && !slices.Contains(owners, name) }), nil
	}
	members := parseNames(r.members)
	for _, name := range members {
		if !slices.Contains(c.Shards, name) {
			return nil, fmt.Errorf("map %d of database %s has shard %q as a member, which the configuration does not name; add the shard with its manager's URL", r.version, c.Database, name)
		}
	}
	for _, name := range append(owners, c.Home) {
		if !slices.Contains(members, name) {
			return nil, fmt.Errorf("map %d of database %s: shard %q is none of its members %s", r.version, c.Database, name, r.members)
		}
	}
	return members, nil
}

// namesText is the stored form of shards' names, which have no comma.
func namesText(names []shard.Name) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = string(name)
	}
	return strings.Join(list, ",")
}

// parseNames reads what namesText returns.
func parseNames(text string) []shard.Name {
	var names []shard.Name
	for name := range strings.SplitSeq(text, ",") {
		names = append(names, shard.Name(name))
	}
	return names
}

// declare notes the configured tables and compares them with those noted before, by this proxy or others. What is wrong is for people to mend.
func declare(ctx context.Context, q Querier, c *Config) (wrong, err error) {
	if len(c.Tables) > 0 {
		rows := make([]string, len(c.Tables))
		for i, t := range c.Tables {
			rows[i] = fmt.Sprintf("(%s, %s, %s)", literal(t.Schema), literal(t.Name), literal(t.key()))
		}
		// What meets a table that is noted already, with its schema or without, is compared below.
		if err := q.Query(ctx, fmt.Sprintf(`INSERT INTO pgtier.sharded (database, schema, name, key) SELECT %s, v.s, v.n, v.k FROM (VALUES %s) AS v (s, n, k)
WHERE NOT EXISTS (SELECT FROM pgtier.sharded AS o WHERE o.database = %[1]s AND o.name = v.n AND (o.schema = v.s OR o.schema = '' OR v.s = '')) ON CONFLICT DO NOTHING`,
			literal(c.Database), strings.Join(rows, ", ")), nothing); err != nil {
			return nil, fmt.Errorf("note sharded tables: %w", err)
		}
	}
	return noted(ctx, q, c)
}

// noted compares the configured tables with those that are noted.
func noted(ctx context.Context, q Querier, c *Config) (wrong, err error) {
	err = q.Query(ctx, `SELECT schema, name, key FROM pgtier.sharded WHERE database = `+literal(c.Database)+` ORDER BY 1, 2`, func(fields [][]byte) error {
		noted := Table{Schema: string(fields[0]), Name: string(fields[1])}
		if found := c.compare(noted, string(fields[2])); found != nil && wrong == nil {
			wrong = found
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sharded tables: %w", err)
	}
	return wrong, nil
}

// compare says what the configuration has against a table noted with this key.
func (c *Config) compare(noted Table, key string) error {
	forget := fmt.Sprintf("or, if the table is empty or gone, run in the control database: DELETE FROM pgtier.sharded WHERE database = %s AND schema = %s AND name = %s",
		literal(c.Database), literal(noted.Schema), literal(noted.Name))
	was := "sharded by " + key
	if key == "" {
		was = "a reference table"
	}
	declared := false
	for _, t := range c.Tables {
		if t.Name != noted.Name || t.Schema != noted.Schema && t.Schema != "" && noted.Schema != "" {
			continue
		}
		declared = true
		if t.key() != key {
			return fmt.Errorf("the rows of table %s were placed as %s, and the configuration has it %s; put the old key back, %s", t, was, t.placement(), forget)
		}
	}
	if !declared {
		return fmt.Errorf("table %s is %s and no longer in the configuration: its rows would be looked for on %s alone; declare it, %s", noted, was, c.Home, forget)
	}
	return nil
}

// mark is what a shard says of itself.
type mark struct {
	database, id, name string
	seen               int64 // the number of the last motion that the shard has heard of
}

// readMark reads a shard's mark, nil if it has none.
func readMark(ctx context.Context, q Querier) (*mark, error) {
	if there, err := isTrue(ctx, q, markThere); err != nil || !there {
		return nil, err
	}
	var found *mark
	// A role that may not look at the number has to do without the comparison.
	err := q.Query(ctx, `SELECT database, id, name, coalesce(CASE WHEN pg_catalog.has_sequence_privilege(r, 'SELECT') THEN pg_catalog.pg_sequence_last_value(r) END, 0)
FROM pgtier.shard, pg_catalog.to_regclass('pgtier.motion_seen') AS r`, func(fields [][]byte) error {
		seen, err := strconv.ParseInt(string(fields[3]), 10, 64)
		found = &mark{string(fields[0]), string(fields[1]), string(fields[2]), seen}
		return err
	})
	return found, err
}

// outran is the error of a control database that lacks motions of which the shard has heard, nil if it lacks none: it has gone back in time, and buckets may have moved
// since. The shard hears of a motion before the control database has it, so one more tells nothing. r was read behind the mark.
func (m *mark) outran(r *record, name shard.Name) error {
	if m.seen <= r.motion.Number+1 {
		return nil
	}
	return fmt.Errorf("%w: the control database knows of motion %d of buckets of database %s, and shard %s has heard of %d, as if the control database came from a backup; rows of buckets that have moved since would be looked for where they were. "+
		"Bring back its newest state. Where there is none, correct pgtier.map there by what pgtier check finds, see that pgtier.job has no job under way, and run: %s",
		errMisplaced, r.motion.Number, m.database, name, m.seen, forgetSQL(m.database, m.seen))
}

// forgetSQL has a control database go on from a motion that it does not know, with nothing in motion.
func forgetSQL(database string, number int64) string {
	return fmt.Sprintf(`INSERT INTO pgtier.motion (database, number, moving, held, held_references, frozen, near, raised_at, made_at, made_by) VALUES (%s, %d, '', '', false, false, false, now(), now(), current_user)
ON CONFLICT (database) DO UPDATE SET number = excluded.number, moving = '', held = '', held_references = false, frozen = false, near = false, groups = '', raised_at = now(), made_at = now(), made_by = current_user`,
		literal(database), number)
}

// errMisplaced is the error of a shard that does not belong to the map that was read.
var errMisplaced = errors.New("misplaced shard")

// prepare makes the objects of a shard and marks it as one of the map, or finds that it belongs elsewhere, or to a younger one. control is asked where that may be.
func prepare(ctx context.Context, control, q Querier, c *Config, r *record, name shard.Name) error {
	place := "shard " + string(name)
	if err := ensure(ctx, q, place, shardThere, ShardSQL); err != nil {
		return err
	}
	found, err := readMark(ctx, q)
	if err == nil && found == nil {
		err = q.Query(ctx, fmt.Sprintf("INSERT INTO pgtier.shard (database, id, name, secret) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
			literal(c.Database), literal(r.id), literal(string(name)), literal(r.secret)), nothing)
		if err == nil {
			found, err = readMark(ctx, q)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("mark %s: %w", place, err)
	case found == nil:
		return fmt.Errorf("mark %s: the mark is not there", place)
	}
	if err := found.fits(r, name); err != nil || found.outran(r, name) == nil {
		return err
	}
	now, err := read(ctx, control, c.Database, r.version) // buckets may have moved between
	if err != nil {
		return fmt.Errorf("read the motion that %s has heard of: %w", place, err)
	}
	if now == nil {
		return fmt.Errorf("read the motion that %s has heard of: the map is gone", place)
	}
	return found.outran(now, name)
}

// fits returns errMisplaced, wrapped, unless the mark is that of the map's shard name.
func (m *mark) fits(r *record, name shard.Name) error {
	switch {
	case m.id != r.id:
		return fmt.Errorf("%w: the server of shard %s belongs to another map, as shard %s of database %s; look at the URLs of control and of the shard, or, if its data is of no use, drop its schema pgtier",
			errMisplaced, name, m.name, m.database)
	case m.name != string(name):
		return fmt.Errorf("%w: the server of shard %s is shard %s of this database; look at the URLs of both", errMisplaced, name, m.name)
	}
	return nil
}

// homeless is the error of a shard that is marked while there is no map.
func homeless(c *Config, name shard.Name, m *mark) error {
	return fmt.Errorf("the control database has no map of database %s, but the server of shard %s belongs to one, as shard %s of database %s; let the key control name the database that has it",
		c.Database, name, m.name, m.database)
}

// Inspect looks at what stands in the control database and on the shards, and changes nothing. now is what is in force, nil before the first map, or where
// it does not fit; found is everything that a Watcher would refuse. shards may lack some. An error is that of a control database that does not answer.
func Inspect(ctx context.Context, c Config, control Querier, shards map[shard.Name]Querier) (now *Current, found []error, err error) {
	r, err := read(ctx, control, c.Database, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("read map: %w", err)
	}
	if r != nil {
		if err := r.agree(&c); err != nil {
			found = append(found, err)
		} else if m, err := r.parse(&c); err != nil {
			found = append(found, err)
		} else if members, err := r.named(&c, m); err != nil {
			found = append(found, err)
		} else {
			now = &Current{m, members, r.motion}
		}
		wrong, err := noted(ctx, control, &c)
		if err != nil {
			return nil, nil, err
		}
		if wrong != nil {
			found = append(found, wrong)
		}
	}
	for _, name := range c.Shards {
		q, ok := shards[name]
		if !ok {
			continue
		}
		there, err := readMark(ctx, q)
		switch {
		case err != nil:
			found = append(found, fmt.Errorf("shard %s: read mark: %w", name, err))
		case there != nil && r == nil:
			found = append(found, homeless(&c, name, there))
		case there != nil:
			if err := there.fits(r, name); err != nil {
				found = append(found, err)
			} else if now, err := read(ctx, control, c.Database, r.version); err != nil {
				return nil, nil, fmt.Errorf("read map: %w", err)
			} else if now != nil && there.outran(now, name) != nil {
				found = append(found, there.outran(now, name))
			}
		}
	}
	return now, found, nil
}
