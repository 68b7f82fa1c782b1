package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/object"
)

// route is one path of the provider that is served. Paths match exactly; nothing below a route is served unless listed.
type route struct {
	name    string // for grants and labels
	method  string
	path    string // each {} is a segment that is an id
	limit   int64
	inspect bool // the body is a message request, or a batch of them
	stream  bool // may answer with a stream of events
	form    bool // the body is a multipart form

	// kind is what the first id of the path names, or what the route makes or lists; empty for what belongs to nobody.
	kind string
	does deed
}

// deed is what a route does with its objects.
type deed uint8

const (
	doesNothing deed = iota
	doesMake         // the answer is a new object
	doesList
	doesShow   // the answer is the object
	doesRead   // the answer is of the object, such as its content
	doesChange // the answer is the object, or a part of it, changed
	doesDelete // the answer says that the object is gone
	doesPrune  // the answer says that a part of the object is gone
)

// once reports whether a request must not be repeated unless the provider cannot have acted on it.
func (r *route) once() bool {
	return r.does == doesMake || r.does == doesChange && r.form || r.does == doesDelete || r.does == doesPrune
}

// The largest bodies that the provider takes. It does not say how large a skill may be; its messages are the measure.
const (
	messageLimit = 32 << 20
	batchLimit   = 256 << 20
	fileLimit    = 500 << 20
	formMargin   = 1 << 20 // what a form adds to its file
)

// routeTable finds a route: those without an id by "METHOD path", the others by their pattern.
type routeTable struct {
	exact    map[string]*route
	patterns []*route
}

func (t *routeTable) add(r *route) {
	if strings.Contains(r.path, "{}") {
		t.patterns = append(t.patterns, r)
		return
	}
	t.exact[r.method+" "+r.path] = r
}

// granted are the routes that an application may call only when it is given them by name: their objects outlive a request.
func granted(name string) bool { return name == "batches" || name == "files" || name == "skills" }

// Granting is an App that may call what every application may, and the routes of these names besides: batches, files, skills. The error is of
// kind Invalid.
func Granting(names []string) (App, error) {
	if len(names) == 0 {
		return App{}, nil
	}
	a := App{Routes: []string{"messages", "count_tokens", "models", "allowed"}}
	for _, n := range names {
		if !granted(n) {
			return App{}, fault.New(fault.Invalid, fmt.Sprintf("grant routes: %q is none that is granted", n), fault.Hint("there are batches, files and skills"))
		}
		a.Routes = append(a.Routes, n)
	}
	return a, nil
}

// routing gives the routes.
func routing(allow []string) (*routeTable, error) {
	const get, post, remove = http.MethodGet, http.MethodPost, http.MethodDelete
	const batch, file, skill = "/v1/messages/batches/{}", "/v1/files/{}", "/v1/skills/{}"
	routes := &routeTable{exact: map[string]*route{}}
	for _, r := range []*route{
		{name: "messages", method: post, path: "/v1/messages", limit: messageLimit, inspect: true, stream: true},
		{name: "count_tokens", method: post, path: "/v1/messages/count_tokens", limit: messageLimit, inspect: true},
		{name: "models", method: get, path: "/v1/models"},
		{name: "models", method: get, path: "/v1/models/{}"},

		{name: "batches", method: post, path: "/v1/messages/batches", limit: batchLimit, inspect: true, kind: object.Batch, does: doesMake},
		{name: "batches", method: get, path: "/v1/messages/batches", kind: object.Batch, does: doesList},
		{name: "batches", method: get, path: batch, kind: object.Batch, does: doesShow},
		{name: "batches", method: post, path: batch + "/cancel", limit: 64 << 10, kind: object.Batch, does: doesChange},
		{name: "batches", method: get, path: batch + "/results", kind: object.Batch, does: doesRead},
		{name: "batches", method: remove, path: batch, kind: object.Batch, does: doesDelete},

		{name: "files", method: post, path: "/v1/files", limit: fileLimit + formMargin, form: true, kind: object.File, does: doesMake},
		{name: "files", method: get, path: "/v1/files", kind: object.File, does: doesList},
		{name: "files", method: get, path: file, kind: object.File, does: doesShow},
		{name: "files", method: get, path: file + "/content", kind: object.File, does: doesRead},
		{name: "files", method: remove, path: file, kind: object.File, does: doesDelete},

		{name: "skills", method: post, path: "/v1/skills", limit: messageLimit, form: true, kind: object.Skill, does: doesMake},
		{name: "skills", method: get, path: "/v1/skills", kind: object.Skill, does: doesList},
		{name: "skills", method: get, path: skill, kind: object.Skill, does: doesShow},
		{name: "skills", method: remove, path: skill, kind: object.Skill, does: doesDelete},
		{name: "skills", method: post, path: skill + "/versions", limit: messageLimit, form: true, kind: object.Skill, does: doesChange},
		{name: "skills", method: get, path: skill + "/versions", kind: object.Skill, does: doesRead},
		{name: "skills", method: get, path: skill + "/versions/{}", kind: object.Skill, does: doesRead},
		{name: "skills", method: get, path: skill + "/versions/{}/content", kind: object.Skill, does: doesRead},
		{name: "skills", method: remove, path: skill + "/versions/{}", kind: object.Skill, does: doesPrune},
	} {
		routes.add(r)
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
		case routes.exact[line] != nil:
			return nil, bad("it is served already")
		}
		routes.exact[line] = &route{name: "allowed", method: method, path: path, limit: messageLimit}
	}
	return routes, nil
}

// forbidden are the paths that no configuration opens: administration, compliance, exchange of identities; and those whose objects belong
// to somebody, of which the routes above are all.
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

// crookedQuery reports whether a raw query has what would end it, or its line, for somebody else: HTTP/2 lets it through.
func crookedQuery(query string) bool {
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return true
		}
	}
	return false
}

// find gives the route of a request, and the first id in its path. Without a route, known says that another method has one.
func (g *Gateway) find(method, path string) (r *route, id string, known bool) {
	routes := g.rules.Load().routes
	if r := routes.exact[method+" "+path]; r != nil {
		return r, "", true
	}
	for _, r := range routes.patterns {
		if first, ok := fits(r.path, path); ok {
			if r.method == method {
				return r, first, true
			}
			known = true
		}
	}
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		known = known || routes.exact[m+" "+path] != nil
	}
	return nil, "", known
}

// fits reports whether a path is of a pattern, and gives its first id. Every id has the characters of the provider's ids alone.
func fits(pattern, path string) (first string, ok bool) {
	for {
		before, rest, more := strings.Cut(pattern, "{}")
		if !more {
			return first, path == pattern
		}
		if path, ok = strings.CutPrefix(path, before); !ok {
			return "", false
		}
		id := path
		if i := strings.IndexByte(path, '/'); i >= 0 {
			id = path[:i]
		}
		if !object.PlainID(id) {
			return "", false
		}
		if first == "" {
			first = id
		}
		path, pattern = path[len(id):], rest
	}
}
