package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/spelling"
)

// A TemplateSummary is one template in a list.
type TemplateSummary struct {
	Name     string            `json:"name"`
	Versions int               `json:"versions" doc:"How many are published."`
	Newest   string            `json:"newest" doc:"The version published last."`
	Channels map[string]string `json:"channels,omitempty" doc:"The version each channel points to."`
}

// A TemplateList is one page of templates.
type TemplateList struct {
	Templates []*TemplateSummary `json:"templates" nullable:"false"`
	Next      string             `json:"next,omitempty" doc:"Cursor of the next page; absent on the last."`
}

type listTemplatesInput struct {
	Page
}

type templateListOutput struct {
	Body TemplateList
}

func (a *API) listTemplates(_ context.Context, in *listTemplatesInput) (*templateListOutput, error) {
	out := &templateListOutput{Body: TemplateList{Templates: []*TemplateSummary{}}}
	var last *TemplateSummary
	for _, t := range a.view.Templates() {
		if t.Name <= in.Cursor {
			continue
		}
		if last == nil || last.Name != t.Name {
			if len(out.Body.Templates) == in.Limit {
				out.Body.Next = last.Name
				break
			}
			last = &TemplateSummary{Name: t.Name, Channels: map[string]string{}}
			for _, ch := range a.view.ChannelsOf(t.Name) {
				last.Channels[ch.Name] = ch.Version
			}
			out.Body.Templates = append(out.Body.Templates, last)
		}
		last.Versions++
		last.Newest = t.Version
	}
	return out, nil
}

// A TemplateDetail is everything known of one template but the manifests.
type TemplateDetail struct {
	Name     string               `json:"name"`
	Versions []*registry.Template `json:"versions" nullable:"false" doc:"Newest first."`
	Channels []*registry.Channel  `json:"channels" nullable:"false" doc:"With their history."`
}

// A TemplateName is a template in a path.
type TemplateName struct {
	Name string `path:"name" doc:"The template." example:"shop"`
}

func (in TemplateName) parse() (string, error) {
	name, err := registry.ParseTemplateName(in.Name)
	if err != nil {
		return "", invalidParam("path.name", "label", err)
	}
	return name, nil
}

type templateDetailOutput struct {
	Body TemplateDetail
}

func (a *API) getTemplate(_ context.Context, in *TemplateName) (*templateDetailOutput, error) {
	name, err := in.parse()
	if err != nil {
		return nil, err
	}
	out := &templateDetailOutput{Body: TemplateDetail{Name: name, Channels: a.view.ChannelsOf(name)}}
	for _, t := range a.view.Templates() {
		if t.Name == name {
			out.Body.Versions = append(out.Body.Versions, withoutManifest(t))
		}
	}
	if len(out.Body.Versions) == 0 {
		return nil, a.unknownTemplate(name)
	}
	if out.Body.Channels == nil {
		out.Body.Channels = []*registry.Channel{}
	}
	slices.Reverse(out.Body.Versions)
	return out, nil
}

func (a *API) unknownTemplate(name string) error {
	var known []string
	for _, t := range a.view.Templates() {
		if !slices.Contains(known, t.Name) {
			known = append(known, t.Name)
		}
	}
	return fmt.Errorf("template %s: %w%s", name, registry.ErrNotFound, spelling.Suggest(name, known))
}

// withoutManifest returns t as lists and streams show it.
func withoutManifest(t *registry.Template) *registry.Template {
	slim := *t
	slim.Manifest = nil
	return &slim
}

// A VersionPath is a version of a template in a path.
type VersionPath struct {
	TemplateName
	Version string `path:"version" doc:"The version." example:"2026.11.21-1"`
}

func (in VersionPath) parse() (name, version string, err error) {
	if name, err = in.TemplateName.parse(); err != nil {
		return "", "", err
	}
	if version, err = registry.ParseVersion(in.Version); err != nil {
		return "", "", invalidParam("path.version", "version", err)
	}
	return name, version, nil
}

type templateOutput struct {
	Status int
	Body   *registry.Template
}

func (a *API) getVersion(_ context.Context, in *VersionPath) (*templateOutput, error) {
	name, version, err := in.parse()
	if err != nil {
		return nil, err
	}
	t, ok := a.view.Template(name, version)
	if !ok {
		var known []string
		for _, t := range a.view.Templates() {
			if t.Name == name {
				known = append(known, t.Version)
			}
		}
		if known == nil {
			return nil, a.unknownTemplate(name)
		}
		const most = 5
		known = known[max(0, len(known)-most):]
		return nil, fmt.Errorf("template %s@%s: %w; the newest versions are %s", name, version, registry.ErrNotFound, strings.Join(known, ", "))
	}
	return &templateOutput{Status: http.StatusOK, Body: t}, nil
}

type publishInput struct {
	VersionPath
	Body registry.Publication
}

func (a *API) publishVersion(ctx context.Context, in *publishInput) (*templateOutput, error) {
	name, version, err := in.parse()
	if err != nil {
		return nil, err
	}
	t, isNew, err := a.registry.PublishTemplate(ctx, Actor(ctx), name, version, in.Body)
	if err != nil {
		return nil, err
	}
	out := &templateOutput{Status: http.StatusOK, Body: t}
	if isNew {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// A RevokeRequest says why no clone may be made from a version any more.
type RevokeRequest struct {
	Why string `json:"why" minLength:"1" maxLength:"256" doc:"For everybody who had it in use."`
}

type revokeInput struct {
	VersionPath
	Body RevokeRequest
}

func (a *API) revokeVersion(ctx context.Context, in *revokeInput) (*templateOutput, error) {
	name, version, err := in.parse()
	if err != nil {
		return nil, err
	}
	t, err := a.registry.RevokeTemplate(ctx, Actor(ctx), name, version, in.Body.Why)
	if err != nil {
		return nil, err
	}
	return &templateOutput{Status: http.StatusOK, Body: t}, nil
}

// A PromoteRequest lets a channel point to a version.
type PromoteRequest struct {
	Version string `json:"version" doc:"A published version that is not revoked."`
	Why     string `json:"why,omitempty" maxLength:"256" doc:"For the channel's history."`
}

type promoteInput struct {
	TemplateName
	Channel string `path:"channel" enum:"candidate,validated,stable" doc:"The channel."`
	Body    PromoteRequest
}

type channelOutput struct {
	Body *registry.Channel
}

func (a *API) promoteVersion(ctx context.Context, in *promoteInput) (*channelOutput, error) {
	name, err := in.parse()
	if err != nil {
		return nil, err
	}
	ch, err := a.registry.PromoteTemplate(ctx, Actor(ctx), name, in.Channel, in.Body.Version, in.Body.Why)
	if err != nil {
		return nil, err
	}
	return &channelOutput{Body: ch}, nil
}
