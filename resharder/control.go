package resharder

import "context"

// Control is a connection to the control database for who looks at jobs and says what is wanted; it is made anew when it is lost. Safe for concurrent use.
type Control struct {
	link     *link
	database string
}

// NewControl makes one that is not connected yet.
func NewControl(c Config) *Control { return &Control{c.controlLink("pgtier reshard"), c.Map.Database} }

// Close ends the connection.
func (c *Control) Close() { c.link.close() }

// Status reads the job under way or the last one; ErrNoJob if there was none.
func (c *Control) Status(ctx context.Context) (*Status, error) {
	return ReadStatus(ctx, c.link, c.database)
}

// Journal is that of the database.
func (c *Control) Journal() *Journal { return NewJournal(c.link, c.database) }
