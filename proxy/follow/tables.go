package follow

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Publication is the name of the publication that lists the tables that are followed. All proxies of a database share it.
const Publication = "pgtier_cache"

// SlotPrefix begins the names of our replication slots.
const SlotPrefix = "pgtier_cache_"

// Tables are those of whose every change a Sink is told. It is immutable. Partitioned tables count among them if all of
// their partitions do, and those that will be made.
type Tables struct {
	followed map[uint32]place
	left     []Left
	named    sync.Once
	names    map[string]bool // made by named
}

// place is a table that is followed.
type place struct {
	key  string // of its place in the publication
	name string // "schema.name"
}

// Left is a table that is not followed.
type Left struct {
	Schema, Name string
	Why          string // and what can be done about it
}

// Has reports whether the table with that OID is followed. The zero Tables has none.
func (t *Tables) Has(oid uint32) bool {
	_, found := t.followed[oid]
	return found
}

// Names reports whether a table of that name, "schema.name", is followed.
func (t *Tables) Names(name string) bool {
	t.named.Do(func() {
		t.names = make(map[string]bool, len(t.followed))
		for _, at := range t.followed {
			t.names[at.name] = true
		}
	})
	return t.names[name]
}

// Len is how many are followed.
func (t *Tables) Len() int { return len(t.followed) }

// Left lists the tables that are not followed, by name. Temporary tables and those of the system are not among them.
func (t *Tables) Left() []Left { return slices.Clone(t.left) }

// publicationQuery asks what the publication publishes, and whether we may change it.
const publicationQuery = "SELECT oid::text || ':' || xmin::text, puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND NOT pubviaroot," +
	" pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE pubname = '" + Publication + "'"

// tablesQuery asks for the tables and their places in the publication. An identity is what RelationGetReplicaIndex and
// CheckCmdReplicaIdentity take for one. to_jsonb hides that row filters and lists of columns came with PostgreSQL 15.
const tablesQuery = "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence," +
	" CASE WHEN c.relispartition OR c.relkind = 'p' THEN pg_partition_root(c.oid)::oid END," +
	" EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)," +
	" CASE c.relreplident WHEN 'f' THEN true WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate)" +
	" WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate) ELSE false END," +
	" pg_has_role(c.relowner, 'USAGE'), r.oid::text || ':' || r.xmin::text, coalesce(to_jsonb(r)->>'prqual', to_jsonb(r)->>'prattrs') IS NOT NULL" +
	" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace" +
	" LEFT JOIN pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = (SELECT oid FROM pg_publication WHERE pubname = '" + Publication + "')" +
	" WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

// slotQuery asks how much of the log the slot named %s retains, in bytes.
const slotQuery = "SELECT coalesce(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn), 0)::bigint FROM pg_replication_slots WHERE slot_name = '%s'"

// survey is what one look at the manager's tables showed.
type survey struct {
	publication struct {
		key              string // "" if there is none
		all, whole, ours bool
	}
	relations []surveyed
	slot      bool // ours is there
	retained  int64
	// running are the transactions under way after all else was asked.
	running []uint64
}

// surveyed is one table.
type surveyed struct {
	oid               uint32
	schema, name      string
	kind, persistence string
	root              uint32 // of the tree of partitions it is in; 0 none
	primary, identity bool
	ours              bool
	member            string // the key of its own place in the publication, "" if it has none
	filtered          bool   // there
}

