//go:build !linux

package api

import (
	"net"

	"github.com/keywright/keywright/internal/fault"
)

// peerUID cannot be known here, so every request is refused.
func peerUID(net.Conn) (int, error) {
	return 0, fault.New(fault.Unsupported, "ask for the peer: this system does not tell")
}
