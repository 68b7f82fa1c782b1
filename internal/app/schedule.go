package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// Daemon is the actor of what nobody asked for in person.
const Daemon = "keywright"

// retryFailed is how long a key rests whose scheduled rotation ended before anything was changed.
const retryFailed = 6 * time.Hour

// metaSchedule is where the store keeps which process begins scheduled rotations, and until when: "HOLDER UNIX-SECONDS".
const metaSchedule = "schedule"

// scheduleLease is how long a process that died keeps others from beginning scheduled rotations.
const scheduleLease = 2 * time.Minute

// Waiting says why a key that rotates by itself does not begin now.
type Waiting struct {
	Key apikey.Name
	Why string
}

// Schedule begins the rotation of one key that is due, whose policy is automatic and for which nobody is needed: the longest overdue first. None is
// begun while another scheduled one has not put its new version everywhere, nor for a member of a pair of which one is in rotation. It gives the
// rotation, or ok false, and why those that are due wait. The caller calls again; several processes may.
func (a *App) Schedule(ctx context.Context) (row rotation.Row, ok bool, waits []Waiting, err error) {
	inv, err := a.scheduling(ctx)
	if err != nil {
		return row, false, nil, err
	}
	var due []dueKey
	for _, k := range a.keys() {
		if at := inv.due(a, k); k.Automatic && !at.IsZero() && !at.After(a.now()) {
			due = append(due, dueKey{k, at})
		}
	}
	slices.SortFunc(due, func(x, y dueKey) int { return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.Name, y.Name)) })
	if len(due) == 0 {
		return row, false, nil, nil
	}
	if mine, err := a.takeSchedule(ctx); err != nil || !mine {
		return row, false, nil, err
	}
	for _, d := range due {
		plan, why, err := a.unattended(ctx, inv, d.Key)
		if err != nil {
			return row, false, waits, err
		}
		if why != "" {
			waits = append(waits, Waiting{d.Name, why})
			continue
		}
		plan.Actor, plan.Note = Daemon, "due since "+d.at.UTC().Format(time.DateOnly)
		row, err := a.Begin(ctx, plan)
		if fault.Is(err, fault.Conflict) { // somebody was quicker
			waits = append(waits, Waiting{d.Name, err.Error()})
			continue
		}
		return row, err == nil, waits, err
	}
	return row, false, waits, nil
}

type dueKey struct {
	*config.Key
	at time.Time
}

// scheduling is what the inventory says about who may begin.
type scheduling struct {
	versions  map[apikey.Name][]apikey.Version
	active    []rotation.Row
	moving    map[string]bool // of the active ones by id: not everywhere yet
	last      map[apikey.Name]store.RotationEnd
	incidents []store.Incident
	claimed   map[apikey.VersionID]bool
}

func (a *App) scheduling(ctx context.Context) (s scheduling, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		s = scheduling{versions: map[apikey.Name][]apikey.Version{}, moving: map[string]bool{}, last: map[apikey.Name]store.RotationEnd{}, claimed: map[apikey.VersionID]bool{}}
		versions, err := tx.Versions("")
		if err != nil {
			return err
		}
		for _, v := range versions {
			s.versions[v.Key] = append(s.versions[v.Key], v)
		}
		if s.active, err = tx.Rotations(store.RotationFilter{Active: true}); err != nil {
			return err
		}
		for _, r := range s.active {
			journal, err := tx.Journal(r.ID)
			if err != nil {
				return err
			}
			s.moving[r.ID] = !rotation.Flipped(journal)
		}
		ends, err := tx.RotationEnds()
		if err != nil {
			return err
		}
		for _, e := range ends {
			s.last[e.Key] = e
		}
		claims, err := tx.Claims()
		for _, c := range claims {
			s.claimed[c.Version] = true
		}
		if err == nil {
			s.incidents, err = tx.Incidents(true)
		}
		return err
	})
	return s, err
}

func (s scheduling) current(key apikey.Name) (apikey.Version, bool) {
	for _, v := range s.versions[key] {
		if v.State == apikey.Current {
			return v, true
		}
	}
	return apikey.Version{}, false
}

// due is when the key has to be replaced, or zero when it has no current version, or is never due.
func (s scheduling) due(a *App, k *config.Key) time.Time {
	v, ok := s.current(k.Name)
	if !ok {
		return time.Time{}
	}
	return policy.Due(a.class(k), policy.Since(v), v.Expires)
}

// unattended gives the plan of a rotation that nobody has to attend, or why there is none now. The provider is asked about the spare.
func (a *App) unattended(ctx context.Context, s scheduling, k *config.Key) (plan rotation.Plan, why string, err error) {
	if why := s.hold(a, k); why != "" {
		return plan, why, nil
	}
	now := a.now()
	if open := config.NextOpen(k.Windows, now); !open.Equal(now) {
		if open.IsZero() {
			return plan, "none of its windows ever opens", nil
		}
		return plan, "its window opens " + open.UTC().Format("2006-01-02 15:04Z"), nil
	}
	if plan, err = a.Plan(ctx, Wish{Key: k.Name, Kind: rotation.Scheduled, Reason: rotation.ReasonScheduled}); err != nil {
		return plan, "", err
	}
	if why := needsPerson(plan); why != "" {
		return plan, why, nil
	}
	spare, ok := s.spare(a, k)
	if !ok {
		return plan, "it has no spare", nil
	}
	verdict, err := a.ask(ctx, spare.ID)
	switch {
	case fault.Is(err, fault.Canceled):
		return plan, "", err
	case err != nil:
		return plan, fmt.Sprintf("its spare %s could not be tried: %v", spare.Fingerprint().Short(), err), nil
	case verdict.Answer != provider.Live:
		return plan, fmt.Sprintf("the provider says of its spare %s: %s", spare.Fingerprint().Short(), verdict.Answer), nil
	}
	return plan, "", nil
}

