// Package client calls the pipeline's operations from Go: it uploads the
// content of templates and reads the output of clones.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/api"
	"github.com/clonegate/clonegate/pipeline/archive"
	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

// A Sender sends requests whose bodies, and whose answers, are streams.
type Sender interface {
	// Send sends a request with a body of the given content type; a nil body
	// is none. It returns a success, whose body the caller closes; every other
	// answer is a *client.Error.
	Send(ctx context.Context, req client.Request, contentType string, body io.Reader) (*http.Response, error)
}

// A Client calls the pipeline of one daemon.
type Client struct{ sender Sender }

// New returns a client that sends by s.
func New(s Sender) *Client { return &Client{s} }

// Upload packs the template directory dir, sends it, and returns what a
// version of the template can be published with. What is wrong with the
// directory is told before anything is sent. progress, unless nil, is told
// how many bytes of all files have been sent, and how many there are.
func (c *Client) Upload(ctx context.Context, dir string, progress func(sent, all int64)) (*manifest.Manifest, *api.Content, error) {
	m, err := oci.Read(dir)
	if err != nil {
		return nil, nil, err
	}
	all, err := archive.Size(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	told := func(sent int64) {
		if progress != nil {
			progress(sent, all)
		}
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := archive.Write(ctx, w, dir, archive.Limits{}, told)
		packed <- err
		w.CloseWithError(err)
	}()
	resp, err := c.sender.Send(ctx, client.Request{
		Method: http.MethodPost, Path: client.Path("v1", "templates", m.Name, "content"),
	}, "application/x-tar", r)
	r.Close() // ends the packing if the answer came before its end
	// What went wrong while packing is why sending failed, unless it is the
	// other way round.
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) {
		err = packErr
	}
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return nil, nil, err
	}
	content := new(api.Content)
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4*manifest.MaxSize)).Decode(content); err != nil {
		return nil, nil, fmt.Errorf("upload %s: answer: %w", dir, err)
	}
	return m, content, nil
}

// Logs copies the output of a clone's processes to w, as it comes if q.Follow.
func (c *Client) Logs(ctx context.Context, id registry.ID, q pipeline.LogQuery, w io.Writer) error {
	query := url.Values{"tail": {strconv.Itoa(q.Tail)}}
	for _, name := range q.Names {
		query.Add("host", name)
	}
	if q.Follow {
		query.Set("follow", "true")
	}
	resp, err := c.sender.Send(ctx, client.Request{
		Method: http.MethodGet, Path: client.Path("v1", "clones", string(id), "logs"), Query: query,
	}, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("output of clone %s: %w", id, err)
	}
	return ctx.Err()
}
