package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Write packs the directory dir to w. progress, unless nil, is told the
// number of content bytes after each piece of a file. A file that changes
// meanwhile is an error.
func Write(ctx context.Context, w io.Writer, dir string, l Limits, progress func(bytes int64)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	defer root.Close()
	p := &packer{ctx: ctx, root: root, out: tar.NewWriter(w), ledger: newLedger(l), progress: progress}
	if err := fs.WalkDir(root.FS(), ".", p.entry); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	if err := p.out.Close(); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return nil
}

// Size returns how many bytes the files below dir hold together.
func Size(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

type packer struct {
	ctx      context.Context
	root     *os.Root
	out      *tar.Writer
	ledger   *ledger
	written  int64
	progress func(int64)
}

// entry writes one entry. WalkDir comes by in lexical order.
func (p *packer) entry(name string, d fs.DirEntry, err error) error {
	if err != nil || name == "." {
		return err
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, ModTime: time.Unix(0, 0), Mode: 0o644}
	switch {
	case d.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
		if err := p.ledger.admit(name, directory, "", 0); err != nil {
			return err
		}
		return p.out.WriteHeader(h)
	case d.Type() == fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = p.root.Readlink(name); err != nil {
			return err
		}
		if err := p.ledger.admit(name, link, h.Linkname, 0); err != nil {
			return err
		}
		return p.out.WriteHeader(h)
	case d.Type().IsRegular():
		return p.file(h, info)
	}
	return &EntryError{name, "is a " + kindOf(d.Type()) + "; a template holds files, directories and links only"}
}

func (p *packer) file(h *tar.Header, info fs.FileInfo) error {
	name := h.Name
	if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return &EntryError{name, "has a set-id bit; remove it with chmod ug-s"}
	}
	if err := p.ledger.admit(name, file, "", info.Size()); err != nil {
		return err
	}
	if info.Mode()&0o100 != 0 {
		h.Mode = 0o755
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	f, err := p.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.out, &progressReader{p, f})
	if err == nil && n != h.Size || err == tar.ErrWriteTooLong {
		return &EntryError{name, "changed while it was packed; stop what writes to it and try again"}
	}
	return err
}

// A progressReader counts what is read and ends with its context.
type progressReader struct {
	p *packer
	r io.Reader
}

func (r *progressReader) Read(b []byte) (int, error) {
	if err := r.p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(b)
	r.p.written += int64(n)
	if r.p.progress != nil {
		r.p.progress(r.p.written)
	}
	return n, err
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}
