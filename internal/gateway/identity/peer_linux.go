package identity

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// socketPeer asks the system whose process is at the other end of a Unix socket.
func socketPeer(c *net.UnixConn) (int, bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return 0, false
	}
	return int(cred.Uid), true
}

// tcpPeer finds the owner of the socket that a connection over loopback comes from.
func tcpPeer(from, to netip.AddrPort) (int, bool) {
	name := "/proc/net/tcp"
	if from.Addr().Is6() && !from.Addr().Is4In6() {
		name = "/proc/net/tcp6"
	}
	f, err := os.Open(name)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if uid, ok := owner(f, from, to); ok || name == "/proc/net/tcp6" {
		return uid, ok
	}
	// A socket of both families stands in the other table, with a mapped address.
	f6, err := os.Open("/proc/net/tcp6")
	if err != nil {
		return 0, false
	}
	defer f6.Close()
	mapped := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return owner(f6, mapped(from), mapped(to))
}

// established is the state of a connection whose socket has an owner; of those that end, the table no longer tells it.
const established = "01"

// owner reads a table of connections.
func owner(r io.Reader, local, remote netip.AddrPort) (int, bool) {
	wantLocal, wantRemote := kernelForm(local), kernelForm(remote)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) > 7 && f[1] == wantLocal && f[2] == wantRemote && f[3] == established {
			uid, err := strconv.ParseUint(f[7], 10, 32)
			return int(uid), err == nil
		}
	}
	return 0, false
}

// kernelForm is an address as the kernel prints it: words of 32 bits in the byte order of the host.
func kernelForm(a netip.AddrPort) string {
	ip := a.Addr()
	b := ip.AsSlice()
	for i := 0; i+4 <= len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	return fmt.Sprintf("%s:%04X", strings.ToUpper(hex.EncodeToString(b)), a.Port())
}
