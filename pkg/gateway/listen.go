package gateway

// A node that is stopped and goes on, or whose machine was, is not sent requests to find out: they would wait in vain once in a while, and it
// would be back only with the next. One connection on which it owes an answer, of an attempt that was given up, is kept instead, and ten times a
// second the sweep looks whether it says something there. Then it gets the next request, which shows whether it is well or only slow.

// listen keeps the connection of an attempt that was given up because nothing is heard of the node. It reports false when there is one
// already, or when this one cannot tell.
func (u *upstream) listen(c *upstreamConn) bool {
	if c.probe == nil || c.probe.readable() {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.gone && u.kept.CompareAndSwap(nil, c)
}

// spoke reports whether something has come on the connection that is listened to, which is over then, as it is when the connection has ended
// or the node is not left out any more.
func (u *upstream) spoke() bool {
	c := u.kept.Load()
	if c == nil || u.node.Ejected() && !c.probe.readable() || !u.kept.CompareAndSwap(c, nil) {
		return false
	}
	spoke := u.node.Ejected() && !c.probe.hungUp()
	c.cut()
	return spoke
}
