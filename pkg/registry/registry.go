// Package registry says what a node is and how a whole set of nodes is told.
//
// A node is one registered process of a service. It has a key and a value, the form in which it lives in the store that all
// gateways and services share, and a snapshot is the whole set of nodes of a project at one moment:
//
//	n := registry.NewNode("user", "10.0.0.7:9180", "10.0.0.7:9080")
//	n.Key("goms") // goms_user_10.0.0.7:9180_10.0.0.7:9080
//	n.Value()     // 0
//
//	err := reg.Watch(ctx, func(s registry.Snapshot) {
//		joined, left := registry.Diff(last, s)
//		...
//		last = s
//	})
//
// [Memory] keeps nodes in this process, for tests and for programs that need no other. Package registry/etcd keeps them in
// etcd. Both pass the same suite, registrytest.
//
// The package refuses to know which store is used, how a node is called, and whether it answers.
package registry

import (
	"errors"
	"time"
)

// ErrClosed is returned by the methods of a registry after its Close.
var ErrClosed = errors.New("registry is closed")

// Status is what a registry knows of its link to the store. It is a copy: the receiver may keep and change it.
type Status struct {
	// Connected says that the last thing heard of the store was an answer, not an error.
	Connected bool
	// LastContact is when the store answered last, by this machine's clock. Zero means never.
	LastContact time.Time
	// Revision is the newest revision of the store that was seen.
	Revision int64
	// Resyncs counts full listings after the first one of each Watch, by cause: "compacted" (the history that a watch needed
	// was gone), "revision" (the store's revision went back: it was restored or emptied), "stale" (the watch was silent
	// about a change), "closed" (the store ended the watch). It is never nil.
	Resyncs map[string]int64
	// Ignored counts entries met in the store whose key or value could not be read.
	Ignored int64
	// Refused counts nodes that were read and not believed, by cause: "network" (an address outside the networks of nodes),
	// "own" (an address of this process itself), "duplicate" (a newer node of the service has the same HTTP address). It may be
	// nil.
	Refused map[string]int64
	// Stale says that the nodes are those of a former process, because the store has not been read since the start, and
	// StaleSince when they were known to be true; zero is not known.
	Stale      bool
	StaleSince time.Time
	// Overrides are what operators have set for single nodes, sorted by key. It may be nil.
	Overrides []Override
}
