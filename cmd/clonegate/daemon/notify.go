package daemon

import (
	"context"
	"log/slog"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd, if it started us, about our state. A failure is no
// reason to stop; it is logged.
func notify(log *slog.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Warn("systemd was not told", "state", state, "err", err)
	}
}

// runWatchdog tells systemd that we are alive for as long as alive says so, if
// systemd asked for that. It returns nil when ctx ends.
func runWatchdog(ctx context.Context, log *slog.Logger, alive func(context.Context) error) error {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is not served", "err", err)
	}
	if every <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		check, cancel := context.WithTimeout(ctx, every/4)
		err := alive(check)
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Error("this daemon does not answer itself; systemd will restart it", "err", err)
			continue
		}
		notify(log, sd.SdNotifyWatchdog)
	}
}
