package proxy

import (
	"fmt"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// cloneField is the field of a request that names the clone it is meant for, and
// of an answer by which a service may say which clone it belongs to.
const cloneField = "clonegate-clone"

// A strangerError says that an answer came from another clone: addresses are
// used again, and a clone that has left without a word keeps its own until its
// lease ends.
type strangerError struct{ is, want registry.ID }

func (e *strangerError) Error() string {
	return fmt.Sprintf("clone %.40q answers there, not %s", e.is, e.want)
}

// recognize checks what an answer says about the clone it comes from. Most say
// nothing.
func (e *endpoint) recognize(in *http1.Section) error {
	for _, f := range in.Fields {
		if f.Name.Len() != len(cloneField) || !http1.EqualFold(in.Name(f), cloneField) {
			continue
		}
		if is := registry.ID(in.Value(f)); is != e.clone {
			return &strangerError{is, e.clone}
		}
	}
	return nil
}
