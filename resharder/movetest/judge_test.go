package movetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// completed adds the writes of which nobody knows: one that was read has happened before that read ended; any other can be put in front of the write
// that came after it, where no read sees it.
func completed(history, doubt []porcupine.Operation) []porcupine.Operation {
	first := map[int64]int64{} // when a value was first known to have been read
	for _, op := range history {
		if in := op.Input.(access); !in.write {
			if at, ok := first[op.Output.(int64)]; !ok || op.Return < at {
				first[op.Output.(int64)] = op.Return
			}
		}
	}
	for _, op := range doubt {
		if at, ok := first[op.Input.(access).v]; ok {
			op.Return = max(at, op.Call)
			history = append(history, op)
		}
	}
	return history
}

// aged has reads begin when what they have shown may be from.
func aged(history []porcupine.Operation) []porcupine.Operation {
	history = slices.Clone(history)
	for i := range history {
		if in := history[i].Input.(access); !in.write {
			history[i].Call = min(history[i].Call, in.old)
		}
	}
	return history
}

// zone is when a register had one value: at all times from first to last, where one of its operations had ended before another began, else at a moment between last and first.
type zone struct {
	v           int64
	wrote       porcupine.Operation
	first, last int64 // when the first of its operations ended, and the last began
}

// zones returns why no order explains a history of completed, nothing if one does (Gibbons and Korach, Testing Shared Memories, 1997: each value was written once).
func zones(history []porcupine.Operation) (found []string) {
	const ago = -1 << 62
	of := map[int64]*zone{0: {wrote: porcupine.Operation{Call: ago, Return: ago}, first: ago, last: ago}}
	for _, op := range history {
		if in := op.Input.(access); in.write {
			of[in.v] = &zone{v: in.v, wrote: op, first: op.Return, last: op.Call}
		}
	}
	for _, op := range history {
		if op.Input.(access).write {
			continue
		}
		z := of[op.Output.(int64)]
		if z == nil || op.Return < z.wrote.Call {
			found = append(found, fmt.Sprintf("%d was read by %.3f ms, before it was written", op.Output, float64(op.Return)/1e6))
			continue
		}
		z.first, z.last = min(z.first, op.Return), max(z.last, op.Call)
	}
	var long, short []*zone
	for _, z := range of {
		if z.first < z.last {
			long = append(long, z)
		} else {
			short = append(short, z)
		}
	}
	within := func(a *zone, text string, b *zone) {
		found = append(found, fmt.Sprintf("it was %d from %.3f to %.3f ms, and %d %s %.3f and %.3f ms", a.v, float64(a.first)/1e6, float64(a.last)/1e6, b.v, text,
			float64(min(b.first, b.last))/1e6, float64(max(b.first, b.last))/1e6))
	}
	slices.SortFunc(long, func(a, b *zone) int { return cmp.Compare(a.first, b.first) })
	for i, z := range long {
		if i > 0 && z.first < long[i-1].last {
			within(long[i-1], "all the time between", z)
		}
		for _, s := range short {
			if z.first < s.last && s.first < z.last {
				within(z, "at a moment between", s)
			}
		}
	}
	return found
}

