package wiretest

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"pgtier/proxy"
	"pgtier/proxy/pool"
)

// variant is one way for a conversation to reach the server.
type variant struct {
	name       string
	mode       pool.Mode
	size       int
	chunk      int  // bytes a write, 0 for whole requests
	neighbours bool // others change the same server connections between all requests
	pipelines  bool // whatever may share a pipeline does
}

func variants() []variant {
	return []variant{
		{name: "transaction mode, one connection", mode: pool.ModeTransaction, size: 1},
		{name: "transaction mode, two connections, with neighbours", mode: pool.ModeTransaction, size: 2, neighbours: true},
		{name: "transaction mode, one connection, with neighbours", mode: pool.ModeTransaction, size: 1, neighbours: true},
		{name: "transaction mode, three bytes at a time", mode: pool.ModeTransaction, size: 2, chunk: 3},
		{name: "transaction mode, in pipelines", mode: pool.ModeTransaction, size: 8, pipelines: true},
		{name: "transaction mode, in pipelines, with neighbours", mode: pool.ModeTransaction, size: 8, pipelines: true, neighbours: true},
		{name: "session mode", mode: pool.ModeSession, size: 20},
	}
}

// transcripts runs every conversation directly.
func transcripts(t *testing.T, r *rig, all []*conversation) map[*conversation]transcript {
	out := map[*conversation]transcript{}
	for _, c := range all {
		got, err := r.converse(t, c, &runner{address: r.manager.Address()})
		if err != nil {
			t.Fatalf("straight on the server: %v\n%s", err, got.text(c))
		}
		out[c] = got
	}
	return out
}

// converse runs c from a fresh schema.
func (r *rig) converse(t *testing.T, c *conversation, with *runner) (transcript, error) {
	t.Helper()
	r.reset(t)
	for _, sql := range c.setup {
		if _, err := r.direct(sql); err != nil {
			t.Fatal(err)
		}
	}
	with.params = []string{"user=postgres", "database=" + database}
	with.direct = r.direct
	return with.run(c)
}

func TestGoldenConversationsAreTheSameThroughTheProxy(t *testing.T) {
	r := newRig(t)
	all, err := loadConversations()
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), "conversations:", err)
	}
	want := transcripts(t, r, all)
	for _, c := range all {
		if *update {
			if err := c.rewrite(want[c]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got := want[c].diffGolden(c); got != "" {
			t.Errorf("PostgreSQL itself answers otherwise than %s says:\n%s", c.path, got)
		}
	}
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) {
			var options []proxy.Option
			if v.pipelines {
				options = append(options, proxy.WithEagerPipelines())
			}
			_, address := start(t, r.config(r.manager.Address(), v.mode, v.size), options...)
			var n *neighbour
			if v.neighbours {
				n = newNeighbour(t, address)
			}
			for _, c := range all {
				if c.needs > v.size || c.shared && v.mode == pool.ModeSession {
					continue
				}
				t.Run(filepath.Base(c.path), func(t *testing.T) {
					with := &runner{address: address, chunk: v.chunk}
					if n != nil {
						with.between = n.visit
					}
					got, err := r.converse(t, c, with)
					if diff := diff(c, want[c], got); diff != "" || err != nil {
						t.Errorf("%v\n%s", err, diff)
						return
					}
					if n != nil {
						n.check(t)
					}
					r.atRest(t)
				})
			}
		})
	}
}

// diff shows the first step whose bytes differ.
func diff(c *conversation, want, got transcript) string {
	for i := range c.steps {
		if slices.EqualFunc(want[i], got[i], bytes.Equal) {
			continue
		}
		at := 0
		for at < len(want[i]) && at < len(got[i]) && bytes.Equal(want[i][at], got[i][at]) {
			at++
		}
		note := ""
		if at < len(want[i]) && at < len(got[i]) && render(want[i][at]) == render(got[i][at]) {
			note = fmt.Sprintf("server bytes %q\nproxy bytes  %q\n", want[i][at], got[i][at])
		}
		return fmt.Sprintf("%s:%d: from message %d on\nserver:\n%sproxy:\n%s%s", c.path, c.steps[i].line+1, at+1,
			lines(want[i]), lines(got[i]), note)
	}
	return ""
}

// diffGolden compares with what stands in the file.
func (t transcript) diffGolden(c *conversation) string {
	for i, s := range c.steps {
		if got := s.golden(t[i]); !slices.Equal(got, s.wants) {
			return fmt.Sprintf("line %d\nfile: %q\nserver: %q", s.line+1, s.wants, s.golden(t[i]))
		}
	}
	return ""
}

func (t transcript) text(c *conversation) string {
	out := ""
	for i, s := range c.steps {
		if len(t[i]) > 0 {
			out += fmt.Sprintf("line %d:\n%s", s.line+1, lines(t[i]))
		}
	}
	return out
}
