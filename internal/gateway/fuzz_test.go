package gateway

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/keywright/keywright/internal/gateway/wire"
)

// FuzzStream: whatever a provider sends, in whatever pieces, comes out as whole events or with an error behind them, never changed and never
// short in silence; and the gate in front of it changes nothing but what it holds back.
func FuzzStream(f *testing.F) {
	for _, s := range []string{
		"event: message_start\ndata: {}\n\nevent: content_block_delta\ndata: {}\n\nevent: message_stop\ndata: {}\n\n",
		"event: error\r\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\r\n\r\n",
		"event: ping\ndata: {}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}\n\n", ": c\r\revent: message_stop\rdata: {}\r\rx", "\n\n\nevent:message_stop\n\r\n\r",
		"event: content_block_delta\ndata: {}\n\nevent: error\ndata: {}\n\nevent: mess", "data: {}\n\n",
	} {
		f.Add([]byte(s), 7, 3, false)
		f.Add([]byte(s), 1, 4096, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, step, take int, broken bool) {
		step, take = abs(step)%4096+1, abs(take)%4096+1
		g := &Gateway{metrics: newMetrics(), o: Options{GateBytes: 256, GateTime: time.Hour}}
		pass := func(step, take int) (out []byte, cut bool) {
			s := &stream{ctx: t.Context(), body: io.NopCloser(&stepped{in, step, broken}), x: &exchange{}, g: g}
			return drain(t, s, take), s.x.cut
		}
		out, cut := pass(step, take)
		events, whole := reference(in)
		want := bytes.Clone(events)
		if !whole {
			want = append(want, wire.ErrorEvent("api_error", "keywright gateway: the provider broke the stream off before its end")...)
		}
		if cut == whole {
			t.Fatalf("a cut is %v, and an end was seen is %v", cut, whole)
		}
		// A stream behind whose end more stands gives that too, when it is a whole event.
		if !bytes.Equal(out, want) {
			t.Fatalf("out comes %q, want %q", out, want)
		}
		if again, _ := pass(len(in)+1, 4096); !bytes.Equal(again, out) {
			t.Fatalf("in other pieces it is another stream: %q, %q", again, out)
		}
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(&stepped{in, step, broken})}
		x := &exchange{began: time.Now()}
		held, o, err := g.gate(t.Context(), res, x, time.Now())
		switch {
		case errors.Is(err, errCut):
			if whole || held != nil {
				t.Fatal("the gate calls a whole stream cut")
			}
		case err != nil:
			t.Fatal(err)
		case held.StatusCode != 200 || held.Header.Get("Content-Type") != "text/event-stream":
			body, err := io.ReadAll(held.Body)
			if err != nil || held.StatusCode < 400 || !whole || !bytes.Contains(body, []byte(`"error"`)) || o.Name == "" {
				t.Fatalf("a held error became %d %q (%v)", held.StatusCode, body, err)
			}
		default:
			if got := drain(t, held.Body, take); !bytes.Equal(got, out) {
				t.Fatalf("behind the gate comes %q, want %q", got, out)
			}
		}
	})
}

func abs(n int) int { return max(n, -(n + 1)) }

// drain reads to the end, so many bytes at a time.
func drain(t *testing.T, r io.Reader, take int) []byte {
	t.Helper()
	var out []byte
	p := make([]byte, take)
	for {
		n, err := r.Read(p)
		out = append(out, p[:n]...)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// reference gives the whole events at the start of a stream, found line by line, and whether one of them ends it.
func reference(in []byte) (events []byte, ended bool) {
	start, lines, name := 0, 0, ""
	for at := 0; at < len(in); {
		n := bytes.IndexAny(in[at:], "\r\n")
		if n < 0 {
			break
		}
		line, next := in[at:at+n], at+n+1
		if in[at+n] == '\r' {
			if next == len(in) {
				break // an LF may follow
			}
			if in[next] == '\n' {
				next++
			}
		}
		if value, ok := bytes.CutPrefix(line, []byte("event:")); ok && name == "" {
			name = strings.TrimPrefix(string(value), " ") + "\n"
		}
		lines++
		if len(line) == 0 && lines > 1 {
			ended = ended || name == "message_stop\n" || name == "error\n"
			start, lines, name = next, 0, ""
		}
		at = next
	}
	return in[:start], ended
}

// stepped gives bytes a few at a time, and breaks off or ends behind them.
type stepped struct {
	b      []byte
	n      int
	broken bool
}

func (s *stepped) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		if s.broken {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.n)], s.b)
	s.b = s.b[n:]
	return n, nil
}

