package plan

import (
	"testing"
)

func TestTextsThatTellTheTime(t *testing.T) {
	for text, want := range map[string]bool{
		"now": true, " Today ": true, "TOMORROW 10:00": true, "10:00 yesterday": true, "today 10:00 Europe/Berlin": true, "now,": true, "today z": true,
		"{now,2024-01-01}": true, "[today,)": true, `("x y",now)`: true, `{"a","today"}`: true, "today Singapore": true, "today allballs": true,
		"": false, "2024-01-01": false, "known": false, "nowhere": false, "snow": false, "the weather is better now": false, "todays": false,
		`{"when": "now"}`: false, "buy it now please": false, "jetzt": false,
	} {
		if got := tellsTime([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// TestServersReadNoOtherTextsByTheClock has a server read texts with these words that are taken for others.
func TestServersReadNoOtherTextsByTheClock(t *testing.T) {
	conn := testDatabase(t)
	for _, text := range []string{"now", "today 10:00", "10:00 today", "tomorrow allballs", "today Singapore", "yesterday 04:05 america/new_york", "snow", "the weather is better now", "todays",
		"buy it now please", `{"when": "now"}`, "now and then", "today is friday", "friday today", "now(2)", "today;", "=today"} {
		for _, typ := range []string{"date", "timestamp", "timestamptz", "time", "timetz", "date[]", "tsrange"} {
			err := conn.Exec(t.Context(), "SELECT '"+text+"'::"+typ).Close()
			if err == nil && !tellsTime([]byte(text)) {
				t.Errorf("the server reads %q as %s", text, typ)
			}
		}
	}
}
