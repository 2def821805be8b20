package daemon

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
)

// NewLog returns a logger that writes to w in the format and from the level
// that cfg asks for.
func NewLog(w io.Writer, cfg config.Log) *slog.Logger {
	terminal := isTerminal(w)
	if cfg.Format == config.LogText || cfg.Format == config.LogAuto && terminal {
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level: cfg.Level, TimeFormat: time.TimeOnly, NoColor: !terminal || os.Getenv("NO_COLOR") != "",
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: cfg.Level}))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
