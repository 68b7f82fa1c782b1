package config

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/keywright/keywright/internal/apikey"
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
}

// common are the fields that every location has beside those of its kind.
type common struct {
	Kind       string        `yaml:"kind" required:"true" help:"The sort of place; keywright locations lists them."`
	Home       apikey.Name   `yaml:"home" help:"The key whose value belongs in this place, when another key uses it in a wave for its test. The place gets that value back before approval."`
	Production bool          `yaml:"production" default:"true" help:"Whether production depends on the place. Places with false come first in the short form of waves."`
	Timeout    time.Duration `yaml:"timeout" help:"How long one call of the place may take; without it 30s."`
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
			r.bad(n, meant("", slices.Collect(maps.Keys(r.kinds)), "allowed: "), `"kind" is missing in %s`, a.what)
			return
		}
		name, ok := r.text(es[i].val)
		kind, known := r.kinds[name]
		if !ok || !known {
			r.bad(es[i].val, meant(name, slices.Collect(maps.Keys(r.kinds)), "allowed: "), "unknown kind %s in %s", quote(name), a.what)
			return
		}
		l.read(r, n, es, kind, a)
	})
}

// read fills in l from the entries, dividing them between the kind's own fields and the common ones.
func (l *Location) read(r *reader, n ast.Node, es []entry, kind location.Kind, a at) {
	var c common
	prefill(reflect.ValueOf(&c).Elem())
	fields := reflect.ValueOf(kind.Config())
	prefill(fields.Elem())
	own := map[string]bool{}
	for _, f := range fieldsOf(fields.Elem().Type()) {
		own[f.name] = true
	}
	shared := map[string]bool{}
	for _, f := range fieldsOf(reflect.TypeFor[common]()) {
		shared[f.name] = true
	}
	var ours, theirs []entry
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
	return location.New(l.Name, l.Kind, d, location.Options{Timeout: l.Timeout}), nil
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
