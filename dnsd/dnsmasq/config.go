package dnsmasq

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// An Origin is where an option was written.
type Origin struct {
	File string `json:"file,omitempty"` // "" for the command line
	Line int    `json:"line"`           // 1 for the first line, or argument of the command line
}

func (o Origin) String() string {
	if o.File == "" {
		return fmt.Sprintf("argument %d", o.Line)
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// An Error is an option that cannot be understood.
type Error struct {
	Origin Origin
	Option string // its name as written
	Why    string // what is wrong, and what would be right
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %s: %s", e.Origin, e.Option, e.Why) }

// A Note is what becomes of one option.
type Note struct {
	Origin  Origin `json:"at"`
	Option  string `json:"option"` // as written, with its value
	Applied bool   `json:"applied"`
	Why     string `json:"why,omitempty"` // if not applied, or applied in another way
}

// A Config is a dnsmasq configuration, each option in the order in which it
// was written.
type Config struct {
	// Strict asks upstream servers for the types that a local host does not
	// have, as dnsmasq does, instead of saying that there are none. No option
	// of a file sets it.
	Strict bool

	Notes []Note

	Domains    []DomainRule
	Hosts      []HostRecord
	Records    []dns.RR
	Aliases    []*dns.CNAME
	Synths     []Synth
	Interfaces []InterfaceName

	NoHosts   bool
	AddnHosts []string // files and directories
	HostsDirs []string // directories that are followed
	Expand    bool
	Suffixes  []Suffix

	NoResolv     bool
	ResolvFiles  []string
	ServersFiles []string
	NoPoll       bool

	DomainNeeded   bool
	BogusPriv      bool
	FilterWin2K    bool
	FilterTypes    []uint16
	StopRebind     bool
	RebindLoopback bool
	RebindDomains  []string
	BogusNXDomain  []netip.Prefix

	NoRoundRobin bool
	Localise     bool

	LocalTTL    *uint32 // nil: not set
	NegTTL      uint32  // of negative answers without SOA; 0: they are not kept
	MaxTTL      uint32  // 0: no bound
	MaxCacheTTL uint32
	MinCacheTTL uint32
	NoNegCache  bool
	CacheSize   *int // nil: not set

	Port         uint16
	Listen       []netip.Addr
	Listeners    []string // names of interfaces
	Except       []string // names of interfaces not listened on
	LocalService bool
	LogQueries   bool
	NoIdent      bool // nothing is told about the server itself in class CH

	BindInterfaces bool // only addresses that are there at the start
	BindDynamic    bool // also those that come later, as without either

	Habits    dnsd.Habits // of dealing with upstream servers
	Authority Authority
}

// A DomainRule says what to do with names in a domain: answer them with
// addresses, say that they do not exist, or ask a server.
type DomainRule struct {
	Domain  string // in lower case, without a trailing dot; "" is every name
	Partial bool   // the domain is the end of a name, not of its labels: *example.com
	NoDots  bool   // names of one label; Domain is ""

	Addr   netip.Addr     // invalid: none
	Null   bool           // answer with 0.0.0.0 and ::
	Server netip.AddrPort // invalid: none
	Usual  bool           // ask the servers without a domain
	File   bool           // from a servers-file, read again by SIGHUP
}

// A HostRecord gives names addresses, and the first of them to each address.
type HostRecord struct {
	Names []string // in lower case, with a trailing dot
	Addrs []netip.Addr
	TTL   *uint32 // nil: the local TTL
}

// A Suffix is a domain that short host names are completed with: all of them,
// or those with an address in a range.
type Suffix struct {
	Domain      string // in lower case, without a trailing dot
	First, Last netip.Addr
}

// An InterfaceName is a name for the addresses of a network interface.
type InterfaceName struct {
	Name      string
	Interface string
	V4, V6    bool
}

// A Synth makes names of the addresses in a range.
type Synth struct {
	Domain      string // in lower case, without a trailing dot
	First, Last netip.Addr
	Prefix      string
	Numbered    bool // names count from the first address
}

// minCacheTTLLimit is dnsmasq's, so that a slip does not freeze a cache.
const minCacheTTLLimit = uint32(time.Hour / time.Second)
