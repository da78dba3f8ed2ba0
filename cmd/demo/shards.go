package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"pgtier/router/shard"
)

// stride is the step of the sequences on shards: each counts by itself, and there is room for more shards.
const stride = 64

// Keys returns the tables that are sharded where there are several managers, each with its key column.
// All rows of one user are on one shard.
func Keys() map[string]string {
	return map[string]string{"users": "id", "orders": "user_id", "order_items": "user_id", "payments": "user_id", "events": "user_id"}
}

// Reference returns the tables that every shard has a copy of.
func Reference() []string { return []string{"countries", "products"} }

// ShardName is the name of the shard that the manager of that number, from 0, is loaded as. The first is the home of other tables.
func ShardName(number int) string { return fmt.Sprintf("s%d", number) }

// shards says which manager owns which user.
type shards struct {
	key   *shard.Key
	first *shard.Map
	names []shard.Name
}

// newShards spreads the users over managers as the first map of a database with the default number of buckets does.
func newShards(managers int) (*shards, error) {
	if managers < 1 || managers > stride {
		return nil, errors.New("there must be 1 to 64 managers")
	}
	s := &shards{}
	for i := range managers {
		s.names = append(s.names, shard.Name(ShardName(i)))
	}
	var err error
	if s.first, err = shard.Even(1, shard.DefaultBuckets, s.names...); err != nil {
		return nil, err
	}
	s.key, err = shard.NewKey(shard.Hash, shard.DefaultBuckets, shard.Column{Name: "user_id", Type: shard.Int8, Modifier: shard.NoModifier})
	return s, err
}

// part is one manager of them.
type part struct {
	*shards
	number int
}

// owns says whether the user's rows are here.
func (p part) owns(user int64) bool {
	bucket, ok := p.key.Bucket(shard.Parameter(shard.Int8, shard.BinaryFormat, binary.BigEndian.AppendUint64(nil, uint64(user))))
	owner, known := p.first.Owner(bucket)
	return ok && known && slices.Index(p.names, owner) == p.number
}

// emailIndex is the index on users' addresses. No server sees those of other shards, so over several it cannot be unique.
func (p part) emailIndex() string {
	if len(p.names) > 1 {
		return "CREATE INDEX users_email ON users (email);\n"
	}
	return "CREATE UNIQUE INDEX users_email ON users (email);\n"
}

// triggers are those of a shop on one server.
func (p part) triggers() string {
	if len(p.names) > 1 {
		return ""
	}
	return triggersSQL
}

// sequence lets a table's ids go on behind those that have been given, and no two shards give the same. sharded: the table has a key.
func (p part) sequence(table string, sharded bool, given int64) string {
	if len(p.names) == 1 || !sharded {
		return fmt.Sprintf("ALTER TABLE %s ALTER id RESTART WITH %d", table, given+1)
	}
	return fmt.Sprintf("ALTER TABLE %s ALTER id SET INCREMENT BY %d RESTART WITH %d", table, stride, (given/stride+1)*stride+int64(p.number)+1)
}
