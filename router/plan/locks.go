package plan

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// Lock is an advisory lock of a transaction that stands for a reference table: whoever writes the table holds it alone on every shard, whoever
// reads it for such a write shares it. So the writers of a table come one after the other, in one order on all shards.
type Lock struct {
	Key    int64
	Shared bool
}

// lockName begins what the keys are hashes of, so that they are not those of an application that hashes names of tables itself.
const lockName = "pgtier reference table "

// lockKey is the key of a reference table's lock.
func lockKey(t *table) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(lockName + t.relation.String())) // never fails
	return int64(h.Sum64())
}

// lockCopies notes the locks that a write to reference tables needs: alone of those that it changes by itself, by parts, rules and keys, shared of the
// others that it looks at, by keys too.
func (w *work) lockCopies() {
	behind := w.schema.catalog.Behind(w.command)
	changed := w.written()
	for _, name := range behind.Changed {
		if t := w.schema.byName(name); t != nil {
			changed = append(changed, t)
		}
	}
	for i := 0; i < len(changed); i++ {
		for _, f := range changed[i].followers {
			if !containsTable(changed, f) {
				changed = append(changed, f)
			}
		}
		w.lock(changed[i], false, 0)
	}
	for _, t := range changed {
		if t.relation == nil {
			continue
		}
		for i := range t.relation.ForeignKeys {
			w.lock(w.schema.byOID[t.relation.ForeignKeys[i].References.OID], true, 0)
		}
	}
	for _, name := range behind.Related {
		w.lock(w.schema.byName(name), true, 0)
	}
}

// lockNamed notes the locks of all reference tables that DDL names: the servers' own locks on them would else be taken in another order on each shard.
func (w *work) lockNamed() {
	for _, t := range w.command.Tables {
		w.lock(w.schema.lookup(t.Schema, t.Name, w.changed), false, 0)
	}
}

// lock notes the lock of a reference table, which is that of the table it is a part of: who writes either may write the other's rows. It says whether
// there is one.
func (w *work) lock(t *table, shared bool, depth int) bool {
	if t == nil || t.relation == nil || t.place != placeReference || depth > maxInheritance {
		return false
	}
	above := false
	for _, r := range append(slices.Clone(t.relation.Parents), t.relation.Uses...) {
		above = w.lock(w.schema.byOID[r.OID], shared, depth+1) || above
	}
	if !above {
		w.locks = addLock(w.locks, Lock{lockKey(t), shared})
	}
	return true
}

// addLock adds a lock to a list in the order in which all take them.
func addLock(list []Lock, l Lock) []Lock {
	i, found := slices.BinarySearchFunc(list, l, func(a, b Lock) int { return cmp.Compare(a.Key, b.Key) })
	if found {
		list[i].Shared = list[i].Shared && l.Shared
		return list
	}
	return slices.Insert(list, i, l)
}
