package gateway

import (
	"math/rand/v2"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/lb"
)

// What gateways and nodes of the SDK tell one another in Goms- fields, beside the request and its answer.
// Clients neither see nor send any of it.
//
//   - Goms-Attempt goes to a node: a random name of the attempt, when it could be repeated elsewhere.
//   - Goms-Refused comes back when the node refused before its handler began: what only a holder of the
//     call-service key can make of that name.
//   - Goms-Node comes with any answer: that the node is draining, and how many other requests it has.
//
// A node that says nothing of the kind is served as ever.

// The fields of answers, in lower case.
const (
	nodeField    = "goms-node"
	refusedField = "goms-refused"
)

// nameAttempt gives the attempt that begins a name, when a node that refuses it would be followed by
// another.
func (x *exchange) nameAttempt() {
	x.named = x.whole && x.othersLeft()
	if !x.named {
		return
	}
	const digits = "0123456789abcdef"
	n := rand.Uint64()
	for i := range x.name {
		x.name[i] = digits[n&15]
		n >>= 4
	}
}

// appendAttempt appends the attempt's name.
func (x *exchange) appendAttempt(dst []byte) []byte {
	if !x.named {
		return dst
	}
	dst = append(dst, auth.AttemptHeader+": "...)
	dst = append(dst, x.name[:]...)
	return append(dst, "\r\n"...)
}

// heed takes in what the node says of itself with its answer, and acts on it: a node that is about to
// leave gets no further requests from now on, whatever the registry says or whether there is one. It
// reports whether the node has proved that it refused the request before its handler began.
func (x *exchange) heed(node *lb.Node) (refused bool) {
	var report lb.Report
	var proof []byte
	proofs := 0
	for i := range x.res.Fields {
		f := &x.res.Fields[i]
		if f.Name[0]|0x20 != 'g' {
			continue
		}
		switch {
		case http1.EqualFold(f.Name, nodeField):
			report = lb.ParseReport(f.Value)
		case http1.EqualFold(f.Name, refusedField):
			proof = f.Value
			proofs++
		}
	}
	if x.pool.Heed(node, report) {
		node.Data.(*upstream).drop() //nolint:forcetypeassert // see newUpstream
		x.gw.log.Info("is draining, by its own word", "service", x.pool.Service(), "node", node.ID())
	}
	x.leaves = report.Draining
	return proofs == 1 && x.res.Status == 503 && x.named && x.gw.live.Load().keys.Refused(x.name[:], proof)
}

// settle decides whether the answer whose head was read is the one for the client.
func (c *conn) settle(x *exchange) (again, error) {
	x.refused = x.heed(x.tried[x.attempts-1]) // which is no word on the node's health
	x.takeAnswer()
	if !x.refused {
		return againNever, nil
	}
	c.gw.metrics.refusals.Add(1)
	node := x.tried[x.attempts-1]
	if x.pool.Succeeded(node) { // it is there, and says so
		c.gw.takenBack(x.pool, node)
	}
	if !x.leaves {
		x.pool.Full(node)
	}
	// What there is of its body is passed over, so that the connection may be used again if that was all.
	_, n, err := x.down.feed(x.out[:0], x.ans[x.ansR:x.ansW])
	x.ansR += n
	if err != nil {
		x.down.done = false
	}
	return againRefused, &failure{reason: ReasonRefused}
}
