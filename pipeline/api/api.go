// Package api adds the pipeline's operations to the API of the registry: the
// content of templates, and the output of clones.
//
// What is uploaded is stored and verified by its digest, but belongs to no
// version yet: publishing, with that digest, is the registry's.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// Templates takes the content of templates. *oci.Store does.
type Templates interface {
	// Import stores the template whose directory the tar stream r holds, if
	// its manifest calls it name.
	Import(ctx context.Context, r io.Reader, name string) (*oci.Artifact, error)
}

// Output shows what the processes of clones have written. *pipeline.Launcher does.
type Output interface {
	Logs(ctx context.Context, id registry.ID, q pipeline.LogQuery, w io.Writer) error
}

// Config is what the operations need. Templates and Output are required.
type Config struct {
	Templates Templates
	Output    Output

	// MaxUpload bounds an upload in bytes. Zero means 2 GiB.
	MaxUpload int64
}

const (
	defaultMaxUpload = 2 << 30

	// patience is how long a client may neither send nor read anything.
	patience = 60 * time.Second

	// maxUploads and maxFollowers bound what may be under way at once.
	maxUploads   = 4
	maxFollowers = 256
)

// handlers answers the operations.
type handlers struct {
	cfg       Config
	uploads   chan struct{}
	followers chan struct{}
}