// survey looks.
func (a *asker) survey(slot string) (*survey, error) {
	s := &survey{}
	// The running transactions must be listed last: see DESIGN.md.
	err := a.run(publicationQuery+"; "+tablesQuery+"; "+fmt.Sprintf(slotQuery, slot)+"; "+runningQuery, func(statement int, fields [][]byte) error {
		switch statement {
		case 0:
			p := &s.publication
			return row(fields, &p.key, &p.all, &p.whole, &p.ours)
		case 1:
			var r surveyed
			err := row(fields, &r.oid, &r.schema, &r.name, &r.kind, &r.persistence, &r.root, &r.primary, &r.identity, &r.ours, &r.member, &r.filtered)
			s.relations = append(s.relations, r)
			return err
		case 2:
			s.slot = true
			return row(fields, &s.retained)
		}
		xid, err := parseRunning(fields)
		s.running = append(s.running, xid)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look at the tables: %w", err)
	}
	return s, nil
}

// verdict is what follows from a survey.
type verdict struct {
	tables *Tables // that the publication lists as it should
	// mend are the statements, each a transaction, after which more tables are listed, or none that must not be.
	mend []string
}

// judge decides which tables can be followed, which are, and what the publication lacks.
func (s *survey) judge() verdict {
	v := verdict{tables: &Tables{followed: map[uint32]place{}}}
	p := &s.publication
	if p.key != "" && !p.whole && p.ours {
		v.mend = append(v.mend, "ALTER PUBLICATION "+Publication+" SET ("+publishes+")")
	}
	trees := map[uint32][]*surveyed{}
	for i := range s.relations {
		r := &s.relations[i]
		root := r.root
		if root == 0 {
			root = r.oid
		}
		trees[root] = append(trees[root], r)
	}
	for _, root := range slices.Sorted(maps.Keys(trees)) {
		s.judgeTree(&v, root, trees[root])
	}
	slices.SortFunc(v.tables.left, func(a, b Left) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return v
}

// judgeTree judges a table, or one that is partitioned with all its partitions: the publication lists the root, so that a
// new partition is in it from its first row on.
func (s *survey) judgeTree(v *verdict, rootOID uint32, tree []*surveyed) {
	p := &s.publication
	at := slices.IndexFunc(tree, func(r *surveyed) bool { return r.oid == rootOID })
	if at < 0 {
		return // was made or dropped in between
	}
	root := tree[at]
	why, breaks := unsound(root, tree)
	listed := root.member != "" && !root.filtered
	name := quote(root.schema) + "." + quote(root.name)
	switch {
	case why != "":
		if breaks && root.member != "" && p.ours { // the server refuses its updates for as long
			v.mend = append(v.mend, "ALTER PUBLICATION "+Publication+" DROP TABLE ONLY "+name)
		}
	case p.key == "":
		why = "there is no publication"
	case !p.whole:
		why = "publication " + Publication + " does not publish everything that it should"
	case p.all || listed:
		key := p.key + "/" + root.member
		for _, r := range tree {
			v.tables.followed[r.oid] = place{key, r.schema + "." + r.name}
		}
		return
	case !p.ours:
		why = "it is not in publication " + Publication + ", which belongs to another role; let its owner run ALTER PUBLICATION " + Publication + " ADD TABLE ONLY " + name
	case root.filtered:
		why = "publication " + Publication + " filters its rows or columns"
		v.mend = append(v.mend, "ALTER PUBLICATION "+Publication+" DROP TABLE ONLY "+name)
	case !root.ours:
		why = "it belongs to another role; let a superuser run ALTER PUBLICATION " + Publication + " ADD TABLE ONLY " + name
	default:
		why = "it is about to be added to publication " + Publication
		v.mend = append(v.mend, "ALTER PUBLICATION "+Publication+" ADD TABLE ONLY "+name)
	}
	for _, r := range tree {
		v.tables.left = append(v.tables.left, Left{Schema: r.schema, Name: r.name, Why: why})
	}
}

// unsound says why a table must not be in the publication, "" if it may. breaks says that the server refuses updates if it is.
func unsound(root *surveyed, tree []*surveyed) (why string, breaks bool) {
	if root.kind == "p" && !root.primary {
		return "it is partitioned and has no primary key, so partitions to come could not be updated; give it one", true
	}
	for _, r := range tree {
		of := "it"
		if r != root {
			of = "its partition " + quote(r.schema) + "." + quote(r.name)
		}
		switch {
		case r.kind == "f":
			return of + " is a foreign table: its changes are not in this server's log", false
		case r.persistence != "p":
			return of + " is unlogged: its changes are not in the log", false
		case r.kind == "r" && !r.identity:
			return of + " has no replica identity; give it a primary key, or run ALTER TABLE … REPLICA IDENTITY FULL", true
		}
	}
	return "", false
}

// publishes are the publication's parameters.
const publishes = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false"
