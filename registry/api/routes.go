package api

import (
	"net/http"
	"reflect"

	"github.com/clonegate/clonegate/registry"
	"github.com/danielgtaylor/huma/v2"
)

// opRenew is what clones do all the time.
const opRenew = "renew-clone"

// routes declares every operation of the registry. The roles behind each are
// who may call it beside admin; which clones and templates a token may touch,
// package registry decides.
func (a *API) routes() {
	const (
		clone     = registry.RoleClone
		engineer  = registry.RoleEngineer
		publisher = registry.RolePublisher
	)
	all := registry.Roles
	event, page, change := reflect.TypeFor[registry.Event](), reflect.TypeFor[EventPage](), reflect.TypeFor[Change]()
	h := a.huma

	Register(h, alsoAnswers(Operation("register-clone", "PUT /v1/clones/{id}", "Begin a life of a clone, or change the living one", clone), http.StatusCreated, "A life began.", "Grant"), a.registerClone)
	Register(h, Operation(opRenew, "POST /v1/clones/{id}/renew", "Keep the lease of a living instance", clone), a.renewClone)
	Register(h, alsoAnswers(Operation("end-clone", "DELETE /v1/clones/{id}", "End the life of a clone", clone, engineer), http.StatusAccepted, "Its provider is stopping it.", "Clone"), a.endClone)
	Register(h, created(Operation("create-clone", "POST /v1/clones", "Have a provider make a clone of a template", engineer)), a.createClone)
	Register(h, Operation("list-clones", "GET /v1/clones", "List clones in the order of their IDs", all...), a.listClones)
	Register(h, Operation("get-clone", "GET /v1/clones/{id}", "Show one clone", all...), a.getClone)

	Register(h, created(Operation("add-fault", "POST /v1/clones/{id}/faults", "Give a clone a trouble on purpose, for a while", engineer)), a.addFault)
	Register(h, Operation("list-faults", "GET /v1/clones/{id}/faults", "List the faults of a clone that have not ended", all...), a.listFaults)
	Register(h, Operation("remove-fault", "DELETE /v1/clones/{id}/faults/{fault}", "End a fault before its time", engineer), a.removeFault)
	Register(h, Operation("remove-faults", "DELETE /v1/clones/{id}/faults", "End all faults of a clone", engineer), a.removeFaults)

	Register(h, Operation("list-templates", "GET /v1/templates", "List templates by name", all...), a.listTemplates)
	Register(h, Operation("get-template", "GET /v1/templates/{name}", "Show the versions and channels of a template", all...), a.getTemplate)
	Register(h, Operation("get-version", "GET /v1/templates/{name}/versions/{version}", "Show one version with its manifest", all...), a.getVersion)
	Register(h, alsoAnswers(Operation("publish-version", "PUT /v1/templates/{name}/versions/{version}", "Publish an immutable version", publisher), http.StatusCreated, "The version is new.", "Template"), a.publishVersion)
	Register(h, Operation("revoke-version", "POST /v1/templates/{name}/versions/{version}/revoke", "Forbid new clones of a version", publisher), a.revokeVersion)
	Register(h, Operation("promote-version", "PUT /v1/templates/{name}/channels/{channel}", "Let a channel point to a version", publisher), a.promoteVersion)

	Register(h, created(Operation("create-token", "POST /v1/tokens", "Make a token; its secret is shown this once")), a.createToken)
	Register(h, Operation("list-tokens", "GET /v1/tokens", "List tokens, oldest first"), a.listTokens)
	Register(h, Operation("revoke-token", "DELETE /v1/tokens/{id}", "End a token at once"), a.revokeToken)
	Register(h, Operation("whoami", "GET /v1/whoami", "Show the token of this request", all...), a.whoami)

	Register(h, a.streaming(Operation("list-events", "GET /v1/events", "Read the audit log, as a page or as a stream", all...), event, page), a.listEvents)
	Register(h, a.streaming(Operation("watch", "GET /v1/watch", "Follow every change of clones, templates and channels", all...), change, nil), a.watch)

	Register(h, describe("get-health", "GET /healthz", "Whether the daemon works and its store takes writes"), a.getHealth)
	Register(h, describe("get-readiness", "GET /readyz", "Whether the gateway can serve"), a.getReadiness)
	Register(h, raw(describe("get-openapi", "GET /openapi.json", "This description"), "application/openapi+json"), a.getOpenAPI())
	Register(h, raw(describe("get-ca", "GET /ca.pem", "The certificate of the internal CA"), "application/x-pem-file"), a.getCA)
	Register(h, raw(Operation("get-metrics", "GET /metrics", "Metrics for Prometheus", all...), "text/plain"), a.getMetrics)
}

// created makes 201 the answer of an operation.
func created(op huma.Operation) huma.Operation {
	op.DefaultStatus = http.StatusCreated
	return op
}

// raw documents an answer that is not JSON of a schema.
func raw(op huma.Operation, contentType string) huma.Operation {
	op.Responses["200"] = &huma.Response{
		Description: "The content.",
		Content:     map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	return op
}

// streaming documents an answer that is a stream of values like data and, for
// those who do not accept one, a page.
func (a *API) streaming(op huma.Operation, data, page reflect.Type) huma.Operation {
	schemas := a.huma.OpenAPI().Components.Schemas
	op = raw(op, "text/event-stream")
	content := op.Responses["200"].Content
	content["text/event-stream"].Schema.Description = "Server-sent events; the data of each is one " + data.Name() + "."
	schemas.Schema(data, true, "")
	if page != nil {
		content["application/json"] = &huma.MediaType{Schema: schemas.Schema(page, true, "")}
	}
	return op
}
