package admin

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
)

// decodeNumeric reads numeric's binary form of a whole number.
func decodeNumeric(b []byte) (sum int64) {
	n, weight := int(binary.BigEndian.Uint16(b)), int(int16(binary.BigEndian.Uint16(b[2:])))
	negative := binary.BigEndian.Uint16(b[4:]) == 0x4000
	for i := range weight + 1 {
		sum *= 10000
		if i < n {
			digit := int64(binary.BigEndian.Uint16(b[8+2*i:]))
			if negative {
				digit = -digit
			}
			sum += digit
		}
	}
	return sum
}

func TestNumeric(t *testing.T) {
	for _, n := range []int64{0, 1, -1, 9999, 10000, 10001, 100000000, 123456789012, math.MaxInt64, math.MinInt64} {
		b := appendNumeric(nil, n)
		if got := decodeNumeric(b); got != n || len(b) != 8+2*int(binary.BigEndian.Uint16(b)) {
			t.Errorf("%d: got %d from %x", n, got, b)
		}
	}
}

func TestAverages(t *testing.T) {
	s := Stats{
		Old: Totals{Assignments: 10, Transactions: 10, Queries: 20, Received: 1000, Sent: 0, TxTime: time.Second, QueryTime: time.Second, WaitTime: 0},
		Now: Totals{Assignments: 110, Transactions: 60, Queries: 220, Received: 3000, Sent: 5000, TxTime: 2 * time.Second,
			QueryTime: 3 * time.Second, WaitTime: 100 * time.Millisecond, Binds: 50},
		Span: 50 * time.Second,
	}
	// assignments, transactions, queries, received, sent a second; µs a transaction, query, assignment; parses, binds a second
	want := []int64{2, 1, 4, 40, 100, 20000, 10000, 1000, 0, 0, 1}
	for i, v := range s.averages() {
		if got := number(v); got != want[i] {
			t.Errorf("average %d: got %d, want %d", i, got, want[i])
		}
	}
	for i, v := range (Stats{Now: s.Now}).averages() {
		if i < 5 && number(v) != 0 {
			t.Errorf("average %d without a span: got %v", i, v)
		}
	}
}
