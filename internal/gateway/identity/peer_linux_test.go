package identity

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestPeerOfLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	from, to := netip.MustParseAddrPort(c.RemoteAddr().String()), netip.MustParseAddrPort(c.LocalAddr().String())
	if uid, ok := tcpPeer(from, to); !ok || uid != os.Geteuid() {
		t.Errorf("own connection: %d %v", uid, ok)
	}
	if _, ok := tcpPeer(to, netip.AddrPortFrom(to.Addr(), 1)); ok {
		t.Error("a connection that is not there has an owner")
	}
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1234        0 1\n" +
		"   1: 0100007F:1F91 0100007F:9C40 06 00000000:00000000 00:00000000 00000000     0        0 0\n"
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port) }
	if uid, ok := owner(strings.NewReader(table), at(8080), at(40000)); !ok || uid != 1234 {
		t.Errorf("%d %v", uid, ok)
	}
	if _, ok := owner(strings.NewReader(table), at(8081), at(40000)); ok {
		t.Error("a connection that has ended shows root as its owner")
	}
}
