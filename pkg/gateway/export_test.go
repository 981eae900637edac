package gateway

// PanicAt makes requests for path panic.
func (g *Gateway) PanicAt(path string) {
	g.endpoints[path] = func(*exchange) *local { panic("for the test") }
}
