// Package api is the daemon's HTTP interface on a Unix socket: other users of the host see rotations and say yes to them here, each known by the
// credentials of the connection. It never handles a value and decides nothing. app serves it; cli is its client.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// Backend is what the interface needs from the assembly.
type Backend interface {
	// Rotations lists rotations, newest first.
	List(ctx context.Context, active bool) ([]rotation.Row, error)
	// Show gives a rotation as its JSON form for screens.
	Show(ctx context.Context, id string) (any, error)
	// SignalAs says something to a rotation in the name of a user of this host.
	SignalAs(ctx context.Context, who Person, id string, s rotation.Signal, d rotation.SignalData) error
	// StatusOf gives the status of all keys in its JSON form.
	StatusOf(ctx context.Context) (any, error)
}

// Person is a user of this host, as the system vouches for it.
type Person struct {
	UID  int
	Name string // "user@host"
}

// maxBody bounds a request.
const maxBody = 64 << 10

// Problem is the body of every refusal.
type Problem struct {
	Kind  string `json:"kind"`
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// SignalRequest is the body of POST /v1/rotations/{id}/signal.
type SignalRequest struct {
	Signal  rotation.Signal `json:"signal"`
	Subject string          `json:"subject,omitempty"`
	Note    string          `json:"note,omitempty"`
}

// Route is a resource that another package answers, in the form of this interface: the value as JSON, or a Problem.
type Route struct {
	Pattern string // of http.ServeMux
	Answer  func(r *http.Request) (any, error)
}

// Routes answers routes alone, for a listener that knows its callers by other means than a socket does. Web pages are refused.
func Routes(routes ...Route) http.Handler {
	mux := http.NewServeMux()
	mount(mux, routes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if web(r) {
			reply(w, nil, fault.New(fault.Forbidden, "read request: only programs are served"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func mount(mux *http.ServeMux, routes []Route) {
	for _, route := range routes {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := route.Answer(r)
			reply(w, v, err)
		})
	}
}

// PersonOf gives who is at the other end of the socket that a request came through; ok is false elsewhere.
func PersonOf(ctx context.Context) (who Person, ok bool) {
	who, ok = ctx.Value(personKey{}).(Person)
	return who, ok
}

// Handler gives the routes, and those of others. Requests without credentials of a peer are refused, since only the socket provides them.
func Handler(b Backend, more ...Route) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]string{"status": "ok"}, nil) })
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		v, err := b.StatusOf(r.Context())
		reply(w, v, err)
	})
	mux.HandleFunc("GET /v1/rotations", func(w http.ResponseWriter, r *http.Request) {
		rows, err := b.List(r.Context(), r.URL.Query().Get("active") == "true")
		reply(w, map[string]any{"rotations": rows}, err)
	})
	mux.HandleFunc("GET /v1/rotations/{id}", func(w http.ResponseWriter, r *http.Request) {
		v, err := b.Show(r.Context(), r.PathValue("id"))
		reply(w, v, err)
	})
	mux.HandleFunc("POST /v1/rotations/{id}/signal", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]string{"status": "written down"}, signal(b, r))
	})
	mount(mux, more)
	return guard(mux)
}

func signal(b Backend, r *http.Request) error {
	var in SignalRequest
	dec := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return fault.New(fault.Invalid, "read request: it is not the JSON object that was expected")
	}
	switch in.Signal {
	case rotation.SignalApprove, rotation.SignalPause, rotation.SignalResume, rotation.SignalCancel, rotation.SignalSign:
	default:
		return fault.New(fault.Invalid, fmt.Sprintf("read request: unknown signal %q", in.Signal))
	}
	who, _ := r.Context().Value(personKey{}).(Person)
	return b.SignalAs(r.Context(), who, r.PathValue("id"), in.Signal, rotation.SignalData{Subject: audit.Clean(in.Subject), Note: audit.Clean(in.Note)})
}

type personKey struct{}

// guard refuses what does not come from a known user of this host, and what a web page could send.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, known := r.Context().Value(personKey{}).(Person)
		if !known || web(r) {
			reply(w, nil, fault.New(fault.Forbidden, "read request: only programs of users of this host are served"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// web reports whether a browser sent the request.
func web(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
}

// statuses maps kinds to HTTP statuses; it is the only such mapping.
var statuses = map[fault.Kind]int{
	fault.Invalid: http.StatusBadRequest, fault.Unsupported: http.StatusBadRequest, fault.Unauthenticated: http.StatusBadGateway, fault.Forbidden: http.StatusForbidden,
	fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict, fault.RateLimited: http.StatusTooManyRequests, fault.Unavailable: http.StatusServiceUnavailable,
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err != nil {
		status, ok := statuses[fault.KindOf(err)]
		if !ok {
			status = http.StatusInternalServerError
		}
		w.WriteHeader(status)
		v = Problem{Kind: fault.KindOf(err).String(), Error: audit.Clean(err.Error()), Hint: audit.Clean(fault.HintOf(err))}
	}
	// An error here means that the peer left; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// Listen opens the socket at path with mode 0600, or 0660 for a group when one is named. A socket that nobody listens on is replaced; one that
// answers is a Conflict.
func Listen(ctx context.Context, path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fault.Wrap(fault.Forbidden, err, "make directory of the socket")
	}
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close() // it was opened to see whether anybody answers
		return nil, fault.New(fault.Conflict, fmt.Sprintf("listen on %q: another keywright serve is running", path))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.Wrap(fault.Forbidden, err, "remove the old socket")
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "listen on socket", fault.Hint("a socket path has at most about 100 characters: choose a shorter --socket"))
	}
	if err := admit(path, group); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func admit(path, group string) error {
	if group == "" {
		return os.Chmod(path, 0o600)
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return fault.New(fault.NotFound, fmt.Sprintf("give the socket to group %q: there is no such group", group))
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "read group id")
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fault.Wrap(fault.Forbidden, err, "give the socket to group "+group)
	}
	return os.Chmod(path, 0o660) //nolint:gosec // the group was named by the operator
}

// Server gives an HTTP server that knows the user behind each connection of a Unix socket.
func Server(b Backend, more ...Route) *http.Server {
	return &http.Server{
		Handler: Handler(b, more...), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			uid, err := peerUID(conn)
			if err != nil {
				return ctx
			}
			return context.WithValue(ctx, personKey{}, Person{UID: uid, Name: nameOf(uid)})
		},
	}
}

func nameOf(uid int) string {
	name := fmt.Sprint(uid)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
