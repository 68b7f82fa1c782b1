package anthropic

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
)

// entry is one entry of the activity feed. Fields that are not read here are ignored.
type entry struct {
	ID            string    `json:"id"`
	Type          string    `json:"type"`
	CreatedAt     time.Time `json:"created_at"`
	APIKeyID      string    `json:"api_key_id"`
	AdminAPIKeyID string    `json:"admin_api_key_id"`
	Actor         struct {
		Type             string `json:"type"`
		ID               string `json:"id"`
		Email            string `json:"email_address"`
		UserID           string `json:"user_id"`
		AdminAPIKeyID    string `json:"admin_api_key_id"`
		APIKeyID         string `json:"api_key_id"`
		ServiceAccountID string `json:"service_account_id"`
	} `json:"actor"`
	Updates []struct {
		Type     string `json:"type"`
		Previous any    `json:"previous_value"`
		Current  any    `json:"current_value"`
	} `json:"updates"`
}

// Activities gives the changes to keys of every sort, and of the workspaces that end with their keys, since a time: oldest first. Entries
// of unfamiliar types are kept when their type names a key. The feed is about a minute late. It must be enabled for the organization;
// otherwise the error is Forbidden or NotFound with a hint.
func (a *Admin) Activities(ctx context.Context, since time.Time) ([]provider.Activity, error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}, "created_at.gte": {since.UTC().Format(time.RFC3339Nano)}}
	var out []provider.Activity
	known := map[string]bool{}
	cursors := map[string]bool{}
	for range maxPages {
		var page struct {
			Data    *[]entry `json:"data"`
			HasMore *bool    `json:"has_more"`
			LastID  string   `json:"last_id"`
		}
		if _, err := a.get(ctx, "/v1/compliance/activities", query, &page); err != nil {
			var opts []fault.Option
			if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.NotFound) {
				opts = append(opts, fault.Hint("enable the Compliance API for the organization in the Console, or do without the activity feed"))
			}
			return nil, fault.In(err, "read activity feed", opts...)
		}
		if page.Data == nil || page.HasMore == nil {
			return nil, fault.In(strange(false), "read activity feed")
		}
		for _, e := range *page.Data {
			if !idPattern().MatchString(e.ID) || e.CreatedAt.IsZero() {
				return nil, fault.In(strange(false), "read activity feed")
			}
			if !known[e.ID] && e.aboutKeys() && !e.CreatedAt.Before(since) {
				known[e.ID] = true
				out = append(out, e.activity())
			}
		}
		if !*page.HasMore {
			slices.Reverse(out)
			slices.SortStableFunc(out, func(a, b provider.Activity) int { return a.At.Compare(b.At) })
			return out, nil
		}
		if page.LastID == "" || cursors[page.LastID] || len(*page.Data) == 0 {
			break
		}
		cursors[page.LastID] = true
		query.Set("after_id", page.LastID)
	}
	return nil, fault.New(fault.Unavailable, "read activity feed: the provider says there is more, and does not give it")
}

func (e entry) aboutKeys() bool {
	return strings.Contains(e.Type, "key") || e.Type == "platform_workspace_archived"
}

var emailPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,128}$`) })

func (e entry) activity() provider.Activity {
	act := provider.Activity{ID: e.ID, At: e.CreatedAt.UTC(), Type: word(e.Type, wordPattern), Actor: word(e.Actor.Type, wordPattern)}
	for _, id := range []string{e.APIKeyID, e.AdminAPIKeyID} {
		if id != "" {
			act.KeyID = word(id, idPattern)
			break
		}
	}
	switch ids := []string{e.Actor.UserID, e.Actor.AdminAPIKeyID, e.Actor.APIKeyID, e.Actor.ServiceAccountID, e.Actor.ID}; {
	case emailPattern().MatchString(e.Actor.Email) && !keyShaped().MatchString(e.Actor.Email):
		act.Actor += " " + e.Actor.Email
	default:
		if i := slices.IndexFunc(ids, func(id string) bool { return id != "" }); i >= 0 {
			act.Actor += " " + word(ids[i], idPattern)
		}
	}
	for _, u := range e.Updates {
		change := word(u.Type, wordPattern)
		// Statuses and workspaces are words of the provider; a name is a person's and stays out.
		if u.Type == "status" || u.Type == "workspace" {
			change += ": " + value(u.Previous) + " to " + value(u.Current)
		}
		act.Changes = append(act.Changes, change)
	}
	return act
}

func value(v any) string {
	s, ok := v.(string)
	if !ok || s == "" {
		return "none"
	}
	return word(s, idPattern)
}
