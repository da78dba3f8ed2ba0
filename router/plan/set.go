package plan

import "math/bits"

// set is a set of shards.
type set [MaxShards / 64]uint64

func (s *set) add(i int) { s[i/64] |= 1 << (i % 64) }

func (s *set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s *set) union(o *set) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s *set) intersect(o *set) {
	for i := range s {
		s[i] &= o[i]
	}
}

func (s *set) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// first is the lowest shard of the set, -1 if it is empty.
func (s *set) first() int {
	for i, w := range s {
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// list is the shards in order.
func (s *set) list() []int {
	out := make([]int, 0, s.len())
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			out = append(out, i*64+bits.TrailingZeros64(w))
		}
	}
	return out
}

// firstShards is the set of the first n shards.
func firstShards(n int) (s set) {
	for i := range n {
		s.add(i)
	}
	return s
}
