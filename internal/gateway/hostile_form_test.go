package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// inner is a request that somebody tries to get past the gateway inside of another one.
const inner = "GET /v1/organizations/me HTTP/1.1\r\nHost: x\r\nX-Api-Key: mine\r\n\r\n"

// form is a request in bytes over HTTP/1.1, and what may come of it.
type form struct {
	name string
	// text has HOST for the right host.
	text string
	// reaches is how many clean requests may reach the provider. With more than none an answer of 200 is right too.
	reaches int
	must    bool // it has to reach
	cut     bool // nothing comes behind it: more is waited for
}

// ends is a request behind which the connection ends. It goes behind each of the others, so that they are not given up on for a caller that left.
const ends = "GET /v1/nowhere HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"

// posting is a request for a message with further lines in its head.
func posting(head, body string) string {
	return "POST /v1/messages HTTP/1.1\r\nHost: HOST\r\n" + head + "\r\n" + body
}

func long(head string) string {
	return posting(fmt.Sprintf("%sContent-Length: %d\r\n", head, len(hello)), hello)
}

func chunked(head, body string) string { return posting("Transfer-Encoding: chunked\r\n"+head, body) }

// inChunk is hello as one chunk, with something behind its size.
func inChunk(behind string) string { return fmt.Sprintf("%x%s\r\n%s\r\n", len(hello), behind, hello) }

func (e *entrance) forms(t *testing.T, forms []form) {
	t.Helper()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			text := f.text
			if !f.cut {
				text += ends
			}
			statuses := e.tell(e.dial(), strings.ReplaceAll(text, "HOST", e.host()), f.cut)
			for _, s := range statuses {
				if !(s >= 400 && s <= 599 || s == http.StatusOK && f.reaches > 0 || s == http.StatusContinue) {
					t.Errorf("answers %v", statuses)
				}
			}
			if n := e.check(t, f.reaches); f.must && n != f.reaches {
				t.Errorf("%d requests reached the provider, want %d", n, f.reaches)
			}
		})
	}
}

