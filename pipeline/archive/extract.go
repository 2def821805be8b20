package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

// Extract unpacks the archive r as the directory dest, which must not exist
// yet and appears only when everything has been unpacked; if anything is
// refused, nothing is. Its parent must exist. Extract reads no further than
// the archive's end, and does not sync: after a power cut the content may be
// incomplete. last, unless nil, is asked before dest appears and may still
// refuse.
func Extract(ctx context.Context, r io.Reader, dest string, l Limits, last func() error) error {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("unpack to %s: %w", dest, fs.ErrExist)
	}
	aside, err := os.MkdirTemp(filepath.Dir(dest), ".unpacking-")
	if err != nil {
		return fmt.Errorf("unpack to %s: %w", dest, err)
	}
	defer os.RemoveAll(aside) // nothing is left of it after the rename
	if err := extractInto(ctx, r, aside, l); err != nil {
		return durable.Full(err)
	}
	if last != nil {
		if err := last(); err != nil {
			return err
		}
	}
	if err := os.Chmod(aside, 0o755); err != nil {
		return fmt.Errorf("unpack to %s: %w", dest, err)
	}
	if err := os.Rename(aside, dest); err != nil {
		return fmt.Errorf("unpack to %s: %w", dest, err)
	}
	return nil
}

func extractInto(ctx context.Context, r io.Reader, dir string, l Limits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in := &source{ctx: ctx, r: r}
	x := &extractor{root: root, in: tar.NewReader(in), ledger: newLedger(l)}
	for {
		h, err := x.in.Next()
		switch {
		case errors.Is(err, io.EOF) && !in.ended:
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, tar.ErrHeader):
			return fmt.Errorf("archive: %w: %w", registry.ErrInvalid, errTruncated)
		case err != nil:
			return fmt.Errorf("archive: %w", err)
		}
		if err := x.entry(h); err != nil {
			return err
		}
	}
}

// A source ends with its context, and remembers whether it was read to its
// end: a whole archive has an end mark, behind which nothing is read.
type source struct {
	ctx   context.Context
	r     io.Reader
	ended bool
}

func (s *source) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(b)
	if n == 0 && err == io.EOF {
		s.ended = true
	}
	return n, err
}

type extractor struct {
	root   *os.Root
	in     *tar.Reader
	ledger *ledger
}

func (x *extractor) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // a remark of whoever packed it, as git archive leaves
	}
	name := strings.TrimPrefix(h.Name, "./")
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
		if name == "" || name == "." {
			return nil // the directory itself
		}
	}
	if h.FileInfo().Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return &EntryError{h.Name, "has a set-id bit"}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := x.ledger.admit(name, directory, "", 0); err != nil {
			return err
		}
		return x.made(name, x.root.MkdirAll(name, 0o755))
	case tar.TypeSymlink:
		if err := x.ledger.admit(name, link, h.Linkname, 0); err != nil {
			return err
		}
		return x.below(name, func() error { return x.root.Symlink(h.Linkname, name) })
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return &EntryError{h.Name, "is a sparse file; pack it without --sparse"}
			}
		}
		if err := x.ledger.admit(name, file, "", h.Size); err != nil {
			return err
		}
		return x.below(name, func() error { return x.file(name, h.FileInfo().Mode()&0o100 != 0) })
	case tar.TypeLink:
		return &EntryError{h.Name, "is a hard link; pack with --hard-dereference"}
	case tar.TypeGNUSparse:
		return &EntryError{h.Name, "is a sparse file; pack it without --sparse"}
	case tar.TypeChar, tar.TypeBlock:
		return &EntryError{h.Name, "is a device"}
	case tar.TypeFifo:
		return &EntryError{h.Name, "is a named pipe"}
	}
	return &EntryError{h.Name, fmt.Sprintf("is of an unknown type %q", h.Typeflag)}
}

// below makes an entry whose directory may not have had an entry of its own.
func (x *extractor) below(name string, make func() error) error {
	if dir := path.Dir(name); dir != "." {
		if err := x.root.MkdirAll(dir, 0o755); err != nil {
			return x.made(name, err)
		}
	}
	return x.made(name, make())
}

func (x *extractor) made(name string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("unpack %q: %w", name, err)
}

func (x *extractor) file(name string, executable bool) error {
	perm := fs.FileMode(0o644)
	if executable {
		perm = 0o755
	}
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, x.in)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", registry.ErrInvalid, errTruncated)
	}
	return errors.Join(err, f.Close())
}
