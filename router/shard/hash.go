package shard

import (
	"encoding/binary"
	"math/bits"
)

const (
	// hashSeed is the seed of every key column's hash (partbounds.c, HASH_PARTITION_SEED).
	hashSeed = 0x7A5B22367996DCFD
	// combineConstant is what each combination adds (hashfn.h, hash_combine64).
	combineConstant = 0x49a0f4dd15e5a8e3
	// hashInit is the state that each hash begins with, before the key's length is added (hashfn.c, hash_bytes_extended).
	hashInit = 0x9e3779b9 + 3923095
)

// hashState is the state of Bob Jenkins's hash as hashfn.c has it.
type hashState struct{ a, b, c uint32 }

// newHash begins the hash of size bytes under hashSeed (hashfn.c, hash_bytes_extended).
func newHash(size int) hashState {
	// PostgreSQL counts lengths in 32 bits too.
	init := uint32(hashInit) + uint32(size)
	s := hashState{init + hashSeed>>32, init + hashSeed&0xFFFFFFFF, init}
	s.mix()
	return s
}

// mix is hashfn.c's mix.
func (s *hashState) mix() {
	a, b, c := s.a, s.b, s.c
	a -= c
	a ^= bits.RotateLeft32(c, 4)
	c += b
	b -= a
	b ^= bits.RotateLeft32(a, 6)
	a += c
	c -= b
	c ^= bits.RotateLeft32(b, 8)
	b += a
	a -= c
	a ^= bits.RotateLeft32(c, 16)
	c += b
	b -= a
	b ^= bits.RotateLeft32(a, 19)
	a += c
	c -= b
	c ^= bits.RotateLeft32(b, 4)
	b += a
	s.a, s.b, s.c = a, b, c
}

// sum is hashfn.c's final, and the 64 bits that hash_bytes_extended returns.
func (s hashState) sum() uint64 {
	a, b, c := s.a, s.b, s.c
	c ^= b
	c -= bits.RotateLeft32(b, 14)
	a ^= c
	a -= bits.RotateLeft32(c, 11)
	b ^= a
	b -= bits.RotateLeft32(a, 25)
	c ^= b
	c -= bits.RotateLeft32(b, 16)
	a ^= c
	a -= bits.RotateLeft32(c, 4)
	b ^= a
	b -= bits.RotateLeft32(a, 14)
	c ^= b
	c -= bits.RotateLeft32(b, 24)
	return uint64(b)<<32 | uint64(c)
}

// hashBytes is hashfn.c's hash_bytes_extended on a little-endian server: the words of a big-endian one are others.
func hashBytes(key []byte) uint64 {
	s := newHash(len(key))
	for len(key) >= 12 {
		s.a += binary.LittleEndian.Uint32(key)
		s.b += binary.LittleEndian.Uint32(key[4:])
		s.c += binary.LittleEndian.Uint32(key[8:])
		s.mix()
		key = key[12:]
	}
	// The lowest byte of c is kept for the length.
	var rest [12]byte
	copy(rest[:], key)
	s.a += binary.LittleEndian.Uint32(rest[0:])
	s.b += binary.LittleEndian.Uint32(rest[4:])
	s.c += binary.LittleEndian.Uint32(rest[8:]) << 8
	return s.sum()
}

// hashInteger is hashfunc.c's hashint8extended. It gives what hashint2extended, hashint4extended, hashcharextended (of bool) and
// timestamp_hash_extended give for the same number.
func hashInteger(n int64) uint64 {
	low, high := uint32(n), uint32(n>>32)
	if n >= 0 {
		low ^= high
	} else {
		low ^= ^high
	}
	s := newHash(4) // hashfn.c, hash_bytes_uint32_extended
	s.a += low
	return s.sum()
}

// combine adds the hash of one more key column to that of those before it (hashfn.h, hash_combine64).
func combine(row, column uint64) uint64 {
	return row ^ (column + combineConstant + row<<54 + row>>7)
}
