package vault_test

import (
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// imitation answers as Vault 1.21 does in all that suite asks for; the suite has run against both.
type imitation struct {
	mu         sync.Mutex
	root, open string
	sealed     bool
	stores     map[string]string           // version by mount
	logins     map[string]string           // type by mount
	kept       map[string][]map[string]any // versions by path; nil is a deleted one
	policies   map[string][]string         // paths that may be read, by name
	tokens     map[string]issued
	roles      map[string]*role // by MOUNT/NAME
	authority  any              // the public key of JWTs
	made       int

	status     map[string]int // of every answer to a path, instead of the right one
	renewal    int            // seconds that a renewal gives, when set
	namespaces []string       // that calls named, in order
}

type issued struct {
	policies []string
	mount    string // of the login
	seconds  int
}

type role struct {
	id, audience string
	policies     []string
	seconds      int
	secrets      map[string]bool
	free         bool // needs no secret id
}

func (s *imitation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces = append(s.namespaces, r.Header.Get("X-Vault-Namespace"))
	status, answer := s.status[strings.TrimPrefix(r.URL.Path, "/v1/")], any(nil)
	if status == 0 {
		status, answer = s.answer(r)
	}
	if status == http.StatusTemporaryRedirect {
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
	}
	w.WriteHeader(status)
	if status == http.StatusOK {
		_ = json.NewEncoder(w).Encode(answer)
	} else if status >= http.StatusBadRequest {
		_, _ = w.Write([]byte(`{"errors":["foreign text that must not be shown"]}`))
	}
}

// parameters of every call that the imitation knows.
type parameters struct {
	Key, Type, Policy, Token, JWT, TTL string
	Options                            struct{ Version string }
	Data                               map[string]any
	Policies                           []string
	TokenPolicies                      []string `json:"token_policies"`
	TokenTTL                           string   `json:"token_ttl"`
	Bind                               string   `json:"bind_secret_id"`
	RoleID                             string   `json:"role_id"`
	SecretID                           string   `json:"secret_id"`
	Role                               string
	Audiences                          []string `json:"bound_audiences"`
	PublicKeys                         []string `json:"jwt_validation_pubkeys"`
}

func (s *imitation) name(prefix string) string {
	s.made++
	return prefix + rand.Text()
}

func (s *imitation) answer(r *http.Request) (int, any) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	var in parameters
	var whole map[string]any
	if text, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(text, &in) != nil || json.Unmarshal(text, &whole) != nil {
		whole = nil // a call without a body
	}
	switch {
	case path == "sys/init" && s.root == "":
		s.root, s.open, s.sealed = s.name("root-"), s.name("open-"), true
		return http.StatusOK, map[string]any{"keys_base64": []string{s.open}, "root_token": s.root}
	case path == "sys/unseal" && in.Key == s.open:
		s.sealed = false
		return http.StatusOK, map[string]any{"sealed": false}
	case s.sealed || s.root == "":
		return http.StatusServiceUnavailable, nil
	case strings.HasPrefix(path, "auth/") && strings.HasSuffix(path, "/login"):
		return s.login(strings.TrimSuffix(strings.TrimPrefix(path, "auth/"), "/login"), in)
	}
	token := r.Header.Get("X-Vault-Token")
	held, ok := s.tokens[token]
	switch {
	case token == s.root:
		return s.administer(r.Method, path, in, whole)
	case !ok || r.Header.Get("X-Vault-Request") != "true":
		return http.StatusForbidden, nil
	case path == "auth/token/renew-self" && r.Method == http.MethodPost:
		return granted(token, cmp.Or(s.renewal, held.seconds))
	case r.Method != http.MethodGet:
		return http.StatusForbidden, nil
	case strings.HasPrefix(path, "sys/internal/ui/mounts/"):
		name := strings.TrimPrefix(path, "sys/internal/ui/mounts/")
		for mount, version := range s.stores {
			if strings.HasPrefix(name, mount+"/") && s.into(held, mount) {
				return http.StatusOK, map[string]any{"data": map[string]any{"path": mount + "/", "type": "kv", "options": map[string]string{"version": version}}}
			}
		}
		return http.StatusForbidden, nil
	case !s.may(held, path):
		return http.StatusForbidden, nil
	}
	return s.read(path)
}

// into reports whether a token may read anything at all in a store.
func (s *imitation) into(t issued, mount string) bool {
	for _, name := range t.policies {
		for _, pattern := range s.policies[name] {
			if strings.HasPrefix(pattern, mount+"/") {
				return true
			}
		}
	}
	return false
}

func (s *imitation) may(t issued, path string) bool {
	for _, name := range t.policies {
		for _, pattern := range s.policies[name] {
			if prefix, below := strings.CutSuffix(pattern, "*"); path == pattern || below && strings.HasPrefix(path, prefix) {
				return true
			}
		}
	}
	return false
}

