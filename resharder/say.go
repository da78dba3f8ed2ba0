package resharder

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
)

// say writes every second how far the job is into the journal, until ctx ends.
func (m *mover) say(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pulse):
			m.store(ctx)
		}
	}
}

// store writes the progress down. It does not matter if it fails: the next one tells the same.
func (m *mover) store(ctx context.Context) {
	m.mu.Lock()
	generation := m.job.generation
	m.mu.Unlock()
	if err := m.journal.say(ctx, m.job.Database, m.job.Number, generation, m.progress()); err != nil && !ended(ctx) {
		m.log.Debug("progress is not written down", zap.Error(err))
	}
}

// progress is what there is to say now.
func (m *mover) progress() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.note.Moves {
		p := &m.note.Moves[i]
		if c := m.copying[p.Number]; c != nil {
			now := c.Progress()
			p.Rows, p.Bytes, p.ExpectedRows, p.ExpectedBytes = now.Rows, now.Bytes, now.ExpectedRows, now.ExpectedBytes
			if seconds := time.Since(m.began[p.Number]).Seconds(); seconds > 0 {
				p.Rate, p.ETA = int64(float64(now.Bytes)/seconds), 0
				if p.Rate > 0 {
					p.ETA = time.Duration(float64(max(0, now.ExpectedBytes-now.Bytes)) / float64(p.Rate) * float64(time.Second)).Round(time.Second)
				}
			}
		}
		if f := m.streams[p.Number]; f != nil {
			forward, back := f.forward.Status(), f.back.Status()
			p.Lag, p.ReverseLag, p.Applied = forward.LagBytes, back.LagBytes, forward.Rows
		}
	}
	p := m.note
	p.Moves, p.Cuts, p.Warnings = slices.Clone(p.Moves), slices.Clone(p.Cuts), nil
	for _, subject := range slices.Sorted(maps.Keys(m.warnings)) {
		p.Warnings = append(p.Warnings, m.warnings[subject])
	}
	return p
}

// copied ends the count of a copy that is done: no time of it is left.
func (m *mover) copied(move int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.note.Moves {
		if p := &m.note.Moves[i]; p.Number == move {
			now := m.copying[move].Progress()
			p.Rows, p.Bytes, p.ExpectedRows, p.ExpectedBytes, p.ETA = now.Rows, now.Bytes, now.ExpectedRows, now.ExpectedBytes, 0
		}
	}
	delete(m.copying, move)
}

// doing says in a few words what goes on; "" is nothing.
func (m *mover) doing(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note.Doing = fmt.Sprintf(format, args...)
}

// trouble says what is being tried again; "" is nothing.
func (m *mover) trouble(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note.Trouble = text
}

// warn says what people should look at, of a subject that has one warning at most; "" is none any more.
func (m *mover) warn(subject, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if text == "" {
		delete(m.warnings, subject)
		return
	}
	if m.warnings[subject] == "" {
		m.log.Warn(text)
	}
	m.warnings[subject] = text
}

// cripple says why a move that is cut over in part cannot be cut over in whole; "" is that it can.
func (m *mover) cripple(move int, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.note.Moves {
		if p := &m.note.Moves[i]; p.Number == move {
			p.Crippled = why
		}
	}
}

// crippled is that of the first move of which it is so.
func (m *mover) crippled() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.note.crippled()
}

// lameOf reports whether the stream to the target of a move is lost.
func (m *mover) lameOf(move int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.note.Moves, func(p MoveProgress) bool { return p.Number == move && p.Crippled != "" })
}

// throttled says why a move writes nothing at the moment; "" is that it may.
func (m *mover) throttled(move int, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.note.Moves {
		if p := &m.note.Moves[i]; p.Number == move {
			p.Throttled = why
		}
	}
}

// missed counts an attempt that ended before its grant.
func (m *mover) missed(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note.Misses++
	m.note.Trouble = why.Error()
}

// verified says when both sides were found equal, nil for not any more.
func (m *mover) verified(at *time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note.Verified = at
}

// cutDone records a change of owner.
func (m *mover) cutDone(cut Cut) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note.Cuts, m.note.Trouble = append(m.note.Cuts, cut), ""
}

// kept records the log that servers keep for a move.
func (m *mover) kept(move int, forward, back int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.note.Moves {
		if p := &m.note.Moves[i]; p.Number == move {
			p.Retained, p.ReverseRetained = forward, back
		}
	}
}

// deleted counts rows that are deleted at the end.
func (m *mover) deleted(move int, rows int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.note.Moves {
		if p := &m.note.Moves[i]; p.Number == move {
			p.Deleted += rows
		}
	}
}

// count records how far moves and groups are.
func (m *mover) count(s *standing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.note.Moves
	m.note.Moves, m.note.Groups, m.note.GroupsDone, m.note.Asked = nil, 0, 0, m.job.asked
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		p := MoveProgress{}
		if at := slices.IndexFunc(known, func(p MoveProgress) bool { return p.Number == move.Number }); at >= 0 {
			p = known[at]
		}
		p.Number, p.Source, p.Target, p.State, p.Groups, p.GroupsDone = move.Number, move.Source, move.Target, s.state[move.Number], len(move.Groups), 0
		if p.State == "stream" { // copied, perhaps by a mover that has not come to say so
			p.ETA = 0
		}
		for _, group := range move.Groups {
			if s.granted[group.Number] {
				p.GroupsDone++
			}
		}
		m.note.Moves = append(m.note.Moves, p)
		m.note.Groups, m.note.GroupsDone = m.note.Groups+p.Groups, m.note.GroupsDone+p.GroupsDone
	}
}
