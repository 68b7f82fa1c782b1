package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/canary"
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
	hash    maphash.Seed // of sessions
	arms    [2]arm       // old, new
	compare canary.Comparison
}

// arm counts all answers of one version, which the status shows.
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
		old.setShare(c.Share)
		return old, nil
	}
	s := &canaryState{Canary: c, hash: maphash.MakeSeed()}
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
	c.setShare(share)
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

// observe counts an attempt: only what a version can be blamed for is bad. Only the first attempt of a request is compared.
func (c *canaryState) observe(g *Gateway, d apikey.Digest, status int, took time.Duration, first bool, session string) {
	v := canary.Old
	switch d {
	case c.Old:
	case c.New:
		v = canary.New
	default:
		return
	}
	bad := status == 0 || status == http.StatusUnauthorized || status == http.StatusForbidden || status >= 500
	a := canary.Answer{Bad: bad, Good: fine(status), Took: took, Session: maphash.String(c.hash, session)}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.arms[v]
	t.n++
	t.seconds += took.Seconds()
	if bad {
		t.bad++
	}
	if !first || c.stopped.Load() {
		return
	}
	if f, worse := c.compare.Count(v, a); worse {
		c.stop(g, whyWorse(f))
	}
}

// setShare changes the share of a canary that has not stopped. What came before is compared apart.
func (c *canaryState) setShare(share int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped.Load() && c.share.Swap(int64(share)) != int64(share) {
		c.compare.Split()
	}
}

// whyWorse says what was found, and over which of the last answers.
func whyWorse(f canary.Finding) string {
	if f.Slower {
		ms := func(v canary.Version) int64 { return f.Middle[v].Milliseconds() }
		return fmt.Sprintf("%s: its last %d answers took %d ms in the middle, and %d of the former version, at the same time, %d ms",
			stoppedByLatency, f.Answers[canary.New], ms(canary.New), f.Answers[canary.Old], ms(canary.Old))
	}
	return fmt.Sprintf("%s: %d of its last %d requests, and %d of %d with the former version at the same time",
		stoppedByErrors, f.Bad[canary.New], f.Answers[canary.New], f.Bad[canary.Old], f.Answers[canary.Old])
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

// ArmStatus counts all answers of one version, from the beginning of the canary or of the process on. Bad are 401, 403, 5xx and broken connections.
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
	if !x.body.Spilled() && json.Unmarshal(x.body.Head(), &head) == nil && len(head.Messages) > 0 {
		h := sha256.New()
		h.Write(head.System)
		h.Write([]byte{0})
		h.Write(head.Messages[0])
		return app + string(h.Sum(nil))
	}
	return app
}
