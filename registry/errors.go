package registry

import (
	"errors"
	"fmt"
	"strings"
)

// What callers branch on. Errors of this package wrap one of these.
var (
	ErrNotFound    = errors.New("not found")                      // 404
	ErrExists      = errors.New("exists already")                 // 409
	ErrHeld        = errors.New("held by another instance")       // 409
	ErrLabelTaken  = errors.New("name belongs to another clone")  // 409
	ErrFenced      = errors.New("not the living instance")        // 412
	ErrEnded       = errors.New("this life has ended")            // 410
	ErrInvalid     = errors.New("not valid")                      // 422
	ErrForbidden   = errors.New("not allowed")                    // 403
	ErrNoToken     = errors.New("no valid token")                 // 401
	ErrUnavailable = errors.New("the registry cannot write now")  // 503
	ErrFull        = errors.New("no space left for the registry") // 507
	ErrLagged      = errors.New("changes are no longer kept from that revision; list again")
)

// A FieldError says what is wrong with one field of an input.
type FieldError struct {
	Field  string // "services.www.endpoints[0]"
	Rule   string // the short stable name of the rule that was broken, as in "endpoint-link-local"
	Detail string // what is wrong and what to do, for people
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Detail }

// Is reports that a FieldError is an ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// FieldErrors is every fault found in one input. It is an ErrInvalid.
type FieldErrors []*FieldError

func (es FieldErrors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "; ")
}

// Is reports that FieldErrors are an ErrInvalid.
func (es FieldErrors) Is(target error) bool { return target == ErrInvalid }

// add appends one fault.
func (es *FieldErrors) add(field, rule, format string, args ...any) {
	*es = append(*es, &FieldError{Field: field, Rule: rule, Detail: fmt.Sprintf(format, args...)})
}

// err returns es, or nil if it is empty.
func (es FieldErrors) err() error {
	if len(es) == 0 {
		return nil
	}
	return es
}
