package process

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// rotateLogs moves output that has grown too large to its predecessor's place.
// Processes write to their files directly and keep them open, so the content
// is copied and the file emptied; what is written between the two is lost.
func (p *Provider) rotateLogs() {
	for _, id := range p.Held() {
		c := p.clone(id)
		if c == nil {
			continue
		}
		for _, name := range c.names() {
			if err := rotate(c.logFile(name), p.cfg.LogBytes); err != nil {
				p.log.Warn("output cannot be kept small", "clone", id, "host", name, "err", err)
			}
		}
	}
}

// rotate empties a file larger than most, and leaves its last bytes in name.1.
func rotate(name string, most int64) error {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() <= most {
		return err
	}
	if err := copyEnd(name, most); err != nil {
		// Bounding what is written comes before keeping it.
		return errors.Join(err, os.Truncate(name, 0))
	}
	return os.Truncate(name, 0)
}

// copyEnd writes the last bytes of a file to name.1.
func copyEnd(name string, most int64) error {
	from, err := os.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := from.Seek(max(0, size-most), io.SeekStart); err != nil {
		return err
	}
	aside := name + ".new"
	to, err := os.OpenFile(aside, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(aside) // nothing is left of it after the rename
	_, err = io.Copy(to, io.LimitReader(from, most))
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	return os.Rename(aside, name+".1")
}

// collectLogs removes the output of clones that are gone for long, and of the
// oldest if there are many. A clone is gone when it has no state file; its
// directory was changed last when that was removed.
func (p *Provider) collectLogs(now time.Time) {
	entries, err := os.ReadDir(p.cfg.Dir)
	if err != nil {
		p.log.Warn("old output cannot be collected", "err", err)
		return
	}
	type output struct {
		id    registry.ID
		since time.Time
	}
	var gone []output
	for _, e := range entries {
		id, err := registry.ParseID(e.Name())
		if err != nil || !e.IsDir() || p.clone(id) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(p.dir(id), stateFile)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if info, err := e.Info(); err == nil {
			gone = append(gone, output{id, info.ModTime()})
		}
	}
	slices.SortFunc(gone, func(a, b output) int { return cmp.Or(b.since.Compare(a.since), cmp.Compare(a.id, b.id)) })
	for i, o := range gone {
		if i < p.cfg.KeptLogs && now.Sub(o.since) < p.cfg.KeepLogs {
			continue
		}
		if err := p.collect(o.id); err != nil {
			p.log.Warn("old output cannot be collected", "clone", o.id, "err", err)
		}
	}
}

// collect removes what is left of a clone, unless it came back meanwhile.
func (p *Provider) collect(id registry.ID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clones[id] != nil {
		return nil
	}
	return removeAll(p.dir(id))
}
