//go:build !linux

package dnsd

import (
	"fmt"
	"syscall"
)

// bindToInterface is for Linux alone.
func bindToInterface(_ syscall.RawConn, name string) error {
	return fmt.Errorf("leave by interface %s: only Linux can be told; name an address instead", name)
}
