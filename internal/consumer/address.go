package consumer

import (
	"errors"
	"net/netip"
	"syscall"
)

var (
	errForbiddenAddress = errors.New("the name leads to a link-local or metadata address")
	errNotLoopback      = errors.New("the name does not lead to this host")
)

// metadata are the addresses, besides the link-local ones, where clouds keep metadata and access keys of the machine.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"),
	netip.MustParsePrefix("fd20:ce::/32"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("192.0.0.192/32"),
}

// nat64 leads to the IPv4 address in its last four bytes.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// control gives the check that every connection passes after its name was resolved.
func control(loopbackOnly bool) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		addr := to.Addr().WithZone("").Unmap()
		if nat64.Contains(addr) {
			b := addr.As16()
			addr = netip.AddrFrom4([4]byte(b[12:]))
		}
		if addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr == netip.IPv4Unspecified() || addr == netip.IPv6Unspecified() {
			return errForbiddenAddress
		}
		for _, p := range metadata {
			if p.Contains(addr) {
				return errForbiddenAddress
			}
		}
		if loopbackOnly && !addr.IsLoopback() {
			return errNotLoopback
		}
		return nil
	}
}
