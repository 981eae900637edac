package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// secureKey is the attribute of the address of a node that speaks TLS: the name it has
// to prove.
type secureKey struct{}

// perNode are the credentials of connections to nodes of which some speak TLS: those
// are never spoken to plain.
type perNode struct{ config *tls.Config }

// ClientHandshake does what the node's address says.
func (p perNode) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	name, ok := credentials.ClientHandshakeInfoFromContext(ctx).Attributes.Value(secureKey{}).(string)
	if !ok {
		return insecure.NewCredentials().ClientHandshake(ctx, authority, raw)
	}
	conn, info, err := credentials.NewTLS(p.config).ClientHandshake(ctx, name, raw)
	if err != nil {
		return nil, nil, fmt.Errorf("make TLS connection to %s, expected to be %q: %w", raw.RemoteAddr(), name, err)
	}
	return conn, info, nil
}

// serverName is what a node at addr has to prove: the name given, or its host.
func (p perNode) serverName(addr string) string {
	if p.config.ServerName != "" {
		return p.config.ServerName
	}
	host, _, _ := net.SplitHostPort(addr) // the registry checked it
	return host
}

// ServerHandshake is never called.
func (perNode) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	panic("BUG: credentials of a client used by a server")
}

// Info describes them. They are not called "tls", for then grpc would claim the scheme
// https towards plain nodes too.
func (perNode) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "node"}
}

// Clone returns the same: nothing in them changes.
func (p perNode) Clone() credentials.TransportCredentials { return p }

// OverrideServerName does nothing; it is deprecated.
func (perNode) OverrideServerName(string) error { return nil }
