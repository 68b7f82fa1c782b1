package simulator

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// usageKey says who used what in which second of the simulated clock.
type usageKey struct {
	Second    int64  `json:"second"`
	KeyID     string `json:"key_id"`
	Workspace string `json:"workspace"`
	Model     string `json:"model"`
	Tier      string `json:"tier"`
}

type usageSum struct {
	Requests int64 `json:"requests"`
	Input    int64 `json:"input"`
	Output   int64 `json:"output"`
}

// Usage is consumption to be added to the reports by AddUsage.
type Usage struct {
	At time.Time
	// KeyID is an apikey_ id; empty is usage without a key.
	KeyID string
	// Workspace is empty for the default one.
	Workspace string
	// Model is empty for claude-haiku-5-5.
	Model                               string
	Requests, InputTokens, OutputTokens int64
}

// AddUsage adds consumption that no call of this process caused, for example
// that of an application elsewhere or of the past.
func (s *Simulator) AddUsage(u Usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spend(usageKey{
		Second: u.At.Unix(), KeyID: u.KeyID, Workspace: cmp.Or(u.Workspace, s.defaultWS),
		Model: cmp.Or(u.Model, "claude-haiku-5-5"), Tier: "standard",
	}, usageSum{Requests: u.Requests, Input: u.InputTokens, Output: u.OutputTokens})
}

// SetUsageLag changes how far the usage reports are behind the clock.
func (s *Simulator) SetUsageLag(lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usageLag = lag
}

// FreezeUsage stops the reports at their present state, as when the
// provider's pipeline stalls; UnfreezeUsage lets them catch up.
func (s *Simulator) FreezeUsage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozenAt = s.refreshed(s.now())
}

// UnfreezeUsage undoes FreezeUsage.
func (s *Simulator) UnfreezeUsage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozenAt = time.Time{}
}

// RequestsOf returns how many billed requests a key has made, without lag.
func (s *Simulator) RequestsOf(keyID string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(s.now())
	var n int64
	for k, v := range s.usage {
		if k.KeyID == keyID {
			n += v.Requests
		}
	}
	return n
}

// spend adds to the usage. The caller holds the lock.
func (s *Simulator) spend(k usageKey, v usageSum) {
	sum := s.usage[k]
	sum.Requests += v.Requests
	sum.Input += v.Input
	sum.Output += v.Output
	s.usage[k] = sum
}

// refreshed is the time up to which the reports are complete.
func (s *Simulator) refreshed(now time.Time) time.Time {
	at := now.Add(-s.usageLag).Truncate(time.Second)
	if !s.frozenAt.IsZero() && s.frozenAt.Before(at) {
		at = s.frozenAt
	}
	return at
}

// dimensions names what the reports can be grouped by. Those that the
// simulator has no data for are accepted and always null.
func dimensions() []string {
	return []string{
		"actor", "actor_type", "agent_id", "api_key_id", "claude_tag_category", "claude_tag_user_id", "context_window",
		"deployment_id", "environment_id", "inference_geo", "model", "organization_id", "product", "rbac_group_id",
		"service_tier", "session_id", "slack_channel_id", "speed", "user_profile_id", "workspace_id",
	}
}

// dimension is the value of one dimension of a usage entry. The caller holds the lock.
func (s *Simulator) dimension(name string, k usageKey) any {
	switch name {
	case "api_key_id":
		return textOrNil(k.KeyID)
	case "workspace_id":
		return textOrNil(k.Workspace)
	case "model":
		return k.Model
	case "service_tier":
		return k.Tier
	case "context_window":
		return "0-200k"
	case "inference_geo":
		return "global"
	case "speed":
		return "standard"
	case "actor":
		return s.actorOf(k.KeyID)
	case "actor_type":
		if a := s.actorOf(k.KeyID); a != nil {
			return a["type"]
		}
	}
	return nil
}

