package certs

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestZap sends what certmagic says, in its own words, to a slog.Logger.
func TestZap(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	z := newZap(log.With("room", "certs")).Named("obtain").With(zap.String("identifier", "*.zone"))
	z.Debug("looking")
	z.Info("lock acquired", zap.Int("attempt", 1))
	z.Warn("odd", zap.Duration("after", time.Second), zap.Strings("names", []string{"a", "b"}))
	z.Error("will retry", zap.Error(errors.New("connection refused")))
	want := `level=DEBUG msg=looking room=certs identifier=*.zone part=obtain
level=DEBUG msg="lock acquired" room=certs identifier=*.zone attempt=1 part=obtain
level=WARN msg=odd room=certs identifier=*.zone after=1s names="[a b]" part=obtain
level=ERROR msg="will retry" room=certs identifier=*.zone error="connection refused" part=obtain
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	out.Reset()
	newZap(slog.New(slog.NewTextHandler(&out, nil))).Info("lock acquired")
	if out.Len() > 0 {
		t.Errorf("at level Info: got %s, want nothing", out.String())
	}
}
