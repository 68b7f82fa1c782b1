package tracing

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
)

// pipes is a network in memory, so that time may be a bubble's.
type pipes struct {
	serve func() *http.Response
	calls int
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		for r := bufio.NewReader(far); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			p.calls++
			res := p.serve()
			res.ProtoMajor, res.ProtoMinor = 1, 1
			if res.Write(far) != nil {
				return
			}
		}
	}()
	return near, nil
}
