package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

const (
	maxNodes    = 100_000 // visited in one file, aliases followed; a file of 1,000 keys has a tenth of it
	maxDepth    = 32
	maxProblems = 50
)

// at says where something stands: path is its place in the tree, for finding it again; what is the thing it belongs to, for people.
type at struct{ path, what string }

func (a at) key(name string) at { return at{a.path + "." + name, a.what} }
func (a at) item(i int) at      { return at{a.path + "[" + strconv.Itoa(i) + "]", a.what} }

// position is a line and column in a file.
type position struct {
	file         string
	line, column int
}

// special is implemented by types that read a node themselves.
type special interface {
	decode(r *reader, n ast.Node, a at)
}

// reader turns nodes into Go values by their tags and collects what is wrong.
type reader struct {
	file    string
	kinds   kinds
	classes map[string]*Class
	// production is whether the key being read is one of production.
	production bool
	anchors    map[string]ast.Node
	open       map[string]bool // aliases being followed
	nodes      int
	depth      int
	places     map[string]position
	problems   []*Problem
	warnings   []Warning
	more       int
	known      map[reflect.Type][]field // by fieldsOf
	named      map[reflect.Type]map[string]bool
	filled     map[reflect.Type]bool    // whether prefill has anything to do
	defaults   map[string]reflect.Value // by type and text
}

// fieldsOf is the function of that name, with a memory.
func (r *reader) fieldsOf(t reflect.Type) []field {
	fs, ok := r.known[t]
	if !ok {
		fs = fieldsOf(t)
		r.known[t] = fs
	}
	return fs
}

// namesOf gives the names of fieldsOf. It is not to be changed.
func (r *reader) namesOf(t reflect.Type) map[string]bool {
	names, ok := r.named[t]
	if !ok {
		names = map[string]bool{}
		for _, f := range r.fieldsOf(t) {
			names[f.name] = true
		}
		r.named[t] = names
	}
	return names
}

func newReader() *reader {
	return &reader{
		places: map[string]position{}, open: map[string]bool{}, anchors: map[string]ast.Node{},
		known: map[reflect.Type][]field{}, named: map[reflect.Type]map[string]bool{}, filled: map[reflect.Type]bool{}, defaults: map[string]reflect.Value{},
	}
}

func (r *reader) report(p *Problem) {
	for _, q := range r.problems {
		if *q == *p {
			return // an alias brings the same place twice
		}
	}
	if len(r.problems) >= maxProblems {
		r.more++
		return
	}
	r.problems = append(r.problems, p)
}

