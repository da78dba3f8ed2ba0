package session

import (
	"time"

	"go.uber.org/zap"
)

// maxLoggedText bounds the statement text in a log line, in bytes.
const maxLoggedText = 1000

// logSlow writes a request to the slow-query log, by its template: parameter
// values and literals never appear in logs.
func (s *Session) logSlow(took int64) {
	s.logger().Warn("slow query", zap.Duration("took", time.Duration(took)), zap.String("statement", s.template()))
}

// template is the text of the first statement of the turn without its literals.
func (s *Session) template() string {
	for i := range s.items {
		it := &s.items[i]
		st := it.facts()
		if st != nil {
			return st.Template[:min(len(st.Template), maxLoggedText)]
		}
	}
	return ""
}

func (s *Session) logLost(err error) {
	s.logger().Warn("server connection lost", zap.Error(err))
}