// outdated returns reads that have shown less than the process of the proxy that they went through knew: a value that was there before one was written that had been acknowledged by that
// process when the read began, or that a read through it had shown, if it was written through it. The history is one of completed.
func outdated(history []porcupine.Operation) (found []string) {
	writes := map[int64]porcupine.Operation{}
	for _, op := range history {
		if in := op.Input.(access); in.write {
			writes[in.v] = op
		}
	}
	known := map[life][]porcupine.Operation{} // writes through a process, each as early as it knew of them
	for _, op := range history {
		in := op.Input.(access)
		if w, ok := writes[op.Output.(int64)]; !in.write && ok && w.Input.(access).through == in.through {
			w.Return = op.Return
			known[in.through] = append(known[in.through], w)
		} else if in.write {
			known[in.through] = append(known[in.through], op)
		}
	}
	for _, of := range known { // by when it knew; the latest that began before that counts
		slices.SortFunc(of, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
		for i := range of[1:] {
			if of[i].Call > of[i+1].Call {
				of[i+1].Call, of[i+1].Input = of[i].Call, of[i].Input
			}
		}
	}
	for _, op := range history {
		in := op.Input.(access)
		of := known[in.through]
		n, _ := slices.BinarySearchFunc(of, op.Call, func(w porcupine.Operation, at int64) int { return cmp.Compare(w.Return, at) })
		if in.write || n == 0 {
			continue
		}
		shown, last := writes[op.Output.(int64)], of[n-1]
		if shown.Input != nil && shown.Return >= last.Call { // nobody knows in which order they came
			continue
		}
		found = append(found, fmt.Sprintf("client %d, %.3f to %.3f ms, %v → %d: that was over when %d was written from %.3f ms on, which the same process knew by %.3f ms", op.ClientId,
			float64(op.Call)/1e6, float64(op.Return)/1e6, in, op.Output, last.Input.(access).v, float64(last.Call)/1e6, float64(last.Return)/1e6))
	}
	return found
}

// explain fails the test unless the history of one register has an order.
func explain(t testing.TB, key int, history []porcupine.Operation) {
	t.Helper()
	model := porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(state, in, out any) (bool, any) {
			if a := in.(access); a.write {
				return true, a.v
			}
			return state.(int64) == out.(int64), state
		},
	}
	result, info := porcupine.CheckOperationsVerbose(model, history, time.Minute)
	switch result {
	case porcupine.Ok:
		return
	case porcupine.Unknown:
		t.Errorf("register %d: %d operations could not be judged in time", key, len(history))
		return
	}
	longest := []int(nil)
	for _, partial := range info.PartialLinearizations() {
		for _, order := range partial {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	placed := map[int]bool{}
	for _, i := range longest {
		placed[i] = true
	}
	first := -1 // the one that ended first of those without a place
	for i, op := range history {
		if !placed[i] && (first < 0 || op.Return < history[first].Return) {
			first = i
		}
	}
	value := func(op porcupine.Operation) int64 {
		if a := op.Input.(access); a.write {
			return a.v
		}
		return op.Output.(int64)
	}
	all, before := slices.Clone(history), 0
	slices.SortFunc(all, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	for _, op := range all {
		if op.Return < history[first].Return {
			before++
		}
	}
	var out strings.Builder
	for i, op := range all { // what came right before it and behind it, and whatever else has its value
		if i >= before-12 && i < before+8 || value(op) == value(history[first]) {
			fmt.Fprintf(&out, "\n%12.3f to %12.3f ms, client %d: %v → %d", float64(op.Call)/1e6, float64(op.Return)/1e6, op.ClientId, op.Input, op.Output)
		}
	}
	t.Errorf("register %d: no order of its operations explains what was read; %d of %d fit. Around the first that does not:%s", key, len(longest), len(history), out.String())
}

// TestHistoriesWithoutAnOrderAreFound holds the judge itself to histories that must not pass.
func TestHistoriesWithoutAnOrderAreFound(t *testing.T) {
	op := func(write bool, v, began, ended int64) porcupine.Operation {
		o := porcupine.Operation{Input: access{write: write, v: v}, Output: v, Call: began, Return: ended}
		if write {
			o.Output = int64(0)
		}
		return o
	}
	for name, c := range map[string]struct {
		history, doubt []porcupine.Operation
		ok             bool
	}{
		"read of an older value":    {history: []porcupine.Operation{op(true, 1, 0, 10), op(true, 2, 20, 30), op(false, 1, 40, 50)}},
		"read of a write under way": {history: []porcupine.Operation{op(true, 1, 0, 100), op(false, 1, 40, 50)}, ok: true},
		"back to what was before":   {history: []porcupine.Operation{op(true, 1, 0, 100), op(false, 1, 40, 50), op(false, 0, 60, 70)}},
		"in doubt and never read":   {history: []porcupine.Operation{op(true, 1, 0, 10), op(false, 1, 40, 50)}, doubt: []porcupine.Operation{op(true, 2, 20, 30)}, ok: true},
		"in doubt and read late":    {history: []porcupine.Operation{op(true, 1, 0, 10), op(false, 1, 40, 50), op(false, 2, 60, 70)}, doubt: []porcupine.Operation{op(true, 2, 20, 30)}, ok: true},
		"in doubt, read, then gone": {history: []porcupine.Operation{op(true, 1, 0, 10), op(false, 2, 40, 50), op(false, 1, 60, 70)}, doubt: []porcupine.Operation{op(true, 2, 20, 30)}},
	} {
		t.Run(name, func(t *testing.T) {
			heard := &deaf{TB: t}
			explain(heard, 0, completed(c.history, c.doubt))
			if heard.errors > 0 == c.ok {
				t.Errorf("%d errors", heard.errors)
			}
			if got := zones(completed(c.history, c.doubt)); len(got) > 0 == c.ok {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestBothJudgesOfHistoriesAgree has them judge random ones.
func TestBothJudgesOfHistoriesAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	agreed := map[bool]int{}
	for range 3000 {
		var history []porcupine.Operation
		writes := int64(1 + random.IntN(5))
		for i := range 2 + random.IntN(12) {
			began := random.Int64N(60)
			o := porcupine.Operation{ClientId: i, Call: began, Return: began + 1 + random.Int64N(30), Input: access{}, Output: random.Int64N(writes + 1)}
			if v := int64(i + 1); v <= writes {
				o.Input, o.Output = access{write: true, v: v}, int64(0)
			}
			history = append(history, o)
		}
		heard := &deaf{TB: t}
		explain(heard, 0, history)
		if got := zones(history); len(got) > 0 != (heard.errors > 0) {
			t.Errorf("%v: %d errors, %q", history, heard.errors, got)
		}
		agreed[heard.errors == 0]++
	}
	if agreed[true] < 100 || agreed[false] < 100 {
		t.Errorf("so many have an order: %v", agreed)
	}
}

// TestAnswersThatAProcessKnewBetterAreFound holds that judge to histories as well: reads may be older than what was written through others, and not than what was written through the same.
func TestAnswersThatAProcessKnewBetterAreFound(t *testing.T) {
	op := func(write bool, of string, v, began, ended int64) porcupine.Operation {
		o := porcupine.Operation{Input: access{write: write, v: v, through: life{of: of}, old: began - 100}, Output: v, Call: began, Return: ended}
		if write {
			o.Output = int64(0)
		}
		return o
	}
	for name, c := range map[string]struct {
		history, doubt []porcupine.Operation
		want           int
		ok             bool // within what may be old
	}{
		"nothing":                         {ok: true},
		"own write":                       {history: []porcupine.Operation{op(true, "a", 1, 0, 10), op(false, "a", 1, 20, 30)}, ok: true},
		"own write missed":                {history: []porcupine.Operation{op(true, "a", 1, 0, 10), op(false, "a", 0, 20, 30)}, want: 1, ok: true},
		"own write under way":             {history: []porcupine.Operation{op(true, "a", 1, 0, 25), op(false, "a", 0, 20, 30)}, ok: true},
		"another's write missed":          {history: []porcupine.Operation{op(true, "b", 1, 0, 10), op(false, "a", 0, 20, 30)}, ok: true},
		"another's write missed for long": {history: []porcupine.Operation{op(true, "b", 1, 0, 10), op(false, "a", 0, 111, 120)}},
		"another's older than an own":     {history: []porcupine.Operation{op(true, "b", 1, 0, 10), op(true, "a", 2, 11, 19), op(false, "a", 1, 20, 30)}, want: 1, ok: true},
		"another's beside an own":         {history: []porcupine.Operation{op(true, "b", 1, 0, 12), op(true, "a", 2, 11, 19), op(false, "a", 1, 20, 30)}, ok: true},
		"an older one of several":         {history: []porcupine.Operation{op(true, "a", 1, 0, 10), op(true, "a", 2, 11, 12), op(true, "a", 3, 0, 20), op(false, "a", 1, 21, 30)}, want: 1, ok: true},
		"back behind a read":              {history: []porcupine.Operation{op(true, "a", 1, 0, 90), op(false, "a", 1, 20, 30), op(false, "a", 0, 40, 50)}, want: 1, ok: true},
		"back behind one in doubt":        {history: []porcupine.Operation{op(false, "a", 1, 20, 30), op(false, "a", 0, 40, 50)}, doubt: []porcupine.Operation{op(true, "a", 1, 0, 10)}, want: 1, ok: true},
		"back behind another's":           {history: []porcupine.Operation{op(true, "b", 1, 0, 90), op(false, "a", 1, 20, 30), op(false, "a", 0, 40, 50)}, ok: true},
		"of another process":              {history: []porcupine.Operation{op(true, "a", 1, 0, 10), op(false, "a again", 0, 20, 30)}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			history := completed(c.history, c.doubt)
			if got := outdated(history); len(got) != c.want {
				t.Errorf("got %d, want %d: %q", len(got), c.want, got)
			}
			if got := zones(aged(history)); len(got) > 0 == c.ok {
				t.Errorf("got %q", got)
			}
		})
	}
}

// deaf counts errors instead of failing.
type deaf struct {
	testing.TB
	errors int
}

func (d *deaf) Errorf(string, ...any) { d.errors++ }
