// Package oci keeps templates as OCI artifacts in a layout on disk, addressed
// by digest: a manifest of its own artifact type, the template's manifest as
// config, and one layer with all files as tar and zstd.
//
// Whatever is read is verified against its digest first, and whatever is
// written appears whole or not at all. Any OCI tool can read the layout; see
// https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md.
// Names and versions are the registry's business.
package oci

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	orasoci "oras.land/oras-go/v2/content/oci"

	"github.com/clonegate/clonegate/pipeline/archive"
	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry/durable"
)

// The media types of a template.
const (
	ArtifactType = "application/vnd.clonegate.template.v1"
	ConfigType   = "application/vnd.clonegate.template.config.v1+json"
	LayerType    = ocispec.MediaTypeImageLayerZstd
)

// Config is what a Store needs. Dir is required.
type Config struct {
	Dir    string         // of the layout; made if it does not exist
	Limits archive.Limits // of one template's content
}

// A Store is a layout that this process alone writes to. Its methods may be
// called at the same time.
type Store struct {
	cfg     Config
	blobs   *orasoci.ReadOnlyStorage
	indexMu sync.Mutex // guards index.json
}

// An Artifact is a template as it was stored.
type Artifact struct {
	Digest   string // "sha256:…" of the OCI manifest
	Manifest *manifest.Manifest
	Size     int64 // bytes the layer takes on disk
}

// Open returns the store in cfg.Dir and removes what an earlier process left
// half written.
func Open(cfg Config) (*Store, error) {
	cfg.Limits.Bytes = cmp.Or(cfg.Limits.Bytes, archive.DefaultBytes)
	cfg.Limits.Entries = cmp.Or(cfg.Limits.Entries, archive.DefaultEntries)
	s := &Store{cfg: cfg, blobs: orasoci.NewStorageFromFS(os.DirFS(cfg.Dir))}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("template store %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Store) prepare() error {
	if err := os.RemoveAll(s.ingest()); err != nil {
		return err
	}
	for _, dir := range []string{s.ingest(), filepath.Join(s.cfg.Dir, ocispec.ImageBlobsDir, digest.SHA256.String())} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	layout := filepath.Join(s.cfg.Dir, ocispec.ImageLayoutFile)
	data, err := os.ReadFile(layout)
	if errors.Is(err, fs.ErrNotExist) {
		data, _ := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
		if err := durable.WriteFile(layout, data, 0o644); err != nil {
			return err
		}
		return s.writeIndex(&ocispec.Index{Manifests: []ocispec.Descriptor{}})
	}
	var l ocispec.ImageLayout
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err != nil || l.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("it is no OCI layout of version %s (file %s: %v); choose another directory", ocispec.ImageLayoutVersion, ocispec.ImageLayoutFile, err)
	}
	return nil
}

// ingest is where files are written before they get their name.
func (s *Store) ingest() string { return filepath.Join(s.cfg.Dir, "ingest") }

func (s *Store) blobPath(d digest.Digest) string {
	return filepath.Join(s.cfg.Dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// addToIndex lists an artifact in index.json, for other tools: we find
// artifacts by their digest alone.
func (s *Store) addToIndex(d ocispec.Descriptor) error {
	s.indexMu.Lock()
	defer s.indexMu.Unlock()
	data, err := os.ReadFile(filepath.Join(s.cfg.Dir, ocispec.ImageIndexFile))
	index := new(ocispec.Index)
	if err == nil {
		err = json.Unmarshal(data, index)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w; remove it, it is written anew", ocispec.ImageIndexFile, err)
	}
	if slices.ContainsFunc(index.Manifests, func(have ocispec.Descriptor) bool { return have.Digest == d.Digest }) {
		return nil
	}
	index.Manifests = append(index.Manifests, d)
	return s.writeIndex(index)
}

func (s *Store) writeIndex(index *ocispec.Index) error {
	index.Versioned = specs.Versioned{SchemaVersion: 2}
	index.MediaType = ocispec.MediaTypeImageIndex
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(s.cfg.Dir, ocispec.ImageIndexFile), data, 0o644)
}
