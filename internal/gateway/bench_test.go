package gateway

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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// TestMain lets the test's program stand as a proxy of its own, so that its CPU time can be told from the load's.
func TestMain(m *testing.M) {
	if kind := os.Getenv("KEYWRIGHT_BENCH_PROXY"); kind != "" {
		if err := benchProxy(kind, os.Getenv("KEYWRIGHT_BENCH_UPSTREAM"), os.Getenv("KEYWRIGHT_BENCH_DIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// benchProxy serves until its standard input ends; a line there is answered with the CPU time so far, in nanoseconds, and the resident KiB.
func benchProxy(kind, upstream, dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	token := ""
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	switch kind {
	case "bare":
		u, err := url.Parse(upstream)
		if err != nil {
			return err
		}
		p := &httputil.ReverseProxy{BufferPool: newBuffers(), Transport: newTransport(u, nil), Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Header.Set("X-Api-Key", "x")
		}}
		srv := &http.Server{Handler: p}
		go func() { <-ctx.Done(); _ = srv.Close() }()
		go func() { done <- srv.Serve(l) }()
	default:
		s, err := identity.OpenSigner(dir)
		if err != nil {
			return err
		}
		ids, err := s.Tokens()
		if err != nil {
			return err
		}
		v, _, err := s.Issue("bench", time.Hour, nil, nil)
		if err != nil {
			return err
		}
		token = v.RevealString()
		f, err := os.Create(dir + "/access.log")
		if err != nil {
			return err
		}
		defer f.Close()
		g, err := New(Options{Upstream: upstream, Identify: []identity.Identifier{ids}, StateDir: dir, Access: NewLines(f),
			Default: App{RequestsPerMinute: 1e9, TokensPerMinute: 1e12, Concurrent: 1e6, Models: []string{"claude-*"}}})
		if err != nil {
			return err
		}
		defer g.Close()
		key, err := secret.Ref("file:"+dir+"/key").Resolve(ctx, "/")
		if err != nil {
			return err
		}
		if err := g.Swap(Set{Keys: []Key{{Name: "bench", Value: key}}}); err != nil {
			return err
		}
		go func() { done <- g.Serve(ctx, l, nil, time.Second) }()
	}
	fmt.Fprintln(os.Stdout, l.Addr().String(), token)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
		fmt.Fprintln(os.Stdout, r.Utime.Nano()+r.Stime.Nano(), pss())
	}
	cancel()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// pss gives the proportional set size in KiB.
func pss() int64 {
	b, _ := os.ReadFile("/proc/self/smaps_rollup")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// child is a proxy in a process of its own.
type child struct {
	in    io.WriteCloser
	out   *bufio.Reader
	url   string
	token string
}

func startChild(b *testing.B, kind, upstream, dir string) *child {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KEYWRIGHT_BENCH_PROXY="+kind, "KEYWRIGHT_BENCH_UPSTREAM="+upstream, "KEYWRIGHT_BENCH_DIR="+dir)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	c := &child{in: in, out: bufio.NewReader(out)}
	line, err := c.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	address, token, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	c.url, c.token = "http://"+address, token
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return c
}

func (c *child) usage(b *testing.B) (cpu time.Duration, pss int64) {
	b.Helper()
	fmt.Fprintln(c.in)
	line, err := c.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	var n int64
	if _, err := fmt.Sscan(line, &n, &pss); err != nil {
		b.Fatal(err)
	}
	return time.Duration(n), pss
}

// load makes n calls over so many connections and gives their times.
func (c *child) load(b *testing.B, client *http.Client, body string, connections, n int) []time.Duration {
	b.Helper()
	times := make([]time.Duration, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				r, _ := http.NewRequest("POST", c.url+"/v1/messages", strings.NewReader(body))
				r.Header.Set("X-Api-Key", c.token)
				r.Header.Set("Anthropic-Version", "2023-06-01")
				r.Header.Set("Content-Type", "application/json")
				at := time.Now()
				res, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				times[i] = time.Since(at)
				if res.StatusCode != 200 {
					b.Errorf("status %d", res.StatusCode)
					return
				}
			}
		})
	}
	wg.Wait()
	return times
}

// BenchmarkAgainstBareProxy compares CPU time per request with a bare ReverseProxy on the same transport: both in processes of their own,
// in turns, bodies of 2 KB and 1 KB, all features on, the log in a file.
func BenchmarkAgainstBareProxy(b *testing.B) {
	answer := []byte(`{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"` + strings.Repeat("x", 800) + `"}],"model":"claude-haiku-5-5","stop_reason":"end_turn","usage":{"input_tokens":500,"output_tokens":200}}`)
	up, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		w.Header().Set("Request-Id", "req_1")
		_, _ = w.Write(answer)
	})}
	go func() { _ = srv.Serve(up) }()
	b.Cleanup(func() { srv.Close() })
	dir := b.TempDir()
	if err := os.WriteFile(dir+"/key", []byte(secrettest.Fake(b).RevealString()), 0o600); err != nil {
		b.Fatal(err)
	}
	body := `{"model":"claude-haiku-5-5","max_tokens":256,"messages":[{"role":"user","content":"` + strings.Repeat("y", 1900) + `"}]}`
	children := []*child{startChild(b, "bare", "http://"+up.Addr().String(), dir), startChild(b, "gateway", "http://"+up.Addr().String(), dir)}
	for _, connections := range []int{1, 16, 128, 512} {
		b.Run(fmt.Sprint(connections), func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
			defer client.CloseIdleConnections()
			const requests = 3000
			for _, c := range children {
				c.load(b, client, body, connections, requests)
			}
			var cpu [2]time.Duration
			var p50 [2][]time.Duration
			for b.Loop() {
				for i, c := range children {
					before, _ := c.usage(b)
					times := c.load(b, client, body, connections, requests)
					after, _ := c.usage(b)
					cpu[i] += after - before
					slices.Sort(times)
					p50[i] = append(p50[i], times[len(times)/2])
				}
			}
			b.StopTimer()
			middle := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2].Microseconds()) }
			_, kib := children[1].usage(b)
			b.ReportMetric(float64(cpu[0].Microseconds())/float64(b.N*requests), "bare-µs/req")
			b.ReportMetric(float64(cpu[1].Microseconds())/float64(b.N*requests), "gateway-µs/req")
			b.ReportMetric(float64(cpu[1])/float64(cpu[0]), "ratio")
			b.ReportMetric(middle(p50[1])-middle(p50[0]), "added-p50-µs")
			b.ReportMetric(float64(kib)/1024, "PSS-MiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}
