package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clonegate/clonegate/pipeline/archive"
	"github.com/clonegate/clonegate/registry"
)

// tree writes files into a new directory. A name ending in / is a directory,
// content beginning with -> a link, a name ending in * an executable.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		executable := strings.HasSuffix(name, "*")
		full := filepath.Join(dir, strings.TrimSuffix(name, "*"))
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		target, isLink := strings.CutPrefix(content, "->")
		switch {
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(full, 0o755))
		case isLink:
			must(t, os.Symlink(target, full))
		default:
			must(t, os.WriteFile(full, []byte(content), 0o644))
			if executable {
				must(t, os.Chmod(full, 0o755))
			}
		}
	}
	return dir
}

// list reads a directory back as tree takes it.
func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if entries, _ := os.ReadDir(p); len(entries) == 0 {
				files[name+"/"] = ""
			}
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(p)
			files[name] = "->" + target
		default:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if info.Mode()&0o100 != 0 {
				name += "*"
			}
			files[name] = string(data)
		}
		return nil
	}))
	return files
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, archive.Write(t.Context(), &b, dir, archive.Limits{}, nil))
	return b.Bytes()
}

var shop = map[string]string{
	"template.yaml": "name: shop\n", "bin/shop*": "#!/bin/sh\n", "data/rows.csv": strings.Repeat("row\n", 1000),
	"empty/": "", "data/deep/er/x": "", "bin/alias": "->shop", "data/up": "->../bin/shop",
	"a-b": "1", "a/b": "2", "a.b": "3", strings.Repeat("n", 200): "long name", "Grüße": "",
}

func TestRoundTrip(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "dest")
	must(t, archive.Extract(t.Context(), bytes.NewReader(pack(t, tree(t, shop))), dest, archive.Limits{}, nil))
	if diff := cmp.Diff(shop, list(t, dest)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
}

