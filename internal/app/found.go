package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/monitor"
	"github.com/keywright/keywright/internal/notify"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// What a live look found is remembered under these names in the store, followed by a version or a location, so that it is recorded and told once
// for each time that it begins, whoever looks and however often. An empty text means that it is over.
const (
	metaGone  = "gone/"
	metaDrift = "drift/"
)

// outage is what is remembered of a version in use that the provider refuses.
type outage struct {
	Incident string `json:"incident"`
	Told     bool   `json:"told"` // or nobody is to be told
}

// found is what a live look leaves behind, beside the observations.
type found struct {
	*App
	status monitor.Status
	tell   []notify.Notice
	marks  map[string]outage // to be kept once the notice of the same place in tell was delivered
	order  []string
}

// afterLook writes down what a live look found: an incident for a version in use that others ended at the provider, and an event for a place that
// somebody changed. People are told afterwards. It starts nothing and changes no key.
func (a *App) afterLook(ctx context.Context, s monitor.Status) error {
	f := &found{App: a, status: s}
	fresh := false
	err := a.Store.View(ctx, func(tx *store.Tx) (err error) {
		fresh, err = f.look(tx, false)
		return err
	})
	if err == nil && fresh {
		err = a.Store.Update(ctx, func(tx *store.Tx) error {
			_, err := f.look(tx, true)
			return err
		})
	}
	if err != nil || a.tell == nil {
		return err
	}
	for i, n := range f.tell {
		if err := a.tell(ctx, n); err != nil {
			a.log.Warn("people not told", "key", string(n.Key), "error", err)
			continue
		}
		if name := f.order[i]; name != "" {
			o := f.marks[name]
			o.Told = true
			if err := a.Store.Update(ctx, func(tx *store.Tx) error { return setOutage(tx, name, o) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// look compares what was found to what is remembered, and reports whether there is something to write; with write it is written.
func (f *found) look(tx *store.Tx, write bool) (fresh bool, err error) {
	f.tell, f.order, f.marks = nil, nil, map[string]outage{}
	for i := range f.status.Keys {
		n, err := f.key(tx, &f.status.Keys[i], write)
		if err != nil {
			return false, err
		}
		fresh = fresh || n
	}
	for i := range f.status.Locations {
		n, err := f.place(tx, &f.status.Locations[i], write)
		if err != nil {
			return false, err
		}
		fresh = fresh || n
	}
	return fresh, nil
}

func (f *found) key(tx *store.Tx, k *monitor.KeyStatus, write bool) (fresh bool, err error) {
	if k.Version == "" || k.Gone == "" && k.Alive != policy.Live {
		return false, nil // nothing is known
	}
	name := metaGone + string(k.Version)
	text, _, err := tx.Meta(name)
	if err != nil || k.Gone == "" && text == "" {
		return false, err
	}
	if k.Gone == "" {
		if write {
			err = tx.SetMeta(name, "")
		}
		return true, err
	}
	var o outage
	if text != "" {
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			return false, fault.Wrap(fault.Corrupt, err, "read outage of "+string(k.Name))
		}
	} else if write {
		// Looked at again inside of the transaction: an emergency, or another process that looked, may have been quicker.
		v, err := tx.Version(k.Version)
		if err != nil || v.State != apikey.Current || v.Compromised {
			return false, err
		}
		if o.Incident, err = f.openIncident(tx, k); err != nil {
			return false, err
		}
		o.Told = f.App.tell == nil
		if err := setOutage(tx, name, o); err != nil {
			return false, err
		}
	}
	if !o.Told && o.Incident != "" {
		f.add(name, o, notify.Notice{Key: k.Name, Kind: notify.KindIncident, What: goneWords(k), Wants: true, Hint: "keywright incident show " + o.Incident})
	}
	return text == "", nil
}

func setOutage(tx *store.Tx, name string, o outage) error {
	b, err := json.Marshal(o)
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "keep outage")
	}
	return tx.SetMeta(name, string(b))
}

func (f *found) add(name string, o outage, n notify.Notice) {
	n.At = f.now()
	f.tell, f.order = append(f.tell, n), append(f.order, name)
	if name != "" {
		f.marks[name] = o
	}
}

func goneWords(k *monitor.KeyStatus) string {
	return policy.GoneWords(k.Fingerprint, k.Gone)
}

// openIncident opens one for a version that others ended, and records it.
func (f *found) openIncident(tx *store.Tx, k *monitor.KeyStatus) (id string, err error) {
	base := "inc-" + f.now().UTC().Format("2006-01-02") + "-" + string(k.Name)
	all, err := tx.Incidents(false)
	if err != nil {
		return "", err
	}
	used := map[string]bool{}
	for _, i := range all {
		used[i.ID] = true
	}
	id = base
	for n := 2; used[id]; n++ {
		id = fmt.Sprintf("%s-%d", base, n)
	}
	title := goneWords(k)
	if err := tx.OpenIncident(store.Incident{ID: id, Key: k.Name, Opened: f.now(), Title: title, Status: "open"}); err != nil {
		return "", err
	}
	return id, tx.Record(event.Event{Type: event.IncidentOpened, Actor: f.Actor, Key: k.Name, Version: k.Version, Text: title, Fields: map[string]string{"incident": id}})
}

// moving reports whether a rotation is changing the places of a key right now, so that a difference may be of its own making.
func moving(r *monitor.Rotation) bool {
	if r == nil {
		return false
	}
	switch r.Step {
	case rotation.Soak, rotation.Proving, rotation.Retire, rotation.Archiving, rotation.Recording:
		return false
	}
	return true
}

func (f *found) place(tx *store.Tx, p *monitor.PlaceStatus, write bool) (fresh bool, err error) {
	if p.Error != "" || p.Sync != monitor.Differs && p.Sync != monitor.InSync {
		return false, nil
	}
	mark := ""
	if p.Sync == monitor.Differs {
		for i := range f.status.Keys {
			if k := &f.status.Keys[i]; k.Name == p.Key && moving(k.Rotation) {
				return false, nil
			}
		}
		mark = string(p.Desired) + " " + string(p.Held)
	}
	name := metaDrift + p.Name
	known, _, err := tx.Meta(name)
	if err != nil || known == mark {
		return false, err
	}
	if !write {
		return true, nil
	}
	if err := tx.SetMeta(name, mark); err != nil || mark == "" {
		return true, err
	}
	held := "nothing"
	if p.Held != "" {
		held = string(p.Held)
	}
	text := fmt.Sprintf("%s holds %s instead of %s", p.Name, held, p.Desired)
	f.add("", outage{}, notify.Notice{Key: p.Key, Kind: notify.KindStatus, What: "drift: " + text, Wants: true, Hint: "keywright status --live"})
	return true, tx.Record(event.Event{Type: event.DriftFound, Actor: f.Actor, Key: p.Key, Location: p.Name, Text: text,
		Fields: map[string]string{"held": strings.TrimPrefix(held, "nothing"), "wanted": string(p.Desired)}})
}
