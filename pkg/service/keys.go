package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/goms-io/goms/pkg/config"
)

// keysInterval is how often the files of the call-service keys are looked at. A change is taken when two looks in a
// row saw the same, because a file may be seen half written, and one of two before the other.
const keysInterval = time.Second

// followKeys takes in the call-service keys when their files have changed, and when it is asked to, until ctx is done. Keys
// that cannot be read change nothing.
func (s *Service) followKeys(ctx context.Context) {
	var look <-chan time.Time
	if s.config.CallServiceKeyFile != "" || s.config.CallServiceKeyOldFile != "" {
		ticker := time.NewTicker(keysInterval)
		defer ticker.Stop()
		look = ticker.C
	}
	served, seen := s.keysSum, s.keysSum
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asked:
			served = keysSum(s.config)
			seen = served
			s.takeKeys()
			continue
		case <-look:
		}
		if sum := keysSum(s.config); sum != seen {
			seen = sum
		} else if sum != served {
			served = sum
			s.takeKeys()
		}
	}
}

// takeKeys reads the keys anew.
func (s *Service) takeKeys() {
	keys, err := s.config.Keys()
	if err != nil {
		s.log.Error("the call-service keys cannot be used, those before stay", "err", err)
		return
	}
	s.now.Store(keys)
	s.log.Info("call-service keys read again")
	s.warnOfWeakKeys()
}

func (s *Service) warnOfWeakKeys() {
	if why := s.keys.Weak(); why != "" {
		s.log.Warn("weak call-service key", "reason", why)
	}
}

// keysSum tells one content of the keys' files from another. What cannot be read has a sum too: its error.
func keysSum(c Config) string {
	var all strings.Builder
	for _, path := range []string{c.CallServiceKeyFile, c.CallServiceKeyOldFile} {
		sum, err := config.Digest(path)
		fmt.Fprintln(&all, sum, err)
	}
	return all.String()
}
