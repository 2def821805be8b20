//go:build !linux

package dnsd

import "fmt"

// Only Linux has network namespaces.
func inNamespace(path string, open func() error) error {
	if path == "" {
		return open()
	}
	return fmt.Errorf("network namespace %s: this system has none", path)
}

func namespaceID(string) (id [2]uint64, ok bool) { return id, false }
