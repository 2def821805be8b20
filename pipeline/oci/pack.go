package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/clonegate/clonegate/pipeline/archive"
	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

// Import stores the template whose directory the tar stream r holds, as
// archive.Write makes it. The stream may be hostile. name, unless empty, is
// what the template has to be called. Equal directories get equal digests,
// whichever program packed them.
func (s *Store) Import(ctx context.Context, r io.Reader, name string) (*Artifact, error) {
	aside, err := os.MkdirTemp(s.ingest(), "import-")
	if err != nil {
		return nil, fmt.Errorf("import template: %w", durable.Full(err))
	}
	defer os.RemoveAll(aside)
	dir := filepath.Join(aside, "files")
	if err := archive.Extract(ctx, r, dir, s.cfg.Limits, nil); err != nil {
		return nil, fmt.Errorf("import template: %w", err)
	}
	m, err := Read(dir)
	if err != nil {
		return nil, err
	}
	if name != "" && m.Name != name {
		return nil, &registry.FieldError{Field: "name", Rule: "template-name", Detail: fmt.Sprintf("%s calls it %s, not %s", manifest.FileName, m.Name, name)}
	}
	return s.pack(ctx, dir, m)
}

// Pack stores the template directory dir.
func (s *Store) Pack(ctx context.Context, dir string) (*Artifact, error) {
	m, err := Read(dir)
	if err != nil {
		return nil, err
	}
	return s.pack(ctx, dir, m)
}

func (s *Store) pack(ctx context.Context, dir string, m *manifest.Manifest) (*Artifact, error) {
	layer, err := s.packLayer(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", m.Name, err)
	}
	config, err := s.putBytes(ConfigType, m.JSON())
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", m.Name, err)
	}
	data, err := artifactManifest(config, layer)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", m.Name, err)
	}
	d, err := s.putBytes(ocispec.MediaTypeImageManifest, data)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", m.Name, err)
	}
	d.ArtifactType = ArtifactType
	d.Annotations = map[string]string{ocispec.AnnotationTitle: m.Name}
	if err := s.addToIndex(d); err != nil {
		return nil, fmt.Errorf("template %s: %w", m.Name, err)
	}
	return &Artifact{Digest: d.Digest.String(), Manifest: m, Size: layer.Size}, nil
}

// Digest returns the digest that the template directory dir is stored under.
func Digest(ctx context.Context, dir string) (string, error) {
	m, err := Read(dir)
	if err != nil {
		return "", err
	}
	layer := digest.SHA256.Digester()
	size := &counter{w: layer.Hash()}
	if err := writeLayer(ctx, size, dir, archive.Limits{}); err != nil {
		return "", fmt.Errorf("template %s: %w", m.Name, err)
	}
	data, err := artifactManifest(
		ocispec.Descriptor{MediaType: ConfigType, Digest: digest.FromBytes(m.JSON()), Size: int64(len(m.JSON()))},
		ocispec.Descriptor{MediaType: LayerType, Digest: layer.Digest(), Size: size.n})
	if err != nil {
		return "", fmt.Errorf("template %s: %w", m.Name, err)
	}
	return digest.FromBytes(data).String(), nil
}

// artifactManifest is the OCI manifest of a template.
func artifactManifest(config, layer ocispec.Descriptor) ([]byte, error) {
	return json.Marshal(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       config,
		Layers:       []ocispec.Descriptor{layer},
	})
}

// Read reads the manifest of the template directory dir and checks that the
// files it speaks of are there.
func Read(dir string) (*manifest.Manifest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	defer root.Close()
	f, err := root.Open(manifest.FileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("template: %w: there is no %s at its root", registry.ErrInvalid, manifest.FileName)
	}
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, manifest.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	m, err := manifest.Parse(manifest.FileName, data)
	if err != nil {
		return nil, err
	}
	return m, checkFiles(root, m)
}

// checkFiles returns registry.FieldErrors for what the manifest names and the
// directory does not hold.
func checkFiles(root *os.Root, m *manifest.Manifest) error {
	var faults registry.FieldErrors
	fault := func(field, detail string, args ...any) {
		faults = append(faults, &registry.FieldError{Field: field, Rule: "template-files", Detail: fmt.Sprintf(detail, args...)})
	}
	program := func(field, name string) {
		if !strings.Contains(name, "/") || filepath.IsAbs(name) {
			return
		}
		if info, err := root.Stat(name); err != nil || !info.Mode().IsRegular() {
			fault(field, "the template holds no file %s", name)
		} else if info.Mode()&0o100 == 0 {
			fault(field, "%s is not executable; run chmod +x on it", name)
		}
	}
	for _, name := range m.HostNames() {
		program("hosts."+name+".run", m.Hosts[name].Run[0])
	}
	if len(m.Startup) > 0 {
		program("startup", m.Startup[0])
	}
	for i, dir := range m.Data {
		if info, err := root.Stat(dir); err != nil || !info.IsDir() {
			fault(fmt.Sprintf("data[%d]", i), "the template holds no directory %s", dir)
		}
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// packLayer writes all files as one blob.
func (s *Store) packLayer(ctx context.Context, dir string) (ocispec.Descriptor, error) {
	return s.put(LayerType, func(w io.Writer) error { return writeLayer(ctx, w, dir, s.cfg.Limits) })
}

// writeLayer writes all files as tar and zstd.
func writeLayer(ctx context.Context, w io.Writer, dir string, limits archive.Limits) error {
	packed := &counter{w: w}
	// One goroutine, so that equal content makes equal bytes.
	z, err := zstd.NewWriter(packed, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	unpacked := &counter{w: z}
	if err := archive.Write(ctx, unpacked, dir, limits, nil); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if most := mostBytes(packed.n); unpacked.n > most {
		return fmt.Errorf("%w: it packs from %d bytes to %d, more than %d times; it looks like an archive bomb", registry.ErrInvalid, unpacked.n, packed.n, maxRatio)
	}
	return nil
}

func (s *Store) putBytes(mediaType string, data []byte) (ocispec.Descriptor, error) {
	return s.put(mediaType, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	})
}

// put stores what write writes as one blob: aside, synced, then renamed to
// its digest. A blob that is there already is replaced by its equal, which
// repairs it if it was damaged.
func (s *Store) put(mediaType string, write func(io.Writer) error) (ocispec.Descriptor, error) {
	f, err := os.CreateTemp(s.ingest(), "blob-")
	if err != nil {
		return ocispec.Descriptor{}, durable.Full(err)
	}
	defer os.Remove(f.Name()) // nothing is left of it after the rename
	digester := digest.SHA256.Digester()
	out := &counter{w: io.MultiWriter(f, digester.Hash())}
	err = write(out)
	if err == nil {
		err = errors.Join(f.Chmod(0o444), f.Sync())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return ocispec.Descriptor{}, durable.Full(err)
	}
	d := digester.Digest()
	if err := durable.Rename(f.Name(), s.blobPath(d)); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: out.n}, nil
}

// A counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
