package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

// Canary sends a share of the sessions to a new version of a key, and stops by itself when that is worse. A session stays with its version while
// the share grows, since prompt caches belong to an organization and workspace; a dead key is left by every session.
type Canary struct {
	// ID names the rotation; with another one sessions are drawn anew.
	ID string
	// New and Old are two of the set's keys.
	New, Old apikey.Digest
	// Share is how many sessions of a hundred use New, 0 to 100.
	Share int
}

// The events of a canary. Fields hold "share" and, when it stopped, the counts of both arms.
const (
	CanaryShare   event.Type = "gateway.canary-share"
	CanaryStopped event.Type = "gateway.canary-stopped"
)

// The rules of comparison: how many answers each arm needs, and how much worse the new one may be.
const (
	canarySamples = 200
	canaryMargin  = 0.02
)

// canaryState is shared by the sets of one canary.
type canaryState struct {
	Canary
	share   atomic.Int64
	stopped atomic.Bool
	mu      sync.Mutex
	arms    [2]arm // old, new
}

type arm struct {
	n, bad  int64
	seconds float64
}

// newCanary checks a canary. One of the same ID goes on with its counts, and stays stopped.
func newCanary(c Canary, keys []Key, old *canaryState) (*canaryState, error) {
	found := 0
	for _, k := range keys {
		if d := k.Value.Digest(); d == c.New || d == c.Old {
			found++
		}
	}
	if c.ID == "" || c.Share < 0 || c.Share > 100 || found != 2 || c.New == c.Old {
		return nil, fault.New(fault.Invalid, "start canary: it needs an id, a share of 0 to 100, and two keys of the set")
	}
	if old != nil && old.ID == c.ID && old.New == c.New && old.Old == c.Old {
		if !old.stopped.Load() {
			old.share.Store(int64(c.Share))
		}
		return old, nil
	}
	s := &canaryState{Canary: c}
	s.share.Store(int64(c.Share))
	return s, nil
}

// SetCanary changes the share of the canary in force. Kinds: NotFound (there is none), Conflict (it has stopped by itself), Invalid.
func (g *Gateway) SetCanary(share int) error {
	c := g.set.Load().canary
	switch {
	case c == nil:
		return fault.New(fault.NotFound, "set canary: there is none")
	case c.stopped.Load():
		return fault.New(fault.Conflict, "set canary: it has stopped, since the new version did worse")
	case share < 0 || share > 100:
		return fault.New(fault.Invalid, "set canary: the share is 0 to 100")
	}
	c.share.Store(int64(share))
	g.tell(event.Event{Type: CanaryShare, Rotation: c.ID, Fields: map[string]string{"share": strconv.Itoa(share)}})
	return nil
}

// bucket draws a session: the same for the same canary, evenly spread over [0, 10000).
func (c *canaryState) bucket(session string) int64 {
	mac := hmac.New(sha256.New, []byte(c.ID))
	mac.Write([]byte(session))
	return int64(binary.BigEndian.Uint64(mac.Sum(nil)) % 10_000)
}

// order puts the version of the request's session first, and the other behind it.
func (c *canaryState) order(x *exchange, entries []*entry) []*entry {
	first := c.Old
	if c.bucket(x.session) < c.share.Load()*100 {
		first = c.New
	}
	out := make([]*entry, 0, len(entries))
	for _, want := range []apikey.Digest{first, c.New, c.Old} {
		for _, e := range entries {
			if e.digest == want && (len(out) == 0 || out[0] != e) && (len(out) < 2 || out[1] != e) {
				out = append(out, e)
			}
		}
	}
	for _, e := range entries {
		if e.digest != c.New && e.digest != c.Old {
			out = append(out, e)
		}
	}
	return out
}

// observe counts an attempt: only what a version can be blamed for is bad.
func (c *canaryState) observe(g *Gateway, d apikey.Digest, status int, took time.Duration) {
	i := 0
	switch d {
	case c.Old:
	case c.New:
		i = 1
	default:
		return
	}
	bad := status == 0 || status == http.StatusUnauthorized || status == http.StatusForbidden || status >= 500
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arms[i].n++
	c.arms[i].seconds += took.Seconds()
	if bad {
		c.arms[i].bad++
	}
	if !bad || c.stopped.Load() || c.arms[0].n < canarySamples || c.arms[1].n < canarySamples {
		return
	}
	was, is := c.arms[0].rate(), c.arms[1].rate()
	// Beyond the margin, and beyond what chance makes of so many answers (two standard deviations).
	noise := 2 * math.Sqrt(was*(1-was)/float64(c.arms[0].n)+is*(1-is)/float64(c.arms[1].n))
	if is-was > max(canaryMargin, noise) && c.stopped.CompareAndSwap(false, true) {
		c.share.Store(0)
		g.tell(event.Event{Type: CanaryStopped, Rotation: c.ID, Fields: map[string]string{
			"share": "0", "old_requests": strconv.FormatInt(c.arms[0].n, 10), "old_bad": strconv.FormatInt(c.arms[0].bad, 10),
			"new_requests": strconv.FormatInt(c.arms[1].n, 10), "new_bad": strconv.FormatInt(c.arms[1].bad, 10),
		}})
	}
}

func (a arm) rate() float64 { return float64(a.bad) / float64(max(a.n, 1)) }

// CanaryStatus compares both versions.
type CanaryStatus struct {
	ID      string             `json:"id"`
	Share   int64              `json:"share"`
	Stopped bool               `json:"stopped"`
	Old     apikey.Fingerprint `json:"old"`
	New     apikey.Fingerprint `json:"new"`
	OldArm  ArmStatus          `json:"old_arm"`
	NewArm  ArmStatus          `json:"new_arm"`
}

// ArmStatus counts the answers of one version. Bad are 401, 403, 5xx and broken connections.
type ArmStatus struct {
	Requests    int64   `json:"requests"`
	Bad         int64   `json:"bad"`
	MeanSeconds float64 `json:"mean_seconds"`
}

func (c *canaryState) status() CanaryStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	show := func(a arm) ArmStatus {
		return ArmStatus{Requests: a.n, Bad: a.bad, MeanSeconds: a.seconds / float64(max(a.n, 1))}
	}
	return CanaryStatus{ID: c.ID, Share: c.share.Load(), Stopped: c.stopped.Load(), Old: c.Old.Fingerprint(), New: c.New.Fingerprint(), OldArm: show(c.arms[0]), NewArm: show(c.arms[1])}
}

// sessionOf names the conversation of a request: what Claude Code calls its session, else the start of the conversation, which every further
// turn repeats.
func sessionOf(r *http.Request, x *exchange) string {
	app := x.app.name + "\x00"
	if id := r.Header.Get("X-Claude-Code-Session-Id"); id != "" {
		return app + id
	}
	var head struct {
		System   json.RawMessage   `json:"system"`
		Messages []json.RawMessage `json:"messages"`
	}
	if x.body.file == nil && json.Unmarshal(x.body.mem, &head) == nil && len(head.Messages) > 0 {
		h := sha256.New()
		h.Write(head.System)
		h.Write([]byte{0})
		h.Write(head.Messages[0])
		return app + string(h.Sum(nil))
	}
	return app
}
