package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/invopop/jsonschema"

	"github.com/keywright/keywright/internal/consumer"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/all"
)

// SchemaID is the name of the JSON schema.
const SchemaID = "https://keywright.dev/keywright.schema.json"

// described is implemented by types that read a node themselves and say what they accept.
type described interface {
	schema() *jsonschema.Schema
	words() string
}

var (
	_ described = Argv{}
	_ described = Batch{}
	_ described = Store("")
	_ described = Window{}
)

func (Argv) schema() *jsonschema.Schema {
	one := uint64(1)
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string", MinLength: &one}, {Type: "array", MinItems: &one, Items: &jsonschema.Schema{Type: "string"}}}}
}
func (Argv) words() string { return "list of words, or a line" }

func (Batch) schema() *jsonschema.Schema {
	const share = `([1-9][0-9]?|100)%`
	one := uint64(1)
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		{Type: "integer", Minimum: "1"},
		{Type: "string", Pattern: `^([1-9][0-9]*|` + share + `( */ *` + share + `)*)$`},
		{Type: "array", MinItems: &one, Items: &jsonschema.Schema{Type: "string", Pattern: "^" + share + "$"}},
	}}
}
func (Batch) words() string { return "share, number, or list of shares" }

func (Store) schema() *jsonschema.Schema {
	one := uint64(1)
	return &jsonschema.Schema{Type: "string", MinLength: &one}
}
func (Store) words() string { return "path, URL or reference" }

func (Window) schema() *jsonschema.Schema {
	const day = `(Mon|Tue|Wed|Thu|Fri|Sat|Sun)`
	return &jsonschema.Schema{Type: "string", Pattern: `^(daily|` + day + `(-` + day + `)?)(,(` + day + `(-` + day + `)?))* +[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]( +[A-Za-z0-9_+/-]+)?$`}
}
func (Window) words() string { return "DAYS FROM-TO ZONE" }

// Schema gives the JSON schema (draft 2020-12) of a configuration file, for editors. What it accepts is a little more than what Load
// accepts, since it sees no relations; both know the same fields.
func Schema() ([]byte, error) { return schemaOf(all.All()) }

func schemaOf(list []location.Kind) ([]byte, error) {
	s := &schemer{defs: jsonschema.Definitions{}}
	root := s.object(reflect.TypeFor[Config]())
	root.Version, root.ID, root.Title = jsonschema.Version, SchemaID, "keywright.yaml"
	root.Description = "Configuration of Keywright. Values of keys never stand here; references (env:, file:, cmd:) say where they can be read."
	root.Required = nil // an included file need not have all of it
	s.defs["Location"] = s.location(list)
	root.Definitions = s.defs
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "make schema")
	}
	return append(b, '\n'), nil
}

type schemer struct{ defs jsonschema.Definitions }

// location gives the schema of a location: which fields there are depends on its kind.
func (s *schemer) location(list []location.Kind) *jsonschema.Schema {
	kind := &jsonschema.Schema{Type: "string", Description: fieldsOf(reflect.TypeFor[common]())[0].help}
	out := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), Required: []string{"kind"}, Description: "A place that holds a copy of a key."}
	out.Properties.Set("kind", kind)
	for _, k := range list {
		kind.Enum = append(kind.Enum, k.Name)
		own := s.object(reflect.TypeOf(k.Config()).Elem())
		base := s.object(reflect.TypeFor[common]())
		for p := base.Properties.Oldest(); p != nil; p = p.Next() {
			if _, has := own.Properties.Get(p.Key); !has {
				own.Properties.Set(p.Key, p.Value)
			}
		}
		own.Properties.Set("kind", &jsonschema.Schema{Const: k.Name})
		own.Required = append([]string{"kind"}, own.Required...)
		if m, err := location.ParseMeta(k.Meta); err == nil {
			own.Description = m.Summary
		}
		name := "Location." + k.Name
		s.defs[name] = own
		when := jsonschema.NewProperties()
		when.Set("kind", &jsonschema.Schema{Const: k.Name})
		out.AllOf = append(out.AllOf, &jsonschema.Schema{
			If:   &jsonschema.Schema{Properties: when, Required: []string{"kind"}},
			Then: &jsonschema.Schema{Ref: "#/$defs/" + name},
		})
	}
	return out
}

