package simulator

import (
	_ "embed"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

//go:embed console.html
var consolePage string

//go:embed console.css
var consoleStyle string

type consoleView struct {
	Organization string
	Default      string
	Workspaces   []Workspace
	Keys         []consoleKey
	Created      string // name of the key just made
	Value        string // shown once, in the reply to its creation
	Problem      string
}

type consoleKey struct {
	Key
	WorkspaceName, Kind, Expires, Made string
	Actions                            []consoleAction
}

type consoleAction struct{ Status, Label string }

// console serves the page where a person makes and retires keys. It answers
// only under loopback names (and Options.Hosts), so that a foreign web page
// cannot reach it by rebinding a name, and refuses cross-origin posts.
func (s *Simulator) console() http.Handler {
	page := template.Must(template.New("console").Parse(consolePage))
	mux := http.NewServeMux()
	show := func(w http.ResponseWriter, status int, v consoleView) {
		s.fillConsole(&v)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		if err := page.Execute(w, v); err != nil {
			s.log.Error("render console", "error", err)
		}
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/console", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /console", func(w http.ResponseWriter, _ *http.Request) { show(w, http.StatusOK, consoleView{}) })
	mux.HandleFunc("GET /console/style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write([]byte(consoleStyle))
	})
	mux.HandleFunc("POST /console/keys", func(w http.ResponseWriter, r *http.Request) {
		v, status := s.consoleCreate(r)
		show(w, status, v)
	})
	mux.HandleFunc("POST /console/keys/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := s.SetStatus(r.PathValue("id"), r.PostFormValue("status")); err != nil {
			show(w, http.StatusBadRequest, consoleView{Problem: err.Error()})
			return
		}
		http.Redirect(w, r, "/console", http.StatusSeeOther)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "This is a simulation. The page does not exist; try /console.", http.StatusNotFound)
	})
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "This is a simulation. The simulated Console refuses requests of other pages.", http.StatusForbidden)
	}))
	guarded := protection.Handler(http.MaxBytesHandler(mux, 64<<10))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !s.knownHost(r.Host) {
			http.Error(w, "This is a simulation. The simulated Console answers only under a loopback address.", http.StatusForbidden)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

func (s *Simulator) knownHost(hostport string) bool {
	u, err := url.Parse("//" + hostport)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(s.opts.Hosts, host)
}

// lifetimes are the expiry presets of the Console.
func lifetimes() map[string]time.Duration {
	return map[string]time.Duration{"never": 0, "3h": 3 * time.Hour, "1d": 24 * time.Hour, "7d": 7 * 24 * time.Hour, "30d": 30 * 24 * time.Hour}
}

func (s *Simulator) consoleCreate(r *http.Request) (consoleView, int) {
	c := CreateKey{Name: strings.TrimSpace(r.PostFormValue("name")), Workspace: r.PostFormValue("workspace")}
	switch r.PostFormValue("kind") {
	case "", "workspace":
	case "personal":
		c.Principal.Kind = PrincipalUser
	case "service":
		c.Principal.Kind = PrincipalServiceAccount
	default:
		return consoleView{Problem: "Unknown kind of key."}, http.StatusBadRequest
	}
	life := r.PostFormValue("expires")
	if life == "" {
		life = "never"
	}
	d, ok := lifetimes()[life]
	if !ok {
		return consoleView{Problem: "Unknown expiry."}, http.StatusBadRequest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d > 0 {
		c.ExpiresAt = s.now().Add(d)
	}
	k, value, fail := s.createKey(c, s.actorConsole(r.UserAgent()))
	if fail != nil {
		return consoleView{Problem: "The key was not made: " + fail.message + "."}, http.StatusBadRequest
	}
	return consoleView{Created: k.Name, Value: value}, http.StatusOK
}

func (s *Simulator) fillConsole(v *consoleView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	v.Organization, v.Default = s.orgName+" ("+s.orgID+")", s.defaultWS
	names := map[string]string{"": "any (chosen per request)"}
	for _, w := range s.workspaces {
		names[w.ID] = w.Name
		if w.ArchivedAt.IsZero() {
			v.Workspaces = append(v.Workspaces, w.public())
		}
	}
	for _, k := range slices.Backward(s.keys) {
		ck := consoleKey{Key: k.public(now), WorkspaceName: names[k.Workspace], Kind: "workspace", Expires: "never", Made: k.CreatedAt.Format(time.RFC3339)}
		switch k.Principal.Kind {
		case PrincipalUser:
			ck.Kind = "personal"
		case PrincipalServiceAccount:
			ck.Kind = "service account"
		}
		if !k.ExpiresAt.IsZero() {
			ck.Expires = k.ExpiresAt.Format(time.RFC3339)
		}
		switch ck.Status {
		case StatusActive:
			ck.Actions = []consoleAction{{StatusInactive, "Disable"}, {StatusArchived, "Archive"}}
		case StatusInactive:
			ck.Actions = []consoleAction{{StatusActive, "Enable"}, {StatusArchived, "Archive"}}
		case StatusExpired:
			ck.Actions = []consoleAction{{StatusArchived, "Archive"}}
		}
		v.Keys = append(v.Keys, ck)
	}
}
