package simulator

import (
	"net"
	"net/url"
	"slices"
	"time"
)

// actor is who did something, in the shape of the activity feed.
type actor struct {
	Type          string `json:"type"`
	UserID        string `json:"user_id,omitempty"`
	EmailAddress  string `json:"email_address,omitempty"`
	AdminAPIKeyID string `json:"admin_api_key_id,omitempty"`
	APIKeyID      string `json:"api_key_id,omitempty"`
	IPAddress     string `json:"ip_address,omitempty"`
	UserAgent     string `json:"user_agent,omitempty"`
}

// id is what the actor_ids filter matches.
func (a actor) id() string { return a.UserID + a.AdminAPIKeyID + a.APIKeyID }

type change struct {
	Type     string `json:"type"`
	Previous string `json:"previous_value"`
	Current  string `json:"current_value"`
}

// activity is one entry of the feed. At most one of the object ids is set.
type activity struct {
	ID             string    `json:"id"`
	Type           string    `json:"type"`
	CreatedAt      time.Time `json:"created_at"`
	OrganizationID string    `json:"organization_id"`
	Actor          actor     `json:"actor"`
	APIKeyID       string    `json:"api_key_id,omitempty"`
	AdminKeyID     string    `json:"admin_api_key_id,omitempty"`
	WorkspaceID    string    `json:"workspace_id,omitempty"`
	Updates        []change  `json:"updates,omitempty"`
}

// note appends to the feed. The caller holds the lock.
func (s *Simulator) note(now time.Time, a activity) {
	a.ID, a.CreatedAt, a.OrganizationID = s.id("activity_"), now, s.orgID
	s.activities = append(s.activities, a)
}

// actorConsole is the Console's own person. The caller holds the lock.
func (s *Simulator) actorConsole(agent string) actor {
	a := actor{Type: "user_actor", UserID: s.consoleBy, UserAgent: masked(agent)}
	if u := s.user(s.consoleBy); u != nil {
		a.EmailAddress = u.Email
	}
	return a
}

func actorAPI(c *call) actor {
	a := actor{Type: "admin_api_key_actor", UserAgent: masked(c.r.UserAgent())}
	if host, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		a.IPAddress = host
	}
	if c.who.key != nil {
		a.Type, a.APIKeyID = "api_actor", c.who.keyID
	} else {
		a.AdminAPIKeyID = c.who.keyID
	}
	return a
}

func (s *Simulator) listActivities(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "after_id", "before_id", "activity_types[]", "exclude_activity_types[]", "actor_ids[]",
		"organization_ids[]", "created_at.gte", "created_at.gt", "created_at.lte", "created_at.lt")
	if fail != nil {
		return reply{}, fail
	}
	within, fail := timeRange(q)
	if fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := c.now.Add(-s.opts.ActivityLag)
	var all []activity
	for _, a := range slices.Backward(s.activities) {
		if a.CreatedAt.After(fresh) || !within(a.CreatedAt) ||
			q.Has("activity_types[]") && !slices.Contains(q["activity_types[]"], a.Type) ||
			slices.Contains(q["exclude_activity_types[]"], a.Type) ||
			q.Has("actor_ids[]") && !slices.Contains(q["actor_ids[]"], a.Actor.id()) ||
			q.Has("organization_ids[]") && !slices.Contains(q["organization_ids[]"], a.OrganizationID) {
			continue
		}
		all = append(all, a)
	}
	page, fail := cursorPage(q, all, func(a activity) string { return a.ID }, 100, 5000)
	return reply{json: page}, fail
}

// timeRange reads the four created_at filters.
func timeRange(q url.Values) (func(time.Time) bool, *apiError) {
	type bound struct {
		at time.Time
		ok func(t, at time.Time) bool
	}
	var bounds []bound
	for name, ok := range map[string]func(t, at time.Time) bool{
		"created_at.gte": func(t, at time.Time) bool { return !t.Before(at) },
		"created_at.gt":  time.Time.After,
		"created_at.lte": func(t, at time.Time) bool { return !t.After(at) },
		"created_at.lt":  time.Time.Before,
	} {
		if !q.Has(name) {
			continue
		}
		at, err := time.Parse(time.RFC3339, q.Get(name))
		if err != nil {
			return nil, invalid(name + ": must be an RFC 3339 time")
		}
		bounds = append(bounds, bound{at, ok})
	}
	return func(t time.Time) bool {
		for _, b := range bounds {
			if !b.ok(t, b.at) {
				return false
			}
		}
		return true
	}, nil
}