// object gives the schema of a struct by its tags.
func (s *schemer) object(t reflect.Type) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema}
	for _, f := range fieldsOf(t) {
		p := s.of(f.typ)
		if isLine(f) {
			p = Argv{}.schema()
		}
		if p.Ref != "" || p.Description != "" {
			p = &jsonschema.Schema{AllOf: []*jsonschema.Schema{p}}
		}
		p.Description = f.help
		for _, e := range f.enum {
			p.Enum = append(p.Enum, e)
		}
		if f.def != "" {
			var d any
			if err := yaml.Unmarshal([]byte(f.def), &d); err == nil {
				if p.Type == "string" {
					d = f.def
				}
				p.Default = d
			}
		}
		out.Properties.Set(f.name, p)
		if f.required {
			out.Required = append(out.Required, f.name)
		}
	}
	return out
}

func (s *schemer) of(t reflect.Type) *jsonschema.Schema {
	if d, ok := reflect.Zero(t).Interface().(described); ok {
		return d.schema()
	}
	switch t {
	case durationType:
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Const: 0}, {Type: "string", Pattern: `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+)$`}}}
	case refType:
		return &jsonschema.Schema{Type: "string", Pattern: `^(env|file|cmd):.+`}
	}
	switch t.Kind() {
	case reflect.Pointer:
		if t.Elem() == reflect.TypeFor[Location]() {
			return &jsonschema.Schema{Ref: "#/$defs/Location"}
		}
		return s.of(t.Elem())
	case reflect.Struct:
		name := t.Name()
		if t.PkgPath() != reflect.TypeFor[Config]().PkgPath() {
			name = path.Base(t.PkgPath()) + "." + name
		}
		if _, known := s.defs[name]; !known {
			s.defs[name] = nil // against a type that holds itself
			whole := s.object(t)
			if f, ok := soleField(fieldsOf(t)); ok {
				short := s.of(f.typ)
				if isLine(f) {
					short = Argv{}.schema()
				}
				whole = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{short, whole}}
			}
			s.defs[name] = whole
		}
		return &jsonschema.Schema{Ref: "#/$defs/" + name}
	case reflect.Slice:
		if strings.HasPrefix(t.Name(), "list[") {
			one := s.of(t.Elem())
			return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{one, {Type: "array", Items: one}}}
		}
		return &jsonschema.Schema{Type: "array", Items: s.of(t.Elem())}
	case reflect.Map:
		return &jsonschema.Schema{Type: "object", AdditionalProperties: s.of(t.Elem())}
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return &jsonschema.Schema{Type: "integer"}
	case reflect.Float64:
		return &jsonschema.Schema{Type: "number"}
	}
	return &jsonschema.Schema{Type: "string"}
}

