package certs

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newZap returns the logger that certmagic wants, which writes to log. What
// certmagic finds informative is about its inner life: it becomes Debug.
func newZap(log *slog.Logger) *zap.Logger { return zap.New(zapCore{log}) }

// A zapCore is where a zap.Logger sends its lines.
type zapCore struct{ log *slog.Logger }

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Enabled reports whether lines of this level are written.
func (c zapCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), slogLevel(l))
}

// With returns a core whose lines carry fields.
func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	return zapCore{slog.New(c.log.Handler().WithAttrs(slogAttrs(fields)))}
}

// Check adds the core to what a line is written to.
func (c zapCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

// Write writes one line.
func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	attrs := slogAttrs(fields)
	if e.LoggerName != "" {
		attrs = append(attrs, slog.String("part", e.LoggerName))
	}
	c.log.LogAttrs(context.Background(), slogLevel(e.Level), e.Message, attrs...)
	return nil
}

// Sync has nothing to do: no line is held back.
func (c zapCore) Sync() error { return nil }

// slogAttrs returns fields in the order of their keys.
func slogAttrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for _, key := range slices.Sorted(maps.Keys(enc.Fields)) {
		attrs = append(attrs, slog.Any(key, enc.Fields[key]))
	}
	return attrs
}
