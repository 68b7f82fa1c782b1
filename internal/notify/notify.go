// Package notify tells people what happened to a key and what is wanted of them: it chooses the channels of a notice, leaves out
// what was told within the hour, tries again for a while, and hands in what became of it. It never holds a value, decides nothing
// about keys, and makes no connection itself: the channels in the folders below it do. app builds a Router from the configuration
// and calls it for the runner and the daemon.
package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
)

// Kinds of notices that are not kinds of rotations.
const (
	KindEmergency = "emergency"
	KindIncident  = "incident"
	KindStatus    = "status"
)

// Notice is what people are told. Its JSON form, made by Body, is what every channel sends.
type Notice struct {
	// At is when it happened, in UTC; a Router fills in a zero time.
	At time.Time `json:"at"`
	// Key is empty when the notice is about no single key.
	Key apikey.Name `json:"key"`
	// Rotation is the id of the rotation, or empty.
	Rotation string `json:"rotation"`
	// Kind is the kind of the rotation (scheduled, manual, rollback, emergency), or incident, or status.
	Kind string `json:"kind"`
	// What says what happened, in one line.
	What string `json:"what"`
	// Wants is true when a person must act.
	Wants bool `json:"wants"`
	// Hint names the command or the page for that person.
	Hint string `json:"hint"`
}

// Urgent reports whether the notice goes to every channel at once, whatever was told before.
func (n Notice) Urgent() bool { return n.Kind == KindEmergency || n.Kind == KindIncident }

// Clean gives the notice with every text made fit to be shown: no control characters, nothing that looks like a key.
func (n Notice) Clean() Notice {
	n.At = n.At.UTC()
	n.Key, n.Rotation, n.Kind = apikey.Name(audit.Clean(string(n.Key))), audit.Clean(n.Rotation), audit.Clean(n.Kind)
	n.What, n.Hint = audit.Clean(n.What), audit.Clean(n.Hint)
	return n
}

// Body gives the JSON that channels send: one object with at, key, rotation, kind, what, wants and hint, without a line end.
func (n Notice) Body() ([]byte, error) {
	b, err := json.Marshal(n.Clean())
	return b, fault.Wrap(fault.Unknown, err, "write notice")
}

// Channel is a way to tell people. Its methods may be called from several goroutines.
type Channel interface {
	// Name stands in errors and in what is remembered: the same channel has the same name after a restart. It holds nothing secret. A
	// Router numbers channels of the same name.
	Name() string
	// Send delivers a notice once and returns when the other side has taken it. id is the same for every try of one delivery. Errors
	// have a kind of package fault; Unavailable, RateLimited, Indeterminate and Unknown are tried again.
	Send(ctx context.Context, id string, n Notice) error
}

// Route says what a channel is told. With zero filters it is told everything. Urgent notices pass every filter.
type Route struct {
	Channel Channel
	// Wants leaves out notices that want nothing of a person.
	Wants bool
	// Keys, when not empty, leaves out notices about other keys.
	Keys []apikey.Name
}

func (r Route) takes(n Notice) bool {
	if n.Urgent() {
		return true
	}
	return (!r.Wants || n.Wants) && (len(r.Keys) == 0 || n.Key == "" || slices.Contains(r.Keys, n.Key))
}

// Outcome is what became of a notice on a channel.
type Outcome string

// The outcomes.
const (
	Delivered Outcome = "delivered"
	Repeated  Outcome = "repeated" // the same was delivered within the hour: nothing was sent
	Failed    Outcome = "failed"   // given up
)

// Result records what became of a notice on one channel.
type Result struct {
	Notice  Notice  `json:"notice"`
	Channel string  `json:"channel"`
	Outcome Outcome `json:"outcome"`
	// Tries is how often it was sent.
	Tries int       `json:"tries"`
	At    time.Time `json:"at"`
	// Kind, Error and Hint describe the last error of a failed notice.
	Kind  string `json:"error_kind,omitempty"`
	Error string `json:"error,omitempty"`
	Hint  string `json:"error_hint,omitempty"`
}

// Memory remembers what was delivered, so that it is not told again within the hour. Methods may be called from several goroutines.
type Memory interface {
	// Last gives when the notice with this mark was last delivered, or zero.
	Last(ctx context.Context, mark string) (time.Time, error)
	// Keep remembers a delivery, r, under its mark.
	Keep(ctx context.Context, mark string, r Result) error
}

// Window is how long the same notice about the same key and rotation is not told again on the same channel.
const Window = time.Hour

// Router tells people. Its fields are not changed once it is in use. Safe for concurrent use.
type Router struct {
	Routes []Route
	// Memory remembers deliveries; nil remembers them in this process. A memory that fails suppresses nothing.
	Memory Memory
	// Record receives every result; nil drops them.
	Record func(ctx context.Context, r Result)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log receives failures; nil means nothing.
	Log *slog.Logger

	once sync.Once
	own  *recent
}

