package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// An answer is what the gateway says itself, in the place of a clone. Its JSON
// is an RFC 9457 problem.
type answer struct {
	Type       string         `json:"type"`
	Title      string         `json:"title"`
	Status     int            `json:"status"`
	Detail     string         `json:"detail"`
	Code       Reason         `json:"code"`
	Request    string         `json:"request"`
	Clone      registry.ID    `json:"clone,omitempty"`
	Service    string         `json:"service,omitempty"`
	State      registry.State `json:"state,omitempty"`
	Progress   string         `json:"progress,omitempty"`
	Ended      time.Time      `json:"ended,omitzero"`
	EndedBy    string         `json:"ended_by,omitempty"`
	RetryAfter int            `json:"retry_after,omitempty"` // seconds
	Services   []link         `json:"services,omitempty"`
	Nearest    []link         `json:"nearest,omitempty"`

	// Only pages show the following.
	Facts    []fact    `json:"-"`
	Commands []command `json:"-"`
	Clones   []listed  `json:"-"`
	Passes   bool      `json:"-"` // the page tries again by itself
	Time     time.Time `json:"-"`
}

type link struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

type fact struct{ Name, Value string }

type command struct{ Does, Line string }

// listed is a living clone in a list.
type listed struct {
	ID       registry.ID
	State    registry.State
	Template string
	Owner    string
	Age      string
	Links    []link
}

// explain turns a reason into an answer that says what happened, to what, and
// what to do about it. cause is the fault behind the reason, if there is one.
func (g *Gateway) explain(r Reason, t target, cause, request string) answer {
	a := answer{
		Type: "about:blank", Status: r.Status(), Code: r, Request: request,
		RetryAfter: int(r.retryAfter().Seconds()), Passes: r.passes(), Time: time.Now().UTC(),
	}
	if t.clone == nil {
		g.explainName(&a, t, cause)
		return a
	}
	a.Clone, a.Service, a.State = t.clone.ID, t.service, t.clone.State
	switch r {
	case Starting, Asleep, Stopping, Gone, Lost, Failed:
		explainState(&a, t.clone)
	case UnknownService, UnknownMember, NoEndpoint, Unhealthy, Unreachable:
		g.explainService(&a, t, cause)
	default:
		explainTraffic(&a, t, cause, g.cfg.Limits)
	}
	a.Facts = append(a.Facts, cloneFacts(t.clone)...)
	return a
}

// explainName is for requests that lead to no clone.
func (g *Gateway) explainName(a *answer, t target, cause string) {
	zone := g.cfg.Zones.Zone()
	if t.zone != "" {
		zone = t.zone
	}
	switch a.Code {
	case UnknownZone:
		a.Title = fmt.Sprintf("This gateway does not serve %s", t.host)
		a.Detail = fmt.Sprintf("It serves the clones under %s, each by names such as www-1234.%s.", zone, zone)
		return
	case NoName:
		a.Title = "Which clone?"
		a.Detail = fmt.Sprintf("%s is the zone that clones live under. A clone is opened by a name such as www-1234.%s: its service, then its ID.", zone, zone)
		g.listClones(a, t, zone)
	case UnknownClone:
		a.Title = fmt.Sprintf("No clone is called %s", t.sub)
		a.Detail = fmt.Sprintf("Nothing is registered as %s. Check the name, open another clone, or start a new one.", t.host)
		g.listClones(a, t, zone)
	default:
		a.Title, a.Detail = requestFault(a.Code, cause)
	}
}

// listClones adds what a person may have meant, and how to start a clone.
func (g *Gateway) listClones(a *answer, t target, zone registry.Host) {
	clones, names := g.directory.newest()
	template := "TEMPLATE"
	for _, c := range clones {
		if name, _, ok := strings.Cut(c.Template, "@"); ok && template == "TEMPLATE" {
			template = name
		}
		l := listed{ID: c.ID, State: c.State, Template: c.Template, Owner: c.Owner, Age: span(a.Time.Sub(c.Created))}
		l.Links = g.serviceLinks(c, zone)
		a.Clones = append(a.Clones, l)
	}
	if t.sub != "" {
		for _, name := range nearest(strings.ReplaceAll(t.sub, ".", "-"), names) {
			a.Nearest = append(a.Nearest, link{name, g.url(zone, name)})
		}
	}
	a.Commands = []command{
		{"Start a clone", "clonegate up " + template + "@stable"},
		{"See all clones", "clonegate list"},
	}
}

