package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/registry"
)

// TestEveryFlippedByteIsFound damages each byte of each blob in turn.
func TestEveryFlippedByteIsFound(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a := pack(t, s, map[string]string{"template.yaml": shopYAML, "bin/web*": "x", "data/x": "y"})
	parts := map[string]bool{}
	for _, name := range blobs(t, dir) {
		good, err := os.ReadFile(name)
		must(t, err)
		must(t, os.Chmod(name, 0o644))
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			must(t, os.WriteFile(name, bad, 0o644))
			parts[wantCorrupt(t, s, a.Digest, name)] = true
		}
		for what, bad := range map[string][]byte{"cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "empty": nil} {
			must(t, os.WriteFile(name, bad, 0o644))
			if t.Failed() {
				t.Fatalf("%s: %s", what, name)
			}
			wantCorrupt(t, s, a.Digest, name)
		}
		must(t, os.WriteFile(name, good, 0o644))
	}
	if diff := cmp.Diff(map[string]bool{"manifest": true, "config": true, "layer": true}, parts); diff != "" {
		t.Errorf("damaged parts (-want +got):\n%s", diff)
	}
	must(t, s.Verify(t.Context(), a.Digest))
}

// wantCorrupt checks that the damage to a blob is found and told, and returns
// the part that was named.
func wantCorrupt(t *testing.T, s *oci.Store, digest, blob string) string {
	t.Helper()
	parent := t.TempDir()
	_, unpackErr := s.Unpack(t.Context(), digest, filepath.Join(parent, "files"))
	part := ""
	for _, err := range []error{unpackErr, s.Verify(t.Context(), digest)} {
		corrupt, ok := errors.AsType[*oci.CorruptError](err)
		if !ok {
			t.Fatalf("got %v, want a *oci.CorruptError", err)
		}
		if corrupt.Digest != digest || corrupt.Blob != "sha256:"+filepath.Base(blob) || corrupt.File != blob {
			t.Fatalf("the error names %+v, want blob %s", corrupt, blob)
		}
		part = corrupt.Part
	}
	if left := read(t, parent); len(left) > 0 {
		t.Fatalf("something was unpacked: %v", left)
	}
	return part
}

func TestPublishingAgainRepairs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a := pack(t, s, shop)
	for _, name := range blobs(t, dir) {
		must(t, os.Remove(name))
		must(t, os.WriteFile(name, []byte("garbage"), 0o644))
	}
	if err := s.Verify(t.Context(), a.Digest); err == nil || !strings.Contains(err.Error(), "publish the same directory again to repair it") {
		t.Errorf("got %v, want the remedy named", err)
	}
	pack(t, s, shop)
	must(t, s.Verify(t.Context(), a.Digest))
}

func TestNotThere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a := pack(t, s, shop)
	if err := s.Verify(t.Context(), digest.FromString("x").String()); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("unknown digest: got %v, want registry.ErrNotFound", err)
	}
	for _, bad := range []string{"", "sha256:abc", "../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		if err := s.Verify(t.Context(), bad); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("digest %q: got %v, want registry.ErrInvalid", bad, err)
		}
	}
	for _, name := range blobs(t, dir) {
		if info, _ := os.Stat(name); info.Size() == a.Size {
			must(t, os.Remove(name))
		}
	}
	_, err := s.Unpack(t.Context(), a.Digest, filepath.Join(t.TempDir(), "files"))
	if corrupt, ok := errors.AsType[*oci.CorruptError](err); !ok || corrupt.Part != "layer" {
		t.Errorf("layer removed: got %v, want a *oci.CorruptError for the layer", err)
	}
}

// plant stores an artifact with a layer of our choosing, as a hostile
// registry would.
func plant(t *testing.T, dir string, layer []byte) string {
	t.Helper()
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()), data, 0o644))
		return d
	}
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: oci.ArtifactType,
		Config: put(oci.ConfigType, []byte(`{"name":"shop","hosts":{"web":{"address":10,"run":["sh"]}}}`)),
		Layers: []ocispec.Descriptor{put(oci.LayerType, layer)},
	}
	m.SchemaVersion = 2
	data, err := json.Marshal(m)
	must(t, err)
	return put(ocispec.MediaTypeImageManifest, data).Digest.String()
}

func compress(t *testing.T, write func(io.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	must(t, err)
	write(z)
	must(t, z.Close())
	return b.Bytes()
}

func TestUnpackRefusesHostileLayers(t *testing.T) {
	zeros := make([]byte, 1<<20)
	for _, tt := range []struct {
		name, want string
		layer      []byte
	}{
		{"1 GiB from less than 1 MB", `entry "big" makes the content larger than`, compress(t, func(w io.Writer) {
			tw := tar.NewWriter(w)
			must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: 1 << 30}))
			for range 1 << 10 {
				_, err := tw.Write(zeros)
				must(t, err)
			}
			must(t, tw.Close())
		})},
		{"endless headers", "far more than it holds", compress(t, func(w io.Writer) {
			var b bytes.Buffer
			tw := tar.NewWriter(&b)
			must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": strings.Repeat("x", 900<<10)}}))
			must(t, tw.Flush())
			for range 400 {
				_, err := w.Write(b.Bytes())
				must(t, err)
			}
		})},
		{"way out", `entry "../x" leads outside`, compress(t, func(w io.Writer) {
			tw := tar.NewWriter(w)
			must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "../x"}))
			must(t, tw.Close())
		})},
		{"not zstd", "magic number", []byte("hello")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, parent := t.TempDir(), t.TempDir()
			s := open(t, dir)
			_, err := s.Unpack(t.Context(), plant(t, dir, tt.layer), filepath.Join(parent, "files"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if left := read(t, parent); len(left) > 0 {
				t.Errorf("something was unpacked: %v", left)
			}
		})
	}
}

func TestUnpackStopsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a := pack(t, s, shop)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Unpack(ctx, a.Digest, filepath.Join(t.TempDir(), "f")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
