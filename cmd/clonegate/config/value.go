package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// parseValue reads one value of the configuration from its text into dst,
// which points to one of the types a key can have. The error says what was
// wanted.
func parseValue(dst any, text string) error {
	switch p := dst.(type) {
	case *string:
		*p = text
		return nil
	case *bool:
		return parseInto(p, text, parseBool, "true or false")
	case *uint16:
		return parseInto(p, text, parsePort, "a port, 0 to 65535")
	case *int:
		return parseInto(p, text, parseCount, "a whole number above 0")
	case *time.Duration:
		return parseInto(p, text, time.ParseDuration, "a duration with its unit, such as 30s, 5m or 1h30m")
	case *netip.Addr:
		return parseInto(p, text, netip.ParseAddr, "an IP address such as 10.0.0.5")
	case *netip.AddrPort:
		return parseInto(p, text, netip.ParseAddrPort, "an IP address and port such as 10.0.0.53:53")
	case *netip.Prefix:
		return parsePrefix(p, text)
	case *registry.Host:
		return parseName(p, text, registry.ParseHost)
	case *registry.ID:
		return parseName(p, text, registry.ParseID)
	case *slog.Level:
		return parseInto(p, text, parseLevel, "debug, info, warn or error")
	case *LogFormat:
		return parseInto(p, text, parseLogFormat, "auto, text or json")
	case *Share:
		return parseInto(p, text, parseShare, "off, all, or 1/N for one in N, such as 1/100")
	case *Listen:
		return parseInto(p, text, parseListen, "an address and port such as 127.0.0.1:8443 or :443, or off")
	}
	return fmt.Errorf("no value can be read into a %T", dst)
}

// parseInto stores what parse makes of text; want says what it takes.
func parseInto[T any](dst *T, text string, parse func(string) (T, error), want string) error {
	v, err := parse(text)
	if err != nil {
		return fmt.Errorf("%q is not %s", text, want)
	}
	*dst = v
	return nil
}

// parseName stores a name whose parser explains itself. Empty text is no name.
func parseName[T ~string](dst *T, text string, parse func(string) (T, error)) error {
	if text == "" {
		*dst = ""
		return nil
	}
	v, err := parse(text)
	if err != nil {
		return err
	}
	*dst = v
	return nil
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, strconv.ErrSyntax
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err == nil && n <= 0 {
		err = strconv.ErrRange
	}
	return int(n), err
}

func parsePrefix(dst *netip.Prefix, s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is not a network such as 10.0.0.0/8", s)
	}
	if p != p.Masked() {
		return fmt.Errorf("%q has bits set behind its prefix; the network is %s", s, p.Masked())
	}
	*dst = p
	return nil
}

func parseLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, strconv.ErrSyntax
}

// A LogFormat is how log lines are written.
type LogFormat string

// The formats of a log.
const (
	LogAuto LogFormat = "auto" // text on a terminal, else JSON
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

func parseLogFormat(s string) (LogFormat, error) {
	switch f := LogFormat(s); f {
	case LogAuto, LogText, LogJSON:
		return f, nil
	}
	return "", errors.New("no such format")
}

func parseListen(s string) (l Listen, err error) {
	err = l.UnmarshalText([]byte(s))
	return l, err
}