// explainState is for clones that take no requests in their present state.
func explainState(a *answer, c *registry.Clone) {
	who := cloneName(c)
	when := fmt.Sprintf("%s ago, on %s", span(a.Time.Sub(c.Ended)), c.Ended.UTC().Format("2 Jan 2006 at 15:04:05 MST"))
	again := command{"Start another one", "clonegate up " + c.Template}
	show := command{"See what happened", "clonegate show " + string(c.ID)}
	switch a.Code {
	case Starting:
		a.Title = who + " is starting"
		a.Detail = "Its services are not ready yet. Requests are served as soon as they are."
		a.Progress = c.Reason
		a.Facts = append(a.Facts, fact{"Starting for", span(a.Time.Sub(c.Created))})
		a.Commands = append(a.Commands, output(c)...)
	case Asleep:
		a.Title = who + " is asleep"
		a.Detail = "It was suspended and keeps its data. Resume it to go on where it stopped."
		a.Commands = append(a.Commands, command{"Wake it up", "clonegate resume " + string(c.ID)})
	case Stopping:
		a.Title = who + " is shutting down"
		a.Detail = "It takes no more requests. Its services are being stopped."
		a.Commands = append(a.Commands, again)
	case Gone:
		a.Title = who + " is gone"
		a.Detail = "It was ended " + when + "."
		if c.EndedBy != "" {
			a.Detail = fmt.Sprintf("%s ended it %s.", c.EndedBy, when)
		}
		a.Ended, a.EndedBy = c.Ended, c.EndedBy
		a.Commands = append(a.Commands, again)
	case Lost:
		a.Title = who + " is lost"
		a.Detail = fmt.Sprintf("Its lease was not renewed and ran out %s. Its machines may have been stopped, or lost their way to the gateway.", when)
		a.Ended = c.Ended
		a.Commands = append(a.Commands, show, again)
	case Failed:
		a.Title = who + " could not be started"
		a.Detail = "No reason was given."
		if c.Reason != "" {
			a.Detail = sentence(c.Reason)
		}
		a.Ended = c.Ended
		a.Commands = append(append(a.Commands, output(c)...), show)
	}
	if c.Template == "" {
		a.Commands = slices.DeleteFunc(a.Commands, func(c command) bool { return c == again })
	}
}

// explainService is for services that cannot be reached.
func (g *Gateway) explainService(a *answer, t target, cause string) {
	who := cloneName(t.clone)
	switch a.Code {
	case UnknownService:
		a.Title = who + " has no such service"
		a.Detail = fmt.Sprintf("%s names none of its services.", t.host)
		if a.Services = g.serviceLinks(t.clone, t.zone); len(a.Services) == 0 {
			a.Detail += " It has registered none."
		}
		return
	case UnknownMember:
		a.Title = fmt.Sprintf("%s of %s has no such member", t.service, lowerFirst(who))
		a.Detail = fmt.Sprintf("Its %d endpoints are addressed by the numbers from 1, in the order of their registration, as in %s-%s--1 or by the field Clonegate-Member: 1.",
			len(t.clone.Services[t.service].Endpoints), t.service, t.clone.ID)
		return
	case NoEndpoint:
		a.Title = fmt.Sprintf("Nothing serves %s in %s", t.service, lowerFirst(who))
		a.Detail = "The service is registered, but without an endpoint to send requests to."
	case Unhealthy:
		a.Title = fmt.Sprintf("%s of %s is not healthy", t.service, lowerFirst(who))
		a.Detail = "None of its endpoints passes its health check: " + cause + "."
	case Unreachable:
		a.Title = fmt.Sprintf("%s of %s does not answer", t.service, lowerFirst(who))
		a.Detail = "None of its endpoints accepts connections: " + cause + "."
	}
	if t.clone.State == registry.Degraded && t.clone.Reason != "" {
		a.Detail += " The clone is degraded: " + strings.TrimSuffix(t.clone.Reason, ".") + "."
	}
	if l, ok := g.lease(t.clone.ID); ok && t.clone.TTL > 0 {
		a.Facts = append(a.Facts, fact{"Lease", fmt.Sprintf("ends in %s unless the clone renews it", span(l.Left))})
	}
	a.Commands = append(append(a.Commands, output(t.clone)...), command{"See its state", "clonegate show " + string(t.clone.ID)})
}

