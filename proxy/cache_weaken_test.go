//go:build weaken

package proxy_test

import (
	"testing"

	"pgtier/proxy/cache"
)

// TestGuardsAreNeeded runs the races without the guards that rule them out: each must go wrong, or its test proves nothing.
func TestGuardsAreNeeded(t *testing.T) {
	defer cache.Weaken(0)
	for _, race := range cacheRaces {
		t.Run(race.name, func(t *testing.T) {
			defer cache.Weaken(0)
			cache.Weaken(race.needs)
			if wrong := race.run(t); wrong == "" {
				t.Error("without its guard nothing went wrong")
			} else {
				t.Log("seen to go wrong: ", wrong)
			}
		})
	}
}
