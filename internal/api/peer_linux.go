package api

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/fault"
)

// peerUID asks the system who is at the other end of a Unix socket.
func peerUID(conn net.Conn) (int, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fault.New(fault.Unsupported, "ask for the peer: not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, fault.Wrap(fault.Unknown, err, "ask for the peer")
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, fault.Wrap(fault.Unknown, err, "ask for the peer")
	}
	if inner != nil {
		return 0, fault.Wrap(fault.Unknown, inner, "ask for the peer")
	}
	return int(cred.Uid), nil
}
