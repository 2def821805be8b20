package api

import (
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// checkQuery refuses what would be dropped or chosen from in silence: a query
// that is not well encoded, a parameter that stands twice, and one that is
// given but empty where it must say something. A shell script whose variable
// was never set would else end another life than its own.
func (a *API) checkQuery(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		refuse(ctx, Refusal(http.StatusBadRequest, "bad-query", "the query is not well encoded: %s", err))
		return
	}
	var mistakes []Mistake
	for _, p := range ctx.Operation().Parameters {
		values := query[p.Name]
		if p.In != "query" || len(values) == 0 {
			continue
		}
		if len(values) > 1 && p.Schema.Type != huma.TypeArray {
			mistakes = append(mistakes, Mistake{"query." + p.Name, "duplicate-key", "it stands more than once; only one of them could be obeyed"})
		}
		if values[0] == "" && p.Schema.MinLength != nil && *p.Schema.MinLength > 0 {
			mistakes = append(mistakes, Mistake{"query." + p.Name, "value", "it is empty; give its value or leave it out"})
		}
	}
	if len(mistakes) > 0 {
		refuse(ctx, invalid(mistakes...))
		return
	}
	next(ctx)
}
