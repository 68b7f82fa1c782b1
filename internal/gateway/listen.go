package gateway

import (
	"net"
	"os"
	"path/filepath"
)

// listenPrivate makes the socket in a directory that only we can enter, sets its mode, and moves it into place, so that at no moment others
// can connect.
func listenPrivate(path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is empty, or holds the socket alone
	at := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(at, 0o600); err == nil {
		err = os.Rename(at, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &unlinking{UnixListener: l, path: path}, nil
}

// unlinking removes the socket's name with the listener.
type unlinking struct {
	*net.UnixListener
	path string
}

func (u *unlinking) Close() error {
	err := u.UnixListener.Close()
	os.Remove(u.path)
	return err
}

// Addr gives the name under which callers find the socket, not the one under which it was made.
func (u *unlinking) Addr() net.Addr { return &net.UnixAddr{Name: u.path, Net: "unix"} }