// actorOf is the identity that the usage of a key is attributed to.
func (s *Simulator) actorOf(keyID string) map[string]any {
	k := s.key(keyID)
	switch {
	case keyID == "":
		return nil
	case k != nil && k.Principal.Kind == PrincipalServiceAccount:
		return map[string]any{"type": "service_account_actor", "service_account_id": k.Principal.ID}
	case k != nil && k.Principal.Kind == PrincipalUser:
		a := map[string]any{"type": "user_actor", "user_id": k.Principal.ID, "deleted": true, "email_address": nil, "name": nil}
		if u := s.user(k.Principal.ID); u != nil {
			a["deleted"], a["email_address"], a["name"] = false, u.Email, u.Name
		}
		return a
	}
	return map[string]any{"type": "api_actor", "api_key_id": keyID}
}

// report is a checked question to the usage data.
type report struct {
	from, to time.Time
	width    time.Duration // zero: one row for the whole range
	groupBy  []string
	filters  map[string][]string // dimension -> accepted values
}

// row is one combination of dimensions in one bucket. Costs are millionths of a cent.
type row struct {
	start, end      time.Time
	group           map[string]any
	order           string
	sum             usageSum
	costIn, costOut int64
}

// rows sums the visible usage, ordered by time and then by group. The caller holds the lock.
func (s *Simulator) rows(r report, now time.Time) []row {
	s.settle(now)
	fresh := s.refreshed(now).Unix()
	found := map[string]*row{}
	for k, v := range s.usage {
		at := time.Unix(k.Second, 0).UTC()
		if k.Second > fresh || at.Before(r.from) || !at.Before(r.to) || !s.passes(r.filters, k) {
			continue
		}
		start, end := r.from, r.to
		if r.width > 0 {
			start = at.Truncate(r.width)
			end = start.Add(r.width)
		}
		group := map[string]any{}
		for _, g := range r.groupBy {
			group[g] = s.dimension(g, k)
		}
		name, err := json.Marshal(group)
		if err != nil {
			// Maps of strings always marshal.
			panic(err)
		}
		id := strconv.FormatInt(start.Unix(), 10) + string(name)
		w := found[id]
		if w == nil {
			w = &row{start: start, end: end, group: group, order: string(name)}
			found[id] = w
		}
		w.sum.Requests += v.Requests
		w.sum.Input += v.Input
		w.sum.Output += v.Output
		if m, ok := s.modelIndex[k.Model]; ok {
			w.costIn += v.Input * m.in
			w.costOut += v.Output * m.out
		}
	}
	out := make([]row, 0, len(found))
	for _, w := range found {
		out = append(out, *w)
	}
	slices.SortFunc(out, func(a, b row) int {
		return cmp.Or(a.start.Compare(b.start), strings.Compare(a.order, b.order))
	})
	return out
}

// passes reports whether an entry has an accepted value for every filter.
func (s *Simulator) passes(filters map[string][]string, k usageKey) bool {
	for name, accepted := range filters {
		var value string
		switch v := s.dimension(name, k).(type) {
		case string:
			value = v
		case *string:
			if v != nil {
				value = *v
			}
		case map[string]any:
			for _, f := range []string{"user_id", "service_account_id", "api_key_id"} {
				if id, ok := v[f].(string); ok {
					value = id
				}
			}
		}
		if name == "model" && slices.ContainsFunc(accepted, func(a string) bool { m, ok := s.modelIndex[a]; return ok && m.id == value }) {
			continue
		}
		if !slices.Contains(accepted, value) {
			return false
		}
	}
	return true
}

// cents writes millionths of a cent as a decimal string of cents.
func cents(micro int64) string {
	whole, rest := micro/1_000_000, micro%1_000_000
	v := strconv.FormatInt(whole, 10)
	if rest == 0 {
		return v
	}
	digits := strconv.FormatInt(1_000_000+rest, 10)[1:]
	return v + "." + strings.TrimRight(digits, "0")
}
