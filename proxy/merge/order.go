package merge

import (
	"errors"
	"io"

	"pgtier/proxy/wire"
)

// key is a Key that can be compared: which value of a row, and how.
type key struct {
	column           int
	class            class
	decode           decoder
	desc, nullsFirst bool
}

// read makes a row's value ready for comparisons.
func (k *key) read(values [][]byte, d *datum) error {
	raw := values[k.column]
	if d.null = raw == nil; d.null {
		d.bytes = nil
		return nil
	}
	return k.decode(raw, d)
}

// compare returns the order of two values, as the key wants it.
func (k *key) compare(a, b *datum) int {
	if a.null || b.null {
		switch {
		case a.null && b.null:
			return 0
		case a.null == k.nullsFirst:
			return -1
		}
		return 1
	}
	order := k.class.compare(a, b)
	if k.desc {
		return -order
	}
	return order
}

// compareAll compares the values of two rows by all keys.
func compareAll(keys []key, a, b []datum) int {
	for i := range keys {
		if order := keys[i].compare(&a[i], &b[i]); order != 0 {
			return order
		}
	}
	return 0
}

// readAllKeys makes a row's values ready by all keys.
func readAllKeys(keys []key, values [][]byte, into []datum) error {
	for i := range keys {
		if err := keys[i].read(values, &into[i]); err != nil {
			return err
		}
	}
	return nil
}

// head is the first row not yet taken of a source.
type head struct {
	source Source
	index  int // of the source: equal rows come in the order of sources
	row    []byte
	values [][]byte
	keys   []datum
	before []datum // the keys of the row before
	kept   [][]byte
	begun  bool
}

// next reads the next row; io.EOF behind the last.
func (h *head) next(order []key) error {
	if h.begun {
		h.before, h.keys = h.keys, h.before
		for i := range h.before {
			h.kept[i] = h.before[i].keep(h.kept[i])
		}
	}
	row, err := h.source.Next()
	if err != nil {
		return err
	}
	h.row = row
	if err := split(row, h.values); err != nil {
		return err
	}
	if err := readAllKeys(order, h.values, h.keys); err != nil {
		return err
	}
	if h.begun && compareAll(order, h.before, h.keys) > 0 {
		return outOfOrder()
	}
	h.begun = true
	return nil
}

// outOfOrder is the error of a shard that sorts otherwise than this package: rather than merge such rows wrongly.
func outOfOrder() *wire.Error {
	return wire.NewError(wire.CodeInternal, "the rows of a shard did not come in the order asked for",
		"The shards' collations or definitions may differ from what the proxy knows.")
}

// heap holds the heads, the one that comes first at its root.
type heap struct {
	order []key
	heads []*head
}

func (h *heap) before(a, b *head) bool {
	if order := compareAll(h.order, a.keys, b.keys); order != 0 {
		return order < 0
	}
	return a.index < b.index
}

// sink moves the head at i down to where it belongs.
func (h *heap) sink(i int) {
	for {
		child := 2*i + 1
		if child >= len(h.heads) {
			return
		}
		if child+1 < len(h.heads) && h.before(h.heads[child+1], h.heads[child]) {
			child++
		}
		if !h.before(h.heads[child], h.heads[i]) {
			return
		}
		h.heads[i], h.heads[child] = h.heads[child], h.heads[i]
		i = child
	}
}

// readOrdered takes the rows of sources that come in order, in that order.
func (r *run) readOrdered(sources []Source) error {
	h, err := r.open(sources)
	if err != nil {
		return err
	}
	for len(h.heads) > 0 {
		first := h.heads[0]
		if err := r.take(first.row, first.values); err != nil {
			return err
		}
		switch err := first.next(r.merge); {
		case errors.Is(err, io.EOF):
			last := len(h.heads) - 1
			h.heads[0] = h.heads[last]
			h.heads = h.heads[:last]
		case err != nil:
			return err
		}
		h.sink(0)
	}
	return nil
}

// open reads the first row of each source.
func (r *run) open(sources []Source) (*heap, error) {
	h := &heap{order: r.merge}
	for i, source := range sources {
		one := &head{source: source, index: i, values: make([][]byte, r.columns),
			keys: make([]datum, len(r.merge)), before: make([]datum, len(r.merge)), kept: make([][]byte, len(r.merge))}
		err := one.next(r.merge)
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return nil, err
		}
		h.heads = append(h.heads, one)
	}
	for i := len(h.heads)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
	return h, nil
}
