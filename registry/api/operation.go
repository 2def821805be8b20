package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/danielgtaylor/huma/v2"
)

// rolesKey holds the roles of an operation in its Metadata.
const rolesKey = "roles"

// Operation describes one operation for Register: "PUT /v1/clones/{id}" is a
// pattern, and roles are those that may call it beside admin. An operation
// that was not made here is for admins alone.
func Operation(id, pattern, summary string, roles ...registry.Role) huma.Operation {
	op := describe(id, pattern, summary)
	op.Metadata = map[string]any{rolesKey: roles}
	op.Security = []map[string][]string{{"token": {}}}
	op.Description = "For every role."
	if missing := slices.DeleteFunc(slices.Clone(registry.Roles), func(r registry.Role) bool {
		return r == registry.RoleAdmin || slices.Contains(roles, r)
	}); len(missing) > 0 {
		names := []string{}
		for _, r := range roles {
			names = append(names, string(r))
		}
		op.Description = "For role " + strings.Join(append(names, string(registry.RoleAdmin)), ", ") + "."
	}
	return op
}

// describe returns an operation that nobody may call.
func describe(id, pattern, summary string) huma.Operation {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		panic(fmt.Sprintf("operation %s: pattern %q has no method", id, pattern))
	}
	tag := "daemon"
	if rest, ok := strings.CutPrefix(path, "/v1/"); ok {
		tag, _, _ = strings.Cut(rest, "/")
	}
	return huma.Operation{
		OperationID:     id,
		Method:          method,
		Path:            path,
		Summary:         summary,
		Tags:            []string{tag},
		BodyReadTimeout: -1, // readBody has read it by then, within its own bound
		Responses: map[string]*huma.Response{"default": {
			Description: "What went wrong and what to do.",
			Content: map[string]*huma.MediaType{
				"application/problem+json": {Schema: &huma.Schema{Ref: schemaPrefix + "Problem"}},
			},
		}},
	}
}

const schemaPrefix = "#/components/schemas/"

// alsoAnswers documents a status beside the default one of an operation, with
// the schema of the same name as in the default answer.
func alsoAnswers(op huma.Operation, status int, description, schema string) huma.Operation {
	op.Responses[fmt.Sprint(status)] = &huma.Response{
		Description: description,
		Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{Ref: schemaPrefix + schema}},
		},
	}
	return op
}

// Register adds an operation. The handler returns the error of what it called
// as it is; ProblemOf turns it into the answer.
func Register[I, O any](h huma.API, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	huma.Register(h, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			p := ProblemOf(err)
			exchangeOf(ctx).err = p.cause
			return nil, p
		}
		return out, nil
	})
}

// checkRole lets a request through to an operation whose roles hold its token's.
func (a *API) checkRole(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	exchangeOf(ctx.Context()).operation = op.OperationID
	if len(op.Security) == 0 && a.isOpen(op.Path) {
		next(ctx)
		return
	}
	token := Actor(ctx.Context()).Token
	roles, _ := op.Metadata[rolesKey].([]registry.Role)
	if token.Role != registry.RoleAdmin && !slices.Contains(roles, token.Role) {
		names := make([]string, 0, len(roles)+1)
		for _, r := range append(slices.Clone(roles), registry.RoleAdmin) {
			names = append(names, string(r))
		}
		refuse(ctx, Refusal(http.StatusForbidden, "forbidden", "%s needs a token of role %s; token %s has role %s",
			op.OperationID, strings.Join(names, " or "), token.ID, token.Role))
		return
	}
	next(ctx)
}