// TestHostileSmuggling: what two readers of HTTP/1.1 could take apart in two ways is refused, or goes on as one request of the gateway's own making.
func TestHostileSmuggling(t *testing.T) {
	cases := []form{
		{name: "length and chunks, the rest is a request", text: posting("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+inner)},
		{name: "chunks and length, the rest is a request", text: chunked("Content-Length: 4\r\n", "0\r\n\r\n"+inner)},
		{name: "length and chunks with a body", text: posting("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", inChunk("")+"0\r\n\r\n"), reaches: 1},
		{name: "two lengths", text: posting("Content-Length: 5\r\nContent-Length: 6\r\n", inner)},
		{name: "two equal lengths", text: long(fmt.Sprintf("Content-Length: %d\r\n", len(hello))), reaches: 1},
		{name: "a list of lengths", text: posting("Content-Length: 5, 5\r\n", inner)},
		{name: "a length with a plus", text: posting("Content-Length: +5\r\n", inner)},
		{name: "a length below zero", text: posting("Content-Length: -1\r\n", inner)},
		{name: "a length in hex", text: posting("Content-Length: 0x5\r\n", inner)},
		{name: "a length with a fraction", text: posting("Content-Length: 5.0\r\n", inner)},
		{name: "a length beyond all numbers", text: posting("Content-Length: 18446744073709551621\r\n", inner)},
		{name: "an empty length", text: posting("Content-Length: \r\n", inner)},
		{name: "a length that is too short", text: posting("Content-Length: 5\r\n", hello+inner)},
		{name: "a length behind which a request stands", text: long("") + inner, reaches: 1, must: true},
		{name: "a body that no length tells of", text: posting("", hello+inner)},
		{name: "chunked twice", text: posting("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked twice in a line", text: posting("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked behind another", text: posting("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked before another", text: posting("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"+inner)},
		{name: "identity", text: posting("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "0\r\n\r\n"+inner)},
		{name: "an unknown coding", text: posting("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked with a parameter", text: posting("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked in quotes", text: posting("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked behind a vertical tab", text: posting("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked behind a carriage return", text: posting("Transfer-Encoding: \rchunked\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked on a folded line", text: posting("Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"+inner)},
		{name: "chunked behind a folded line", text: posting("X-A: b\r\n Transfer-Encoding: chunked\r\n", inner)},
		{name: "a blank before the colon", text: posting("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"+inner)},
		{name: "a tab before the colon", text: posting("Content-Length\t: 5\r\n", inner)},
		{name: "a blank before the name", text: "POST /v1/messages HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: HOST\r\n\r\n" + inner},
		{name: "chunked in capitals", text: posting("TRANSFER-ENCODING: CHUNKED\r\n", inChunk("")+"0\r\n\r\n"), reaches: 1, must: true},
		{name: "chunked in HTTP/1.0", text: strings.Replace(chunked("", inChunk("")+"0\r\n\r\n"+inner), "HTTP/1.1", "HTTP/1.0", 1)},
		{name: "an underscore", text: posting("Transfer_Encoding: chunked\r\nContent_Length: 5\r\n", inner)},
		{name: "a chunk with an extension", text: chunked("", inChunk(";a=b")+"0;c=\"d\"\r\n\r\n"), reaches: 1, must: true},
		{name: "an extension with a request", text: chunked("", inChunk(";"+strings.TrimSpace(strings.ReplaceAll(inner, "\r\n", " ")))+"0\r\n\r\n"), reaches: 1},
		{name: "an extension with a line feed", text: chunked("", inChunk(";a\nb")+"0\r\n\r\n"+inner)},
		{name: "an extension with a carriage return", text: chunked("", inChunk(";a\rb")+"0\r\n\r\n"+inner), reaches: 1},
		{name: "long extensions", text: chunked("", strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\n \r\n", 100)+"0\r\n\r\n")},
		{name: "a chunk that ends with a line feed", text: chunked("", fmt.Sprintf("%x\n%s\n0\n\n", len(hello), hello)+inner)},
		{name: "a chunk that ends with nothing", text: chunked("", fmt.Sprintf("%x\r\n%s0\r\n\r\n", len(hello), hello)+inner)},
		{name: "a chunk size with a sign", text: chunked("", "-5\r\n"+inner)},
		{name: "a chunk size with a prefix", text: chunked("", "0x5\r\nabcde\r\n0\r\n\r\n"+inner)},
		{name: "a chunk size beyond all numbers", text: chunked("", "10000000000000005\r\nabcde\r\n0\r\n\r\n"+inner)},
		{name: "a chunk size of many digits", text: chunked("", strings.Repeat("0", 5000)+"\r\n\r\n"+inner)},
		{name: "a chunk size of no digits", text: chunked("", "\r\n"+inner)},
		{name: "a chunk size behind a blank", text: chunked("", " 5\r\nabcde\r\n0\r\n\r\n"+inner)},
		{name: "a trailer that is announced", text: chunked("Trailer: X-Api-Key\r\n", inChunk("")+"0\r\nX-Api-Key: mine\r\n\r\n")},
		{name: "a trailer that is not announced", text: chunked("", inChunk("")+"0\r\nX-Api-Key: mine\r\n\r\n")},
		{name: "a length as a trailer", text: chunked("", inChunk("")+"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"+inner), reaches: 1},
		{name: "trailers that are too long", text: chunked("", inChunk("")+"0\r\n"+strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 100)+"\r\n")},
		{name: "lines that end with a line feed", text: strings.ReplaceAll(long(""), "\r\n", "\n"), reaches: 1},
		{name: "a line feed inside of a line", text: posting("X-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n"+inner)},
		{name: "an upgrade to HTTP/2", text: posting("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n", inner)},
		{name: "an upgrade to a web socket", text: "GET /v1/models HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n" + inner},
		{name: "a compressed body", text: posting("Content-Encoding: gzip\r\nContent-Length: 5\r\n", inner)},
		{name: "a body to be asked for", text: long("Expect: 100-continue\r\n"), reaches: 1, must: true},
		{name: "an expectation that is unknown", text: long("Expect: 200-ok\r\n")},
	}
	t.Run("to HTTP1", func(t *testing.T) { enter(t, false, nil).forms(t, cases) })
	through := slices.DeleteFunc(cases, func(f form) bool { return f.reaches == 0 && !strings.Contains(f.name, "trailer") })
	t.Run("to HTTP2", func(t *testing.T) { enter(t, true, nil).forms(t, through) })
}

// TestHostileRequestLine: only a method, a path and a version make a request, and the path is one that is served.
func TestHostileRequestLine(t *testing.T) {
	e := enter(t, false, nil)
	var cases []form
	for _, line := range []string{
		"GET http://127.0.0.1/v1/models", "GET http://HOST/v1/models", "GET https://api.example.com/v1/organizations", "GET http://HOST/v1/organizations", "GET HTTP://HOST/v1/models",
		"GET //HOST/v1/models", "GET file:///v1/models", "GET http:/v1/models", "GET http:v1/models", "GET *", "CONNECT api.example.com:443", "CONNECT HOST", "CONNECT /v1/models", "TRACE /v1/models",
		"GET v1/models", "GET ", "GET", "GET  /v1/models", "GET\t/v1/models", "GET /v1/models ", "GET /v1/models HTTP/1.1", "GET /v1/models?a b", "GET /v1/models\x00", "GET /v1/models\x7f",
		"get /v1/models", "GET /v1/models\rX-A: b", "G\x00T /v1/models", "PRI *", "PROPFIND /v1/models", "DELETE /v1/models", "PUT /v1/messages", "HEAD /v1/organizations",
	} {
		cases = append(cases, form{name: line, text: line + " HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"})
	}
	for _, version := range []string{"HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/9.9", "HTTP/1.10", "HTTP/1", "http/1.1", "HTTP/1.1 ", "HTTP/-1.1", ""} {
		cases = append(cases, form{name: "version " + version, text: "GET /v1/organizations " + version + "\r\nHost: HOST\r\nConnection: close\r\n\r\n"})
	}
	e.forms(t, append(cases, form{name: "empty lines before it", text: "\r\n\r\n" + long("Connection: close\r\n"), reaches: 1}))

	// net/http answers OPTIONS * by itself, with nothing in it.
	if got := e.tell(e.dial(), "OPTIONS * HTTP/1.1\r\nHost: "+e.host()+"\r\nConnection: close\r\n\r\n", false); len(got) != 1 || got[0] != http.StatusOK {
		t.Errorf("OPTIONS *: %v", got)
	}
	e.check(t, 0)
}

// hostilePaths are ways to spell a path that some server might take for one of the provider's administration.
func hostilePaths() []string {
	paths := []string{"/", "/metrics", "/status", "/debug/pprof", "/v1/messages/batches", "/v1/files", "/v1/skills", "/v1", "/v1/", "/v2/messages", "/V1/models", "/v1/Models", "/v1/models/", "/v1/models/a/b"}
	for _, at := range []string{"organizations", "organizations/api_keys", "compliance/activities", "oauth/token"} {
		paths = append(paths, "/v1/"+at, "/v1/"+at+"/", "/v1/"+strings.ToUpper(at), "/V1/"+at, "/v1//"+at, "//v1/"+at, "/./v1/"+at, "/v1/./"+at, "/v1/"+at+"?x=/v1/models", "/v1/"+at+"#/v1/models",
			"/v1/%6f"+at[1:], "/v1/%6F"+at[1:], "/v1/%256f"+at[1:], "/v1%2f"+at, "/v1%2F"+at, "/v1%252f"+at, "/v1%5c"+at, "/v1\\"+at, "\\v1\\"+at, "/v1/\xc1\xaf"+at[1:], "/v1/%c1%af"+at[1:], "/v1/%c0%af"+at,
			"/v1/%ef%bc%8f"+at, "/v1/%u006f"+at[1:], "/v1/"+at+"%00", "/v1/%00"+at, "/v1/"+at+"%20", "/v1/"+at+".", "/v1/"+at+";x=y", "/v1;x=y/"+at, "/v1/;/"+at, "/v1/"+at+"%0d%0aX-A:%20b")
		for _, from := range []string{"messages", "models", "models/m", "messages/count_tokens"} {
			up := strings.Repeat("../", 1+strings.Count(from, "/"))
			for _, dots := range []string{up, strings.ReplaceAll(up, "/", "%2f"), strings.ReplaceAll(up, "/", "%252f"), strings.ReplaceAll(up, ".", "%2e"), strings.ReplaceAll(up, ".", "%252e"), strings.ReplaceAll(up, "/", "\\"),
				strings.ReplaceAll(up, "/", "%5c"), strings.ReplaceAll(up, "../", "..;/"), strings.ReplaceAll(up, "../", ".%2e/"), strings.ReplaceAll(up, "../", "..%00/"), strings.ReplaceAll(up, "../", ".../"),
				strings.ReplaceAll(up, ".", "%c0%ae"), strings.ReplaceAll(up, ".", "\xc0\xae"), strings.ReplaceAll(up, "../", ".././"), "/" + up, strings.ReplaceAll(up, "../", "..//")} {
				paths = append(paths, "/v1/"+from+"/"+dots+at)
			}
			paths = append(paths, "/v1/"+from+";/../"+at, "/v1/"+from+"%3f/../"+at, "/v1/"+from+"%23/../"+at, "/v1/"+from+"#/../"+at)
		}
	}
	for _, id := range []string{".", "..", "%2e%2e", "..%2forganizations", "a%2f..%2f..%2forganizations", "a..b", "a\\b", "a%00", "a b", "a\tb", "a\"b", "a<b", "a{b", "a|b", "a^b", "a`b", "\xff", "\xc0\xae\xc0\xae", strings.Repeat("a", 129), "a;b", "a,b", "a*b", "a$b", "a(b)", "a'b", "a!b", "a&b", "a=b", "a+b", "a~b", "a[b]", "a#b", "%", "%zz", "%61"} {
		paths = append(paths, "/v1/models/"+id)
	}
	return paths
}

// TestHostilePaths: no way to spell it leads to the provider's administration. All go over few connections, since they are many.
func TestHostilePaths(t *testing.T) {
	e := enter(t, false, nil)
	paths := hostilePaths()
	t.Logf("%d paths", len(paths))
	var c net.Conn
	var answers *bufio.Reader
	for _, method := range []string{"GET", "POST"} {
		for _, path := range paths {
			if c == nil {
				c = e.dial()
				answers = bufio.NewReader(c)
			}
			if _, err := io.WriteString(c, method+" "+path+" HTTP/1.1\r\nHost: "+e.host()+"\r\nContent-Length: 0\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("%s %q: %v", method, path, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if res.StatusCode < 400 || res.StatusCode > 499 {
				t.Errorf("%s %q: %d", method, path, res.StatusCode)
			}
			if res.Close {
				c.Close()
				c = nil
			}
		}
	}
	if c != nil {
		c.Close()
	}
	e.check(t, 0)
}

// TestHostileHeaders: a head with two readings is refused.
func TestHostileHeaders(t *testing.T) {
	var cases []form
	for name, line := range map[string]string{
		"a bare carriage return": "X-A: b\rX-Api-Key: c", "a zero byte in a value": "X-A: b\x00c", "a zero byte in a name": "X-\x00A: b", "a delete": "X-A: b\x7fc", "no colon": "X-A", "no name": ": b", "a blank in a name": "X A: b",
		"a name in UTF-8": "X-\xc3\xa9: b", "a name in brackets": "X(A): b", "a name with a slash": "X/A: b", "a name that is a pseudo header": ":path: /v1/organizations",
		"two hosts": "Host: other", "two equal hosts": "Host: HOST", "the key twice": "X-Api-Key: a\r\nX-Api-Key: b", "authorization twice": "Authorization: Bearer a\r\nAuthorization: Bearer b",
		"content type twice": "Content-Type: application/json\r\nContent-Type: multipart/form-data", "a content type of another kind": "Content-Type: application/x-www-form-urlencoded",
		"an origin": "Origin: http://evil.example", "no origin but one": "Origin: ", "two origins": "Origin: http://a\r\nOrigin: http://b", "of another site": "Sec-Fetch-Site: cross-site",
	} {
		cases = append(cases, form{name: name, text: long(line + "\r\n")})
	}
	for _, host := range []string{"evil.example", "127.0.0.1", "127.0.0.1:1", "", "localhost.evil.example", "[::1]", "HOST:80", "HOST/x", "evil@HOST", "HOST@evil", "HOST evil", "HOST,evil", "HOST\\evil", "evil#HOST", "HOST#", "http://HOST"} {
		cases = append(cases, form{name: "host " + host, text: strings.Replace(long(""), "Host: HOST", "Host: "+host, 1)})
	}
	cases = append(cases, form{name: "no host", text: strings.Replace(long(""), "Host: HOST\r\n", "", 1)},
		form{name: "no host in HTTP/1.0", text: "GET /v1/models HTTP/1.0\r\n\r\n"},
		form{name: "large", text: long("X-A: " + strings.Repeat("a", 80<<10) + "\r\n")},
		form{name: "a large name", text: long(strings.Repeat("a", 80<<10) + ": b\r\n")},
		form{name: "many", text: long(strings.Repeat("X-A: b\r\n", 20_000))},
		form{name: "a large path", text: "GET /v1/models/" + strings.Repeat("a", 80<<10) + " HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		form{name: "a large query", text: "GET /v1/models?" + strings.Repeat("a", 80<<10) + " HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		form{name: "a body that is too large", text: posting("Content-Length: 33554433\r\n", "{")},
		form{name: "a body where none is served", text: "GET /v1/models HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nabc"})
	enter(t, false, nil).forms(t, cases)
}

// TestHostileInjection: headers that are let in neither take the key away nor set another one, nor reach a server that reads names loosely.
func TestHostileInjection(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		e := enter(t, http2, nil)
		var cases []form
		for name, lines := range map[string][]string{
			"headers that the connection takes away": {"Connection: x-api-key, anthropic-version, host, content-length", "Connection: keep-alive"},
			"a key of its own":                       {"x-API-key: mine"},
			"a bearer of its own":                    {"AUTHORIZATION: Bearer mine"},
			"a key with underscores":                 {"X_Api_Key: mine", "x_api-key: mine", "Anthropic_Workspace_Id: mine"},
			"another address":                        {"X-Original-URL: /v1/organizations", "X-Rewrite-URL: /v1/organizations", "X-HTTP-Method-Override: DELETE", "X-Forwarded-Prefix: /v1/organizations"},
			"another host":                           {"X-Forwarded-Host: evil.example", "Forwarded: host=evil.example", "X-Forwarded-For: 10.0.0.1", "Via: 1.1 evil", "X-Real-IP: 10.0.0.1"},
			"of one hop":                             {"Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers", "Proxy-Authorization: Basic eDp5", "Connection: TE"},
			"a workspace":                            {"anthropic-workspace-id: wrkspc_other"},
			"a cookie":                               {"Cookie: a=b", "Cookie: c=d"},
			"a folded line":                          {"X-A: b\r\n X-Api-Key: mine"},
		} {
			cases = append(cases, form{name: name, text: long(strings.Join(lines, "\r\n") + "\r\n"), reaches: 1, must: true})
		}
		e.forms(t, cases)
	}
}
