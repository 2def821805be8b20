package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Publication is what is published as one version of a template.
type Publication struct {
	Digest    string            `json:"digest" doc:"sha256:… of the artifact's manifest."`
	DeployTag string            `json:"deploy_tag,omitempty" doc:"One tag on every part of the version. Default: the version."`
	Manifest  json.RawMessage   `json:"manifest,omitempty" doc:"The template's manifest."`
	Inputs    map[string]string `json:"inputs,omitempty" doc:"Versions it was built from, by name."`
}

// maxManifest bounds the manifest kept with a template version, in bytes.
const maxManifest = 256 << 10

// maxVersions bounds how many versions of all templates are kept.
const maxVersions = 20_000

// PublishTemplate records an immutable version and lets the candidate channel
// point to it. Publishing the same content again succeeds and changes nothing;
// other content under a published version is ErrExists.
func (r *Registry) PublishTemplate(ctx context.Context, by Actor, name, version string, p Publication) (now *Template, isNew bool, err error) {
	if err := by.need(RolePublisher); err != nil {
		return nil, false, err
	}
	want, err := readPublication(name, version, &p)
	if err != nil {
		return nil, false, err
	}
	want.By = by.Name()
	err = r.write(ctx, func(t *tx) error {
		old := t.template(want.Ref())
		if old != nil {
			if !samePublication(old, want) {
				return fmt.Errorf("template %s: %w with other content (%s); versions are immutable, publish under a new one", want.Ref(), ErrExists, old.Digest)
			}
			now = old
			return nil
		}
		if len(r.view.templates) >= maxVersions {
			return &FieldError{Field: "version", Rule: "versions", Detail: fmt.Sprintf("%d versions are kept already, which is the most", maxVersions)}
		}
		now, isNew = want, true
		now.Created = t.now
		t.putTemplate(now, by, EventTemplatePublished, "")
		t.point(name, "candidate", version, "published", by)
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return now, isNew, nil
}

func readPublication(name, version string, p *Publication) (*Template, error) {
	var faults FieldErrors
	if _, err := ParseTemplateName(name); err != nil {
		faults.add("name", "label", "%v", err)
	}
	if _, err := ParseVersion(version); err != nil {
		faults.add("version", "version", "%v", err)
	}
	hexDigits, ok := strings.CutPrefix(p.Digest, "sha256:")
	if !ok || len(hexDigits) != 64 || strings.Trim(hexDigits, "0123456789abcdef") != "" {
		faults.add("digest", "digest", "%q: want sha256: and 64 hexadecimal digits", clip(p.Digest))
	}
	if len(p.Manifest) > maxManifest {
		faults.add("manifest", "manifest", "%d bytes; at most %d", len(p.Manifest), maxManifest)
	}
	if p.DeployTag == "" {
		p.DeployTag = version
	} else if _, err := ParseVersion(p.DeployTag); err != nil {
		faults.add("deploy_tag", "deploy-tag", "%v", err)
	}
	if len(p.Inputs) > maxLabels {
		faults.add("inputs", "inputs", "%d inputs; at most %d", len(p.Inputs), maxLabels)
	}
	return &Template{
		Name: name, Version: version, Digest: p.Digest, DeployTag: p.DeployTag,
		State: Built, Manifest: p.Manifest, Inputs: p.Inputs,
	}, faults.err()
}

func samePublication(a, b *Template) bool {
	return a.Digest == b.Digest && a.DeployTag == b.DeployTag &&
		bytes.Equal(a.Manifest, b.Manifest) && maps.Equal(a.Inputs, b.Inputs)
}

// PromoteTemplate lets a channel point to a version.
func (r *Registry) PromoteTemplate(ctx context.Context, by Actor, name, channel, version, why string) (*Channel, error) {
	if err := by.need(RolePublisher); err != nil {
		return nil, err
	}
	if !slices.Contains(Channels, channel) {
		return nil, &FieldError{Field: "channel", Rule: "channel", Detail: fmt.Sprintf("%q is not a channel; want one of %v", clip(channel), Channels)}
	}
	var now *Channel
	err := r.write(ctx, func(t *tx) error {
		tmpl := t.template(name + "@" + version)
		if tmpl == nil {
			return fmt.Errorf("template %s@%s: %w%s", clip(name), clip(version), ErrNotFound, r.view.knownVersions(name))
		}
		if tmpl.State == Revoked || tmpl.State == Collected {
			return &FieldError{Field: "version", Rule: "template-" + string(tmpl.State), Detail: fmt.Sprintf("%s is %s: %s", tmpl.Ref(), tmpl.State, tmpl.Reason)}
		}
		if now = t.channel(name, channel); now == nil || now.Version != version {
			now = t.point(name, channel, version, why, by)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return now, nil
}

// RevokeTemplate forbids new clones of a version. Channels that point to it
// move back to the newest version they had that is not revoked.
func (r *Registry) RevokeTemplate(ctx context.Context, by Actor, name, version, why string) (*Template, error) {
	if err := by.need(RolePublisher); err != nil {
		return nil, err
	}
	var now *Template
	err := r.write(ctx, func(t *tx) error {
		old := t.template(name + "@" + version)
		if old == nil {
			return fmt.Errorf("template %s@%s: %w%s", clip(name), clip(version), ErrNotFound, r.view.knownVersions(name))
		}
		if now = old; old.State == Revoked {
			return nil
		}
		revoked := *old
		now = &revoked
		now.State, now.Reason = Revoked, why
		t.putTemplate(now, by, EventTemplateRevoked, why)
		for _, name := range Channels {
			if ch := t.channel(old.Name, name); ch != nil && ch.Version == version {
				t.moveBack(ch, by)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return now, nil
}

// moveBack lets ch point to the newest version of its history that is still
// good, or to none.
func (t *tx) moveBack(ch *Channel, by Actor) {
	why := ch.Version + " was revoked"
	for _, p := range ch.History {
		if tmpl := t.template(ch.Template + "@" + p.Version); tmpl != nil && tmpl.State != Revoked && tmpl.State != Collected {
			t.point(ch.Template, ch.Name, p.Version, why, by)
			return
		}
	}
	t.point(ch.Template, ch.Name, "", why, by)
}

// keptPromotions bounds the history of a channel.
const keptPromotions = 50

func (t *tx) point(template, channel, version, why string, by Actor) *Channel {
	now := &Channel{Template: template, Name: channel, Version: version}
	now.History = []Promotion{{Version: version, Time: t.now, By: by.Name(), Why: why}}
	if old := t.channel(template, channel); old != nil {
		now.History = append(now.History, old.History...)
		now.History = now.History[:min(len(now.History), keptPromotions)]
	}
	e := &Event{Type: EventTemplatePromoted, Template: template + "@" + version, Message: channel}
	if why != "" {
		e.Message += ": " + why
	}
	now.Revision = t.next(e, by)
	t.channels[template+"@"+channel] = now
	t.changes = append(t.changes, Change{Revision: now.Revision, Event: e, Channel: now})
	return now
}

func (t *tx) putTemplate(now *Template, by Actor, typ, message string) {
	e := &Event{Type: typ, Template: now.Ref(), DeployTag: now.DeployTag, Message: message}
	now.Revision = t.next(e, by)
	t.templates[now.Ref()] = now
	t.changes = append(t.changes, Change{Revision: now.Revision, Event: e, Template: now})
}

// template returns a version as the writer sees it, or nil.
func (t *tx) template(ref string) *Template {
	if tmpl, ok := t.templates[ref]; ok {
		return tmpl
	}
	name, version, _ := strings.Cut(ref, "@")
	tmpl, _ := t.r.view.Template(name, version)
	return tmpl
}

// channel returns a channel as the writer sees it, or nil.
func (t *tx) channel(template, name string) *Channel {
	if ch, ok := t.channels[template+"@"+name]; ok {
		return ch
	}
	ch, _ := t.r.view.Channel(template, name)
	return ch
}

// ResolveTemplate returns the version that ref means: "name@version",
// "name@channel", or "name" for its stable channel, and for its newest version
// if it has no stable one. The error wraps ErrNotFound and says what there is.
func (v *View) ResolveTemplate(ref string) (*Template, error) {
	name, which, err := SplitRef(ref)
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(Channels, which):
		if ch, ok := v.Channel(name, which); ok && ch.Version != "" {
			which = ch.Version
		} else {
			return nil, fmt.Errorf("template %s: channel %s is %w%s", name, which, ErrNotFound, v.knownVersions(name))
		}
	case which == "":
		if ch, ok := v.Channel(name, "stable"); ok && ch.Version != "" {
			which = ch.Version
		} else {
			which = v.newest(name)
		}
	}
	if t, ok := v.Template(name, which); ok {
		return t, nil
	}
	return nil, fmt.Errorf("template %q is %w%s", clip(ref), ErrNotFound, v.knownVersions(name))
}

// newest returns the newest version of a template that is not revoked.
func (v *View) newest(name string) string {
	version := ""
	for _, t := range v.Templates() {
		if t.Name == name && t.State != Revoked && t.State != Collected {
			version = t.Version
		}
	}
	return version
}

// knownVersions says, for an error, what could have been meant instead.
func (v *View) knownVersions(name string) string {
	var versions, names []string
	published := false
	for _, t := range v.Templates() {
		if t.Name == name {
			published = true
			if t.State != Revoked && t.State != Collected {
				versions = append(versions, t.Version)
			}
		}
		if !slices.Contains(names, t.Name) {
			names = append(names, t.Name)
		}
	}
	const most = 5
	switch {
	case len(versions) > 0:
		slices.Reverse(versions)
		return fmt.Sprintf("; newest versions of %s: %s", name, strings.Join(versions[:min(len(versions), most)], ", "))
	case published:
		return fmt.Sprintf("; no version of %s can be used any more: publish a new one", name)
	case len(names) > 0:
		return "; published templates: " + strings.Join(names[:min(len(names), most)], ", ")
	}
	return "; no template has been published yet"
}