// Reference gives the tables of fields for docs/configuration.md, in Markdown.
func Reference() string {
	var b strings.Builder
	sections := []struct {
		title string
		t     reflect.Type
	}{
		{"The file", reflect.TypeFor[Config]()},
		{"provider", reflect.TypeFor[Provider]()},
		{"state", reflect.TypeFor[State]()},
		{"classes", reflect.TypeFor[Class]()},
		{"keys", reflect.TypeFor[Key]()},
		{"keys: waves", reflect.TypeFor[Wave]()},
		{"keys: test", reflect.TypeFor[Test]()},
		{"keys: test: http", reflect.TypeFor[HTTPTest]()},
		{"locations", reflect.TypeFor[common]()},
		{"locations: reload", reflect.TypeFor[consumer.ReloadConfig]()},
		{"locations: confirm", reflect.TypeFor[consumer.ConfirmConfig]()},
		{"locations: probe", reflect.TypeFor[consumer.ProbeConfig]()},
		{"command of reload, confirm and probe", reflect.TypeFor[consumer.CommandConfig]()},
		{"http of reload", reflect.TypeFor[consumer.ReloadHTTP]()},
		{"http of confirm", reflect.TypeFor[consumer.ConfirmHTTP]()},
		{"http of probe", reflect.TypeFor[consumer.ProbeHTTP]()},
		{"log of probe", reflect.TypeFor[consumer.LogConfig]()},
		{"gateway", reflect.TypeFor[Gateway]()},
		{"gateway: keys", reflect.TypeFor[GatewayKey]()},
		{"gateway: failover_groups", reflect.TypeFor[FailoverGroup]()},
		{"gateway: identities", reflect.TypeFor[Identities]()},
		{"gateway: identities: oidc", reflect.TypeFor[OIDC]()},
		{"gateway: apps and other_apps", reflect.TypeFor[App]()},
		{"gateway: cache", reflect.TypeFor[GatewayCache]()},
		{"gateway: queue", reflect.TypeFor[GatewayQueue]()},
		{"gateway: traces", reflect.TypeFor[GatewayTraces]()},
		{"gateway: tls", reflect.TypeFor[GatewayTLS]()},
		{"contacts", reflect.TypeFor[Contact]()},
		{"notify", reflect.TypeFor[Channel]()},
		{"notify: webhook", reflect.TypeFor[Webhook]()},
		{"limits", reflect.TypeFor[Limits]()},
	}
	for _, s := range sections {
		fmt.Fprintf(&b, "### %s\n\n| Field | Form | Default | Meaning |\n|---|---|---|---|\n", s.title)
		for _, f := range fieldsOf(s.t) {
			def := ""
			switch {
			case f.required:
				def = "required"
			case f.def != "":
				def = "`" + f.def + "`"
			}
			help := f.help
			if len(f.enum) > 0 {
				help += " One of `" + strings.Join(f.enum, "`, `") + "`."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, formOf(f), def, strings.ReplaceAll(help, "|", `\|`))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func formOf(f field) string {
	if isLine(f) {
		return Argv{}.words()
	}
	return form(f.typ)
}

// form says in words what a field takes.
func form(t reflect.Type) string {
	if d, ok := reflect.Zero(t).Interface().(described); ok {
		return d.words()
	}
	switch t {
	case durationType:
		return "length of time"
	case refType:
		return "reference"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return form(t.Elem())
	case reflect.Struct:
		if f, ok := soleField(fieldsOf(t)); ok {
			return "`" + f.name + "` alone, or fields"
		}
		return "fields"
	case reflect.Map:
		if t.Elem().Kind() == reflect.String {
			return "names with texts"
		}
		return "names with fields"
	case reflect.Slice:
		if strings.HasPrefix(t.Name(), "list[") {
			return "fields, or a list of them"
		}
		return "list of " + plural(form(t.Elem()))
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Float64:
		return "number"
	}
	return "text"
}

func plural(s string) string {
	switch s {
	case "text":
		return "texts"
	case "fields":
		return "entries"
	}
	return s
}

// kindNames gives the names of kinds in order.
func (ks kinds) names() []string { return slices.Sorted(maps.Keys(ks)) }

// The generated part of docs/configuration.md stands between these lines.
const (
	pageBegin = "<!-- zz_gen: fields, written by internal/tools/genconfig; do not edit -->\n"
	pageEnd   = "<!-- zz_gen: end -->\n"
)

// FillPage gives the text of docs/configuration.md with the tables of Reference between its markers. The error is Invalid when the
// markers are missing.
func FillPage(page string) (string, error) {
	before, rest, ok := strings.Cut(page, pageBegin)
	_, after, end := strings.Cut(rest, pageEnd)
	if !ok || !end {
		return "", fault.New(fault.Invalid, "fill page: the markers are missing")
	}
	return before + pageBegin + "\n" + Reference() + pageEnd + after, nil
}
