package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// errListen is wrapped by errors of the shared listener.
var errListen = errors.New("listen")

// readBackListens keeps the shared listener to what LISTEN and UNLISTEN left:
// what the transaction has not taken back of its own LISTENs stays.
func (s *Session) readBackListens(c *backend.Conn) error {
	var heard []string
	if s.txn.listening {
		var err error
		if heard, err = s.moveListens(c); err != nil {
			return err
		}
	}
	if !s.txn.silenced {
		return nil
	}
	for channel := range s.listens {
		if !slices.Contains(heard, channel) && (slices.Contains(s.txn.unlisten, channel) || slices.Contains(s.txn.unlisten, "")) {
			s.unlisten(channel)
		}
	}
	return nil
}

// moveListens moves what the finished transaction listens to from the pooled
// connection to the shared listener, before the client hears of it.
func (s *Session) moveListens(c *backend.Conn) (channels []string, err error) {
	err = c.Exec(askListens(), readBackTimeout, func(f wire.Frame) {
		if f.Type == wire.MsgDataRow {
			if fields, err := wire.RowFields(f.Body()); err == nil && len(fields) == 1 {
				channels = append(channels, string(fields[0]))
			}
		}
	})
	if err != nil || len(channels) == 0 {
		return nil, err
	}
	ctx, stop := context.WithTimeout(context.Background(), readBackTimeout)
	defer stop()
	for _, channel := range channels {
		if err := s.listen(ctx, channel); err != nil {
			return nil, err
		}
	}
	if s.raw {
		return channels, nil // a connection of the session's own goes on listening, unheard
	}
	return channels, c.Exec(wire.AppendQuery(nil, "UNLISTEN *"), readBackTimeout, nil)
}

// askListens asks what a connection listens to. On one that is the session's own a Query would take its unnamed statement away.
func askListens() []byte {
	const name = sharedPrefix + "listens"
	msgs := wire.AppendParse(wire.AppendCloseStatement(nil, name), name, []byte("SELECT pg_catalog.pg_listening_channels()"), nil)
	return wire.AppendSync(wire.AppendCloseStatement(wire.AppendExecute(wire.AppendBindText(msgs, name, nil)), name))
}

func (s *Session) listen(ctx context.Context, channel string) error {
	if err := s.db.Listener.Listen(ctx, s, channel); err != nil {
		return fmt.Errorf("%w: %w", errListen, err)
	}
	if s.listens == nil {
		s.listens = make(map[string]bool)
	}
	s.listens[channel] = true
	return nil
}

// unlisten ends one channel.
func (s *Session) unlisten(channel string) {
	s.db.Listener.Unlisten(s, channel)
	delete(s.listens, channel)
}

// noteUnlisten remembers the channels of UNLISTEN; "" is all of them.
func (s *Session) noteUnlisten(commands []parser.Command) {
	for i := range commands {
		if cmd := &commands[i]; cmd.Kind == parser.Unlisten || cmd.Kind == parser.UnlistenAll {
			s.txn.unlisten = append(s.txn.unlisten, cmd.Channel)
		}
	}
}