func TestEqualDirectoriesMakeEqualArchives(t *testing.T) {
	one, two := tree(t, shop), tree(t, shop)
	long := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	must(t, os.Chtimes(filepath.Join(two, "template.yaml"), long, long))
	must(t, os.Chmod(filepath.Join(two, "a-b"), 0o600))
	must(t, os.Chmod(filepath.Join(two, "empty"), 0o700))
	if os.Geteuid() == 0 {
		must(t, os.Chown(filepath.Join(two, "a-b"), 1234, 1234))
	}
	if !bytes.Equal(pack(t, one), pack(t, two)) {
		t.Error("times, owners or permissions changed the archive")
	}
	must(t, os.Chmod(filepath.Join(two, "a-b"), 0o755))
	if bytes.Equal(pack(t, one), pack(t, two)) {
		t.Error("an executable file and a plain one make equal archives")
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(dir string) error
		want string
	}{
		{"named pipe", func(d string) error { return syscall.Mkfifo(filepath.Join(d, "x"), 0o600) }, `entry "x" is a named pipe`},
		{"absolute link", func(d string) error { return os.Symlink("/etc/passwd", filepath.Join(d, "x")) }, `entry "x" is a link to the absolute path`},
		{"link out", func(d string) error { return os.Symlink("../y", filepath.Join(d, "x")) }, "outside the template"},
		{"set-id", func(d string) error {
			p := filepath.Join(d, "x")
			return errors.Join(os.WriteFile(p, nil, 0o755), os.Chmod(p, 0o755|fs.ModeSetuid))
		}, `entry "x" has a set-id bit`},
		{"control character", func(d string) error { return os.WriteFile(filepath.Join(d, "a\nb"), nil, 0o644) }, `entry "a\nb" has a name that is not plain`},
		{"too many", func(d string) error {
			return errors.Join(os.Mkdir(d+"/1", 0o755), os.Mkdir(d+"/2", 0o755), os.Mkdir(d+"/3", 0o755))
		}, `entry "3" is one more than the 2 entries`},
		{"too large", func(d string) error { return os.WriteFile(d+"/x", make([]byte, 101), 0o644) }, "larger than the 100 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, tt.make(dir))
			err := archive.Write(t.Context(), io.Discard, dir, archive.Limits{Entries: 2, Bytes: 100}, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, registry.ErrInvalid) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	var told int64
	must(t, archive.Write(t.Context(), io.Discard, tree(t, shop), archive.Limits{}, func(n int64) { told = n }))
	size, err := archive.Size(tree(t, shop))
	if err != nil || told != size || size == 0 {
		t.Errorf("progress ended at %d, Size is %d, %v", told, size, err)
	}
}

// stream makes a tar archive of headers as they are, with as much content as
// each says it has.
func stream(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		must(t, w.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write(make([]byte, h.Size))
			must(t, err)
		}
	}
	must(t, w.Close())
	return b.Bytes()
}

func TestExtractRefuses(t *testing.T) {
	reg := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	dir := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
	sym := func(name, to string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}
	}
	sized := func(name string, n int64) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: n}
	}
	whole := stream(t, sized("a", 3000), reg("b"))
	for _, tt := range []struct {
		name, want string
		data       []byte
	}{
		{"up", `entry "../x" leads outside`, stream(t, reg("ok"), reg("../x"))},
		{"up in the middle", `entry "a/../../x" leads outside`, stream(t, reg("a/../../x"))},
		{"up that stays", `entry "a/../x" leads outside`, stream(t, reg("a/../x"))},
		{"double slash", "shortest form", stream(t, reg("a//x"))},
		{"absolute", `entry "/etc/x" has an absolute path`, stream(t, reg("/etc/x"))},
		{"absolute directory", `entry "/etc" has an absolute path`, stream(t, dir("/etc/"))},
		{"absolute link", `entry "l" is a link to the absolute path "/etc"`, stream(t, sym("l", "/etc"))},
		{"link out", `entry "a/l" is a link to "../../x", outside`, stream(t, sym("a/l", "../../x"))},
		{"link out by a chain", "shortest form", stream(t, dir("d/"), dir("d/e/"), sym("d/e/up", "../.."), sym("l", "d/e/up/.."))},
		{"file below a link", `entry "l/x" lies below "l", which is not a directory`, stream(t, sym("l", "d"), reg("l/x"))},
		{"file below a file", `lies below "f"`, stream(t, reg("f"), reg("f/x/y"))},
		{"link in place of a directory", `entry "d" stands twice`, stream(t, reg("d/x"), sym("d", "e"))},
		{"hard link", `entry "h" is a hard link`, stream(t, reg("a"), &tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "a"})},
		{"hard link out", `entry "h" is a hard link`, stream(t, &tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "../../etc/shadow"})},
		{"character device", `entry "n" is a device`, stream(t, &tar.Header{Typeflag: tar.TypeChar, Name: "n", Devmajor: 1, Devminor: 3})},
		{"block device", `entry "n" is a device`, stream(t, &tar.Header{Typeflag: tar.TypeBlock, Name: "n"})},
		{"named pipe", `entry "n" is a named pipe`, stream(t, &tar.Header{Typeflag: tar.TypeFifo, Name: "n"})},
		{"set-user-id", `entry "s" has a set-id bit`, stream(t, &tar.Header{Typeflag: tar.TypeReg, Name: "s", Mode: 0o4755})},
		{"set-group-id directory", `entry "s/" has a set-id bit`, stream(t, &tar.Header{Typeflag: tar.TypeDir, Name: "s/", Mode: 0o2755})},
		{"file twice", `entry "a" stands twice`, stream(t, reg("a"), reg("a"))},
		{"file twice in two spellings", `entry "a" stands twice`, stream(t, reg("a"), reg("./a"))},
		{"directory twice", `entry "a" stands twice`, stream(t, dir("a/"), dir("a/"))},
		{"file and directory", `entry "a" stands twice`, stream(t, reg("a"), dir("a/"))},
		{"control character", "not plain UTF-8", stream(t, reg("a\x1b[2J"))},
		{"not UTF-8", "not plain UTF-8", stream(t, reg("a\xff"))},
		{"long name", "at most 1024", stream(t, reg(strings.Repeat("x/", 600)+"y"))},
		{"long part", "longer than 255", stream(t, reg(strings.Repeat("x", 256)))},
		{"too many", "one more than the 10 entries", stream(t, dirs(11)...)},
		{"too many implied", "one more than the 10 entries", stream(t, reg("1/2/3/4/5/6/7/8/9/0/a"))},
		{"too large", `entry "b" makes the content larger than the 5000 bytes`, stream(t, sized("a", 3000), sized("b", 2001))},
		{"1 GiB in a sparse file", `entry "big" is a sparse file`, sparse(t)},
		{"cut in a file", "cut short", whole[:2000]},
		{"cut in a header", "cut short", whole[:600]},
		{"cut between files", "cut short", whole[:512+3072]},
		{"empty", "cut short", nil},
		{"not a tar archive", "not a tar archive", bytes.Repeat([]byte("hello "), 1000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parent := t.TempDir()
			err := archive.Extract(t.Context(), bytes.NewReader(tt.data), filepath.Join(parent, "dest"), archive.Limits{Entries: 10, Bytes: 5000}, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
			if !errors.Is(err, registry.ErrInvalid) {
				t.Errorf("%v is not registry.ErrInvalid", err)
			}
			if left := list(t, parent); len(left) > 0 {
				t.Errorf("something was left: %v", left)
			}
		})
	}
}

