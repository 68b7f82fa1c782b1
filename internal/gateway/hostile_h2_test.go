package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/keywright/keywright/internal/secret/secrettest"
)

// frames is a caller that speaks HTTP/2 frame by frame, and may break every rule.
type frames struct {
	t    *testing.T
	e    *entrance
	c    net.Conn
	out  bytes.Buffer // what is not yet sent
	fr   *http2.Framer
	enc  *hpack.Encoder
	head bytes.Buffer
	in   bytes.Buffer // all that came
}

// frames opens a connection with TLS and says hello.
func (e *entrance) frames(t *testing.T, settings ...http2.Setting) *frames {
	t.Helper()
	f := &frames{t: t, e: e, c: e.dial("h2")}
	t.Cleanup(func() { f.c.Close() })
	f.out.WriteString(http2.ClientPreface)
	f.fr = http2.NewFramer(&f.out, io.TeeReader(f.c, &f.in))
	f.fr.AllowIllegalWrites = true
	f.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.head)
	f.must(f.fr.WriteSettings(settings...))
	return f
}

func (f *frames) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// block encodes names and values in turn. HOST in a value is the right host.
func (f *frames) block(fields ...string) []byte {
	f.head.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		f.must(f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: strings.ReplaceAll(fields[i+1], "HOST", f.e.tls)}))
	}
	return bytes.Clone(f.head.Bytes())
}

// send begins a request with these fields.
func (f *frames) send(stream uint32, end bool, fields ...string) {
	f.t.Helper()
	f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block(fields...), EndStream: end, EndHeaders: true}))
}

// outcome is how a stream ended, or the connection: then stream is 0.
type outcome struct {
	stream uint32
	status int
	reset  http2.ErrCode // of the stream, or of the connection
	ended  bool          // the connection
}

// wait sends what is written and reads until the stream or the connection has ended.
func (f *frames) wait(stream uint32) outcome {
	f.t.Helper()
	written := make(chan struct{})
	text := bytes.Clone(f.out.Bytes())
	f.out.Reset()
	go func() {
		defer close(written)
		_, _ = f.c.Write(text)
	}()
	defer func() {
		_ = f.c.(*tls.Conn).NetConn().Close() // the other one waits for what is being written
		<-written
		secrettest.NoLeak(f.t, "answer", f.in.Bytes(), f.e.values...)
	}()
	o := outcome{stream: stream}
	for {
		frame, err := f.fr.ReadFrame()
		if err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				f.t.Fatal("the gateway neither answered nor ended the connection")
			}
			o.ended = true
			return o
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			o.reset, o.ended = frame.ErrCode, frame.ErrCode != http2.ErrCodeNo
			if o.ended {
				return o
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				o.reset = frame.ErrCode
				return o
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamID == stream {
				o.status, _ = strconv.Atoi(frame.PseudoValue("status"))
			}
		}
		if h := frame.Header(); h.StreamID == stream && h.Flags.Has(http2.FlagDataEndStream) && (h.Type == http2.FrameData || h.Type == http2.FrameHeaders) {
			return o
		}
	}
}

// post are the pseudo headers of a request for a message.
func post(more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "https", ":authority", "HOST", ":path", "/v1/messages"}, more...)
}

func get(path string, more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", "HOST", ":path", path}, more...)
}

// twisted is a request over HTTP/2 that is wrong in one way.
type twisted struct {
	name    string
	fields  []string
	body    string // with a body, the headers do not end the stream
	after   []string
	reaches int
	must    bool
}

func (e *entrance) twist(t *testing.T, cases []twisted) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := e.frames(t)
			f.send(1, c.body == "" && c.after == nil, c.fields...)
			if c.body != "" {
				f.must(f.fr.WriteData(1, c.after == nil, []byte(c.body)))
			}
			if c.after != nil {
				f.send(1, true, c.after...)
			}
			o := f.wait(1)
			if fine := o.status == http.StatusOK && o.reset == 0 && c.reaches > 0; !fine && (o.status < 400 || o.status > 599) && o.reset == 0 && !o.ended {
				t.Errorf("%+v", o)
			}
			if n := e.check(t, c.reaches); c.must && (n != c.reaches || o.status != http.StatusOK) {
				t.Errorf("%d requests reached the provider, want %d (%+v)", n, c.reaches, o)
			}
		})
	}
}

