package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry/api"
)

// An Error is an answer of the API that is not a success.
type Error struct {
	Method, Path string
	Status       int           // of HTTP
	Code         string        // short and stable, as in "label-taken"; empty if it was not the API that answered
	Detail       string        // for people
	Faults       []api.Mistake // what is wrong with the input, field by field
	RetryAfter   time.Duration // 0 if it does not say
}

// Error tells what went wrong and, of an input, every fault.
func (e *Error) Error() string {
	if len(e.Faults) < 2 {
		return e.Detail
	}
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Location + ": " + f.Detail
	}
	return strings.Join(lines, "; ")
}

// Is reports whether the error stands for one of package registry.
func (e *Error) Is(target error) bool {
	err := api.ErrorOf(e.Code)
	return err != nil && errors.Is(err, target)
}

// maxProblem bounds how much of an error's body is read.
const maxProblem = 1 << 20

func errorOf(req *Request, resp *http.Response) error {
	e := &Error{Method: req.Method, Path: req.Path, Status: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	contentType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p api.Problem
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil || contentType != "application/problem+json" || json.Unmarshal(body, &p) != nil {
		e.Detail = fmt.Sprintf("%s %s: answered %s with %q, which is not an answer of the API; is this its address?", req.Method, req.Path, resp.Status, contentType)
		return e
	}
	e.Code, e.Detail, e.Faults = p.Code, p.Error(), p.Errors
	return e
}