// FuzzHeadersAndPath: whatever a caller sends over HTTP/1.1 in bytes, or over HTTP/2 in fields, the provider sees only clean requests of its
// inference routes, with the gateway's key and without the caller's token, and the caller sees no value.
func FuzzHeadersAndPath(f *testing.F) {
	type seed struct{ method, path, query, name, value, body string }
	for _, s := range []seed{
		{"POST", "/v1/messages", "", "X-A", "b", hello}, {"GET", "/v1/models", "limit=1", "Connection", "x-api-key", ""}, {"GET", "/v1/models/m", "a b", "X-Forwarded-Host", "evil", ""},
		{"GET", "/v1/models/..%2f", "", "Te", "trailers", ""}, {"POST", "/v1/messages", "", "X_Api_Key", "mine", hello}, {"POST", "/v1/messages/../organizations", "", "TE", "trailers", hello}, {"GET", "/v1/organizations", "x", "A", "b\r\nX-Api-Key: c", ""},
		{"OPTIONS", "*", "", "Upgrade", "h2c", ""}, {"CONNECT", "gateway:443", "", "Host", "other", ""}, {"POST", "/v1/messages/count_tokens", "#", "Trailer", "X-Api-Key", hello},
		{"POST", "/v1/messages", "", "Transfer-Encoding", "chunked\r\nX-B: c", "0\r\n\r\nGET /v1/oauth HTTP/1.1\r\nHost: gateway\r\n\r\n"}, {"GET", "http://gateway/v1/models", "", ":path", "/v1/compliance", ""},
		{"GET", "/v1/skills/skill_1/versions/1/content", "", "Connection", "close", ""}, {"GET", "/v1/files//content", "", "Authorization", "Bearer x", ""},
	} {
		f.Add(s.method, s.path, s.query, s.name, s.value, s.body, false)
		f.Add(s.method, s.path, s.query, s.name, s.value, s.body, true)
	}
	var mu sync.Mutex
	var sent [][]byte
	g, p, end := inMemory(f, func(r *http.Request) (*http.Response, error) {
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			return nil, err
		}
		if r.Header.Get("User-Agent") != "keywright-gateway" {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, b.Bytes())
		}
		return replying(r, "application/json", io.NopCloser(strings.NewReader("{}"))), nil
	})
	f.Cleanup(end)
	key := g.set.Load().entries[0].Value.RevealString()
	token := "kwt_" + rand.Text()
	f.Fuzz(func(t *testing.T, method, path, query, name, value, body string, two bool) {
		if r, _, _ := g.find(method, path); r != nil && !crooked(path) {
			if forbidden(path) && r.kind == "" || path != r.path && !strings.Contains(r.path, "{}") || strings.Contains(path, "..") || strings.Count(path, "/") != strings.Count(r.path, "/") {
				t.Fatalf("%q is served", path)
			}
		}
		if query != "" {
			path += "?" + query
		}
		var answer []byte
		if two {
			answer = overFrames(p, [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "gateway"}, {":path", path}, {"x-api-key", token}, {name, value}}, body)
		} else {
			c := newScript(method + " " + path + " HTTP/1.1\r\nHost: gateway\r\nX-Api-Key: " + token + "\r\n" + name + ": " + value + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
			p.conns <- c
			<-c.closed
			answer = c.out.Bytes()
		}
		if bytes.Contains(answer, []byte(key)) {
			t.Fatal("the caller sees the key")
		}
		mu.Lock()
		defer mu.Unlock()
		got := sent
		sent = nil
		for _, text := range got {
			if bytes.Contains(text, []byte(token)) {
				t.Fatal("the provider sees the caller's token")
			}
			in := bufio.NewReader(bytes.NewReader(text))
			r, err := http.ReadRequest(in)
			if err != nil {
				t.Fatalf("the provider sees no request: %v", err)
			}
			b, err := io.ReadAll(r.Body)
			if _, more := in.ReadByte(); err != nil || more == nil {
				t.Fatalf("the provider sees more than a request (%v)", err)
			}
			if problem := (arrival{r, b, nil}).problem(key); problem != "" || r.Host != "provider" {
				t.Fatalf("the provider sees %s (for %s)", problem, r.Host)
			}
		}
	})
}

// script is a connection of a caller that sends a text, and then takes what comes. For a body of which more is waited for it has left; for net/http,
// which looks for a caller that leaves while a request runs, it has not.
type script struct {
	mu     sync.Mutex
	in     []byte
	out    bytes.Buffer
	wake   *sync.Cond
	past   bool
	done   bool
	closed chan struct{}
}

var _ net.Conn = (*script)(nil)

func newScript(text string) *script {
	s := &script{in: []byte(text), closed: make(chan struct{})}
	s.wake = sync.NewCond(&s.mu)
	return s
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// net/http looks with a single byte.
	for len(p) == 1 && len(s.in) == 0 && !s.done && !s.past {
		s.wake.Wait()
	}
	switch {
	case s.past:
		return 0, os.ErrDeadlineExceeded
	case len(s.in) == 0:
		return 0, io.EOF
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.done = true
		close(s.closed)
		s.wake.Broadcast()
	}
	return nil
}

func (s *script) SetReadDeadline(at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past = !at.IsZero() && at.Before(time.Now())
	s.wake.Broadcast()
	return nil
}

func (s *script) SetDeadline(at time.Time) error   { return s.SetReadDeadline(at) }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
func (s *script) RemoteAddr() net.Addr             { return s.LocalAddr() }

// overFrames makes a request over HTTP/2, and gives all that came until its end.
func overFrames(p *pipes, fields [][2]string, body string) []byte {
	var out, block, in bytes.Buffer
	conn := p.dial()
	out.WriteString(http2.ClientPreface)
	enc, fr := hpack.NewEncoder(&block), http2.NewFramer(&out, io.TeeReader(conn, &in))
	fr.AllowIllegalWrites = true
	for _, f := range fields {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	first := block.Bytes()
	var rest []byte
	if len(first) > 16<<10 {
		first, rest = first[:16<<10], first[16<<10:]
	}
	_ = fr.WriteSettings()
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: len(rest) == 0, EndStream: body == ""})
	for len(rest) > 0 {
		n := min(len(rest), 16<<10)
		_ = fr.WriteContinuation(1, n == len(rest), rest[:n])
		rest = rest[n:]
	}
	for text := body; text != ""; {
		n := min(len(text), 16<<10)
		_ = fr.WriteData(1, n == len(text), []byte(text[:n]))
		text = text[n:]
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = conn.Write(out.Bytes())
	}()
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			break
		}
		h := frame.Header()
		if h.Type == http2.FrameGoAway || h.StreamID == 1 && (h.Type == http2.FrameRSTStream || h.Flags.Has(http2.FlagDataEndStream) && (h.Type == http2.FrameData || h.Type == http2.FrameHeaders)) {
			break
		}
	}
	conn.Close()
	<-written
	return in.Bytes()
}
