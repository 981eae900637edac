package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/lb"
)

const (
	maxAttempts  = 3  // of one call
	retryPercent = 20 // of the calls that may be repeated after a refusal for want of room,
	retryFloor   = 3  // and a second besides; see lb.Budget
)

// attempt is what the picker knows of a call that could be repeated, and what the node it
// chose said. It belongs to the goroutine of its call.
type attempt struct {
	tried []*lb.Node
	node  *lb.Node // nil when none was chosen

	name   string // "" when no other node could follow
	proof  string
	report lb.Report
}

type attemptKey struct{}

// attempts makes a unary call, on one node after the other for as long as they prove that
// they refused it before its handler.
func (c *Conn) attempts(ctx context.Context, method string, args, reply any, opts []grpc.CallOption) error {
	c.budget.Request(now())
	a := &attempt{}
	ctx = context.WithValue(ctx, attemptKey{}, a)
	var last error
	for {
		a.node, a.name, a.proof, a.report = nil, "", "", lb.Report{}
		err := c.cc.Invoke(ctx, method, args, reply, opts...)
		if a.node == nil && last != nil {
			return last // there was no other node after all
		}
		last = err
		if err == nil || !c.keys.Refused([]byte(a.name), []byte(a.proof)) {
			return err
		}
		if !a.report.Draining {
			c.pool.Full(a.node)
			if !c.budget.Retry(now(), retryPercent, retryFloor) {
				return err
			}
		}
		a.tried = append(a.tried, a.node)
	}
}

// picker asks the pool for the node of each attempt.
type picker struct{ pool *lb.Pool }

// Pick chooses the node of the next attempt. What it is sent may have been done there,
// for all that is known of its method: it is not what tries a silent node.
func (p picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	a, _ := info.Ctx.Value(attemptKey{}).(*attempt)
	var tried []*lb.Node
	if a != nil {
		tried = a.tried
	}
	for left := tried[:len(tried):len(tried)]; ; {
		node, err := p.pool.AcquireOnce(left, 0)
		if err != nil {
			if len(tried) > 0 {
				return balancer.PickResult{}, status.Error(codes.Unavailable, "no other node") // which ends the call
			}
			return balancer.PickResult{}, balancer.ErrNoSubConnAvailable // a connection has just ended: the next picker knows
		}
		left = append(left, node)
		c := linkOf(node).ready.Load()
		if c == nil {
			node.End()
			continue
		}
		result := balancer.PickResult{SubConn: c.sc, Done: func(info balancer.DoneInfo) { p.done(node, a, info) }}
		if a != nil {
			a.node, a.name = node, ""
			if len(tried)+1 < maxAttempts && p.pool.Others(left) {
				a.name = fmt.Sprintf("%016x", rand.Uint64())
				result.Metadata = metadata.MD{attemptMetadata: {a.name}}
			}
		}
		return result, nil
	}
}

// done takes in how an attempt ended.
func (p picker) done(node *lb.Node, a *attempt, info balancer.DoneInfo) {
	defer node.End()
	switch {
	case info.BytesReceived:
		p.pool.Succeeded(node)
		p.pool.Done(node)
	case info.BytesSent && status.Code(info.Err) == codes.Unavailable:
		p.pool.Failed(node)
		return
	}
	word, said := lastOf(info.Trailer[reportMetadata])
	if !said {
		return // an answer that was given up, or no node of ours
	}
	report := lb.ParseReport([]byte(word))
	p.pool.Heed(node, report)
	if a != nil {
		a.report = report
		a.proof, _ = lastOf(info.Trailer[refusedMetadata])
	}
}

var clockStart = time.Now()

// now is the time for budgets, on a clock that does not go back.
func now() int64 { return int64(time.Since(clockStart)) }
