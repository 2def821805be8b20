package dnsmasq

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// watch reports changes in the directories that are followed, as soon as they
// happen, nil if the system cannot. What it cannot report is found by looking.
func (r *Rules) watch() *fsnotify.Watcher {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("hosts directories are looked at every second only", "err", err)
		return nil
	}
	for _, dir := range r.cfg.HostsDirs {
		if err := w.Add(dir); err != nil {
			r.log.Warn("hosts directory cannot be watched", "dir", dir, "err", err)
		}
	}
	return w
}

// followed returns the files that are read again when they change: those of
// hostsdir, and resolv files unless they are not to be polled. Other hosts
// files wait for SIGHUP.
func (c *Config) followed() []string {
	var out []string
	if !c.NoPoll {
		out = append(out, c.resolvFiles()...)
	}
	for _, dir := range c.HostsDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			out = append(out, dir+"/"+e.Name())
		}
	}
	slices.Sort(out)
	return out
}

// stamps returns what the followed files are like, to be compared.
func (r *Rules) stamps() string {
	var b strings.Builder
	for _, path := range r.cfg.followed() {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintf(&b, "%q %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
