package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/spelling"
	"github.com/danielgtaylor/huma/v2"
)

// A Problem is how every error is answered: RFC 9457, with a code that scripts
// may rely on.
type Problem struct {
	Type   string    `json:"type" doc:"Names the kind of problem; ends in the code."`
	Title  string    `json:"title" doc:"What this kind of problem is, in a few words."`
	Status int       `json:"status" doc:"The HTTP status."`
	Code   string    `json:"code" doc:"A short stable name to branch on, as in label-taken."`
	Detail string    `json:"detail,omitempty" doc:"What went wrong this time and what to do."`
	Errors []Mistake `json:"errors,omitempty" doc:"Every mistake found in the input."`

	retryAfter time.Duration
	cause      error // for the log only
}

// A Mistake is one thing that is wrong with an input.
type Mistake struct {
	Location string `json:"location" doc:"Where, as in body.services.www.endpoints[0]."`
	Rule     string `json:"rule" doc:"A short stable name of the rule that was broken."`
	Detail   string `json:"detail" doc:"What is wrong and what to do."`
}

// Refusal returns a problem with a status and a stable code of the caller's.
func Refusal(status int, code, format string, args ...any) *Problem {
	return &Problem{
		Type:   "urn:clonegate:problem:" + code,
		Title:  title(status, code),
		Status: status,
		Code:   code,
		Detail: fmt.Sprintf(format, args...),
	}
}

// After adds a Retry-After header to the answer.
func (p *Problem) After(d time.Duration) *Problem {
	p.retryAfter = d
	return p
}

