package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A TemplateState says how far a template version may be trusted.
type TemplateState string

// The states of a template version.
const (
	Built     TemplateState = "built"
	Validated TemplateState = "validated"
	Revoked   TemplateState = "revoked"   // no clone may be made from it
	Collected TemplateState = "collected" // its content has been removed
)

// A Template is one immutable version of a named artifact from which clones
// are made. Its content lies elsewhere, under Digest.
type Template struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Revision  uint64            `json:"revision"`
	Digest    string            `json:"digest"` // "sha256:…" of the artifact's manifest
	DeployTag string            `json:"deploy_tag"`
	State     TemplateState     `json:"state"`
	Reason    string            `json:"reason,omitempty"` // why it was revoked
	Manifest  json.RawMessage   `json:"manifest,omitempty"`
	Inputs    map[string]string `json:"inputs,omitempty"` // versions it was built from
	Created   time.Time         `json:"created"`
	By        string            `json:"by,omitempty"`
}

// Ref returns "name@version".
func (t *Template) Ref() string { return t.Name + "@" + t.Version }

// A Channel is a named pointer to a version of a template.
type Channel struct {
	Template string      `json:"template"`
	Name     string      `json:"name"`
	Version  string      `json:"version"`
	Revision uint64      `json:"revision"`
	History  []Promotion `json:"history"` // newest first, the current one included; at most 50
}

// A Promotion is one move of a channel.
type Promotion struct {
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	By      string    `json:"by,omitempty"`
	Why     string    `json:"why,omitempty"`
}

// Channels lists the channels a template can have, in order of trust.
var Channels = []string{"candidate", "validated", "stable"}

// ParseTemplateName returns s if it can name a template: a DNS label.
func ParseTemplateName(s string) (string, error) {
	if _, err := ParseLabel(s); err != nil {
		return "", fmt.Errorf("template %w", err)
	}
	return s, nil
}

// ParseVersion returns s if it can name a version: 1 to 64 characters of
// letters, digits, dot, underscore, plus and hyphen, beginning with a letter
// or digit, and not the name of a channel.
func ParseVersion(s string) (string, error) {
	if s == "" || len(s) > 64 {
		return "", fmt.Errorf("version %q: want 1 to 64 characters, got %d", clip(s), len(s))
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := isLowerAlnum(c) || 'A' <= c && c <= 'Z'
		if !alnum && (i == 0 || !strings.ContainsRune("._+-", rune(c))) {
			return "", fmt.Errorf("version %q: character %q is not allowed there; use letters, digits and . _ + -", clip(s), c)
		}
	}
	for _, ch := range Channels {
		if s == ch {
			return "", fmt.Errorf("version %q is the name of a channel; choose another", s)
		}
	}
	return s, nil
}

// SplitRef splits "name@version", "name@channel" or "name". which is empty in
// the last form.
func SplitRef(ref string) (name, which string, err error) {
	name, which, found := strings.Cut(ref, "@")
	if _, err := ParseTemplateName(name); err != nil {
		return "", "", err
	}
	if found && which == "" {
		return "", "", fmt.Errorf("template %q: nothing stands behind the @; want a version or a channel", clip(ref))
	}
	return name, which, nil
}