// output says how to read what a clone writes, if a provider of ours started it.
func output(c *registry.Clone) []command {
	if c.Provider == "" {
		return nil
	}
	return []command{{"Read its output", "clonegate logs " + string(c.ID)}}
}

// explainTraffic is for requests that went wrong on their way.
func explainTraffic(a *answer, t target, cause string, l Limits) {
	who := fmt.Sprintf("%s of %s", t.service, lowerFirst(cloneName(t.clone)))
	switch a.Code {
	case Overloaded:
		a.Title = cloneName(t.clone) + " is busy"
		if cause != "" {
			a.Detail = sentence(cause) + " Try again in a moment."
			return
		}
		a.Detail = fmt.Sprintf("It has as many requests at work as one clone may have: %d, or %d open WebSockets. Try again in a moment.", l.RequestsPerClone, l.TunnelsPerClone)
	case AddressRefused:
		a.Title = who + " may not be reached"
		a.Detail = sentence(cause)
	case Untrusted:
		a.Title = who + " is not who it should be"
		a.Detail = sentence(cause)
	case UpstreamBroken:
		a.Title = who + " gave no valid answer"
		a.Detail = sentence(cause)
	case UpstreamTimeout:
		a.Title = who + " did not answer in time"
		a.Detail = fmt.Sprintf("It took the request and sent nothing for %s.", span(l.ResponseTimeout))
	case Injected:
		a.Title = who + " fails on purpose"
		a.Detail = sentence(cause)
		a.Commands = []command{{"See its faults", "clonegate fault list " + string(t.clone.ID)}, {"End them", "clonegate fault remove " + string(t.clone.ID)}}
	case Loop:
		a.Title = "This request goes in circles"
		a.Detail = fmt.Sprintf("It has reached %s before: the clone sends it back to the gateway.", who)
	default:
		a.Title, a.Detail = requestFault(a.Code, cause)
	}
}

// requestFault is for requests that would fail with any clone.
func requestFault(r Reason, cause string) (title, detail string) {
	switch r {
	case BadRequest, BadBody:
		return "This request cannot be understood", sentence(cause)
	case BodyTimeout:
		return "The request was not sent to its end", "The client stopped sending its body."
	case HeadTooLarge:
		return "The request's headers are too large", sentence(cause)
	case TargetTooLong:
		return "The request's URL is too long", sentence(cause)
	case VersionRefused:
		return "This version of HTTP is not spoken here", sentence(cause)
	case CodingRefused:
		return "The request's body cannot be decoded", sentence(cause)
	case MethodRefused:
		return "This is not a forward proxy", "CONNECT is refused. Open the clone by its own address."
	}
	return "The gateway failed", "This is a fault of the gateway, not of the clone. Its log has more under the request's ID."
}

// serviceLinks returns the public URLs of a clone under a zone, the default
// service first.
func (g *Gateway) serviceLinks(c *registry.Clone, zone registry.Host) []link {
	main := c.DefaultService()
	var out []link
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		l := link{name, g.url(zone, name+"-"+string(c.ID))}
		if name == main {
			out = slices.Insert(out, 0, l)
		} else {
			out = append(out, l)
		}
	}
	return out
}

// url returns the public URL of a label under any of the zones.
func (g *Gateway) url(zone registry.Host, label string) string {
	z := g.cfg.Zones
	port := strings.TrimPrefix(z.URL(label), "https://"+label+"."+string(z.Zone()))
	return "https://" + label + "." + string(zone) + port
}

func (g *Gateway) lease(id registry.ID) (registry.Lease, bool) {
	if g.cfg.Lease == nil {
		return registry.Lease{}, false
	}
	return g.cfg.Lease(id)
}

func cloneFacts(c *registry.Clone) []fact {
	facts := []fact{{"Clone", string(c.ID)}, {"State", string(c.State)}}
	if len(c.Aliases) > 0 {
		facts = append(facts, fact{"Also called", strings.Join(c.Aliases, ", ")})
	}
	if c.Template != "" {
		facts = append(facts, fact{"Template", c.Template})
	}
	if c.Owner != "" {
		facts = append(facts, fact{"Owner", c.Owner})
	}
	return facts
}

func cloneName(c *registry.Clone) string { return "Clone " + string(c.ID) }

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// sentence returns a cause as a sentence.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

// span writes a duration as a person would say it.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
