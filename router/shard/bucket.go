package shard

import "fmt"

const (
	// DefaultBuckets is how many buckets keys fall into unless the configuration says otherwise.
	DefaultBuckets = 1024
	// MaxBuckets is the most buckets there may be: as many as a Bucket numbers. It is a power of two, as every number of buckets.
	MaxBuckets = 1 << bucketBits
	bucketBits = 16
)

// Bucket is the number of a bucket, from 0.
type Bucket uint16

// ValidBuckets returns an error that says why a number of buckets cannot be, or nil.
func ValidBuckets(buckets int) error {
	if buckets < 1 || buckets > MaxBuckets || buckets&(buckets-1) != 0 {
		return fmt.Errorf("%d buckets: must be a power of two from 1 to %d", buckets, MaxBuckets)
	}
	return nil
}