func (s *imitation) read(path string) (int, any) {
	versions := s.kept[path]
	if len(versions) == 0 || versions[len(versions)-1] == nil {
		return http.StatusNotFound, nil
	}
	data := versions[len(versions)-1]
	if strings.Contains(path, "/data/") {
		return http.StatusOK, map[string]any{"data": map[string]any{"data": data, "metadata": map[string]any{"version": len(versions), "created_time": time.Unix(int64(1_700_000_000+s.made), int64(len(versions))).UTC()}}}
	}
	return http.StatusOK, map[string]any{"data": data}
}

func granted(token string, seconds int) (int, any) {
	return http.StatusOK, map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": seconds, "renewable": true}}
}

func seconds(text string) int {
	d, _ := time.ParseDuration(text)
	return int(d / time.Second)
}

var pathsOfPolicy = regexp.MustCompile(`path "([^"]+)"`)

func (s *imitation) administer(method, path string, in parameters, whole map[string]any) (int, any) {
	const done = http.StatusNoContent
	rest := func(prefix string) string { return strings.TrimPrefix(path, prefix) }
	switch {
	case path == "sys/seal":
		s.sealed = true
	case strings.HasPrefix(path, "sys/mounts/"):
		s.stores[rest("sys/mounts/")] = in.Options.Version
	case strings.HasPrefix(path, "sys/auth/"):
		s.logins[rest("sys/auth/")] = in.Type
	case strings.HasPrefix(path, "sys/policies/acl/"):
		var paths []string
		for _, m := range pathsOfPolicy.FindAllStringSubmatch(in.Policy, -1) {
			paths = append(paths, m[1])
		}
		s.policies[rest("sys/policies/acl/")] = paths
	case path == "auth/token/create":
		token := s.name("token-")
		s.tokens[token] = issued{policies: in.Policies, seconds: seconds(in.TTL)}
		return granted(token, seconds(in.TTL))
	case path == "auth/token/revoke":
		delete(s.tokens, in.Token)
	case strings.HasPrefix(path, "sys/leases/revoke-prefix/auth/"):
		mount := strings.TrimSuffix(rest("sys/leases/revoke-prefix/auth/"), "/login")
		for token, t := range s.tokens {
			if t.mount == mount {
				delete(s.tokens, token)
			}
		}
	case strings.HasSuffix(path, "/config"):
		block, _ := pem.Decode([]byte(strings.Join(in.PublicKeys, "")))
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return http.StatusBadRequest, nil
		}
		s.authority = key
	case strings.HasPrefix(path, "auth/") && strings.Contains(path, "/role/"):
		mount, name, _ := strings.Cut(rest("auth/"), "/role/")
		name, part, _ := strings.Cut(name, "/")
		have := s.roles[mount+"/"+name]
		if have == nil {
			have = &role{id: s.name("role-"), secrets: map[string]bool{}}
			s.roles[mount+"/"+name] = have
		}
		switch part {
		case "":
			have.policies, have.seconds, have.free, have.audience = in.TokenPolicies, seconds(in.TokenTTL), in.Bind == "false", strings.Join(in.Audiences, "")
		case "role-id":
			return http.StatusOK, map[string]any{"data": map[string]any{"role_id": have.id}}
		case "secret-id":
			id := s.name("secret-")
			have.secrets[id] = true
			return http.StatusOK, map[string]any{"data": map[string]any{"secret_id": id}}
		case "secret-id/destroy":
			delete(have.secrets, in.SecretID)
		}
	case strings.Contains(path, "/data/") && method == http.MethodDelete:
		s.kept[path] = append(s.kept[path], nil)
	case strings.Contains(path, "/data/"):
		s.made++
		s.kept[path] = append(s.kept[path], in.Data)
	default:
		s.kept[path] = []map[string]any{whole}
	}
	return done, nil
}

// login is AppRole's, or that of the methods with a JWT.
func (s *imitation) login(mount string, in parameters) (int, any) {
	var found *role
	switch s.logins[mount] {
	case "approle":
		for name, r := range s.roles {
			if strings.HasPrefix(name, mount+"/") && r.id == in.RoleID && (r.free || r.secrets[in.SecretID]) {
				found = r
			}
		}
	case "jwt", "kubernetes":
		r := s.roles[mount+"/"+in.Role]
		token, err := jwt.ParseSigned(in.JWT, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil || r == nil {
			break
		}
		var claims jwt.Claims
		if token.Claims(s.authority, &claims) == nil && claims.Validate(jwt.Expected{AnyAudience: jwt.Audience{r.audience}, Time: time.Now()}) == nil {
			found = r
		}
	default:
		return http.StatusForbidden, nil
	}
	if found == nil {
		return http.StatusBadRequest, nil
	}
	token := s.name("token-")
	s.tokens[token] = issued{policies: found.policies, mount: mount, seconds: found.seconds}
	return granted(token, found.seconds)
}

func imitate(t *testing.T) (*imitation, string) {
	t.Helper()
	s := &imitation{
		status: map[string]int{}, stores: map[string]string{}, logins: map[string]string{}, kept: map[string][]map[string]any{}, policies: map[string][]string{}, tokens: map[string]issued{}, roles: map[string]*role{},
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL
}

func TestSuite(t *testing.T) {
	_, address := imitate(t)
	suite(t, address)
}
