package simulator

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The values of anthropic-version that the simulator knows.
const (
	Version20230601 = "2023-06-01"
	Version20261021 = "2026-10-21"
)

func checkVersion(v string) *apiError {
	switch v {
	case Version20230601, Version20261021:
		return nil
	case "":
		return invalid("anthropic-version: header is required")
	default:
		return invalid("anthropic-version: is not a valid version")
	}
}

// identity is who makes a call. keyID is also set for a key that is refused,
// so that the provider log can name it.
type identity struct {
	keyID     string
	workspace string // the workspace that the call acts in; empty for admin
	admin     bool
	key       *key
}

// presented returns the value of a request: x-api-key, else the bearer.
func presented(h http.Header) string {
	if v := h.Get("x-api-key"); v != "" {
		return v
	}
	scheme, v, _ := strings.Cut(h.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(v)
	}
	return ""
}

// authenticate finds who calls and whether the route is open to them. The
// caller holds the lock.
func (s *Simulator) authenticate(r *http.Request, need access, now time.Time) (identity, *apiError) {
	value := presented(r.Header)
	if value == "" {
		return identity{}, unauthenticated("x-api-key header is required")
	}
	d := sha256.Sum256([]byte(value))
	if a := s.adminBy[d]; a != nil {
		who := identity{keyID: a.ID, admin: true}
		if a.Revoked || need != byAdmin {
			return who, unauthenticated("invalid x-api-key")
		}
		return who, nil
	}
	k := s.byDigest[d]
	if k == nil {
		return identity{}, unauthenticated("invalid x-api-key")
	}
	who := identity{keyID: k.ID, workspace: k.Workspace, key: k}
	if !k.accepted(now) || s.principalGone(k) {
		return who, unauthenticated("invalid x-api-key")
	}
	if r.Header.Get("Origin") != "" && r.Header.Get("anthropic-dangerous-direct-browser-access") != "true" {
		return who, unauthenticated("CORS requests must set the 'anthropic-dangerous-direct-browser-access' header")
	}
	if k.ClaudeCode && s.user(k.CreatedBy) == nil {
		return who, invalid("the creator of this Claude Code key is not a member").code("claude_code_key_creator_not_member")
	}
	if need == byAdmin {
		u := s.user(k.Principal.ID)
		if k.Workspace != "" || u == nil || u.Role != "admin" {
			return who, forbidden("an Admin API key is required for this endpoint")
		}
		who.admin = true
		return who, nil
	}
	chosen := r.Header.Get("anthropic-workspace-id")
	switch {
	case chosen == "":
		if who.workspace == "" {
			who.workspace = s.defaultWS
		}
	case k.Workspace != "" && chosen != k.Workspace:
		return who, invalid("anthropic-workspace-id: does not match the workspace of the API key")
	default:
		w := s.workspace(chosen)
		if w == nil || !w.ArchivedAt.IsZero() {
			return who, invalid("anthropic-workspace-id: workspace not found")
		}
		who.workspace = chosen
	}
	return who, nil
}

// principalGone reports whether the user whom a personal key acts as was removed.
func (s *Simulator) principalGone(k *key) bool {
	return k.Principal.Kind == PrincipalUser && s.user(k.Principal.ID) == nil
}

func (s *Simulator) user(id string) *user {
	i := slices.IndexFunc(s.users, func(u *user) bool { return u.ID == id })
	if i < 0 {
		return nil
	}
	return s.users[i]
}
