package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	orasoci "oras.land/oras-go/v2/content/oci"

	"github.com/clonegate/clonegate/pipeline/archive"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/registry"
)

const shopYAML = `name: shop
hosts:
  web: {address: 10, run: [bin/web]}
data: [data]
`

var shop = map[string]string{
	"template.yaml": shopYAML, "bin/web*": "#!/bin/sh\nexec sleep 1000\n",
	"data/rows.csv": "id,name\n1,ada\n", "data/log/.keep": "", "readme": strings.Repeat("clonegate ", 500),
}

// write writes files into dir; a name ending in * is an executable.
func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, content := range files {
		perm := fs.FileMode(0o644)
		if strings.HasSuffix(name, "*") {
			name, perm = strings.TrimSuffix(name, "*"), 0o755
		}
		full := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		must(t, os.WriteFile(full, []byte(content), perm))
	}
	return dir
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if info, _ := d.Info(); info.Mode()&0o100 != 0 {
			name += "*"
		}
		data, err := os.ReadFile(p)
		files[name] = string(data)
		return err
	}))
	return files
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *oci.Store {
	t.Helper()
	s, err := oci.Open(oci.Config{Dir: dir})
	must(t, err)
	return s
}

func pack(t *testing.T, s *oci.Store, files map[string]string) *oci.Artifact {
	t.Helper()
	a, err := s.Pack(t.Context(), write(t, t.TempDir(), files))
	must(t, err)
	return a
}

func blobs(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	must(t, err)
	return names
}

func TestPackAndUnpack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a := pack(t, s, shop)
	if a.Manifest.Name != "shop" || a.Size == 0 {
		t.Errorf("got %+v", a)
	}
	for _, s := range []*oci.Store{s, open(t, dir)} {
		must(t, s.Verify(t.Context(), a.Digest))
		m, err := s.Manifest(t.Context(), a.Digest)
		must(t, err)
		if diff := cmp.Diff(a.Manifest, m); diff != "" {
			t.Errorf("manifest (-stored +read):\n%s", diff)
		}
		dest := filepath.Join(t.TempDir(), "files")
		_, err = s.Unpack(t.Context(), a.Digest, dest)
		must(t, err)
		if diff := cmp.Diff(shop, read(t, dest)); diff != "" {
			t.Errorf("unpacked (-want +got):\n%s", diff)
		}
	}
}

func TestEqualDirectoriesGetEqualDigests(t *testing.T) {
	one, two := open(t, t.TempDir()), open(t, t.TempDir())
	a := pack(t, one, shop)
	if b := pack(t, two, shop); a.Digest != b.Digest {
		t.Errorf("got %s and %s for equal directories", a.Digest, b.Digest)
	}
	if b, err := oci.Digest(t.Context(), write(t, t.TempDir(), shop)); err != nil || a.Digest != b {
		t.Errorf("got %s when packed and %s, %v without", a.Digest, b, err)
	}
	// The same files in another order, with other times and owners.
	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	for _, name := range []string{"readme", "data/rows.csv", "data/log/.keep", "template.yaml", "bin/web*"} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: "./" + strings.TrimSuffix(name, "*"), Size: int64(len(shop[name])), Mode: 0o640, Uid: 7, Uname: "ada"}
		if strings.HasSuffix(name, "*") {
			h.Mode = 0o700
		}
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, shop[name])
		must(t, err)
	}
	must(t, w.Close())
	b, err := two.Import(t.Context(), &stream, "")
	must(t, err)
	if a.Digest != b.Digest {
		t.Errorf("got %s when packed and %s when imported", a.Digest, b.Digest)
	}
	changed := map[string]string{"template.yaml": shopYAML, "bin/web*": "#!/bin/sh\n", "data/rows.csv": "x"}
	if c := pack(t, two, changed); c.Digest == a.Digest {
		t.Error("different directories got one digest")
	}
}

func TestOtherToolsReadTheLayout(t *testing.T) {
	dir := t.TempDir()
	a := pack(t, open(t, dir), shop)
	pack(t, open(t, dir), map[string]string{"template.yaml": strings.Replace(shopYAML, "shop", "other", 1), "bin/web*": "", "data/x": ""})
	source, err := orasoci.New(dir)
	must(t, err)
	target, err := orasoci.New(t.TempDir())
	must(t, err)
	d, err := oras.Copy(t.Context(), source, a.Digest, target, "", oras.DefaultCopyOptions)
	must(t, err)
	if d.Digest.String() != a.Digest {
		t.Errorf("oras copied %s, want %s", d.Digest, a.Digest)
	}
	var index ocispec.Index
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	must(t, err)
	must(t, json.Unmarshal(data, &index))
	if len(index.Manifests) != 2 || index.Manifests[0].ArtifactType != oci.ArtifactType {
		t.Errorf("index.json lists %+v", index.Manifests)
	}
}

func TestPackRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"no manifest", map[string]string{"a": ""}, "no template.yaml at its root"},
		{"broken manifest", map[string]string{"template.yaml": "name: shop\nhots: {}\n"}, `template.yaml:2:1: unknown key "hots"; did you mean "hosts"?`},
		{"missing program", map[string]string{"template.yaml": shopYAML, "data/x": ""}, "hosts.web.run: the template holds no file bin/web"},
		{"program not executable", map[string]string{"template.yaml": shopYAML, "data/x": "", "bin/web": ""}, "bin/web is not executable"},
		{"missing data", map[string]string{"template.yaml": shopYAML, "bin/web*": ""}, "data[0]: the template holds no directory data"},
		{"archive bomb", map[string]string{"template.yaml": shopYAML, "bin/web*": "", "data/x": strings.Repeat("\x00", 80<<20)}, "looks like an archive bomb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := open(t, dir).Pack(t.Context(), write(t, t.TempDir(), tt.files))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, registry.ErrInvalid) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if left := blobs(t, dir); len(left) > 0 {
				t.Errorf("something was stored: %v", left)
			}
			if left := read(t, filepath.Join(dir, "ingest")); len(left) > 0 {
				t.Errorf("something was left: %v", left)
			}
		})
	}
}

func TestImportRefusesHostileStreams(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "../../escaped", Mode: 0o644}))
	must(t, w.Close())
	_, err := s.Import(t.Context(), &b, "")
	if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `"../../escaped"`) {
		t.Errorf("got %v, want the entry refused", err)
	}
	b.Reset()
	must(t, archive.Write(t.Context(), &b, write(t, t.TempDir(), shop), archive.Limits{}, nil))
	_, err = s.Import(t.Context(), &b, "other")
	if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "template.yaml calls it shop, not other") {
		t.Errorf("another name: got %v, want it refused", err)
	}
	if left := read(t, dir); len(left) != 2 {
		t.Errorf("the store holds %v; want oci-layout and index.json alone", left)
	}
}

func TestOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("NOT TESTED: needs a small file system, which takes the right to mount: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, 0)) })
	s := open(t, dir)
	a := pack(t, s, shop)
	noise := make([]byte, 1<<20)
	_, err := rand.NewChaCha8([32]byte{1}).Read(noise)
	must(t, err)
	big := map[string]string{"template.yaml": shopYAML, "bin/web*": "", "data/x": string(noise)}
	if _, err := s.Pack(t.Context(), write(t, t.TempDir(), big)); !errors.Is(err, registry.ErrFull) {
		t.Errorf("pack: got %v, want registry.ErrFull", err)
	}
	var stream bytes.Buffer
	must(t, archive.Write(t.Context(), &stream, write(t, t.TempDir(), big), archive.Limits{}, nil))
	if _, err := s.Import(t.Context(), &stream, ""); !errors.Is(err, registry.ErrFull) {
		t.Errorf("import: got %v, want registry.ErrFull", err)
	}
	must(t, s.Verify(t.Context(), a.Digest))
	if left := read(t, filepath.Join(dir, "ingest")); len(left) > 0 {
		t.Errorf("something was left: %v", left)
	}
}

func TestOpenRefusesOtherLayouts(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`})
	if _, err := oci.Open(oci.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "choose another directory") {
		t.Errorf("got %v, want it refused", err)
	}
}

func TestImportsAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	results := make(chan string)
	for i := range 8 {
		go func() {
			files := map[string]string{"template.yaml": shopYAML, "bin/web*": "", "data/x": fmt.Sprint(i % 4)}
			var b bytes.Buffer
			err := archive.Write(context.Background(), &b, write(t, t.TempDir(), files), archive.Limits{}, nil)
			if err == nil {
				a, e := s.Import(context.Background(), &b, "")
				if err = e; err == nil {
					results <- a.Digest
					return
				}
			}
			t.Error(err)
			results <- ""
		}()
	}
	var digests []string
	for range 8 {
		digests = append(digests, <-results)
	}
	slices.Sort(digests)
	digests = slices.Compact(digests)
	if len(digests) != 4 {
		t.Errorf("got %d digests, want 4", len(digests))
	}
	for _, d := range digests {
		must(t, s.Verify(t.Context(), d))
	}
}
