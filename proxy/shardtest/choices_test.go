package shardtest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// choices are the decisions by which the generator makes a statement: numbers, of which 0 is always the simplest choice.
// The same numbers make the same statement again, and fewer or smaller ones a simpler statement, so that a failure can be
// shrunk without knowing anything of SQL.
type choices struct {
	made []int
	at   int
	rng  *rand.Rand // nil: whatever is not in made is 0
}

// below draws a number from 0 to n - 1.
func (c *choices) below(n int) int {
	if c.at == len(c.made) {
		drawn := 0
		if c.rng != nil {
			drawn = c.rng.IntN(1 << 16)
		}
		c.made = append(c.made, drawn)
	}
	c.at++
	return c.made[c.at-1] % n
}

// once is true in one of n cases, and false for the simplest.
func (c *choices) once(n int) bool { return c.below(n) == n-1 }

// oneOf draws one of several, the first of them being the simplest.
func oneOf[T any](c *choices, of ...T) T { return of[c.below(len(of))] }

// shrink looks for fewer and smaller numbers with which fails still holds, until the deadline.
func shrink(made []int, fails func([]int) bool, deadline time.Time) []int {
	try := func(with []int) bool {
		if time.Now().After(deadline) || slices.Equal(with, made) || !fails(with) {
			return false
		}
		made = with
		return true
	}
	for before := []int(nil); !slices.Equal(before, made) && time.Now().Before(deadline); {
		before = slices.Clone(made)
		for _, size := range []int{16, 8, 4, 2, 1} {
			for at := 0; at+size <= len(made); {
				if !try(slices.Delete(slices.Clone(made), at, at+size)) {
					at++
				}
			}
		}
		for at := range made {
			for _, smaller := range []int{0, made[at] / 2, made[at] - 1} {
				if at < len(made) && smaller >= 0 && smaller < made[at] {
					with := slices.Clone(made)
					with[at] = smaller
					try(with)
				}
			}
		}
	}
	return made
}

func TestShrinkFindsTheSmallestCause(t *testing.T) {
	made := []int{9, 4, 700, 3, 12, 8, 5, 5, 1, 0, 77, 6}
	got := shrink(made, func(with []int) bool { return slices.ContainsFunc(with, func(n int) bool { return n >= 70 }) }, time.Now().Add(stepLimit))
	if !slices.Equal(got, []int{70}) {
		t.Errorf("got %v, want 70 alone", got)
	}
}