// Register adds the operations to h, which is that of registry/api.
func Register(h huma.API, cfg Config) error {
	if cfg.Templates == nil || cfg.Output == nil {
		return errors.New("pipeline api: Templates and Output are required")
	}
	if cfg.MaxUpload == 0 {
		cfg.MaxUpload = defaultMaxUpload
	}
	a := &handlers{cfg: cfg, uploads: make(chan struct{}, maxUploads), followers: make(chan struct{}, maxFollowers)}
	upload := api.Operation("upload-template", "POST /v1/templates/{name}/content", "Store the content of a template; publish a version with the digest it is answered with", registry.RolePublisher)
	upload.RequestBody = &huma.RequestBody{
		Required:    true,
		Description: fmt.Sprintf("The template's directory as a plain tar archive of at most %d bytes, template.yaml at its root.", cfg.MaxUpload),
		Content:     map[string]*huma.MediaType{tarType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}
	logs := api.Operation("get-logs", "GET /v1/clones/{id}/logs", "Show what the processes of a clone have written", registry.RoleViewer, registry.RoleEngineer, registry.RolePublisher)
	logs.Responses["200"] = &huma.Response{
		Description: `Whole lines; those of more than one process begin with its name, as in "db   | listening".`,
		Content:     map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	api.Register(h, upload, a.upload)
	api.Register(h, logs, a.logs)
	return nil
}

const tarType = "application/x-tar"

// Content is what an upload is answered with.
type Content struct {
	Digest   string          `json:"digest" doc:"sha256:… to publish a version with. Equal directories have equal digests."`
	Size     int64           `json:"size" doc:"Bytes it takes on disk."`
	Manifest json.RawMessage `json:"manifest" doc:"The template's manifest, to publish along with the digest."`
}

type uploadInput struct {
	Name string `path:"name" doc:"What template.yaml calls the template."`

	body *requestBody
}

// Resolve takes the request's body, which nobody has read yet.
func (in *uploadInput) Resolve(ctx huma.Context) []error {
	r, w := humago.Unwrap(ctx)
	in.body = &requestBody{r: r, control: http.NewResponseController(w), w: w}
	return nil
}

type uploadOutput struct{ Body *Content }

func (a *handlers) upload(ctx context.Context, in *uploadInput) (*uploadOutput, error) {
	select {
	case a.uploads <- struct{}{}:
		defer func() { <-a.uploads }()
	default:
		return nil, api.Refusal(http.StatusServiceUnavailable, "uploads", "%d uploads are under way already, which is the most", maxUploads).After(5 * time.Second)
	}
	if err := in.body.limit(a.cfg.MaxUpload); err != nil {
		return nil, err
	}
	artifact, err := a.cfg.Templates.Import(ctx, in.body, in.Name)
	in.body.done()
	if err != nil {
		return nil, in.body.explain(err, a.cfg.MaxUpload)
	}
	return &uploadOutput{&Content{Digest: artifact.Digest, Size: artifact.Size, Manifest: artifact.Manifest.JSON()}}, nil
}

// A requestBody is read as long as its client sends.
type requestBody struct {
	r       *http.Request
	w       http.ResponseWriter
	control *http.ResponseController
	body    io.Reader
	failed  error // what Read returned last, but for the end
}

// limit refuses what is not an archive of at most most bytes.
func (b *requestBody) limit(most int64) error {
	if t, _, err := mime.ParseMediaType(b.r.Header.Get("Content-Type")); err != nil || t != tarType {
		return api.Refusal(http.StatusUnsupportedMediaType, "content-type", "the body is not declared as a tar archive; send a plain one with the header Content-Type: %s", tarType)
	}
	if b.r.ContentLength > most {
		return tooLarge(most)
	}
	b.body = http.MaxBytesReader(b.w, b.r.Body, most)
	return nil
}

func tooLarge(most int64) error {
	return api.Refusal(http.StatusRequestEntityTooLarge, "too-large", "the archive is larger than %d bytes", most)
}

// Read waits for the client no longer than it may be silent. The answer may
// take as long as the upload did, and the work after it.
func (b *requestBody) Read(p []byte) (int, error) {
	// Without the deadlines of a real connection there is nothing to bound.
	_ = b.control.SetReadDeadline(time.Now().Add(patience))
	n, err := b.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed = err
	}
	return n, err
}

// done prepares the connection for the answer.
func (b *requestBody) done() {
	_ = b.control.SetReadDeadline(time.Time{}) // as in Read
	_ = b.control.SetWriteDeadline(time.Now().Add(patience))
}

// explain tells what is wrong with the body, if that is why err came about.
func (b *requestBody) explain(err error, most int64) error {
	if b.failed == nil {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](b.failed); ok {
		return tooLarge(most)
	}
	if errors.Is(b.failed, os.ErrDeadlineExceeded) {
		return api.Refusal(http.StatusRequestTimeout, "slow-body", "nothing came for %s", patience)
	}
	return api.Refusal(http.StatusBadRequest, "truncated", "the body ended too early: %v", b.failed)
}

type logsInput struct {
	api.CloneID
	Host   []string `query:"host,explode" maxItems:"256" doc:"Hosts whose output is wanted, startup for the startup command. Default: all."`
	Tail   int      `query:"tail" minimum:"-1" maximum:"100000" default:"100" doc:"How many of the last lines of each; -1 for all that is kept."`
	Follow bool     `query:"follow" doc:"Whether to go on until the clone is gone."`
}

type logsOutput struct{ Body func(huma.Context) }

func (a *handlers) logs(ctx context.Context, in *logsInput) (*logsOutput, error) {
	id, err := in.Parse()
	if err != nil {
		return nil, err
	}
	q := pipeline.LogQuery{Names: in.Host, Tail: in.Tail, Follow: in.Follow}
	// What can be refused is refused while there is still a status to say so.
	if err := a.cfg.Output.Logs(ctx, id, pipeline.LogQuery{Names: q.Names}, io.Discard); err != nil {
		return nil, err
	}
	if q.Follow {
		select {
		case a.followers <- struct{}{}:
		default:
			return nil, api.Refusal(http.StatusServiceUnavailable, "streams", "%d clients follow output already, which is the most", maxFollowers).After(5 * time.Second)
		}
	}
	return &logsOutput{func(hctx huma.Context) {
		if q.Follow {
			defer func() { <-a.followers }()
		}
		a.writeLogs(hctx, id, q)
	}}, nil
}

// writeLogs answers with output. An error after the first byte can only cut
// the answer short.
func (a *handlers) writeLogs(hctx huma.Context, id registry.ID, q pipeline.LogQuery) {
	r, w := humago.Unwrap(hctx)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s := &outputStream{w: w, control: http.NewResponseController(w), follow: q.Follow}
	if s.flush() != nil {
		return
	}
	if err := a.cfg.Output.Logs(r.Context(), id, q, s); err != nil && r.Context().Err() == nil {
		fmt.Fprintf(s, "clonegate: %s\n", strconv.Quote(err.Error()))
	}
	_ = s.flush() // a client that left is no news
}

// An outputStream writes output to one client, which is cut off if it does not
// read for long.
type outputStream struct {
	w       io.Writer
	control *http.ResponseController
	follow  bool
}

func (s *outputStream) Write(p []byte) (int, error) {
	if err := s.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	if err == nil && s.follow {
		err = s.flush()
	}
	return n, err
}

// flush sends what was written, then lets the connection rest without a deadline.
func (s *outputStream) flush() error {
	if err := s.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	return s.control.SetWriteDeadline(time.Time{})
}
