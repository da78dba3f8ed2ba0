package session

import (
	"testing"
	"time"

	"pgtier/proxy/cache"
	"pgtier/router/tags"
)

// TestAnswersThatAreNotKeptTakeNoMemory gathers a long answer that turns out not to be kept.
func TestAnswersThatAreNotKeptTakeNoMemory(t *testing.T) {
	c := cache.New(cache.Config{Memory: 1 << 20, MaxEntry: 1 << 20, TTL: time.Hour})
	s := &Session{work: &work{}}
	s.keep.faceOf = c
	s.keep.fill, _ = c.Ask([]byte("key"), cache.Depends{On: []tags.Tag{tags.Everything}}, c.Order(), 1)
	if s.keep.fill == nil {
		t.Fatal("nothing is asked")
	}
	s.saveAnswer(make([]byte, 64<<10))
	s.dropFill()
	if n := cap(s.kept.answer); n > keptRequest {
		t.Errorf("the session holds on to %d bytes", n)
	}
}
