package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/project"
)

// Listener is one more address for clients, beside the HTTP and the HTTPS port.
type Listener struct {
	Addr          string         `yaml:"addr"`          // host:port, or unix: and the path of a socket
	Mode          string         `yaml:"mode"`          // of the socket's file, 0660: who may connect may write to it
	TLS           bool           `yaml:"tls"`           // with the certificates of gateway.tls
	H2C           bool           `yaml:"h2c"`           // HTTP/2 without TLS, for clients that begin with it
	ProxyProtocol []netip.Prefix `yaml:"proxyProtocol"` // networks whose connections begin with a PROXY header
}

const defaultSocketMode fs.FileMode = 0o660

// socket returns the path of a Unix socket.
func (l Listener) socket() (path string, ok bool) { return strings.CutPrefix(l.Addr, "unix:") }

// mode returns the mode of a Unix socket's file.
func (l Listener) mode() (fs.FileMode, error) {
	if l.Mode == "" {
		return defaultSocketMode, nil
	}
	n, err := strconv.ParseUint(l.Mode, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("%q is no mode like 0660", l.Mode)
	}
	return fs.FileMode(n), nil
}

// Validate returns all complaints, joined.
func (l *Listener) Validate() error {
	var all []error
	complain := func(key, format string, args ...any) {
		all = append(all, &project.ConfigError{Key: key, Msg: fmt.Sprintf(format, args...)})
	}
	if l.TLS && l.H2C {
		complain("h2c", "it is HTTP/2 without TLS, and the listener has TLS")
	}
	if path, ok := l.socket(); ok {
		if path == "" || path[0] == '@' || len(path) > 100 {
			complain("addr", "%q: want unix: and a path of at most 100 bytes", l.Addr)
		}
		if _, err := l.mode(); err != nil {
			complain("mode", "%v", err)
		}
	} else {
		_, port, err := net.SplitHostPort(l.Addr)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			complain("addr", "%q: want host:port, or unix: and a path", l.Addr)
		}
		if l.Mode != "" {
			complain("mode", "only the file of a Unix socket has one")
		}
	}
	return errors.Join(all...)
}

// listen opens it.
func (l Listener) listen(u *upgrades) (net.Listener, error) {
	if path, ok := l.socket(); ok {
		mode, err := l.mode()
		if err != nil {
			return nil, err
		}
		return u.listenUnix(path, mode)
	}
	ln, err := u.listen("tcp", l.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w (choose another address with gateway.listeners)", l.Addr, err)
	}
	return ln, nil
}

// listenUnix listens on a Unix socket. A file that a dead process left is taken away first; the new one goes
// when the listener is closed. Until the file has its mode it has what the umask leaves, which lets nobody
// else connect unless the umask lets others write.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := clearSocket(path); err != nil {
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		ln.Close()
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	return ln, nil
}

// clearSocket removes the socket of a dead process. Anything else at its place is an error.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket (remove it, or choose another path with gateway.listeners)")
	}
	nc, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		nc.Close()
		return errors.New("another process answers there (choose another path with gateway.listeners)")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("look who listens there: %w", err)
	}
	return os.Remove(path)
}

// front is one open listener for clients.
type front struct {
	net.Listener
	proxyProtocol []netip.Prefix
	tls, h2c      bool
	name          string // as the line at the start has it: "port: 8080"
}

// listen opens all ports and sockets.
func (p *process) listen() (err error) {
	g := &p.config.Gateway
	if p.http, err = p.open(g.ListenHost, g.HTTPPort, "HTTP", "-http_port"); err != nil {
		return err
	}
	p.fronts = append(p.fronts, front{p.http, g.ProxyProtocol, false, g.H2C, "port: " + port(p.http)})
	if p.rpc, err = p.open(g.ListenHost, g.RPCPort, "RPC", "-rpc_port"); err != nil {
		return err
	}
	number, err := strconv.Atoi(port(p.http))
	if err != nil {
		return err
	}
	addr := g.adminAddr(number)
	if p.admin, err = p.upgrades.listen("tcp", addr); err != nil {
		return fmt.Errorf("listen for operators on %s: %w (choose another port with -admin_port)", addr, err)
	}
	if err := p.listenTLS(); err != nil {
		return err
	}
	for _, l := range g.Listeners {
		ln, err := l.listen(p.upgrades)
		if err != nil {
			return err
		}
		name := ln.Addr().String()
		if _, ok := l.socket(); ok {
			name = l.Addr
		}
		p.fronts = append(p.fronts, front{ln, l.ProxyProtocol, l.TLS, l.H2C, name})
	}
	return nil
}

// listenTLS opens the ports of TLS, if it is configured.
func (p *process) listenTLS() (err error) {
	g := &p.config.Gateway
	if !g.TLS.enabled() {
		return nil
	}
	https, err := p.open(g.ListenHost, g.TLS.Port, "HTTPS", "gateway.tls.port")
	if err != nil {
		return err
	}
	p.httpsPort = port(https)
	p.fronts = append(p.fronts, front{https, g.ProxyProtocol, true, false, "port: " + p.httpsPort})
	if g.TLS.RedirectPort < 0 {
		return nil
	}
	if p.plain, err = p.open(g.ListenHost, g.TLS.RedirectPort, "the redirect to HTTPS", "gateway.tls.redirectPort"); err != nil {
		return err
	}
	p.plain = proxied(p.plain, g.ProxyProtocol, g.HeadTimeout)
	return nil
}

// proxied takes PROXY headers off the connections of a listener that is net/http's, from the networks given.
func proxied(ln net.Listener, networks []netip.Prefix, patience time.Duration) net.Listener {
	if len(networks) == 0 {
		return ln
	}
	return &proxyproto.Listener{
		Listener: ln, ReadHeaderTimeout: patience,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if a, ok := o.Upstream.(*net.TCPAddr); ok && slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a.AddrPort().Addr().Unmap()) }) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.SKIP, nil
		},
	}
}

// serve takes clients until the gateway is shut down.
func (p *process) serve(f front) error {
	l := gateway.Listener{Listener: f.Listener, ProxyProtocol: f.proxyProtocol, H2C: f.h2c, Closing: p.upgrades.stop}
	if f.tls {
		l.TLS = p.certs.ServerConfig()
	}
	return p.gateway.Serve(l)
}

// announce prints where a listener is.
func (p *process) announce(f front) {
	switch {
	case f.Listener == p.http:
		p.log.Info("Http Listen on "+f.name, "service", serviceName)
	case f.tls:
		p.log.Info("Https Listen on " + f.name)
	default:
		p.log.Info("Http Listen on " + f.name)
	}
}

func (p *process) open(host string, port int, what, flag string) (net.Listener, error) {
	ln, err := p.upgrades.listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listen for %s on port %d: %w (choose another port with %s)", what, port, err, flag)
	}
	return ln, nil
}

func port(ln net.Listener) string {
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}
