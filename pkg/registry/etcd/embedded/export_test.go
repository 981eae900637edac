package embedded

import (
	"log/slog"

	"go.uber.org/zap"
)

// LoggerForTest returns the logger that etcd gets, and where its fatal errors go.
func LoggerForTest(log *slog.Logger) (*zap.Logger, <-chan error) {
	b := newBridge(log)
	return b.zap(), b.fatal
}
