// Package movetest moves buckets between real servers under real proxies: two `pgtier serve` processes with one configuration, clients of both that
// write and read all the time, and `pgtier reshard` commands. It has tests only.
//
// Every write carries a name of its own, so that those which were acknowledged can be looked for: each must be there exactly once, and nothing that nobody has
// written. Reads are held to what had been acknowledged before they were sent, and to what had been begun when they were answered. Keys that hold one value,
// written and read by both proxies, are held to an order that explains every answer (porcupine).
//
// In one test nothing breaks: no client may hear an error but 40001 in a transaction of several statements. In the other proxies and servers are killed at
// random. PGTIER_MOVES_SECONDS makes that longer, PGTIER_MOVES_SEED repeats its random choices (not the scheduling of the machine). An odd seed has the proxies keep
// answers (cache.enabled). With 1 more than a multiple of four all clients go through one that nobody kills: through that one reads and writes have an order still.
// With 3 more they go through both, which are killed, and change between them; others rush to one that has just started. What they read may be older than what was
// written through the other proxy, by cache.max_delay and not more, and not older than the proxy's process itself, nor than what was written or shown through it.
package movetest
