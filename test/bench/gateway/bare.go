package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// bareUpstream names the variable that makes this program a bare proxy, so that its processor time can be told from the load's.
const bareUpstream = "KEYWRIGHT_BENCH_BARE_UPSTREAM"

// bufferPool lends the buffers that bodies are copied with.
type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if got, ok := b.pool.Get().(*[]byte); ok {
		return *got
	}
	return make([]byte, 8<<10)
}

func (b *bufferPool) Put(p []byte) { b.pool.Put(&p) }

// bare serves until its standard input ends: a ReverseProxy with a transport tuned as the gateway's, that sets one header.
func bare(upstream string, in io.Reader, out io.Writer) error {
	u, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p := &httputil.ReverseProxy{
		BufferPool: &bufferPool{},
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 50 * time.Second,
			DisableCompression: true,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Header["X-Api-Key"] = []string{"x"}
		},
	}
	srv := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = srv.Close()
	}()
	fmt.Fprintln(out, "http://"+l.Addr().String())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startBare runs this program again as a bare proxy, and gives its address.
func startBare(ctx context.Context, upstream string) (g *process, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), bareUpstream+"="+upstream)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		in.Close()
		_ = cmd.Wait()
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, nil, err
	}
	return &process{cmd: cmd, url: strings.TrimSpace(address), token: "x"}, stop, nil
}