// Error returns the detail.
func (p *Problem) Error() string { return cmp.Or(p.Detail, p.Title) }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes the answer application/problem+json.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders returns the headers that belong to the answer.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(max(1, p.retryAfter.Round(time.Second)/time.Second))))
	}
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="clonegate"`)
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		h.Set("Connection", "close") // what is left of the body is not worth reading
	}
	return h
}

// write answers a request that did not reach an operation.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range p.GetHeaders() {
		h[k] = v
	}
	h.Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // a client that left is no news
}

// kinds maps the registry's errors to statuses and codes, most specific first.
var kinds = [...]struct {
	err    error
	status int
	code   string
	title  string
}{
	{registry.ErrNoToken, http.StatusUnauthorized, "no-token", "A valid token is needed"},
	{registry.ErrForbidden, http.StatusForbidden, "forbidden", "The token may not do this"},
	{registry.ErrNotFound, http.StatusNotFound, "not-found", "There is no such thing"},
	{registry.ErrHeld, http.StatusConflict, "held", "Another instance lives under this ID"},
	{registry.ErrLabelTaken, http.StatusConflict, "label-taken", "A name belongs to another clone"},
	{registry.ErrExists, http.StatusConflict, "exists", "It exists already and differs"},
	{registry.ErrEnded, http.StatusGone, "ended", "This life has ended"},
	{registry.ErrFenced, http.StatusPreconditionFailed, "fenced", "This is not the living instance"},
	{registry.ErrFull, http.StatusInsufficientStorage, "full", "No space is left"},
	{registry.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "Nothing can be written now"},
	{registry.ErrInvalid, http.StatusUnprocessableEntity, "invalid", "The input is not valid"},
}

// ErrorOf returns the registry's error that a code stands for, nil if it
// stands for none, so that a client can branch as a caller of the registry.
func ErrorOf(code string) error {
	for _, k := range kinds {
		if k.code == code {
			return k.err
		}
	}
	return nil
}

func title(status int, code string) string {
	for _, k := range kinds {
		if k.code == code {
			return k.title
		}
	}
	return cmp.Or(http.StatusText(status), "The client has left")
}

// ProblemOf maps an error to the problem that clients see. Errors it does not
// know are 500, with their text kept for the log.
func ProblemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			p := Refusal(k.status, k.code, "%s", err)
			p.cause = err
			return p.complete(err)
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Refusal(statusClientLeft, "client-left", "the client has left")
	case errors.Is(err, context.DeadlineExceeded):
		return Refusal(http.StatusServiceUnavailable, "timeout", "the registry did not answer in time; repeat the request").After(retryUnavailable)
	}
	p := Refusal(http.StatusInternalServerError, "internal", "something went wrong inside the daemon; its log says what")
	p.cause = err
	return p
}

const (
	// statusClientLeft goes to the log only: nobody is there to read it.
	statusClientLeft = 499

	retryUnavailable = 5 * time.Second
	retryFull        = 30 * time.Second
)

// complete adds what some kinds have beside their text, and takes away what
// only the operator should read.
func (p *Problem) complete(err error) *Problem {
	switch p.Status {
	case http.StatusServiceUnavailable:
		p.Detail = "the registry cannot write now; routing goes on. Repeat the request: an answer that was lost does no harm"
		return p.After(retryUnavailable)
	case http.StatusInsufficientStorage:
		p.Detail = "the registry's disk is full; routing goes on. Free some space, then repeat the request"
		return p.After(retryFull)
	case http.StatusUnprocessableEntity:
		return p.withMistakes(mistakesOf(err))
	}
	return p
}

// mistakesOf returns the field errors in err as mistakes of the body.
func mistakesOf(err error) []Mistake {
	list, ok := errors.AsType[registry.FieldErrors](err)
	if !ok {
		one, ok := errors.AsType[*registry.FieldError](err)
		if !ok {
			return nil
		}
		list = registry.FieldErrors{one}
	}
	mistakes := make([]Mistake, len(list))
	for i, e := range list {
		mistakes[i] = Mistake{Location: strings.TrimSuffix("body."+e.Field, "."), Rule: e.Rule, Detail: e.Detail}
	}
	return mistakes
}

// withMistakes makes the detail tell the first mistake.
func (p *Problem) withMistakes(mistakes []Mistake) *Problem {
	p.Errors = mistakes
	switch len(mistakes) {
	case 0:
	case 1:
		p.Detail = mistakes[0].Location + ": " + mistakes[0].Detail
	default:
		p.Detail = fmt.Sprintf("%d mistakes; the first: %s: %s", len(mistakes), mistakes[0].Location, mistakes[0].Detail)
	}
	return p
}

// invalid is a 422 for mistakes found before the registry is asked.
func invalid(mistakes ...Mistake) *Problem {
	return Refusal(http.StatusUnprocessableEntity, "invalid", "").withMistakes(mistakes)
}

// invalidParam is a 422 for one path segment, query parameter or header.
func invalidParam(location, rule string, err error) *Problem {
	return invalid(Mistake{Location: location, Rule: rule, Detail: err.Error()})
}

// translate turns the errors that huma itself answers with into Problems.
func translate(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	switch m.Status {
	case http.StatusUnprocessableEntity:
		mistakes := make([]Mistake, len(m.Errors))
		for i, d := range m.Errors {
			mistakes[i] = mistakeOf(ctx, d)
		}
		return invalid(mistakes...), nil
	case http.StatusBadRequest:
		for _, d := range m.Errors {
			m.Detail += ": " + d.Message
		}
		return Refusal(m.Status, "bad-request", "%s", m.Detail), nil
	}
	return ProblemOf(errors.New(m.Detail)), nil
}

// mistakeOf names the rule behind one of huma's messages.
func mistakeOf(ctx huma.Context, d *huma.ErrorDetail) Mistake {
	f := Mistake{Location: d.Location, Rule: "value", Detail: d.Message}
	switch {
	case d.Message == "unknown query parameter":
		f.Rule = "unknown-parameter"
		var known []string
		for _, p := range ctx.Operation().Parameters {
			if p.In == "query" {
				known = append(known, p.Name)
			}
		}
		f.Detail = "this operation has no such query parameter" + spelling.Suggest(strings.TrimPrefix(d.Location, "query."), known)
	case strings.HasPrefix(d.Message, "expected required property"):
		f.Rule = "required"
	case d.Location == "body": // what the schema let through and the type did not
		f.Rule, f.Detail = "value", "a value does not fit its field: "+strings.TrimPrefix(d.Message, "json: ")
	}
	return f
}
