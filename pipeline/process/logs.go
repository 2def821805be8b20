package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/registry"
)

// Tail returns the last lines a process has written.
func (p *Provider) Tail(id registry.ID, name string, n int) []string {
	c := newClone(id, p.dir(id))
	var b bytes.Buffer
	if _, err := writeTail(&b, c.logFile(name), n, ""); err != nil || b.Len() == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// Logs writes the output of a clone's processes to w, process by process,
// then, if asked to follow, what comes as it comes. Lines of more than one
// process begin with its name.
func (p *Provider) Logs(ctx context.Context, id registry.ID, q pipeline.LogQuery, w io.Writer) error {
	c := newClone(id, p.dir(id))
	names, err := c.wantedLogs(q.Names)
	if err != nil {
		return err
	}
	var following []*follower
	for _, name := range names {
		f := &follower{file: c.logFile(name), prefix: prefix(name, names)}
		if f.offset, err = writeTail(w, f.file, q.Tail, f.prefix); err != nil {
			return fmt.Errorf("output of clone %s: %w", id, err)
		}
		following = append(following, f)
	}
	if !q.Follow {
		return nil
	}
	return p.follow(ctx, id, following, w)
}

// prefix returns what lines of one of several processes begin with.
func prefix(name string, names []string) string {
	if len(names) == 1 {
		return ""
	}
	widest := 0
	for _, n := range names {
		widest = max(widest, len(n))
	}
	return fmt.Sprintf("%-*s | ", widest, name)
}

// wantedLogs returns the processes whose output is asked for, and those that
// have any if none are named.
func (c *clone) wantedLogs(names []string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(c.logs(), "*.log"))
	if err != nil {
		return nil, err
	}
	var have []string
	for _, f := range files {
		have = append(have, strings.TrimSuffix(filepath.Base(f), ".log"))
	}
	slices.Sort(have)
	if len(have) == 0 {
		return nil, fmt.Errorf("output of clone %s: %w: nothing has been started yet, or it was collected", c.id, registry.ErrNotFound)
	}
	if len(names) == 0 {
		return have, nil
	}
	for _, name := range names {
		if !slices.Contains(have, name) {
			return nil, fmt.Errorf("output of clone %s, host %q: %w; there is output of %s", c.id, name, registry.ErrNotFound, strings.Join(have, ", "))
		}
	}
	return names, nil
}

// writeTail writes the last n lines of a log file and its predecessor, all of
// them if n is negative, and returns how far it has read the file.
func writeTail(w io.Writer, file string, n int, prefix string) (end int64, err error) {
	older := file + ".1"
	begin, lines, err := lastLines(file, n)
	if err != nil {
		return 0, err
	}
	if n < 0 || lines < n {
		before := n
		if n > 0 {
			before -= lines
		}
		from, _, err := lastLines(older, before)
		if err != nil {
			return 0, err
		}
		if _, err := copyLines(w, older, from, prefix, true); err != nil {
			return 0, err
		}
	}
	return copyLines(w, file, begin, prefix, true)
}

// lastLines returns where the last n lines of a file begin, and how many
// there are, at most n. A negative n means all. A file that is not there has none.
func lastLines(name string, n int) (begin int64, lines int, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if n < 0 {
		return 0, 0, nil
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return end, 0, err
	}
	block := make([]byte, 32<<10)
	for at := end; at > 0; {
		from := max(0, at-int64(len(block)))
		b := block[:at-from]
		if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != '\n' || from+int64(i) == end-1 {
				continue
			}
			if lines++; lines == n {
				return from + int64(i) + 1, lines, nil
			}
		}
		at = from
	}
	if end > 0 {
		lines++ // the first has no line before it
	}
	return 0, lines, nil
}

// maxLine bounds how long a line is kept together.
const maxLine = 64 << 10

// copyLines writes a file from an offset on in whole lines, and returns where
// it stopped: at the end, or with partial unset at the last line that is not
// complete yet. A file that is not there is empty.
func copyLines(w io.Writer, name string, offset int64, prefix string, partial bool) (int64, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return offset, err
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return offset, err
	}
	r := bufio.NewReaderSize(f, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		whole := err == nil || errors.Is(err, bufio.ErrBufferFull)
		if len(line) == 0 || !whole && !partial {
			if err != nil && !errors.Is(err, io.EOF) {
				return offset, err
			}
			return offset, nil
		}
		offset += int64(len(line))
		if _, err := fmt.Fprintf(w, "%s%s\n", prefix, bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return offset, err
		}
	}
}

// A follower has written one log file up to an offset.
type follower struct {
	file   string
	prefix string
	offset int64
}

// followEvery is how often log files are looked at for more.
const followEvery = 200 * time.Millisecond

// follow writes what comes, until ctx ends or the clone is gone.
func (p *Provider) follow(ctx context.Context, id registry.ID, following []*follower, w io.Writer) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		gone := p.clone(id) == nil
		for _, f := range following {
			if err := f.advance(w, gone); err != nil {
				return fmt.Errorf("output of clone %s: %w", id, err)
			}
		}
		if gone {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// advance writes what has come since. A file that has become shorter was
// emptied; what it held last stands in its predecessor.
func (f *follower) advance(w io.Writer, last bool) error {
	info, err := os.Stat(f.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() < f.offset {
		f.offset = 0
	}
	if info.Size() > f.offset {
		f.offset, err = copyLines(w, f.file, f.offset, f.prefix, last)
	}
	return err
}
