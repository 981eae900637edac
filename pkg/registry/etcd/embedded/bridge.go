package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bridge hands etcd's log to a slog.Logger: errors as errors, all else as debug. What would end the process ends one goroutine.
type bridge struct {
	out   *slog.Logger
	quiet atomic.Bool // errors are debug too: the server is closing
	fatal chan error  // the first reason why etcd wanted to end the process
}

func newBridge(log *slog.Logger) *bridge {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &bridge{out: log, fatal: make(chan error, 1)}
}

// hush makes the errors of an ordinary close unimportant.
func (b *bridge) hush() { b.quiet.Store(true) }

// zap returns the logger for etcd.
func (b *bridge) zap() *zap.Logger {
	return zap.New(sink{b: b}, zap.WithFatalHook(b), zap.WithPanicHook(b))
}

// OnWrite runs after a fatal or panic record. etcd must not get beyond it.
func (b *bridge) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(e.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok {
			err = fmt.Errorf("%s: %w", e.Message, cause)
		}
	}
	select {
	case b.fatal <- err:
	default:
	}
	runtime.Goexit()
}

// sink is a zapcore.Core over a bridge.
type sink struct {
	b      *bridge
	fields []zapcore.Field
}

func (c sink) Enabled(l zapcore.Level) bool {
	return l >= zapcore.PanicLevel || c.b.out.Enabled(context.Background(), c.level(l))
}

func (c sink) level(l zapcore.Level) slog.Level {
	if l >= zapcore.ErrorLevel && !c.b.quiet.Load() {
		return slog.LevelError
	}
	return slog.LevelDebug
}

func (c sink) With(fields []zapcore.Field) zapcore.Core {
	return sink{b: c.b, fields: append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

func (c sink) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// harmless are errors of a healthy server: the version is stored at the next try, four seconds later.
var harmless = map[string]bool{"failed to update storage version": true}

func (c sink) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := c.level(e.Level)
	if harmless[e.Message] {
		level = slog.LevelDebug
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields)+1)
	attrs = append(attrs, slog.String("etcd", e.Message))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	c.b.out.LogAttrs(context.Background(), level, "embedded etcd", attrs...)
	return nil
}

func (c sink) Sync() error { return nil }
