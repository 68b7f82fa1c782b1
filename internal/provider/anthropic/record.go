package anthropic

import (
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/keywright/keywright/internal/provider"
)

// actor is who made a key or whom it acts as, in all the forms that the API was seen to use.
type actor struct {
	Type             string `json:"type"`
	ID               string `json:"id"`
	UserID           string `json:"user_id"`
	ServiceAccountID string `json:"service_account_id"`
}

func (a *actor) id() string {
	if a == nil {
		return ""
	}
	for _, id := range []string{a.ID, a.UserID, a.ServiceAccountID} {
		if id != "" {
			return word(id, idPattern)
		}
	}
	return ""
}

// principal gives user, service_account, another word of the provider's, or "" for a key that acts for nobody. A principal of an
// unfamiliar sort must not read as none, since keys of persons are refused in production.
func (a *actor) principal() string {
	switch {
	case a == nil:
		return ""
	case a.Type == "user_actor", a.Type == "user", a.Type == "" && a.UserID != "":
		return "user"
	case a.Type == "service_account_actor", a.Type == "service_account", a.Type == "" && a.ServiceAccountID != "":
		return "service_account"
	}
	return word(a.Type, wordPattern)
}

// parseKey reads a key object of version 2026-10-21, or of 2023-06-01 with workspace_id in place of scope.
func parseKey(raw string) (provider.Key, error) {
	var o struct {
		ID        string     `json:"id"`
		Name      string     `json:"name"`
		Status    string     `json:"status"`
		Hint      *string    `json:"partial_key_hint"`
		CreatedAt time.Time  `json:"created_at"`
		ExpiresAt *time.Time `json:"expires_at"`
		CreatedBy *actor     `json:"created_by"`
		Principal *actor     `json:"principal"`
		Scope     *struct {
			WorkspaceID string `json:"workspace_id"`
		} `json:"scope"`
		WorkspaceID *string `json:"workspace_id"`
	}
	if json.Unmarshal([]byte(raw), &o) != nil || !idPattern().MatchString(o.ID) || o.Status == "" {
		return provider.Key{}, strange(false)
	}
	k := provider.Key{
		ID: o.ID, Name: clean(o.Name), Status: provider.Status(word(o.Status, wordPattern)), CreatedAt: o.CreatedAt.UTC(),
		CreatedBy: o.CreatedBy.id(), Principal: o.Principal.principal(),
	}
	if o.Hint != nil {
		k.Hint = provider.NewHint(*o.Hint)
	}
	if o.ExpiresAt != nil {
		k.ExpiresAt = o.ExpiresAt.UTC()
	}
	switch {
	case o.Scope != nil && o.Scope.WorkspaceID != "":
		k.Workspace = word(o.Scope.WorkspaceID, workspacePattern)
	case o.Scope == nil && o.WorkspaceID != nil:
		k.Workspace = word(*o.WorkspaceID, workspacePattern)
	}
	return k, nil
}

// word gives s when the pattern fits it, else the word "unfamiliar".
func word(s string, pattern func() *regexp.Regexp) string {
	if pattern().MatchString(s) && !keyShaped().MatchString(s) {
		return s
	}
	return "unfamiliar"
}

// keyShaped finds what may be a value, or the beginning of one, in a name that a person chose.
var keyShaped = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`sk-` + `ant-[A-Za-z0-9_-]+`) })

const maxName = 200

// clean makes a name that a person chose fit to be shown: no control or formatting characters, nothing key-shaped, at most 200
// characters.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	name = keyShaped().ReplaceAllString(name, "[key]")
	if runes := []rune(name); len(runes) > maxName {
		name = string(runes[:maxName]) + "…"
	}
	return name
}
