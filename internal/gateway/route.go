package gateway

import (
	"net/http"
	"strings"

	"github.com/keywright/keywright/internal/fault"
)

// route is one path of the provider that is served. Paths match exactly; nothing below a route is served unless listed.
type route struct {
	name    string // for grants and labels
	method  string
	path    string
	item    bool // one more segment follows, an id
	limit   int64
	inspect bool // the body is a message request
	stream  bool // may answer with a stream of events
}

const messageLimit = 32 << 20

// routing gives the routes by "METHOD path". Those with an id stand under the path with a trailing slash.
func routing(allow []string) (map[string]*route, error) {
	routes := map[string]*route{}
	for _, r := range []*route{
		{name: "messages", method: http.MethodPost, path: "/v1/messages", limit: messageLimit, inspect: true, stream: true},
		{name: "count_tokens", method: http.MethodPost, path: "/v1/messages/count_tokens", limit: messageLimit, inspect: true},
		{name: "models", method: http.MethodGet, path: "/v1/models"},
		{name: "models", method: http.MethodGet, path: "/v1/models/", item: true},
	} {
		routes[r.method+" "+r.path] = r
	}
	for _, line := range allow {
		method, path, ok := strings.Cut(line, " ")
		bad := func(what string) error {
			return fault.New(fault.Invalid, "read allowed route: "+what, fault.Hint(`write it as "POST /v1/path"`))
		}
		switch {
		case !ok || !strings.HasPrefix(path, "/v1/") || len(path) == len("/v1/") || strings.HasSuffix(path, "/") || crooked(path) || strings.ContainsAny(path, "?#"):
			return nil, bad("it is no method and plain path under /v1/")
		case method != http.MethodGet && method != http.MethodPost:
			return nil, bad("the method is neither GET nor POST")
		case forbidden(path):
			return nil, bad("the provider's administration is never served")
		case routes[line] != nil:
			return nil, bad("it is served already")
		}
		routes[line] = &route{name: "allowed", method: method, path: path, limit: messageLimit}
	}
	return routes, nil
}

// forbidden are the paths that no configuration opens: administration, compliance, exchange of identities; and those whose objects belong
// to somebody, which the gateway does not track.
func forbidden(path string) bool {
	for _, p := range []string{"/v1/organizations", "/v1/compliance", "/v1/oauth", "/v1/messages/batches", "/v1/files", "/v1/skills"} {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

// crooked reports whether a raw path could mean another one to somebody else.
func crooked(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
		return true
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c <= ' ' || c >= 0x7f, c == '%', c == '\\', c == ';', c == '"', c == '<', c == '>', c == '^', c == '`', c == '{', c == '|', c == '}':
			return true
		case c == '.' && i > 0 && path[i-1] == '/' && (i+1 == len(path) || path[i+1] == '/' || path[i+1] == '.'):
			return true
		case c == '.' && i > 0 && path[i-1] == '.':
			return true
		}
	}
	return false
}

// find gives the route of a request, and the path to send. Without a route, known says that another method has one.
func (g *Gateway) find(method, path string) (r *route, known bool) {
	routes := g.rules.Load().routes
	if r := routes[method+" "+path]; r != nil && !r.item {
		return r, true
	}
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		if r := routes[method+" "+path[:i+1]]; r != nil && r.item && plainID(path[i+1:]) {
			return r, true
		}
	}
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		if r := routes[m+" "+path]; r != nil && !r.item {
			return nil, true
		}
	}
	return nil, false
}

// plainID reports whether s has the characters of the provider's ids alone.
func plainID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == ':', c == '@':
		case c == '.' && i > 0 && s[i-1] != '.':
		default:
			return false
		}
	}
	return true
}
