package etcd

import (
	"context"
	"log/slog"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Complaints returns what says of each key once that it is to be logged, within bounds.
func Complaints(log *slog.Logger) (news func(key string) bool) {
	return newComplaints(log, "malformed").news
}

// Monitor sends whether the connection of a client is ready, each time that changes, until ctx is done.
func Monitor(ctx context.Context, client *clientv3.Client) (links <-chan bool, done func()) {
	f := &follower{client: client, links: make(chan bool, 1)}
	f.helpers.Go(func() { f.monitor(ctx) })
	return f.links, f.helpers.Wait
}
