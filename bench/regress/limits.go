package main

// limits gives, for each test that is known to end differently through a proxy in transaction mode, the reason. A test
// stands here only when the difference is one that ARCHITECTURE.md documents.
func limits() map[string]string {
	return map[string]string{}
}
