package dnsd

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsfsMagic tells the files that stand for namespaces from all others.
const nsfsMagic = 0x6e736673

// inNamespace calls open on a thread that is in a network namespace: sockets
// it opens stay there. Path is what stands for the namespace, such as a file
// in /run/netns; "" is the namespace that the process is in.
func inNamespace(path string, open func() error) error {
	if path == "" {
		return open()
	}
	done := make(chan error, 1)
	go func() { done <- visitNamespace(path, open) }()
	return <-done
}

// visitNamespace takes the calling goroutine's thread into a namespace and back. A
// thread that cannot come back ends with the goroutine, which nothing else may
// use any more.
func visitNamespace(path string, open func() error) error {
	runtime.LockOSThread()
	back, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer back.Close()
	if err := enterNamespace(path); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = open()
	if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

func enterNamespace(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w; this needs the capability CAP_SYS_ADMIN", path, err)
	}
	return nil
}

// namespaceID returns what tells a namespace from others, false if path stands
// for none. "ip netns add" makes a plain file first.
func namespaceID(path string) (id [2]uint64, ok bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Statfs(path, &fs) != nil || fs.Type != nsfsMagic || unix.Stat(path, &st) != nil {
		return id, false
	}
	return [2]uint64{uint64(st.Dev), st.Ino}, true
}
