package certs_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"

	"github.com/goms-io/goms/pkg/certs"
)

// A listener with a certificate from Let's Encrypt, kept in a directory.
func ExampleOpen() {
	cache, err := certs.DirCache("/var/lib/goms/acme")
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := certs.Open(certs.Options{
		ACME: &certs.ACME{Email: "ops@example.com", Hosts: []string{"api.example.com"}, Cache: cache},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	http.Handle("/", store.HTTPHandler(nil)) // at port 80, before Run
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = store.Run(ctx) }()
	ln, err := net.Listen("tcp", ":443")
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = tls.NewListener(ln, store.ServerConfig()) // accept from it
}
