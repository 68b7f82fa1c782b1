package config

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/consumer"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
)

// Location is a configured place.
type Location struct {
	Name string
	Kind string
	// Fields is what the kind's Config function gave, filled in.
	Fields any
	// Home is the key whose value belongs in the place, when it is not the key that names it in its waves.
	Home apikey.Name
	// Production is false for a place that production traffic does not depend on.
	Production bool
	// Timeout bounds one call; zero means location.DefaultTimeout.
	Timeout time.Duration
	// Reload, Confirm and Probe are the ways to its consumers, beside those that the kind has itself.
	Reload  []consumer.ReloadConfig
	Confirm []consumer.ConfirmConfig
	Probe   []consumer.ProbeConfig
}

// common are the fields that every location has beside those of its kind.
type common struct {
	Kind       string                       `yaml:"kind" required:"true" help:"The sort of place; keywright locations lists them."`
	Home       apikey.Name                  `yaml:"home" help:"The key whose value belongs in this place, when another key uses it in a wave for its test. The place gets that value back before approval."`
	Production bool                         `yaml:"production" default:"true" help:"Whether production depends on the place. Places with false come first in the short form of waves."`
	Timeout    time.Duration                `yaml:"timeout" help:"How long one call of the place may take; without it 30s."`
	Reload     list[consumer.ReloadConfig]  `yaml:"reload" help:"How the consumers are made to take up a new value, beside what the kind does itself: command or http."`
	Confirm    list[consumer.ConfirmConfig] `yaml:"confirm" help:"How the running consumers are asked which value they have: command or http."`
	Probe      list[consumer.ProbeConfig]   `yaml:"probe" help:"How to see that the consumers work: command, http or log."`
}

// list is a list that may be written without brackets when it has one element.
type list[T any] []T

func (l *list[T]) decode(r *reader, n ast.Node, a at) {
	r.items(n, a, true, func(nodes []ast.Node) {
		what := a.what
		for i, x := range nodes {
			var v T
			b := a.item(i)
			b.what = lastName(a) + " of " + what
			r.prefill(reflect.ValueOf(&v))
			r.value(x, reflect.ValueOf(&v).Elem(), b)
			*l = append(*l, v)
		}
	})
}

// kinds are the sorts of places by name.
type kinds map[string]location.Kind

func kindsOf(list []location.Kind) kinds {
	ks := kinds{}
	for _, k := range list {
		ks[k.Name] = k
	}
	return ks
}

var _ special = (*Location)(nil)

func (l *Location) decode(r *reader, n ast.Node, a at) {
	l.Name = lastName(a)
	a.what = "location " + quote(l.Name)
	r.entries(n, a, func(es []entry) {
		i := slices.IndexFunc(es, func(e entry) bool { return e.name == "kind" })
		if i < 0 {
			r.bad(n, meant("", r.kinds.names(), "allowed: "), `"kind" is missing in %s`, a.what)
			return
		}
		name, ok := r.text(es[i].val)
		kind, known := r.kinds[name]
		if !ok || !known {
			r.bad(es[i].val, meant(name, r.kinds.names(), "allowed: "), "unknown kind %s in %s", quote(name), a.what)
			return
		}
		l.read(r, n, es, kind, a)
	})
}

// read fills in l from the entries, dividing them between the kind's own fields and the common ones.
func (l *Location) read(r *reader, n ast.Node, es []entry, kind location.Kind, a at) {
	var c common
	r.prefill(reflect.ValueOf(&c).Elem())
	fields := reflect.ValueOf(kind.Config())
	r.prefill(fields.Elem())
	own, shared := r.namesOf(fields.Elem().Type()), r.namesOf(reflect.TypeFor[common]())
	ours, theirs := make([]entry, 0, len(es)), make([]entry, 0, len(es))
	for _, e := range es {
		if shared[e.name] && !own[e.name] || e.name == "kind" {
			ours = append(ours, e)
		} else {
			theirs = append(theirs, e)
		}
	}
	r.fields(n, ours, reflect.ValueOf(&c).Elem(), a, nil)
	r.fields(n, theirs, fields.Elem(), a, shared)
	l.Kind, l.Fields, l.Home, l.Production, l.Timeout = kind.Name, fields.Interface(), c.Home, c.Production, c.Timeout
	l.Reload, l.Confirm, l.Probe = c.Reload, c.Confirm, c.Probe
	if t := fields.Elem().FieldByName("Timeout"); own["timeout"] && t.IsValid() && t.Type() == durationType {
		l.Timeout = time.Duration(t.Int()) + 2*time.Second // the kind's own limit strikes first, and knows more
	}
}