// delays are the pauses before the second and every further try.
var delays = [...]time.Duration{time.Second, 4 * time.Second}

// longest is how much patience a channel is granted that asks for some.
const longest = 10 * time.Second

// Tell sends the notice to every channel whose route takes it, side by side, and gives one result for each, in the order of Routes.
// The error is nil when each channel has it or had the same within the hour; else it is of the kind of the first failure and names
// the channels that failed: telling again reaches those alone. It ends soon after ctx does.
func (r *Router) Tell(ctx context.Context, n Notice) ([]Result, error) {
	n = n.Clean()
	if n.At.IsZero() {
		n.At = r.now()
	}
	var routes []Route
	var names []string
	same := map[string]int{}
	for _, route := range r.Routes {
		name := route.Channel.Name()
		if same[name]++; same[name] > 1 {
			name = fmt.Sprintf("%s (%d)", name, same[name])
		}
		if route.takes(n) {
			routes, names = append(routes, route), append(names, name)
		}
	}
	results := make([]Result, len(routes))
	errs := make([]error, len(routes))
	var all sync.WaitGroup
	for i, route := range routes {
		all.Go(func() { results[i], errs[i] = r.tell(ctx, route.Channel, names[i], n) })
	}
	all.Wait()
	var failed []string
	var first error
	for i, err := range errs {
		if r.Record != nil {
			r.Record(ctx, results[i])
		}
		if err == nil {
			continue
		}
		r.log().Warn("notice not delivered", "channel", results[i].Channel, "key", string(n.Key), "kind", results[i].Kind, "error", err)
		failed = append(failed, results[i].Channel)
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return results, nil
	}
	return results, fault.In(first, "tell "+strings.Join(failed, ", "))
}

// tell brings a notice to one channel.
func (r *Router) tell(ctx context.Context, c Channel, name string, n Notice) (Result, error) {
	res := Result{Notice: n, Channel: name, Outcome: Delivered, At: r.now()}
	mark := markOf(name, n)
	if !n.Urgent() && r.told(ctx, mark) {
		res.Outcome = Repeated
		return res, nil
	}
	id := deliveryID(mark, n)
	for {
		res.Tries++
		err := send(ctx, c, id, n)
		res.At = r.now()
		if err == nil {
			if err := r.memory().Keep(context.WithoutCancel(ctx), mark, res); err != nil {
				r.log().Warn("delivery not remembered", "channel", name, "error", err)
			}
			return res, nil
		}
		if res.Tries > len(delays) || !again(err) || !pause(ctx, max(delays[res.Tries-1], min(fault.RetryAfterOf(err), longest))) {
			res.Outcome, res.Kind, res.Error, res.Hint = Failed, fault.KindOf(err).String(), audit.Clean(err.Error()), audit.Clean(fault.HintOf(err))
			return res, err
		}
	}
}

// send keeps a panic of a channel from ending the process.
func send(ctx context.Context, c Channel, id string, n Notice) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Newf(fault.Corrupt, "send notice: a defect of the channel stopped it (%T)", p)
		}
	}()
	return c.Send(ctx, id, n)
}

// again is the retry table: what may heal by itself.
func again(err error) bool {
	switch fault.KindOf(err) {
	case fault.Unavailable, fault.RateLimited, fault.Indeterminate, fault.Unknown:
		return true
	}
	return false
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// told reports whether the same was delivered within the window. A clock that was set back makes nothing told.
func (r *Router) told(ctx context.Context, mark string) bool {
	last, err := r.memory().Last(ctx, mark)
	if err != nil {
		r.log().Warn("deliveries not read", "error", err)
		return false
	}
	age := r.now().Sub(last)
	return !last.IsZero() && age >= 0 && age < Window
}

// markOf names a notice on a channel: the same key, rotation and words have the same mark.
func markOf(channel string, n Notice) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", channel, n.Key, n.Rotation, n.What))
	return hex.EncodeToString(sum[:16])
}

func deliveryID(mark string, n Notice) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %d", mark, n.Rotation, n.At.UnixNano()))
	return "n_" + hex.EncodeToString(sum[:8])
}

func (r *Router) now() time.Time {
	if r.Now == nil {
		return time.Now().UTC()
	}
	return r.Now().UTC()
}

func (r *Router) log() *slog.Logger {
	if r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Log
}

func (r *Router) memory() Memory {
	if r.Memory != nil {
		return r.Memory
	}
	r.once.Do(func() { r.own = &recent{at: map[string]time.Time{}} })
	return r.own
}

// recent is the Memory of one process. It forgets what is older than the window.
type recent struct {
	mu sync.Mutex
	at map[string]time.Time
}

var _ Memory = (*recent)(nil)

func (m *recent) Last(_ context.Context, mark string) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[mark], nil
}

func (m *recent) Keep(_ context.Context, mark string, r Result) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, t := range m.at {
		if r.At.Sub(t) > Window {
			delete(m.at, k)
		}
	}
	m.at[mark] = r.At
	return nil
}
