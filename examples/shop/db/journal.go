package db

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/clonegate/clonegate/examples/shop"
)

// An entry is one line of the journal: one write, which is there as a whole or
// not at all.
type entry struct {
	Customer *shop.Customer `json:"customer,omitempty"` // who became a customer by this order
	Order    *shop.Order    `json:"order,omitempty"`
	Review   *shop.Review   `json:"review,omitempty"`
}

// A journal is a file of JSON lines that only grows.
type journal struct{ file *os.File }

// openJournal replays the entries of a journal in order, cuts off a last line
// without its end, and leaves the file open for more. Only one process may
// have it open.
func openJournal(path string, replay func(entry)) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &journal{f}
	if err := j.load(replay); err != nil {
		f.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		f.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return j, nil
}

func (j *journal) load(replay func(entry)) error {
	if err := syscall.Flock(int(j.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another database process has it open: %w", err)
	}
	var whole int64 // bytes of complete lines
	lines := bufio.NewReader(j.file)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		replay(e)
		whole += int64(len(line))
	}
	if err := j.file.Truncate(whole); err != nil {
		return err
	}
	_, err := j.file.Seek(whole, io.SeekStart)
	return err
}

// append writes an entry and returns when the disk has it.
func (j *journal) append(e entry) error {
	var line bytes.Buffer
	if err := json.NewEncoder(&line).Encode(e); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err := j.file.Write(line.Bytes()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }

// syncDir makes a new file's name durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
