package dnsd

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindToInterface has whatever is sent over a socket leave by an interface.
func bindToInterface(conn syscall.RawConn, name string) error {
	var err error
	if e := conn.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) }); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("leave by interface %s: %w", name, err)
	}
	return nil
}
