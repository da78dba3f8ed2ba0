// Package admin answers operators and monitoring: the console that PgBouncer's
// tools know, over the simple and the extended protocol. It decides who may run
// what and how it looks; what there is to see and to do it is given by the proxy.
package admin

import (
	"context"
	"errors"
	"strings"

	"go.uber.org/zap"

	"pgtier/proxy/wire"
)

// Version of PgBouncer whose columns and commands the console has; its tools ask.
const bouncerVersion = "1.25.2"

// Console serves admin connections. Fixed after New; safe for concurrent use.
type Console struct {
	view    View
	actions Actions
	version string
	bufs    *wire.Buffers
	log     *zap.Logger
	table   []command
	byName  map[string]*command
}

// New returns the console of a proxy that calls itself version. The functions
// in view and actions are called by any goroutine.
func New(view View, actions Actions, version string, bufs *wire.Buffers, log *zap.Logger) *Console {
	c := &Console{view: view, actions: actions, version: version, bufs: bufs, log: log,
		table: commands(), byName: make(map[string]*command)}
	for i := range c.table {
		c.byName[c.table[i].name] = &c.table[i]
	}
	return c
}

// NotAllowed is what a user gets who is neither admin nor stats user.
func NotAllowed() *wire.Error {
	e := wire.Fatal(wire.CodeInvalidAuth, "not allowed")
	e.Hint = "Name the user in auth.admins, or in auth.stats_users for the SHOW commands only."
	return e
}

// call is one command being run.
type call struct {
	*Console
	ctx     context.Context // ends when the client cancels or leaves, or the proxy stops
	user    string
	arg     string // "" when there is none
	rows    [][]any
	notices []wire.Error
}

// row adds one row; its values fit the command's columns.
func (c *call) row(values ...any) { c.rows = append(c.rows, values) }

func (c *call) notice(message string) {
	c.notices = append(c.notices, wire.Error{Severity: "NOTICE", Code: "00000", Message: message})
}

// access errors of PostgreSQL's class 42.
const (
	codePrivilege = "42501"
	codeSyntax    = "42601"
)

// plan is a statement that can be run: what it does, with which argument.
type plan struct {
	cmd  *command
	arg  string
	text string // the statement, for the log
}

// prepare finds what the statement means. Whether the user may run it is
// decided here too, so that a refused command has no effect.
func (c *Console) prepare(st statement, admin bool) (plan, *wire.Error) {
	if len(st.words) == 0 {
		return plan{}, nil
	}
	cmd, args := c.find(st.words)
	if cmd == nil {
		return plan{}, invalid(st.text)
	}
	if !cmd.takes(args) {
		return plan{}, invalid(st.text)
	}
	if !admin && !cmd.open {
		return plan{}, wire.NewError(codePrivilege, "admin access needed", "Only users in auth.admins may run "+cmd.name+".")
	}
	p := plan{cmd: cmd, text: st.text}
	if len(args) > 0 {
		p.arg = args[0].text
	}
	if cmd.fold {
		p.arg = strings.ToUpper(p.arg)
	}
	if cmd.whole {
		p.arg = st.text
	}
	return p, nil
}

// find returns the command whose name the statement begins with, and the words after it.
func (c *Console) find(words []word) (*command, []word) {
	if words[0].quoted {
		return nil, nil
	}
	first := strings.ToUpper(words[0].text)
	if first == "SELECT" {
		first = "SHOW" // as in PgBouncer: tools that may only send SELECT use it
	}
	if len(words) > 1 {
		if cmd := c.byName[first+" "+strings.ToUpper(words[1].text)]; cmd != nil {
			return cmd, words[2:]
		}
	}
	return c.byName[first], words[1:]
}

func invalid(text string) *wire.Error {
	return wire.NewError(codeSyntax, "invalid command '"+shorten(text)+"', use SHOW HELP;", "SHOW HELP lists the commands.")
}

// shorten bounds what an error quotes of a statement.
func shorten(text string) string {
	const most = 100
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// run carries p out.
func (c *Console) run(ctx context.Context, p plan, user string) (*call, *wire.Error) {
	k := &call{Console: c, ctx: ctx, user: user, arg: p.arg}
	if !p.cmd.open {
		c.log.Info("admin command", zap.String("user", user), zap.String("command", shorten(p.text)))
	}
	if err := p.cmd.run(k); err != nil {
		return k, asError(err)
	}
	return k, nil
}

// asError words an error for the client.
func asError(err error) *wire.Error {
	var we *wire.Error
	if errors.As(err, &we) {
		return we
	}
	if errors.Is(err, context.Canceled) {
		return wire.NewError(wire.CodeQueryCanceled, "canceling statement due to user request", "")
	}
	return wire.NewError(wire.CodeNotInState, err.Error(), "")
}