// hold says what in the inventory speaks against beginning, or nothing.
func (s scheduling) hold(a *App, k *config.Key) string {
	pairs := a.pairs(k.Name)
	for _, r := range s.active {
		paired := slices.ContainsFunc(r.Plan.Pairs, func(p string) bool { return slices.Contains(pairs, p) })
		switch {
		case r.Key == k.Name:
			return "rotation " + r.ID + " is not over"
		case paired:
			return fmt.Sprintf("rotation %s of its pair is not over", r.ID)
		case r.Kind == rotation.Emergency:
			return "emergency " + r.ID + " is not over"
		case r.Kind == rotation.Scheduled && s.moving[r.ID]:
			return fmt.Sprintf("rotation %s has not put its version everywhere yet", r.ID)
		}
	}
	for _, i := range s.incidents {
		if i.Key == k.Name || i.Key != "" && slices.Contains(a.partners(k.Name), i.Key) {
			return "incident " + i.ID + " is open"
		}
	}
	if v, _ := s.current(k.Name); v.Compromised {
		return "its version is compromised"
	}
	e, ended := s.last[k.Name]
	switch {
	case !ended || e.Status == rotation.Done && e.Kind != rotation.Rollback:
		return ""
	case e.Status == rotation.Failed:
		if again := e.Ended.Add(retryFailed); a.now().Before(again) {
			return fmt.Sprintf("rotation %s failed, and it is tried again after %s", e.ID, again.UTC().Format("2006-01-02 15:04Z"))
		}
		return ""
	}
	return fmt.Sprintf("rotation %s turned back or was stopped: a person begins the next one", e.ID)
}

// partners gives the other members of the pairs of a key.
func (a *App) partners(name apikey.Name) (list []apikey.Name) {
	for _, pair := range a.pairs(name) {
		for member := range strings.SplitSeq(pair, "+") {
			if member != string(name) {
				list = append(list, apikey.Name(member))
			}
		}
	}
	return list
}

// needsPerson says for what a plan needs a person beside its approvals, or nothing.
func needsPerson(p rotation.Plan) string {
	for _, place := range p.Places {
		switch can := place.Can; {
		case can.Manual:
			return place.Name + " is changed by a person"
		case !can.Read && !can.Probe && !can.Confirm:
			return place.Name + " can neither be read back nor watched, so that a person signs"
		}
	}
	if !p.Admin {
		return "without an admin key a person retires the old version"
	}
	return ""
}

// spare gives the version that the rotation would take.
func (s scheduling) spare(a *App, k *config.Key) (apikey.Version, bool) {
	needed := a.now().Add(k.Soak + k.Watch)
	for _, v := range s.versions[k.Name] {
		if v.State == apikey.Spare && !v.Compromised && !s.claimed[v.ID] && (v.Expires.IsZero() || v.Expires.After(needed)) {
			return v, true
		}
	}
	return apikey.Version{}, false
}

// takeSchedule makes this process the one that begins scheduled rotations, unless another is.
func (a *App) takeSchedule(ctx context.Context) (mine bool, err error) {
	err = a.Store.Update(ctx, func(tx *store.Tx) error {
		mine = false
		text, _, err := tx.Meta(metaSchedule)
		if err != nil {
			return err
		}
		holder, until, _ := strings.Cut(text, " ")
		seconds, _ := strconv.ParseInt(until, 10, 64)
		left := time.Unix(seconds, 0).Sub(a.now())
		if holder != "" && holder != a.Runner.Owner && left > 0 && left <= scheduleLease {
			return nil
		}
		mine = true
		return tx.SetMeta(metaSchedule, fmt.Sprintf("%s %d", a.Runner.Owner, a.now().Add(scheduleLease).Unix()))
	})
	return mine, err
}

// Unattended says in words whether keywright serve begins rotations of the key of a plan by itself; empty where the policy does not ask for that.
func (a *App) Unattended(p rotation.Plan) string {
	k, ok := a.Config.Keys[p.Key]
	if !ok || !k.Automatic {
		return ""
	}
	if why := needsPerson(p); why != "" {
		return "a person begins it, though the policy is automatic: " + why
	}
	return "by keywright serve when the key is due and has a spare that the provider accepts"
}

// windows gives the windows of a key in the form of a plan.
func windows(k *config.Key) []rotation.Window {
	var list []rotation.Window
	for _, w := range k.Windows {
		zone := ""
		if w.Zone != nil {
			zone = w.Zone.String()
		}
		list = append(list, rotation.Window{Days: w.Days, From: w.From, To: w.To, Zone: zone})
	}
	return list
}
