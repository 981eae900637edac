package config

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	lookAgain    = time.Second     // between two looks at the files of what is shown
	beingWritten = 2 * time.Second // a file that was written less long ago may not be whole, or its other half not there
)

// shown is the certificate that a client shows, as its files have it.
type shown struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex // guards what follows
	pair    *tls.Certificate
	read    time.Time // when it was looked at the files
	failing bool      // they hold nothing good, which has been told
}

// newShown reads the files for the first time. log is told what changes later; nil discards.
func newShown(certFile, keyFile string, log *slog.Logger) (*shown, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &shown{certFile: certFile, keyFile: keyFile, log: log, read: time.Now()}
	var err error
	s.pair, err = s.load()
	return s, err
}

// get is GetClientCertificate.
func (s *shown) get(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	pair, tell := s.look()
	if tell != nil {
		tell()
	}
	if asked.SupportsCertificate(pair) != nil {
		return &tls.Certificate{}, nil // as with Certificates: none is shown, and the server may do without
	}
	return pair, nil
}

// look returns the last certificate that was good, and what tells of what is new about it, if anything is.
func (s *shown) look() (pair *tls.Certificate, tell func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) < lookAgain {
		return s.pair, nil
	}
	s.read = time.Now()
	next, err := s.load()
	if err != nil {
		if s.failing || s.written() {
			return s.pair, nil
		}
		s.failing = true
		return s.pair, func() {
			s.log.Error("changed client certificate cannot be used, the one before stays", "err", err)
		}
	}
	was, failed := s.pair, s.failing
	s.pair, s.failing = next, false
	switch {
	case !bytes.Equal(was.Certificate[0], next.Certificate[0]):
		tell = func() { s.log.Info("client certificate reloaded", "file", s.certFile) }
	case failed:
		tell = func() { s.log.Info("client certificate can be used again", "file", s.certFile) }
	}
	return s.pair, tell
}

func (s *shown) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certFile %q and keyFile %q: %w", s.certFile, s.keyFile, err)
	}
	return &pair, nil
}

// written reports whether one of the files was written just now: they are being replaced, and the next look will know.
func (s *shown) written() bool {
	for _, name := range []string{s.certFile, s.keyFile} {
		if info, err := os.Stat(name); err == nil {
			if age := time.Since(info.ModTime()); age >= 0 && age < beingWritten {
				return true
			}
		}
	}
	return false
}
