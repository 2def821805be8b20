package proxy

import "time"

// A Reason says why the gateway answered a request itself instead of passing
// on a clone's answer. Every such answer carries it as "Clonegate-Reason", and
// problem bodies as "code". Reasons are stable: scripts may branch on them.
type Reason string

// The reasons for the gateway's own answers.
const (
	Redirect        Reason = "redirect"         // 301 or 308: from the plain port to https
	BadRequest      Reason = "bad-request"      // 400: the request can be read in two ways
	BadBody         Reason = "bad-body"         // 400: the client's body is broken
	BodyTimeout     Reason = "body-timeout"     // 408: the client stopped sending its body
	HeadTooLarge    Reason = "head-too-large"   // 431
	TargetTooLong   Reason = "target-too-long"  // 414
	VersionRefused  Reason = "version-refused"  // 505: neither HTTP/1.1 nor HTTP/1.0
	CodingRefused   Reason = "coding-refused"   // 501: the body comes in another transfer coding than chunked
	ClientGone      Reason = "client-gone"      // 499: in logs only; nobody is left to read it
	UnknownZone     Reason = "unknown-zone"     // 404: the host lies outside the gateway's zones
	NoName          Reason = "no-name"          // 404: the zone itself was asked for
	UnknownClone    Reason = "unknown-clone"    // 404: no clone is known by that name
	UnknownService  Reason = "unknown-service"  // 404: the clone has no such service
	UnknownMember   Reason = "unknown-member"   // 404: the service has no endpoint of that number
	Starting        Reason = "starting"         // 503: the clone is not ready yet
	Asleep          Reason = "asleep"           // 503: the clone is suspended
	Stopping        Reason = "stopping"         // 503: the clone is being shut down
	Gone            Reason = "gone"             // 410: the clone was ended on purpose
	Lost            Reason = "lost"             // 410: the clone's lease ran out
	Failed          Reason = "failed"           // 502: the clone could not be started
	NoEndpoint      Reason = "no-endpoint"      // 503: the service has no endpoint
	Unhealthy       Reason = "unhealthy"        // 503: no endpoint passes its health check
	Unreachable     Reason = "unreachable"      // 503: no endpoint accepts connections
	Overloaded      Reason = "overloaded"       // 503: the clone has too many requests at work
	AddressRefused  Reason = "address-refused"  // 502: endpoints may not have that address
	Untrusted       Reason = "untrusted"        // 502: the endpoint is another than its service says, by its certificate or its own word
	UpstreamBroken  Reason = "upstream-broken"  // 502: the clone gave no valid answer
	UpstreamTimeout Reason = "upstream-timeout" // 504: the clone gave no answer in time
	CutByClone      Reason = "cut-by-clone"     // in logs only: the clone ended its answer half way
	Injected        Reason = "fault"            // the status that was asked for: a fault that somebody added to the clone
	Loop            Reason = "loop"             // 508: the request came back to the gateway
	MethodRefused   Reason = "method-refused"   // 501: CONNECT
	InternalError   Reason = "internal-error"   // 500: a fault of the gateway
)

// Status returns the HTTP status that goes with a reason.
func (r Reason) Status() int {
	switch r {
	case Redirect:
		return 308
	case BadRequest, BadBody:
		return 400
	case UnknownZone, NoName, UnknownClone, UnknownService, UnknownMember:
		return 404
	case BodyTimeout:
		return 408
	case Gone, Lost:
		return 410
	case TargetTooLong:
		return 414
	case HeadTooLarge:
		return 431
	case ClientGone:
		return 499
	case MethodRefused, CodingRefused:
		return 501
	case Failed, AddressRefused, Untrusted, UpstreamBroken, CutByClone:
		return 502
	case Starting, Asleep, Stopping, NoEndpoint, Unhealthy, Unreachable, Overloaded, Injected:
		return 503
	case UpstreamTimeout:
		return 504
	case VersionRefused:
		return 505
	case Loop:
		return 508
	}
	return 500
}

// retryAfter returns how long a client should wait before it tries again, or 0
// if trying again is pointless.
func (r Reason) retryAfter() time.Duration {
	switch r {
	case Overloaded:
		return time.Second
	case Starting, Unhealthy, Unreachable:
		return 2 * time.Second
	}
	return 0
}

// passes reports whether waiting a little may end the reason, so that a page
// that a person navigated to keeps trying by itself.
func (r Reason) passes() bool {
	switch r {
	case Starting, Unhealthy, Unreachable:
		return true
	}
	return false
}
