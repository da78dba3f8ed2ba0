package proxy_test

import (
	"testing"

	"pgtier/proxy/wire"
)

// TestANameThatWasUsedTwiceIsGoneWithItsStatement has the server refuse a Parse of a name in use, for which something must stand there by that name. The client
// closes its own then, and the name means nothing.
func TestANameThatWasUsedTwiceIsGoneWithItsStatement(t *testing.T) {
	p := newRig(t).serve(t, nil)
	query := func(sql string) []byte { return wire.AppendQuery(nil, sql) }
	again := wire.AppendSync(wire.AppendParse(nil, "mine", []byte("SELECT 2"), nil))
	bind := wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "mine", nil)))
	const twice, missing, failed = `E:42P05:prepared statement "mine" already exists Z`, `E:26000:prepared statement "mine" does not exist Z`,
		"E:25P02:current transaction is aborted, commands ignored until end of transaction block Z"
	type step struct {
		sent []byte
		want string
	}
	behind := func(want string, last ...[]byte) (steps []step) {
		for _, sent := range last {
			steps = append(steps, step{sent, want})
		}
		return steps
	}
	savepoint := []step{{query("SAVEPOINT s"), "C Z"}, {again, twice}, {query("ROLLBACK TO s"), "C Z"}}
	closed := step{query("DEALLOCATE mine"), "C Z"}
	for name, steps := range map[string][]step{
		"Bind":       append(append(savepoint[:3:3], closed), behind(missing, bind)...),
		"EXECUTE":    append(append(savepoint[:3:3], closed), behind(missing, query("EXECUTE mine"))...),
		"DEALLOCATE": append(append(savepoint[:3:3], closed), behind(missing, query("DEALLOCATE mine"))...),
		"Describe":   append(append(savepoint[:3:3], closed), behind(missing, wire.AppendSync(append([]byte{wire.MsgDescribe, 0, 0, 0, 10, 'S'}, "mine\x00"...)))...),
		"a new one":  append(savepoint[:3:3], closed, step{again, "1 Z"}, step{bind, "2 D:2 C Z"}),
		"in a failed transaction": {
			{query("SELECT 1/0"), "E:22012:division by zero Z"}, {again, failed}, {query("ROLLBACK AND CHAIN"), "C Z"}, closed,
			{query("SELECT 1/0"), "E:22012:division by zero Z"}, {bind, missing}},
		"still used": append(savepoint[:3:3], step{bind, "2 D:1 C Z"}, step{query("EXECUTE mine"), "T D:1 C Z"}, step{again, twice}),
	} {
		t.Run(name, func(t *testing.T) {
			c := p.rawDial(t, wire.Protocol30)
			for _, x := range append([]step{{query("PREPARE mine AS SELECT 1"), "C Z"}, {query("BEGIN"), "C Z"}}, steps...) {
				c.write(t, x.sent)
				c.wantTold(t, x.want)
			}
			c.write(t, query("ROLLBACK"))
			c.wantTold(t, "C Z")
		})
	}
}
