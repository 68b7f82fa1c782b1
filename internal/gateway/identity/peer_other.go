//go:build !linux

package identity

import (
	"net"
	"net/netip"
)

// socketPeer cannot know on this system.
func socketPeer(*net.UnixConn) (int, bool) { return 0, false }

// tcpPeer cannot know on this system, so a token is needed.
func tcpPeer(netip.AddrPort, netip.AddrPort) (int, bool) { return 0, false }
