package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
)

// TLS says how a client secures its connections. The zero value is no TLS.
type TLS struct {
	CAFile     string `yaml:"caFile"`     // PEM; empty = the system's authorities
	CertFile   string `yaml:"certFile"`   // PEM certificate shown to the server; needs keyFile
	KeyFile    string `yaml:"keyFile"`    // PEM key of certFile
	ServerName string `yaml:"serverName"` // name in the server's certificate; empty = the host dialed
}

// Enabled says whether anything is set.
func (t TLS) Enabled() bool { return t != TLS{} }

// Validate says whether the fields fit together. It reads no files.
func (t TLS) Validate() error {
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		return &keyError{key: "certFile", msg: "needs keyFile too"}
	case t.KeyFile != "" && t.CertFile == "":
		return &keyError{key: "keyFile", msg: "needs certFile too"}
	}
	return nil
}

// ClientConfig reads the files. It returns nil when t is not Enabled. The caller
// owns the result. The certificate is read again as it is shown, at most once a second,
// so that it may be renewed while the program runs: GetClientCertificate returns the
// last one that was good, Certificates holds the first. log is told when another one is
// shown, when the files begin to hold none that is good, with the reason, and when they
// do again; nil discards. The result is safe for concurrent use, as any *tls.Config.
func (t TLS) ClientConfig(log *slog.Logger) (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := readLimited(t.CAFile, maxFile)
		if err != nil {
			return nil, fmt.Errorf("read caFile %q: %w", t.CAFile, cause(err))
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read caFile %q: no PEM certificate in it", t.CAFile)
		}
	}
	if t.CertFile != "" {
		shown, err := newShown(t.CertFile, t.KeyFile, log)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{*shown.pair}
		cfg.GetClientCertificate = shown.get
	}
	return cfg, nil
}

// keyError is an error about one key of the struct that was asked.
type keyError struct{ key, msg string }

func (e *keyError) Error() string     { return e.key + ": " + e.msg }
func (e *keyError) ConfigKey() string { return e.key }
