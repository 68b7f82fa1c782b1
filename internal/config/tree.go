package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
)

// tree gives the location as it would stand in a file, defaults included.
func (l *Location) tree() map[string]any {
	out := map[string]any{}
	c := common{Kind: l.Kind, Home: l.Home, Production: l.Production, Timeout: l.Timeout, Reload: l.Reload, Confirm: l.Confirm, Probe: l.Probe}
	for _, item := range treeOf(reflect.ValueOf(c)) {
		out[fmt.Sprint(item.Key)] = item.Value
	}
	for _, item := range treeOf(reflect.ValueOf(l.Fields).Elem()) {
		out[fmt.Sprint(item.Key)] = item.Value
	}
	return out
}

// treeOf gives the fields of a struct by their names in a file. Fields that are zero by default and zero are left out.
func treeOf(v reflect.Value) yaml.MapSlice {
	var out yaml.MapSlice
	for _, f := range fieldsOf(v.Type()) {
		x := v.FieldByIndex(f.index)
		if x.IsZero() && f.def == "" && !f.always {
			continue
		}
		out = append(out, yaml.MapItem{Key: f.name, Value: plain(x)})
	}
	return out
}

// plain gives a value in the words of a file.
func plain(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case *Location:
		return ordered(x.tree())
	case Batch:
		return x.String()
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err == nil {
			return string(b)
		}
	}
	if v.Type() == durationType {
		return formatDuration(time.Duration(v.Int()))
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		return treeOf(v)
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = plain(v.Index(i))
		}
		return out
	case reflect.Map:
		m := map[string]any{}
		for _, k := range v.MapKeys() {
			m[k.String()] = plain(v.MapIndex(k))
		}
		return ordered(m)
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Float64:
		return v.Float()
	}
	return v.Int()
}

// jsonOf turns the ordered maps of a tree into such as encoding/json knows.
func jsonOf(v any) any {
	switch x := v.(type) {
	case yaml.MapSlice:
		m := map[string]any{}
		for _, item := range x {
			m[fmt.Sprint(item.Key)] = jsonOf(item.Value)
		}
		return m
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = jsonOf(x[i])
		}
		return out
	}
	return v
}

// ordered sorts names, kind before all others.
func ordered(m map[string]any) yaml.MapSlice {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == "kind" || b != "kind" && a < b:
			return -1
		}
		return 1
	})
	var out yaml.MapSlice
	for _, n := range names {
		out = append(out, yaml.MapItem{Key: n, Value: m[n]})
	}
	return out
}