func dirs(n int) []*tar.Header {
	var hs []*tar.Header
	for i := range n {
		hs = append(hs, &tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%d/", i)})
	}
	return hs
}

// sparse returns a GNU sparse archive (PAX format 1.0) of a few kilobytes that
// claims a file of 1 GiB.
func sparse(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	content := append([]byte("0\n"), make([]byte, 510)...)
	must(t, w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/big", Mode: 0o644, Size: int64(len(content)), Format: tar.FormatPAX,
		PAXRecords: map[string]string{"CLONEGATE.pad": "x"},
	}))
	_, err := w.Write(content)
	must(t, err)
	must(t, w.Close())
	// The writer refuses to make sparse records, so they take the place of one
	// it made; lengths are kept.
	data := b.Bytes()
	old := []byte("19 CLONEGATE.pad=x\n")
	i := bytes.Index(data, old)
	if i < 0 {
		t.Fatal("no PAX record found")
	}
	records := "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.name=big.txt\n"
	records = strings.ReplaceAll(records, "27 GNU.sparse.name=big.txt\n", "23 GNU.sparse.name=big\n")
	records += "34 GNU.sparse.realsize=1073741824\n"
	block := make([]byte, 512)
	copy(block, records)
	copy(data[i:i+512], block)
	copy(data[i-512+124:], fmt.Sprintf("%011o\x00", len(records)))
	fixChecksum(data[i-512 : i])
	return data
}

func fixChecksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header[:512] {
		sum += int(b)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func TestExtractTakes(t *testing.T) {
	data := stream(t,
		&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "abc"}},
		&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeReg, Name: "./sub/x", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeDir, Name: "./sub/", Mode: 0o700},
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "sub/l", Linkname: "x"},
	)
	dest := filepath.Join(t.TempDir(), "dest")
	must(t, archive.Extract(t.Context(), bytes.NewReader(data), dest, archive.Limits{}, nil))
	want := map[string]string{"sub/x*": "", "sub/l": "->x"}
	if diff := cmp.Diff(want, list(t, dest)); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	if err := archive.Extract(t.Context(), bytes.NewReader(data), dest, archive.Limits{}, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an existing directory: got %v, want fs.ErrExist", err)
	}
}

func TestExtractStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	parent := t.TempDir()
	err := archive.Extract(ctx, bytes.NewReader(pack(t, tree(t, shop))), filepath.Join(parent, "dest"), archive.Limits{}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if left := list(t, parent); len(left) > 0 {
		t.Errorf("something was left: %v", left)
	}
}

func TestExtractOnAFullDisk(t *testing.T) {
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("NOT TESTED: needs a small file system, which takes the right to mount: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(small, 0)) })
	data := stream(t, &tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1 << 20})
	err := archive.Extract(t.Context(), bytes.NewReader(data), filepath.Join(small, "dest"), archive.Limits{}, nil)
	if !errors.Is(err, registry.ErrFull) || !strings.Contains(err.Error(), `unpack "a"`) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v, want registry.ErrFull that names the entry", err)
	}
	if left := list(t, small); len(left) > 0 {
		t.Errorf("something was left: %v", left)
	}
}

// FuzzExtract throws anything at Extract: what is taken lies inside, is of
// the three kinds we know, and packs again to something that is taken.
func FuzzExtract(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "d/"},
		{Typeflag: tar.TypeReg, Name: "d/f", Size: 3, Mode: 0o755},
		{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "../d/f"},
		{Typeflag: tar.TypeLink, Name: "h", Linkname: "d/f"},
	} {
		if err := w.WriteHeader(h); err != nil {
			f.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, "abc"); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(append(bytes.Clone(b.Bytes()), make([]byte, 1024)...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dest := filepath.Join(parent, "dest")
		limits := archive.Limits{Entries: 50, Bytes: 1 << 20}
		if err := archive.Extract(t.Context(), bytes.NewReader(data), dest, limits, nil); err != nil {
			if left := list(t, parent); len(left) > 0 {
				t.Fatalf("refused (%v), but something was left: %v", err, left)
			}
			return
		}
		root, err := os.OpenRoot(dest)
		must(t, err)
		defer root.Close()
		for name, content := range list(t, dest) {
			if strings.HasPrefix(content, "->") {
				if _, err := root.Stat(name); err != nil && strings.Contains(err.Error(), "escapes") {
					t.Fatalf("link %q leads outside: %v", name, err)
				}
			}
		}
		var again bytes.Buffer
		if err := archive.Write(t.Context(), &again, dest, limits, nil); err != nil {
			t.Fatalf("what was unpacked cannot be packed: %v", err)
		}
	})
}
