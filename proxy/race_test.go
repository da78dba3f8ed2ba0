//go:build race

package proxy_test

// raceEnabled: the race detector allocates and grows stacks, so that memory cannot be judged.
const raceEnabled = true
