package shardtest

import (
	"fmt"
	"strings"
)

// place says on which servers a table's rows are.
type place int

const (
	sharded   place = iota // each row where its key belongs
	reference              // all rows on every shard
	home                   // all rows on the home shard
)

// table is one table of testdata/schema.sql.
type table struct {
	name  string
	place place
	key   []string // columns of the sharding key
	hash  string   // type of the key columns: int, text or uuid
	// compared is what of a row must be equal: "" for all of it. Numbers that the servers make are not.
	compared string
}

// tables lists the tables so that those that others refer to come first.
func tables() []table {
	byUser := func(name string) table { return table{name: name, key: []string{"user_id"}, hash: "int"} }
	return []table{
		{name: "countries", place: reference},
		{name: "currencies", place: reference},
		{name: "users", key: []string{"id"}, hash: "int"},
		byUser("orders"), byUser("order_items"), byUser("visits"),
		{name: "accounts", key: []string{"name"}, hash: "text"},
		{name: "events", key: []string{"id"}, hash: "uuid"},
		{name: "meters", key: []string{"tenant", "id"}, hash: "int"},
		{name: "zoo", key: []string{"id"}, hash: "int"},
		{name: "empties", key: []string{"id"}, hash: "int"},
		{name: "exacts", key: []string{"k"}, hash: "numeric"}, {name: "rounded", key: []string{"k"}, hash: "numeric"},
		{name: "longs", key: []string{"k"}, hash: "text"}, {name: "shorts", key: []string{"k"}, hash: "text"},
		{name: "tickets", key: []string{"id"}, hash: "int", compared: "(title, user_id)"},
		{name: "stamped", key: []string{"id"}, hash: "int", compared: "(id, what, at > '2000-01-01', day > '2000-01-01')"},
		{name: "bank", key: []string{"account"}, hash: "int"},
		{name: "settings", place: home},
		{name: "audit", place: home},
	}
}

// touched lists the tables that a statement may have changed, as far as its text tells: those that it names, and those
// that refer to them. A statement that names none may have done anything.
func touched(sql string) (found []table) {
	named := map[string]bool{}
	for _, t := range tables() {
		named[t.name] = strings.Contains(sql, t.name)
	}
	named["orders"] = named["orders"] || named["users"]
	named["order_items"] = named["order_items"] || named["orders"]
	for _, t := range tables() {
		if named[t.name] {
			found = append(found, t)
		}
	}
	if found == nil {
		return tables()
	}
	return found
}

// buckets is how many buckets the keys fall into.
const buckets = 1024

// bucket is SQL for the bucket of a row, by what PostgreSQL documents for partitions by hash: the functions of the hash
// operator classes with the seed of partbounds.c (HASH_PARTITION_SEED), joined by hashfn.h's hash_combine64. Only the
// lowest bits are kept at each step, so that nothing overflows. It is written here once more, apart from the code under test.
func (t *table) bucket() string {
	const seed, combine = "8816678312871386365", 0x49a0f4dd15e5a8e3
	hash := func(column string, bits int) string {
		mask := 1<<bits - 1
		call := map[string]string{"int": "hashint8extended(%s, %s)", "text": `hashtextextended(%s COLLATE "C", %s)`, "uuid": "uuid_hash_extended(%s, %s)",
			"numeric": "hash_numeric_extended(%s, %s)"}[t.hash]
		return fmt.Sprintf("((("+call+") & %d) + %d)", column, seed, mask, combine&mask)
	}
	const bits, down = 10, 7 // of 1,024 buckets; hash_combine64 moves what came before down by 7
	if len(t.key) == 1 {
		return fmt.Sprintf("(%s & %d)", hash(t.key[0], bits), buckets-1)
	}
	before := fmt.Sprintf("(%s & %d)", hash(t.key[0], bits+down), 1<<(bits+down)-1)
	return fmt.Sprintf("((%s # (%s + (%s >> %d))) & %d)", before, hash(t.key[1], bits), before, down, buckets-1)
}

// owner is SQL for the number of the shard that owns a row: each has one range of buckets, of equal size as far as it goes.
func (t *table) owner() string {
	cases := "CASE"
	for shard := range shardCount - 1 {
		cases += fmt.Sprintf(" WHEN %s < %d THEN %d", t.bucket(), (shard+1)*buckets/shardCount, shard)
	}
	return fmt.Sprintf("%s ELSE %d END", cases, shardCount-1)
}

// whole is an alias that no column is called by, so that it means the row.
const whole = "whole_row"

// fingerprint is a query for one number of rows and one sum of hashes a table, and the number of rows that shard does not
// own. Sums of shards add up to that of the whole. For the plain server shard is -1. Rows that stand on a shard because they move are not counted.
func (r *rig) fingerprint(shard int, of []table) string {
	var parts []string
	for _, t := range of {
		what := whole
		if t.compared != "" {
			what = t.compared
		}
		astray := "0"
		if t.place == sharded && shard >= 0 {
			astray = fmt.Sprintf("count(*) FILTER (WHERE %s <> %d)", t.owner(), shard)
		}
		parts = append(parts, fmt.Sprintf("SELECT '%s', count(*), coalesce(sum(hashtextextended((%s)::text, 0)::numeric), 0), %s FROM %s "+whole+" WHERE NOT (%s)", t.name, what, astray, t.name, r.foreign(shard, &t)))
	}
	return strings.Join(parts, " UNION ALL ")
}
