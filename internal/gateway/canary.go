package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"slices"
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
	// ID names the comparison; with another one sessions are drawn anew.
	ID string
	// New and Old are two of the set's keys.
	New, Old apikey.Digest
	// Share is how many sessions of a hundred use New, 0 to 100.
	Share int
	// Stopped says why it stopped before, as a state file kept it; then Share is 0.
	Stopped string
}

// The events of a canary. Fields hold "canary" (its ID), "share", "fingerprint" (the new version's) and, when it stopped, the counts of both arms; then
// Text says why.
const (
	CanaryShare   event.Type = "gateway.canary-share"
	CanaryStopped event.Type = "gateway.canary-stopped"
)

// The rules of comparison: how many answers each arm needs, and how much worse the new one may be: by how many more failures, or by how many times
// the latency, if that is also longer by canarySlower. Latency is looked at after every canaryLook answers.
const (
	canarySamples = 200
	canaryMargin  = 0.02
	canaryFactor  = 1.5
	canarySlower  = 50 * time.Millisecond
	canaryLook    = 50
)

// Why a canary stops by itself.
const (
	stoppedByErrors  = "the new version fails more often"
	stoppedByLatency = "the new version is slower"
	stoppedByRefusal = "the provider refuses the new version"
)

// canaryState is shared by the sets of one canary.
type canaryState struct {
	Canary
	share   atomic.Int64
	stopped atomic.Bool
	mu      sync.Mutex
	arms    [2]arm // old, new
}

// arm counts the answers of one version. The sums are of those that were good; of their latency the logarithm is compared, in which one slow answer
// does not weigh more than many fast ones.
type arm struct {
	n, bad           int64
	seconds          float64
	good             int64
	logs, logSquares float64
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
	if c.Stopped != "" {
		s.stopped.Store(true)
	} else {
		s.share.Store(int64(c.Share))
	}
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
	g.tell(event.Event{Type: CanaryShare, Key: g.nameOf(c.New), Fields: map[string]string{"canary": c.ID, "share": strconv.Itoa(share), "fingerprint": string(c.New.Fingerprint())}})
	return nil
}

// nameOf gives the key of a value in the set, or nothing.
func (g *Gateway) nameOf(d apikey.Digest) apikey.Name {
	for _, e := range g.set.Load().entries {
		if e.digest == d {
			return e.Name
		}
	}
	return ""
}

// bucket draws a session: the same for the same canary, evenly spread over [0, 10000).
func (c *canaryState) bucket(session string) int64 {
	mac := hmac.New(sha256.New, []byte(c.ID))
	mac.Write([]byte(session))
	return int64(binary.BigEndian.Uint64(mac.Sum(nil)) % 10_000)
}

// order puts the version of the request's session where the first of the two stands, and the other where the second stands. Requests that name what
// belongs to an account stay with the old version when the new one is known to be of another account.
func (c *canaryState) order(x *exchange, entries []*entry) []*entry {
	at := [2]int{-1, -1} // of the old and the new version
	for i, e := range entries {
		switch e.digest {
		case c.Old:
			at[0] = i
		case c.New:
			at[1] = i
		}
	}
	if at[0] < 0 || at[1] < 0 {
		return entries
	}
	fresh := c.bucket(x.session) < c.share.Load()*100
	if x.sticky && !entries[at[0]].where().same(entries[at[1]].where()) {
		fresh = false
	}
	if fresh == (at[1] < at[0]) {
		return entries
	}
	out := slices.Clone(entries)
	out[at[0]], out[at[1]] = out[at[1]], out[at[0]]
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
	c.arms[i].count(bad, status, took)
	if c.stopped.Load() {
		return
	}
	switch {
	case bad && failsMore(c.arms[0], c.arms[1]):
		c.stop(g, stoppedByErrors)
	case !bad && c.arms[i].good%canaryLook == 0 && isSlower(c.arms[0], c.arms[1]):
		c.stop(g, stoppedByLatency)
	}
}

func (a *arm) count(bad bool, status int, took time.Duration) {
	a.n++
	a.seconds += took.Seconds()
	switch {
	case bad:
		a.bad++
	case fine(status):
		l := math.Log(max(took.Seconds(), 1e-6))
		a.good, a.logs, a.logSquares = a.good+1, a.logs+l, a.logSquares+l*l
	}
}

// failsMore compares beyond the margin, and beyond what chance makes of so many answers (two standard deviations).
func failsMore(old, fresh arm) bool {
	if old.n < canarySamples || fresh.n < canarySamples {
		return false
	}
	was, is := old.rate(), fresh.rate()
	noise := 2 * math.Sqrt(was*(1-was)/float64(old.n)+is*(1-is)/float64(fresh.n))
	return is-was > max(canaryMargin, noise)
}

// isSlower compares the middle latency of good answers, beyond the factor and beyond what chance makes of so many (three standard deviations, since
// it is looked at many times).
func isSlower(old, fresh arm) bool {
	if old.good < canarySamples || fresh.good < canarySamples {
		return false
	}
	was, spreadWas := old.latency()
	is, spreadIs := fresh.latency()
	if math.Exp(is)-math.Exp(was) < canarySlower.Seconds() {
		return false
	}
	return is-was-3*math.Sqrt(spreadWas/float64(old.good)+spreadIs/float64(fresh.good)) > math.Log(canaryFactor)
}

// latency gives the mean of the logarithm of seconds, and its variance.
func (a arm) latency() (mean, variance float64) {
	n := float64(a.good)
	mean = a.logs / n
	return mean, max(0, a.logSquares/n-mean*mean)
}

// stop gives every session back to the old version. The caller holds mu.
func (c *canaryState) stop(g *Gateway, why string) {
	if !c.stopped.CompareAndSwap(false, true) {
		return
	}
	c.share.Store(0)
	c.Stopped = why
	g.tell(event.Event{Type: CanaryStopped, Key: g.nameOf(c.New), Text: why, Fields: map[string]string{
		"canary": c.ID, "share": "0", "fingerprint": string(c.New.Fingerprint()), "old_requests": strconv.FormatInt(c.arms[0].n, 10), "old_bad": strconv.FormatInt(c.arms[0].bad, 10),
		"new_requests": strconv.FormatInt(c.arms[1].n, 10), "new_bad": strconv.FormatInt(c.arms[1].bad, 10),
	}})
	g.spawn(func() { g.trials.stopped(g, c.ID, why) })
}

// refused stops the canary of a value that a probe found dead: that is proof, and needs no counts.
func (g *Gateway) canaryRefused(d apikey.Digest) {
	if c := g.set.Load().canary; c != nil && c.New == d {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stop(g, stoppedByRefusal)
	}
}

func (a arm) rate() float64 { return float64(a.bad) / float64(max(a.n, 1)) }

// CanaryStatus compares both versions.
type CanaryStatus struct {
	ID      string             `json:"id"`
	Share   int64              `json:"share"`
	Stopped bool               `json:"stopped"`
	Why     string             `json:"why,omitempty"` // it stopped
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
	return CanaryStatus{ID: c.ID, Share: c.share.Load(), Stopped: c.stopped.Load(), Why: c.Stopped, Old: c.Old.Fingerprint(), New: c.New.Fingerprint(), OldArm: show(c.arms[0]), NewArm: show(c.arms[1])}
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