// TestHostileHTTP2Fields: what no field of a request may say.
func TestHostileHTTP2Fields(t *testing.T) {
	length := strconv.Itoa(len(hello))
	without := func(name string) []string {
		all := post("content-type", "application/json")
		i := slices.Index(all, name)
		return slices.Delete(all, i, i+2)
	}
	with := func(name, value string) []string {
		all := post()
		all[slices.Index(all, name)+1] = value
		return all
	}
	cases := []twisted{
		{name: "right", fields: post("content-length", length), body: hello, reaches: 1, must: true},
		{name: "no method", fields: without(":method"), body: hello},
		{name: "no path", fields: without(":path"), body: hello},
		{name: "no scheme", fields: without(":scheme"), body: hello},
		{name: "no authority", fields: without(":authority"), body: hello},
		{name: "two methods", fields: append([]string{":method", "GET"}, post()...), body: hello},
		{name: "two paths", fields: append([]string{":path", "/v1/organizations"}, post()...), body: hello},
		{name: "two paths, the other behind", fields: post(":path", "/v1/organizations"), body: hello},
		{name: "two authorities", fields: append([]string{":authority", "evil.example"}, post()...), body: hello},
		{name: "an unknown pseudo field", fields: append([]string{":x", "y"}, post()...), body: hello},
		{name: "a status", fields: append([]string{":status", "200"}, post()...), body: hello},
		{name: "a pseudo field behind a field", fields: append([]string{"x-a", "b"}, post()...), body: hello},
		{name: "a protocol", fields: append([]string{":protocol", "websocket"}, post()...), body: hello},
		{name: "an empty method", fields: with(":method", ""), body: hello},
		{name: "a method with a line", fields: with(":method", "POST /v1/organizations HTTP/1.1\r\nX-A:"), body: hello},
		{name: "connect", fields: []string{":method", "CONNECT", ":authority", "api.example.com:443"}},
		{name: "connect to the gateway", fields: []string{":method", "CONNECT", ":authority", "HOST"}},
		{name: "connect with a path", fields: with(":method", "CONNECT"), body: hello},
		{name: "connect to a web socket", fields: append([]string{":protocol", "websocket"}, with(":method", "CONNECT")...)},
		{name: "trace", fields: with(":method", "TRACE")},
		{name: "the beginning of HTTP/2", fields: []string{":method", "PRI", ":scheme", "https", ":authority", "HOST", ":path", "*"}},
		{name: "scheme file", fields: with(":scheme", "file"), body: hello, reaches: 1},
		{name: "scheme with an address", fields: with(":scheme", "https://evil.example/v1/organizations?"), body: hello, reaches: 1},
		{name: "another authority", fields: with(":authority", "evil.example"), body: hello},
		{name: "an authority with a user", fields: with(":authority", "evil@HOST"), body: hello},
		{name: "an authority with a path", fields: with(":authority", "HOST/x"), body: hello},
		{name: "another host beside the authority", fields: post("host", "evil.example"), body: hello, reaches: 1},
		{name: "another authority beside the host", fields: append(with(":authority", "evil.example"), "host", "HOST"), body: hello},
		{name: "another host without an authority", fields: append(without(":authority"), "host", "evil.example"), body: hello},
		{name: "a name in capitals", fields: post("X-Api-Key", "mine"), body: hello},
		{name: "an empty name", fields: post("", "b"), body: hello},
		{name: "a name with a blank", fields: post("x a", "b"), body: hello},
		{name: "a name with a colon", fields: post("x:a", "b"), body: hello},
		{name: "a name with a line", fields: post("x-a: b\r\nx-api-key", "mine"), body: hello},
		{name: "a name with a zero byte", fields: post("x-\x00a", "b"), body: hello},
		{name: "a value with a line", fields: post("x-a", "b\r\nx-api-key: mine"), body: hello},
		{name: "a value with a line feed", fields: post("x-a", "b\nx-api-key: mine"), body: hello},
		{name: "a value with a zero byte", fields: post("x-a", "b\x00c"), body: hello},
		{name: "connection", fields: post("connection", "close"), body: hello},
		{name: "connection that takes the key away", fields: post("connection", "x-api-key"), body: hello},
		{name: "keep alive", fields: post("keep-alive", "timeout=5"), body: hello},
		{name: "proxy connection", fields: post("proxy-connection", "keep-alive"), body: hello},
		{name: "transfer encoding", fields: post("transfer-encoding", "chunked"), body: "0\r\n\r\n" + inner},
		{name: "upgrade", fields: post("upgrade", "h2c"), body: hello},
		{name: "te", fields: post("te", "gzip"), body: hello},
		{name: "te for trailers", fields: post("te", "trailers"), body: hello, reaches: 1, must: true},
		{name: "settings of HTTP/2", fields: post("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"), body: hello, reaches: 1},
		{name: "a length that is too long", fields: post("content-length", "1000"), body: hello},
		{name: "a length that is too short", fields: post("content-length", "5"), body: hello},
		{name: "a length without a body", fields: post("content-length", length)},
		{name: "no number for a length", fields: post("content-length", "+"+length), body: hello},
		{name: "two lengths", fields: post("content-length", length, "content-length", "5"), body: hello, reaches: 1},
		{name: "a list of lengths", fields: post("content-length", length+", "+length), body: hello},
		{name: "the key twice", fields: post("x-api-key", "a", "x-api-key", "b"), body: hello},
		{name: "a key with underscores", fields: post("x_api_key", "mine"), body: hello, reaches: 1, must: true},
		{name: "many cookies", fields: post("cookie", "a=b", "cookie", "c=d"), body: hello, reaches: 1, must: true},
		{name: "a trailer that is announced", fields: post("trailer", "x-api-key"), body: hello, after: []string{"x-api-key", "mine"}},
		{name: "a trailer that is not announced", fields: post(), body: hello, after: []string{"x-api-key", "mine", "x-a", "b"}, reaches: 1},
		{name: "a pseudo field as a trailer", fields: post(), body: hello, after: []string{":path", "/v1/organizations"}, reaches: 1},
		{name: "large", fields: post("x-a", strings.Repeat("a", 80<<10)), body: hello},
		{name: "many", fields: post(slices.Repeat([]string{"x-a", "b"}, 20_000)...), body: hello},
	}
	for _, path := range []string{
		"", "*", "v1/messages", "https://HOST/v1/messages", "https://HOST/v1/organizations", "http://evil.example/v1/messages", "//HOST/v1/messages", "HOST/v1/messages", "?x=y", "#", "/", "/v1/messages/../organizations",
		"/v1/messages#/../organizations", "/v1/messages HTTP/1.1", "/v1/messages\r\nx-api-key: mine", "/v1/messages\x00", "/v1/messages\t", "/v1\\messages", "/v1/messages;x", "/v1/%6dessages", "/v1/messages/",
	} {
		cases = append(cases, twisted{name: "path " + path, fields: with(":path", path), body: hello})
	}
	for _, query := range []string{" HTTP/1.1", "a b", "a HTTP/1.1\r\nX-Api-Key: mine\r\nX-A:", "a\tb", "a\x00", "\x7f", "\xff", "a#b", "a\nb"} {
		cases = append(cases, twisted{name: "query " + query, fields: with(":path", "/v1/messages?"+query), body: hello})
	}
	t.Run("to HTTP2", func(t *testing.T) { enter(t, true, nil).twist(t, cases) })
	through := slices.DeleteFunc(cases, func(c twisted) bool { return c.reaches == 0 && !strings.HasPrefix(c.name, "query ") })
	t.Run("to HTTP1", func(t *testing.T) { enter(t, false, nil).twist(t, through) })
}