// bad reports a problem at a node.
func (r *reader) bad(n ast.Node, hint, format string, args ...any) {
	p := r.where(n)
	r.report(&Problem{File: p.file, Line: p.line, Column: p.column, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// badAt reports a problem at a place that was read before, or at the nearest one around it.
func (r *reader) badAt(path, hint, format string, args ...any) {
	p := r.find(path)
	r.report(&Problem{File: p.file, Line: p.line, Column: p.column, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (r *reader) warnAt(path, hint, format string, args ...any) {
	p := r.find(path)
	r.warnings = append(r.warnings, Warning{Problem{File: p.file, Line: p.line, Column: p.column, Message: fmt.Sprintf(format, args...), Hint: hint}})
}

func (r *reader) find(path string) position {
	for path != "" {
		if p, ok := r.places[path]; ok {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return position{file: r.file}
}

func (r *reader) where(n ast.Node) position {
	if n != nil {
		if t := tokenOf(n); t != nil && t.Position != nil {
			return position{r.file, t.Position.Line, t.Position.Column}
		}
	}
	return position{file: r.file}
}

// tokenOf gives the first token of a node: of a block mapping that of its first key, not of the colon.
func tokenOf(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// resolve follows anchors, aliases and tags to the node that counts. ok is false when a problem was reported. The caller calls
// done when it has finished with the node.
func (r *reader) resolve(n ast.Node) (_ ast.Node, done func(), ok bool) {
	done = func() {}
	for range maxDepth {
		if r.nodes++; r.nodes > maxNodes {
			if r.nodes == maxNodes+1 {
				r.bad(n, "split it into several files, or use fewer aliases", "the file holds more than %d entries, aliases counted", maxNodes)
			}
			return nil, done, false
		}
		switch x := n.(type) {
		case *ast.AnchorNode:
			n = x.Value
		case *ast.AliasNode:
			name := strings.TrimPrefix(x.Value.String(), "*")
			to, found := r.anchors[name]
			switch {
			case !found:
				r.bad(x, meant(name, slices.Collect(maps.Keys(r.anchors)), "anchors: "), "the alias %s names no anchor", quote(name))
				return nil, done, false
			case r.open[name]:
				r.bad(x, "", "the alias %s leads back to itself", quote(name))
				return nil, done, false
			}
			r.open[name] = true
			before := done
			done = func() {
				delete(r.open, name)
				before()
			}
			n = to
		case *ast.TagNode:
			switch x.Start.Value {
			case "!!str", "!!int", "!!bool", "!!map", "!!seq", "!!float":
			default:
				r.bad(x, "leave it out", "the tag %s has no meaning here", quote(x.Start.Value))
				return nil, done, false
			}
			n = x.Value
		case nil:
			return nil, done, false
		default:
			return n, done, true
		}
	}
	r.bad(n, "", "anchors and tags are nested too deeply")
	return nil, done, false
}

// entry is one line of a mapping.
type entry struct {
	name string
	key  ast.Node
	val  ast.Node
}

// entries gives the entries of a mapping in order, merge keys (<<) resolved, and reports what is no mapping and names that are there
// twice. use is called once with them.
func (r *reader) entries(n ast.Node, a at, use func([]entry)) {
	n, done, ok := r.resolve(n)
	defer done()
	if !ok {
		return
	}
	if r.depth++; r.depth > maxDepth {
		r.depth--
		r.bad(n, "", "it is nested too deeply")
		return
	}
	defer func() { r.depth-- }()
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	case *ast.NullNode:
		r.bad(n, "take the name out, or put something under it", "%s is empty", a.what)
		return
	default:
		r.bad(n, "write NAME: followed by a value, one per line", "%s must be a set of names with values, not %s", a.what, sortOf(n))
		return
	}
	var merged []entry
	out := make([]entry, 0, len(values))
	seen := names{}
	for _, v := range values {
		if v.Key.IsMergeKey() {
			r.merge(v.Value, a, &merged)
			continue
		}
		name, ok := r.text(v.Key)
		if !ok {
			r.bad(v, "", "a name in %s must be a plain word", a.what)
			continue
		}
		if first := seen.of(out, name); first != nil {
			r.bad(v.Key, fmt.Sprintf("first on line %d; keep one", r.where(first).line), "%s is given twice in %s", quote(name), a.what)
			continue
		}
		out = append(out, entry{name, v.Key, v.Value})
	}
	for _, e := range merged {
		if seen.of(out, e.name) == nil {
			out = append(out, e)
		}
	}
	use(out)
}

// names finds entries by their names. Few are looked through, since a map for each of thousands of small mappings costs more than it saves.
type names struct {
	byName map[string]ast.Node
	noted  int // entries that are in byName
}

// of gives the key of the entry of es with this name, or nil. es is the one of the call before, or that with more behind it.
func (n *names) of(es []entry, name string) ast.Node {
	const few = 16
	if len(es) <= few {
		for i := range es {
			if es[i].name == name {
				return es[i].key
			}
		}
		return nil
	}
	if n.byName == nil {
		n.byName = make(map[string]ast.Node, cap(es))
	}
	for ; n.noted < len(es); n.noted++ {
		n.byName[es[n.noted].name] = es[n.noted].key
	}
	return n.byName[name]
}

func (r *reader) merge(n ast.Node, a at, into *[]entry) {
	base, done, ok := r.resolve(n)
	defer done()
	if !ok {
		return
	}
	if seq, isList := base.(*ast.SequenceNode); isList {
		for _, x := range seq.Values {
			r.entries(x, a, func(es []entry) { *into = append(*into, es...) })
		}
		return
	}
	r.entries(base, a, func(es []entry) { *into = append(*into, es...) })
}

// items gives the elements of a list; what stands alone is a list of one when alone is true.
func (r *reader) items(n ast.Node, a at, alone bool, use func([]ast.Node)) {
	n, done, ok := r.resolve(n)
	defer done()
	if !ok {
		return
	}
	if r.depth++; r.depth > maxDepth {
		r.depth--
		r.bad(n, "", "it is nested too deeply")
		return
	}
	defer func() { r.depth-- }()
	switch x := n.(type) {
	case *ast.SequenceNode:
		use(x.Values)
	case *ast.NullNode:
		r.bad(n, "write [] for none, or take the name out", "%s is empty", lastName(a))
	default:
		if alone {
			use([]ast.Node{n})
			return
		}
		r.bad(n, "write [A, B], or one per line with a dash in front", "%s in %s must be a list, not %s", quote(lastName(a)), a.what, sortOf(n))
	}
}

func lastName(a at) string {
	p := a.path[strings.LastIndexByte(a.path, '.')+1:]
	name, _, _ := strings.Cut(p, "[")
	return name
}

// text gives the text of a scalar as it stands in the file, or ok false.
func (r *reader) text(n ast.Node) (s string, ok bool) {
	switch x := n.(type) {
	case *ast.StringNode:
		return x.Value, true
	case *ast.LiteralNode:
		return x.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return x.GetToken().Value, true
	}
	return "", false
}

func sortOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a set of names"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode:
		return "a number"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	}
	return "something else"
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	refType      = reflect.TypeFor[secret.Ref]()
)

// value reads a node into v, whose type decides the form.
func (r *reader) value(n ast.Node, v reflect.Value, a at) {
	if _, known := r.places[a.path]; !known {
		r.places[a.path] = r.where(n)
	}
	if v.CanAddr() {
		if s, ok := v.Addr().Interface().(special); ok {
			s.decode(r, n, a)
			return
		}
	}
	switch {
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			r.prefill(v)
		}
		r.value(n, v.Elem(), a)
		return
	case v.Type() == durationType, v.CanAddr() && isText(v):
		r.scalar(n, v, a)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if f, ok := soleField(r.fieldsOf(v.Type())); ok && r.isShort(n) {
			r.field(n, f, v.FieldByIndex(f.index), at{a.path + "." + f.name, a.what}, lastName(a))
			return
		}
		r.structure(n, v, a, nil)
	case reflect.Slice:
		r.items(n, a, false, func(nodes []ast.Node) {
			list := reflect.MakeSlice(v.Type(), len(nodes), len(nodes))
			for i, x := range nodes {
				r.prefill(list.Index(i))
				r.value(x, list.Index(i), a.item(i))
			}
			v.Set(list)
		})
	case reflect.Map:
		r.entries(n, at{a.path, lastName(a)}, func(es []entry) {
			m := reflect.MakeMapWithSize(v.Type(), len(es))
			for _, e := range es {
				x := reflect.New(v.Type().Elem()).Elem()
				r.prefill(x)
				r.places[a.key(e.name).path] = r.where(e.key)
				r.value(e.val, x, a.key(e.name))
				m.SetMapIndex(reflect.ValueOf(e.name).Convert(v.Type().Key()), x)
			}
			v.Set(m)
		})
	default:
		r.scalar(n, v, a)
	}
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// structure reads a mapping into a struct. other is asked for names that the struct does not have.
func (r *reader) structure(n ast.Node, v reflect.Value, a at, skip map[string]bool) {
	r.entries(n, a, func(es []entry) { r.fields(n, es, v, a, skip) })
}

// fields reads entries into the fields of v. Names in skip were read by the caller.
func (r *reader) fields(n ast.Node, es []entry, v reflect.Value, a at, skip map[string]bool) {
	fs := r.fieldsOf(v.Type())
	given := make([]bool, len(fs)+1) // the last stands for a name that is none of them
	for _, e := range es {
		if skip[e.name] {
			continue
		}
		i := indexOf(fs, e.name)
		if i == len(fs) {
			names := slices.Collect(maps.Keys(skip))
			for _, f := range fs {
				names = append(names, f.name)
			}
			r.bad(e.key, meant(e.name, names, "allowed here: "), "unknown field %s in %s", quote(e.name), a.what)
			given[indexOf(fs, nearest(e.name, names))] = true // it is not missing as well
			continue
		}
		given[i] = true
		b := a.key(e.name)
		r.places[b.path] = r.where(e.val)
		r.field(e.val, fs[i], v.FieldByIndex(fs[i].index), b, e.name)
	}
	for i := range fs {
		if f := &fs[i]; f.required && !given[i] {
			r.bad(n, f.help, "%q is missing in %s", f.name, a.what)
		}
	}
}

// indexOf gives the index of the field with this name, or len(fs).
func indexOf(fs []field, name string) int {
	for i := range fs {
		if fs[i].name == name {
			return i
		}
	}
	return len(fs)
}

// soleField gives the field that may stand alone in place of the whole struct: the only required one. So a command may be written as its
// line, and a request as its address.
func soleField(fields []field) (sole field, ok bool) {
	for _, f := range fields {
		if f.required {
			if ok {
				return field{}, false
			}
			sole, ok = f, true
		}
	}
	return sole, ok && (sole.typ.Kind() == reflect.String || isLine(sole))
}

// isLine reports whether a field is a program with its arguments, which may be written as one line.
func isLine(f field) bool {
	return f.typ == reflect.TypeFor[[]string]() && (f.name == "argv" || f.name == "command")
}

// isShort reports whether a node is no mapping.
func (r *reader) isShort(n ast.Node) bool {
	n, done, ok := r.resolve(n)
	defer done()
	if !ok {
		return false
	}
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode, *ast.SequenceNode:
		return true
	}
	return false
}

// field reads one field and looks at what its tags demand. name is what people wrote for it.
func (r *reader) field(n ast.Node, f field, v reflect.Value, a at, name string) {
	before := len(r.problems) + r.more
	if isLine(f) {
		var argv Argv
		argv.decode(r, n, a)
		v.Set(reflect.ValueOf([]string(argv)))
	} else {
		r.value(n, v, a)
	}
	if len(r.problems)+r.more == before {
		f.name = name
		r.check(n, f, v, a)
	}
}

// check looks at what the tags of a field demand of its value.
func (r *reader) check(n ast.Node, f field, v reflect.Value, a at) {
	if f.required && v.IsZero() {
		r.bad(n, f.help, "%q in %s is empty", f.name, a.what)
	}
	if len(f.enum) > 0 && v.Kind() == reflect.String && !slices.Contains(f.enum, v.String()) {
		r.bad(n, meant(v.String(), f.enum, "allowed here: "), "%q in %s cannot be %s", f.name, a.what, quote(v.String()))
	}
}

// scalar reads one word into v.
func (r *reader) scalar(n ast.Node, v reflect.Value, a at) {
	n, done, ok := r.resolve(n)
	defer done()
	if !ok {
		return
	}
	name := lastName(a)
	s, ok := r.text(n)
	if !ok {
		if _, null := n.(*ast.NullNode); null {
			r.bad(n, "take the name out, or give it a value", "%q in %s is empty", name, a.what)
			return
		}
		r.bad(n, "", "%q in %s must be %s, not %s", name, a.what, wanted(v), sortOf(n))
		return
	}
	shown := func() string {
		if v.Type() == refType {
			return "this"
		}
		return quote(s)
	}
	if v.CanAddr() && isText(v) {
		t, _ := v.Addr().Interface().(encoding.TextUnmarshaler)
		if err := t.UnmarshalText([]byte(s)); err != nil {
			msg, _ := strings.CutPrefix(err.Error(), "parse reference: ")
			r.bad(n, fault.HintOf(err), "%q in %s: %s", name, a.what, msg)
		}
		return
	}
	if v.Type() == durationType {
		d, err := parseDuration(s)
		if err != nil {
			r.bad(n, "write a number and a unit: 90d, 24h, 5m, 30s, 1w, 1h30m", "%q in %s is no length of time: %s", name, a.what, shown())
			return
		}
		v.SetInt(int64(d))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if _, isBool := n.(*ast.BoolNode); isBool {
			r.bad(n, fmt.Sprintf("if you mean the text, write %q", s), "%q in %s must be a text, not true or false", name, a.what)
			return
		}
		v.SetString(s)
	case reflect.Bool:
		if _, isBool := n.(*ast.BoolNode); !isBool {
			r.bad(n, "without quotation marks", "%q in %s must be true or false, not %s", name, a.what, shown())
			return
		}
		v.SetBool(strings.EqualFold(s, "true"))
	case reflect.Int, reflect.Int64, reflect.Int32:
		i, err := strconv.ParseInt(s, 10, 32)
		if errors.Is(err, strconv.ErrRange) {
			r.bad(n, "", "%q in %s must be %d at most, not %s", name, a.what, math.MaxInt32, shown())
			return
		}
		if _, isInt := n.(*ast.IntegerNode); !isInt || err != nil {
			r.bad(n, "", "%q in %s must be a whole number, not %s", name, a.what, shown())
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || f != f {
			r.bad(n, "", "%q in %s must be a number, not %s", name, a.what, shown())
			return
		}
		v.SetFloat(f)
	default:
		r.bad(n, "", "%q in %s cannot be set in a file", name, a.what)
	}
}

func wanted(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return "a length of time such as 24h"
	case v.Type() == refType:
		return "a reference: env:NAME, file:PATH or cmd:PROGRAM ARGUMENTS"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "a text"
}

// prefill gives a struct, and those inside it, the defaults of its tags. It reports whether there were any.
func (r *reader) prefill(v reflect.Value) bool {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || !v.CanAddr() {
		return false
	}
	if any, known := r.filled[v.Type()]; known && !any {
		return false
	}
	filled := false
	switch v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler, *Batch, *Location:
	default:
		for _, f := range r.fieldsOf(v.Type()) {
			fv := v.FieldByIndex(f.index)
			if f.def == "" {
				filled = r.prefill(fv) || filled
				continue
			}
			filled = true
			id := f.typ.String() + " " + f.def
			def, known := r.defaults[id]
			if !known {
				def = reflect.New(f.typ).Elem()
				// A default that cannot be read stays zero; a test reads them all.
				if file, err := parser.ParseBytes([]byte(f.def), 0); err == nil && len(file.Docs) > 0 {
					newReader().value(file.Docs[0].Body, def, at{path: "." + f.name})
				}
				r.defaults[id] = def
			}
			fv.Set(def)
		}
	}
	r.filled[v.Type()] = filled
	return filled
}
