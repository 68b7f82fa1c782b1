package kubernetes

import (
	"slices"
)

// reference is one place in a pod specification that names a Secret.
type reference struct {
	name string
	// carries is true when the value of the asked field reaches a container by it.
	carries bool
	// set writes another name into the specification.
	set func(name string)
}

// references finds every place of a pod specification that hands a Secret to a container: environment, environment from, volumes
// and projected volumes. Pull secrets hand nothing to a container and are left out.
func references(spec map[string]any, field string) []reference {
	var found []reference
	add := func(holder map[string]any, key string, carries bool) {
		if name, ok := holder[key].(string); ok && name != "" {
			found = append(found, reference{name: name, carries: carries, set: func(to string) { holder[key] = to }})
		}
	}
	for _, list := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for _, c := range objects(spec[list]) {
			for _, env := range objects(c["env"]) {
				ref := object(object(env["valueFrom"])["secretKeyRef"])
				add(ref, "name", ref["key"] == field)
			}
			for _, from := range objects(c["envFrom"]) {
				add(object(from["secretRef"]), "name", true)
			}
		}
	}
	for _, volume := range objects(spec["volumes"]) {
		source := object(volume["secret"])
		add(source, "secretName", itemsCarry(source, field))
		for _, projected := range objects(object(volume["projected"])["sources"]) {
			source := object(projected["secret"])
			add(source, "name", itemsCarry(source, field))
		}
	}
	return found
}

// itemsCarry reports whether a volume source shows the field: without items it shows every field.
func itemsCarry(source map[string]any, field string) bool {
	items := objects(source["items"])
	return len(items) == 0 || slices.ContainsFunc(items, func(item map[string]any) bool { return item["key"] == field })
}

// names gives the sorted names of the Secrets that carry the field into spec and are wanted.
func names(spec map[string]any, field string, wanted func(string) bool) []string {
	var out []string
	for _, r := range references(spec, field) {
		if r.carries && wanted(r.name) {
			out = append(out, r.name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// point makes every reference of spec that carries the field and is wanted name another Secret. It changes nothing else.
func point(spec map[string]any, field string, wanted func(string) bool, to string) {
	for _, r := range references(spec, field) {
		if r.carries && wanted(r.name) {
			r.set(to)
		}
	}
}

// object gives v as a JSON object, or nil.
func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// objects gives the JSON objects in the list v.
func objects(v any) []map[string]any {
	list, _ := v.([]any)
	out := make([]map[string]any, 0, len(list))
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// texts gives the members of a JSON object that are strings.
func texts(v any) map[string]string {
	out := map[string]string{}
	for k, e := range object(v) {
		if s, ok := e.(string); ok {
			out[k] = s
		}
	}
	return out
}

// at gives the member of nested JSON objects that path leads to, or nil.
func at(o map[string]any, path ...string) any {
	var v any = o
	for _, p := range path {
		v = object(v)[p]
	}
	return v
}

func text(o map[string]any, path ...string) string {
	s, _ := at(o, path...).(string)
	return s
}

// number gives an integer of a decoded JSON object, or zero.
func number(o map[string]any, path ...string) int64 {
	switch n := at(o, path...).(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}
