package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/clonegate/clonegate/pipeline/archive"
	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
)

// maxSmall bounds manifests and configs in bytes.
const maxSmall = 1 << 20

// maxRatio bounds how much larger a layer may become when it is unpacked, and
// smallLayer is how large it may become in any case.
const (
	maxRatio   = 200
	smallLayer = 64 << 20
)

// mostBytes returns how large a layer of so many bytes may become.
func mostBytes(packed int64) int64 { return max(smallLayer, maxRatio*packed) }

// A CorruptError says that a stored template is not what was published. It
// can be repaired by publishing the same content again.
type CorruptError struct {
	Digest string // of the template
	Part   string // "manifest", "config" or "layer"
	Blob   string // digest of the part
	File   string // where it lies
	Err    error  // what is wrong with it
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("template content %s: its %s %s in %s is damaged (%v); publish the same directory again to repair it", e.Digest, e.Part, e.Blob, e.File, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// errMismatch is a blob that is not what its name says.
var errMismatch = errors.New("it does not match its digest")

// Manifest returns the manifest of a stored template. The error is
// registry.ErrNotFound if there is none of that digest.
func (s *Store) Manifest(ctx context.Context, dgst string) (*manifest.Manifest, error) {
	m, _, err := s.open(ctx, dgst)
	return m, err
}

// Verify reads every byte of a stored template. The error is a *CorruptError
// if one of them is wrong, and registry.ErrNotFound if there is no such
// template.
func (s *Store) Verify(ctx context.Context, dgst string) error {
	_, layer, err := s.open(ctx, dgst)
	if err != nil {
		return err
	}
	blob, err := s.blobs.Fetch(ctx, layer)
	if err == nil {
		defer blob.Close()
		err = drain(ctx, content.NewVerifyReader(blob, layer))
	}
	return s.judge(dgst, "layer", layer.Digest, err)
}

// Unpack unpacks a stored template as the directory dest, which must not
// exist yet. Every byte is verified before dest appears. Errors are those of
// Verify and of archive.Extract.
func (s *Store) Unpack(ctx context.Context, dgst, dest string) (*manifest.Manifest, error) {
	m, layer, err := s.open(ctx, dgst)
	if err != nil {
		return nil, err
	}
	blob, err := s.blobs.Fetch(ctx, layer)
	if err != nil {
		return nil, s.judge(dgst, "layer", layer.Digest, err)
	}
	defer blob.Close()
	verified := content.NewVerifyReader(blob, layer)
	if err := s.extract(ctx, verified, layer, dest); err == nil {
		return m, nil
	} else if damage := drain(ctx, verified); damage != nil && ctx.Err() == nil {
		return nil, s.judge(dgst, "layer", layer.Digest, damage)
	} else {
		return nil, fmt.Errorf("template content %s: %w", dgst, err)
	}
}

// extract unpacks a layer, which is read to its end and verified before dest
// appears.
func (s *Store) extract(ctx context.Context, verified *content.VerifyReader, layer ocispec.Descriptor, dest string) error {
	z, err := zstd.NewReader(verified, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	limits := s.cfg.Limits
	limits.Bytes = min(limits.Bytes, mostBytes(layer.Size))
	in := &bounded{r: z, left: mostBytes(layer.Size) + 2048*int64(limits.Entries)}
	return archive.Extract(ctx, in, dest, limits, func() error { return drain(ctx, verified) })
}

// open returns the verified manifest of a template and where its files are.
func (s *Store) open(ctx context.Context, dgst string) (*manifest.Manifest, ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	d, err := digest.Parse(dgst)
	if err != nil || d.Algorithm() != digest.SHA256 {
		return nil, none, fmt.Errorf("template content %q: %w: want sha256: and 64 hexadecimal digits", dgst, registry.ErrInvalid)
	}
	info, err := os.Stat(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, none, fmt.Errorf("template content %s: %w in %s; publish the template again", dgst, registry.ErrNotFound, s.cfg.Dir)
	}
	if err != nil {
		return nil, none, fmt.Errorf("template content %s: %w", dgst, err)
	}
	data, err := s.small(ctx, ocispec.Descriptor{Digest: d, Size: info.Size()})
	if err != nil {
		return nil, none, s.judge(dgst, "manifest", d, err)
	}
	var a ocispec.Manifest
	if err := json.Unmarshal(data, &a); err != nil || a.ArtifactType != ArtifactType || a.Config.MediaType != ConfigType || len(a.Layers) != 1 || a.Layers[0].MediaType != LayerType {
		return nil, none, fmt.Errorf("template content %s: %w: it is an OCI artifact, but no template", dgst, registry.ErrInvalid)
	}
	config, err := s.small(ctx, a.Config)
	if err != nil {
		return nil, none, s.judge(dgst, "config", a.Config.Digest, err)
	}
	m, err := manifest.FromJSON(config)
	if err != nil {
		return nil, none, fmt.Errorf("template content %s: %w", dgst, err)
	}
	return m, a.Layers[0], nil
}

// small reads and verifies a small blob.
func (s *Store) small(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxSmall {
		return nil, fmt.Errorf("it has %d bytes; at most %d", d.Size, maxSmall)
	}
	return content.FetchAll(ctx, s.blobs, d)
}

// judge makes what is wrong with a blob a *CorruptError.
func (s *Store) judge(dgst, part string, blob digest.Digest, err error) error {
	switch {
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, content.ErrMismatchedDigest) || errors.Is(err, content.ErrTrailingData) || errors.Is(err, io.ErrUnexpectedEOF):
		err = errMismatch
	}
	return &CorruptError{Digest: dgst, Part: part, Blob: blob.String(), File: s.blobPath(blob), Err: err}
}

// drain reads v to its end and returns whether it was what it should be.
func drain(ctx context.Context, v *content.VerifyReader) error {
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := v.Read(buf)
		if errors.Is(err, io.EOF) {
			return v.Verify()
		}
		if err != nil {
			return err
		}
	}
}

// A bounded reader fails when more comes out of it than may: names and
// headers of an archive count too, which its own limits do not.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: it unpacks to far more than it holds", registry.ErrInvalid)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