// TestHostileHTTP2Paths: no path over HTTP/2 leads to the provider's administration either.
func TestHostileHTTP2Paths(t *testing.T) {
	e := enter(t, true, nil)
	for some := range slices.Chunk(hostilePaths(), 100) {
		f := e.frames(t)
		id := uint32(1)
		for _, path := range some {
			f.send(id, true, get(path)...)
			id += 2
		}
		f.send(id, true, get("/v1/nowhere")...)
		if o := f.wait(id); o.status != http.StatusNotFound {
			t.Errorf("%+v behind %q", o, some[0])
		}
	}
	e.check(t, 0)
}

// TestHostileHTTP2Frames: frames that break the rules, or come in numbers that keep a server busy.
func TestHostileHTTP2Frames(t *testing.T) {
	e := enter(t, true, nil)
	good := func(f *frames, id uint32) outcome {
		f.send(id, false, post()...)
		f.must(f.fr.WriteData(id, true, []byte(hello)))
		return f.wait(id)
	}
	for _, c := range []struct {
		name    string
		do      func(f *frames) outcome
		reaches int
		served  bool // the last request is, on the same connection
	}{
		{"continuation without headers", func(f *frames) outcome {
			f.must(f.fr.WriteContinuation(1, true, f.block(post()...)))
			return f.wait(1)
		}, 0, false},
		{"another frame between headers", func(f *frames) outcome {
			f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(post()...), EndStream: true}))
			f.must(f.fr.WritePing(false, [8]byte{}))
			return f.wait(1)
		}, 0, false},
		{"headers that never end", func(f *frames) outcome {
			f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(post()...), EndStream: true}))
			for range 1000 {
				f.must(f.fr.WriteContinuation(1, false, f.block("x-a", strings.Repeat("a", 1000))))
			}
			return f.wait(1)
		}, 0, false},
		{"empty continuations that never end", func(f *frames) outcome {
			f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(post()...), EndStream: true}))
			for range 20_000 {
				f.must(f.fr.WriteContinuation(1, false, nil))
			}
			f.must(f.fr.WriteContinuation(1, true, f.block("x-a", "b")))
			return f.wait(1)
		}, 0, false},
		{"headers that grow when they are read", func(f *frames) outcome {
			// One long field goes into the table, and is then named in one byte each.
			block := append(f.block(append(post(), "x-a", strings.Repeat("a", 3900))...), bytes.Repeat([]byte{0x80 | 62}, 12_000)...)
			f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}))
			return f.wait(1)
		}, 0, false},
		{"a field that is in no table", func(f *frames) outcome {
			f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: append(f.block(post()...), 0x80|120), EndStream: true, EndHeaders: true}))
			return f.wait(1)
		}, 0, false},
		{"a table of any size", func(f *frames) outcome {
			f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: append([]byte{0x3f, 0xff, 0xff, 0xff, 0x7f}, f.block(post()...)...), EndStream: true, EndHeaders: true}))
			return f.wait(1)
		}, 0, false},
		{"names without a letter", func(f *frames) outcome {
			block := append(f.block(post()...), bytes.Repeat([]byte{0x00, 0x00, 0x00}, 4000)...)
			f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}))
			return f.wait(1)
		}, 0, false},
		{"rapid reset", func(f *frames) outcome {
			for i := range uint32(1500) {
				f.send(1+2*i, false, post()...)
				f.must(f.fr.WriteData(1+2*i, true, []byte(hello)))
				f.must(f.fr.WriteRSTStream(1+2*i, http2.ErrCodeCancel))
			}
			return good(f, 2*1500+1)
		}, 1501, false},
		{"resets of what a server would reset", func(f *frames) outcome {
			// Each of these makes the other side reset the stream (CVE-2025-8671).
			for i := range uint32(1500) {
				f.send(1+2*i, false, post()...)
				f.must(f.fr.WriteWindowUpdate(1+2*i, 0))
			}
			return good(f, 2*1500+1)
		}, 1, false},
		{"many pings", func(f *frames) outcome {
			for range 5000 {
				f.must(f.fr.WritePing(false, [8]byte{1}))
			}
			return good(f, 1)
		}, 1, true},
		{"many settings", func(f *frames) outcome {
			for range 5000 {
				f.must(f.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535}))
			}
			return good(f, 1)
		}, 1, true},
		{"many empty pieces of a body", func(f *frames) outcome {
			f.send(1, false, post()...)
			for range 5000 {
				f.must(f.fr.WriteData(1, false, nil))
			}
			f.must(f.fr.WriteData(1, true, []byte(hello)))
			return f.wait(1)
		}, 1, true},
		{"many priorities", func(f *frames) outcome {
			for i := range uint32(5000) {
				f.must(f.fr.WritePriority(1+2*i, http2.PriorityParam{StreamDep: 0, Weight: 1}))
			}
			return good(f, 10_001)
		}, 1, true},
		{"a frame of an unknown kind", func(f *frames) outcome {
			f.must(f.fr.WriteRawFrame(0x7f, 0, 0, []byte("x")))
			return good(f, 1)
		}, 1, true},
		{"settings that are false", func(f *frames) outcome {
			f.must(f.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}))
			return good(f, 1)
		}, 1, false},
		{"a window beyond all numbers", func(f *frames) outcome {
			f.must(f.fr.WriteWindowUpdate(0, 1<<31-1))
			return good(f, 1)
		}, 1, false},
		{"a promise of a caller", func(f *frames) outcome {
			f.must(f.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: f.block(post()...), EndHeaders: true}))
			return f.wait(1)
		}, 0, false},
		{"a stream of the other side", func(f *frames) outcome {
			f.send(2, true, get("/v1/models")...)
			return f.wait(2)
		}, 0, false},
		{"a stream that was passed by", func(f *frames) outcome {
			f.send(5, true, get("/v1/nowhere")...)
			f.send(3, true, get("/v1/models")...)
			return f.wait(3)
		}, 0, false},
		{"a stream that depends on itself", func(f *frames) outcome {
			f.must(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(get("/v1/models")...), EndStream: true, EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 1}}))
			return f.wait(1)
		}, 0, false},
		{"headers twice", func(f *frames) outcome {
			f.send(1, false, post()...)
			f.send(1, false, get("/v1/organizations")...)
			return f.wait(1)
		}, 0, false},
		{"a body behind the end", func(f *frames) outcome {
			f.send(1, true, post()...)
			f.must(f.fr.WriteData(1, true, []byte(hello)))
			return f.wait(1)
		}, 0, false},
		{"a body of no stream", func(f *frames) outcome {
			f.must(f.fr.WriteData(1, true, []byte(hello)))
			return f.wait(1)
		}, 0, false},
		{"a frame that is too large", func(f *frames) outcome {
			f.send(1, false, post()...)
			f.must(f.fr.WriteData(1, true, make([]byte, 2<<20)))
			return f.wait(1)
		}, 0, false},
		{"a frame shorter than it says", func(f *frames) outcome {
			f.must(f.fr.WriteRawFrame(http2.FramePing, 0, 0, []byte("short")))
			return f.wait(1)
		}, 0, false},
		{"padding longer than the frame", func(f *frames) outcome {
			f.must(f.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, append([]byte{255}, f.block(get("/v1/models")...)...)))
			return f.wait(1)
		}, 0, false},
		{"more bytes than the windows take", func(f *frames) outcome {
			f.send(1, false, post()...)
			for i := range 200 {
				f.must(f.fr.WriteData(1, i == 199, make([]byte, 16<<10)))
			}
			return f.wait(1)
		}, 0, false},
		{"no frames", func(f *frames) outcome {
			f.out.Reset()
			f.out.WriteString("GET /v1/models HTTP/1.1\r\nHost: " + f.e.tls + "\r\n\r\n")
			return f.wait(1)
		}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := e.frames(t)
			o := c.do(f)
			if c.served && (o.status != http.StatusOK || o.ended) {
				t.Errorf("the request is not served: %+v", o)
			}
			if !c.served && !o.ended && o.reset == 0 && o.status < 400 && (o.status != http.StatusOK || c.reaches == 0) {
				t.Errorf("%+v", o)
			}
			e.check(t, c.reaches)
		})
	}
	e.up.mu.Lock()
	defer e.up.mu.Unlock()
	if e.up.most > 250 {
		t.Errorf("%d requests reached the provider at one time", e.up.most)
	}
}

// TestHostilePlainHTTP2: the plain listener speaks HTTP/1.1 alone.
func TestHostilePlainHTTP2(t *testing.T) {
	e := enter(t, true, nil)
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&out, nil)
	if err := errors.Join(fr.WriteSettings(), fr.WritePing(false, [8]byte{1})); err != nil {
		t.Fatal(err)
	}
	for _, s := range e.tell(e.dial(), out.String(), true) {
		if s < 400 {
			t.Errorf("HTTP/2 without an upgrade: %d", s)
		}
	}
	e.check(t, 0)
	text := fmt.Sprintf("GET /v1/models HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: %s\r\n\r\n", e.host(), "AAMAAABkAAQAoAAAAAIAAAAA")
	if got := e.tell(e.dial(), text+out.String(), true); len(got) == 0 || got[0] != http.StatusBadRequest {
		t.Errorf("an upgrade: %v", got)
	}
	e.check(t, 0)
}
