package etcd

import "log/slog"

// Complaints returns what says of each key once that it is to be logged, within bounds.
func Complaints(log *slog.Logger) (news func(key string) bool) {
	return newComplaints(log, "malformed").news
}