// Place opens the driver of a location with what its consumers need. env.Name and env.Dir are filled in. It makes no connection. Kinds:
// NotFound (no such location) and Invalid.
func (c *Config) Place(name string, env location.Env) (*location.Location, error) {
	l, ok := c.Locations[name]
	if !ok {
		return nil, fault.New(fault.NotFound, "open location "+quote(name)+": the configuration has none of this name",
			fault.Hint("%s", meant(name, slices.Collect(maps.Keys(c.Locations)), "there are: ")))
	}
	env.Dir = c.Dir
	return l.open(c.kinds, env)
}

func (l *Location) open(ks kinds, env location.Env) (*location.Location, error) {
	kind, ok := ks[l.Kind]
	if !ok {
		return nil, fault.Newf(fault.Invalid, "open location %s: unknown kind %s", l.Name, quote(l.Kind))
	}
	env.Name = l.Name
	d, err := kind.Open(l.Fields, env)
	if err != nil {
		return nil, fault.In(err, "location "+l.Name)
	}
	o := location.Options{Timeout: l.Timeout}
	if o.Reloaders, err = openAll(l.Reload, env, consumer.ReloadConfig.Open); err == nil {
		if o.Confirmers, err = openAll(l.Confirm, env, consumer.ConfirmConfig.Open); err == nil {
			o.Probers, err = openAll(l.Probe, env, consumer.ProbeConfig.Open)
		}
	}
	if err != nil {
		return nil, fault.In(err, "location "+l.Name)
	}
	// A consumer's own limit strikes before that of the call, since it knows more.
	if longest := longestTimeout(reflect.ValueOf([]any{l.Reload, l.Confirm, l.Probe})); longest > 0 {
		if o.Timeout == 0 {
			o.Timeout = location.DefaultTimeout
		}
		o.Timeout = max(o.Timeout, longest+2*time.Second)
	}
	return location.New(l.Name, l.Kind, d, o), nil
}

func openAll[C, T any](configs []C, env location.Env, open func(C, location.Env) (T, error)) ([]T, error) {
	var out []T
	for _, c := range configs {
		x, err := open(c, env)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// longestTimeout finds the longest field called Timeout anywhere in v.
func longestTimeout(v reflect.Value) time.Duration {
	var longest time.Duration
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return longestTimeout(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			longest = max(longest, longestTimeout(v.Index(i)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if f.Type() == durationType && v.Type().Field(i).Name == "Timeout" {
				longest = max(longest, time.Duration(f.Int()))
			} else {
				longest = max(longest, longestTimeout(f))
			}
		}
	}
	return longest
}

// snapshot is the stored form of a location.
type snapshot struct {
	Name   string `json:"name"`
	Dir    string `json:"dir"`
	Config any    `json:"config"`
}

// Snapshot gives the value-free configuration of one location, defaults included, for rotation.Place.Config. OpenSnapshot reads
// it. The error is NotFound when there is no such location.
func (c *Config) Snapshot(name string) (json.RawMessage, error) {
	l, ok := c.Locations[name]
	if !ok {
		return nil, fault.Newf(fault.NotFound, "describe location %s: the configuration has none of this name", quote(name))
	}
	b, err := json.Marshal(snapshot{Name: name, Dir: c.Dir, Config: jsonOf(ordered(l.tree()))})
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "describe location "+name)
	}
	return b, nil
}
