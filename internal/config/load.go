package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/all"
)

const (
	maxFile     = 1 << 20
	maxFiles    = 64
	maxBrackets = 100 // open at once, before the parser sees them
	// The parser's time grows with the square of the entries side by side: 5,000 take it half a second.
	maxLines    = 50_000
	maxSiblings = 5_000
)

// Options are the surroundings of Load. The zero value is the real ones.
type Options struct {
	// Kinds are the sorts of places; nil means those of location/all.
	Kinds []location.Kind
	// Dirs are the directories for what the files do not say; nil means those of the user.
	Dirs *Dirs
	// SkipSamePlace leaves out the warning that two locations are the same place. To know that, each place is asked where it is, which for a
	// file means following every link of its path: of a thousand files as long as all the rest of Load together.
	SkipSamePlace bool
}

// Load reads and checks the files, which together make one configuration. Maps of several files are joined, lists are appended, and
// what is defined twice is an error. Relative paths start at the directory of the first file. No paths at all mean the file that Find
// gives for the current directory.
//
// When something is wrong in the files the error is an *Errors, with all that was found. Further kinds: NotFound (no such file),
// Forbidden (a file or a directory above it can be changed by others, or it cannot be read).
func Load(ctx context.Context, paths []string, o Options) (*Config, []Warning, error) {
	if o.Kinds == nil {
		o.Kinds = all.All()
	}
	dirs := o.Dirs
	if dirs == nil {
		d, err := UserDirs()
		if err != nil {
			return nil, nil, err
		}
		dirs = &d
	}
	if len(paths) == 0 {
		found, err := Find(".", *dirs)
		if err != nil {
			return nil, nil, err
		}
		paths = []string{found}
	}
	l := &loader{reader: newReader()}
	l.kinds = kindsOf(o.Kinds)
	for _, p := range paths {
		if err := l.add(ctx, p, nil); err != nil {
			return nil, nil, err
		}
	}
	return l.finish(filepath.Dir(l.docs[0].path), *dirs, o)
}

// finish puts the documents together and judges the whole.
func (l *loader) finish(dir string, dirs Dirs, o Options) (*Config, []Warning, error) {
	c := l.assemble(dir)
	if len(l.problems) == 0 {
		c.resolve(dirs)
		c.judge(l.reader, o)
	}
	warnings := l.sorted()
	if len(l.problems) > 0 {
		return nil, warnings, &Errors{Problems: l.problems, More: l.more}
	}
	for _, k := range c.Keys {
		k.Locations = nil // they stand in Waves now
	}
	return c, warnings, nil
}

// LoadBytes is Load for one text that is in no file, as keywright init has it before it writes. name stands in messages.
func LoadBytes(name, dir string, text []byte, o Options) (*Config, []Warning, error) {
	if o.Kinds == nil {
		o.Kinds = all.All()
	}
	if o.Dirs == nil {
		o.Dirs = &Dirs{Config: dir, State: dir}
	}
	l := &loader{reader: newReader(), lone: true}
	l.kinds = kindsOf(o.Kinds)
	l.parse(name, filepath.Join(dir, filepath.Base(name)), text)
	return l.finish(dir, *o.Dirs, o)
}

// loader reads files and puts them together.
type loader struct {
	*reader
	docs []document
	lone bool // include is refused
}

type document struct {
	path    string // absolute
	shown   string
	anchors map[string]ast.Node
	body    ast.Node // nil when nothing can be read
}

func (l *loader) sorted() []Warning {
	order := map[string]int{}
	for i, d := range l.docs {
		order[d.shown] = i
	}
	slices.SortStableFunc(l.problems, func(a, b *Problem) int { return compare(order, *a, *b) })
	slices.SortStableFunc(l.warnings, func(a, b Warning) int { return compare(order, a.Problem, b.Problem) })
	return l.warnings
}

func compare(order map[string]int, a, b Problem) int {
	if a.File != b.File {
		return order[a.File] - order[b.File]
	}
	if a.Line != b.Line {
		return a.Line - b.Line
	}
	return a.Column - b.Column
}

// add reads one file and those that it includes.
func (l *loader) add(ctx context.Context, path string, from *includeFrom) error {
	if err := ctx.Err(); err != nil {
		return fault.In(err, "read configuration")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "read configuration")
	}
	refuse := func(err error) error {
		if from == nil {
			if fault.Is(err, fault.NotFound) && fault.HintOf(err) == "" {
				return fault.In(err, "read configuration", fault.Hint("name another with --config; keywright init makes one"))
			}
			return fault.In(err, "read configuration")
		}
		l.bad(from.node, fault.HintOf(err), "include: %s", err.Error())
		return nil
	}
	if slices.ContainsFunc(l.docs, func(d document) bool { return d.path == abs }) {
		return refuse(fault.Newf(fault.Invalid, "%q is read twice", path))
	}
	if len(l.docs) >= maxFiles {
		return refuse(fault.Newf(fault.Invalid, "more than %d files", maxFiles))
	}
	text, err := readTrusted(abs)
	if err != nil {
		return refuse(err)
	}
	file, anchors := l.file, l.anchors
	defer func() { l.file, l.anchors = file, anchors }()
	l.parse(path, abs, text)
	d := l.docs[len(l.docs)-1]
	l.at(d)
	var included []includeFrom
	if d.body != nil {
		l.entries(d.body, at{what: "the configuration"}, func(es []entry) {
			for _, e := range es {
				if e.name != "include" {
					continue
				}
				l.items(e.val, at{".include", "the configuration"}, true, func(nodes []ast.Node) {
					for _, n := range nodes {
						if s, ok := l.text(n); ok && s != "" {
							included = append(included, includeFrom{n, s})
						} else {
							l.bad(n, "write the path of a file", "%q must hold paths", "include")
						}
					}
				})
			}
		})
	}
	for _, i := range included {
		p := i.path
		if !filepath.IsAbs(p) {
			p = filepath.Join(filepath.Dir(path), p)
		}
		if err := l.add(ctx, p, &i); err != nil {
			return err
		}
		l.at(d)
	}
	return nil
}

type includeFrom struct {
	node ast.Node
	path string
}

func (l *loader) at(d document) { l.file, l.anchors = d.shown, d.anchors }

// readTrusted reads a file that nobody else can change.
func readTrusted(path string) ([]byte, error) {
	if err := child.Trusted(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fault.Wrap(fault.Forbidden, err, "open file")
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.Forbidden, err, "look at file")
	case !info.Mode().IsRegular():
		return nil, fault.Newf(fault.Invalid, "%q is not a regular file", path)
	case info.Size() > maxFile:
		return nil, fault.New(fault.Invalid, fmt.Sprintf("%q is larger than 1 MiB", path), fault.Hint("split it, and name the parts under include"))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read file")
	}
	if len(b) > maxFile {
		return nil, fault.Newf(fault.Invalid, "%q is larger than 1 MiB", path)
	}
	return b, nil
}

// parse takes one text apart and adds it to the documents.
func (l *loader) parse(shown, abs string, text []byte) {
	l.docs = append(l.docs, document{path: abs, shown: shown, anchors: map[string]ast.Node{}})
	d := &l.docs[len(l.docs)-1]
	l.file, l.anchors = shown, d.anchors
	at := func(line, column int, hint, format string, args ...any) {
		l.report(&Problem{File: shown, Line: line, Column: column, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	text = []byte(strings.TrimPrefix(string(text), "\ufeff"))
	sound := len(text) <= maxFile
	if !sound {
		at(0, 0, "", "it is larger than 1 MiB")
	}
	if sound {
		sound = look(string(text), at)
	}
	if !sound {
		return
	}
	file, err := parseYAML(text)
	if err != nil {
		line, column, message := syntax(err)
		at(line, column, "", "%s", message)
		return
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, isComment := doc.Body.(*ast.CommentGroupNode); !isComment {
			bodies = append(bodies, doc.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		at(0, 0, "keywright init writes a file to start from", "it is empty")
		return
	case len(bodies) > 1:
		l.bad(bodies[1], "put it into a file of its own and name that under include", "a second document begins here")
		return
	}
	d.body = bodies[0]
	ast.Walk(collector(d.anchors), d.body)
}

// collector remembers what anchors stand for; the first of a name counts.
type collector map[string]ast.Node

// Visit implements ast.Visitor.
func (c collector) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		if name := a.Name.String(); c[name] == nil {
			c[name] = a.Value
		}
	}
	return c
}

// look finds, line by line, what the parser would explain badly or should not see. It reports false when the text cannot be parsed.
func look(text string, report func(line, column int, hint, format string, args ...any)) bool {
	sound, open, number := true, 0, 0
	var beside [4*maxDepth*4 + 1]int // lines by indentation since one with less
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if i := strings.IndexByte(indent, '\t'); i >= 0 && len(indent) < len(line) {
			report(number, i+1, "YAML is indented by spaces alone", "a tab stands in the indentation")
			sound = false
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r == '\uFFFD' || r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
			report(number, i+1, "save the file as UTF-8 text", "a character stands here that is no text")
			sound = false
		}
		if at := keyIn(line); at != nil {
			report(number, at[0]+1, "put the value into an environment variable or a file of mode 0600, name that, and replace the key: it has been in a file", "something that looks like a key stands here")
		}
		open += strings.Count(line, "[") + strings.Count(line, "{") - strings.Count(line, "]") - strings.Count(line, "}")
		markers := 0
		if text := line[len(indent):]; strings.HasPrefix(text, "-") || strings.HasPrefix(text, "?") {
			for w := range strings.FieldsSeq(text) {
				if w != "-" && w != "?" {
					break
				}
				markers++
			}
		}
		if open > maxBrackets || markers > maxDepth || len(indent) >= len(beside) || strings.Count(line, "- - ") > maxDepth || strings.Count(line, "? ? ") > maxDepth {
			report(number, 1, "", "it is nested too deeply")
			return false
		}
		if len(indent) == len(line) {
			continue
		}
		beside[len(indent)]++
		clear(beside[len(indent)+1:])
		if beside[len(indent)] > maxSiblings || number > maxLines {
			report(number, 1, "split the file, and name the parts under include", "it has too many lines: more than %d, or %d side by side", maxLines, maxSiblings)
			return false
		}
	}
	return sound
}

// parseYAML is the parser, of whose panics no user should learn.
func parseYAML(text []byte) (f *ast.File, err error) {
	defer func() {
		if recover() != nil {
			f, err = nil, errors.New("it is no YAML that can be read")
		}
	}()
	return parser.ParseBytes(text, parser.ParseComments, parser.AllowDuplicateMapKey())
}

// syntax gives place and message of a parser's error. The parser's excerpts of the file are not repeated.
func syntax(err error) (line, column int, message string) {
	message = "it is no YAML that can be read"
	var e yaml.Error
	if !errors.As(err, &e) {
		return 0, 0, message
	}
	if t := e.GetToken(); t != nil && t.Position != nil {
		line, column = t.Position.Line, t.Position.Column
	}
	if m := e.GetMessage(); m != "" && len(m) < 120 && !mayBeValue(m) && !strings.ContainsAny(m, "\n\"'`") {
		message = "not YAML: " + m
	}
	return line, column, message
}

// assemble reads all documents into one Config.
func (l *loader) assemble(dir string) *Config {
	c := &Config{Dir: dir, kinds: l.kinds, Classes: map[string]*Class{}, Keys: map[apikey.Name]*Key{}, Locations: map[string]*Location{}}
	l.prefill(reflect.ValueOf(c).Elem())
	for _, class := range apikey.Classes() {
		c.Classes[class.Name] = classOf(class)
	}
	l.classes = c.Classes
	top := fieldsOf(reflect.TypeFor[Config]())
	names := make([]string, len(top))
	for i, f := range top {
		names[i] = f.name
	}
	for _, d := range l.docs {
		c.Source = append(c.Source, d.path)
	}
	given := map[string]position{}
	// Classes come first, since keys take their defaults from them.
	for _, pass := range []func(string) bool{
		func(name string) bool { return name == "classes" },
		func(name string) bool { return name != "classes" && name != "keys" },
		func(name string) bool { return name == "keys" },
	} {
		for _, d := range l.docs {
			if d.body == nil {
				continue
			}
			l.at(d)
			l.entries(d.body, at{what: "the configuration"}, func(es []entry) {
				for _, e := range es {
					i := slices.Index(names, e.name)
					switch {
					case !pass(e.name):
					case i < 0:
						l.bad(e.key, meant(e.name, names, "allowed here: "), "unknown field %s in the configuration", quote(e.name))
					case e.name == "include" && l.lone:
						l.bad(e.key, "", "include has no meaning here")
					default:
						l.section(e, top[i], reflect.ValueOf(c).Elem().FieldByIndex(top[i].index), given)
					}
				}
			})
		}
	}
	if c.Organization == "" && len(l.problems) == 0 {
		l.file = l.docs[0].shown
		l.badAt("", fieldsOf(reflect.TypeFor[Config]())[1].help, `"organization" is missing in the configuration`)
	}
	return c
}

// section reads one part of a file into a part of the configuration.
func (l *loader) section(e entry, f field, v reflect.Value, given map[string]position) {
	a := at{"." + f.name, "the configuration"}
	twice := func(path string, n ast.Node, what string) bool {
		first, known := given[path]
		if known {
			l.bad(n, fmt.Sprintf("first in %s, line %d; keep one", first.file, first.line), "%s is given twice", what)
			return true
		}
		given[path] = l.where(n)
		return false
	}
	switch v.Kind() {
	case reflect.Map:
		l.places[a.path] = l.where(e.key)
		l.entries(e.val, at{a.path, quote(f.name)}, func(es []entry) {
			for _, x := range es {
				b := a.key(x.name)
				if twice(b.path, x.key, quote(x.name)+" in "+quote(f.name)) {
					continue
				}
				l.places[b.path] = l.where(x.key)
				key := reflect.ValueOf(x.name).Convert(v.Type().Key())
				item := reflect.New(v.Type().Elem().Elem())
				l.value(x.val, item.Elem(), at{b.path, f.name + " " + quote(x.name)})
				v.SetMapIndex(key, item)
			}
		})
	case reflect.Slice:
		l.items(e.val, a, v.Type().Elem().Kind() == reflect.String, func(nodes []ast.Node) {
			for _, x := range nodes {
				b := a.item(v.Len()) // counted over all files
				b.what = "an entry of " + quote(f.name)
				item := reflect.New(v.Type().Elem())
				l.prefill(item)
				l.value(x, item.Elem(), b)
				v.Set(reflect.Append(v, item.Elem()))
			}
		})
	default:
		if twice(a.path, e.key, quote(f.name)) {
			return
		}
		if v.Kind() == reflect.Struct || v.Kind() == reflect.Pointer {
			a.what = quote(f.name)
		}
		l.value(e.val, v, a)
		if len(l.problems) == 0 {
			l.check(e.val, f, v, a)
		}
	}
}

// OpenSnapshot opens a location as Snapshot described it, whatever the configuration says now: an edit cannot redirect a
// rotation that is under way. env.Name and env.Dir are filled in. The error is Invalid.
func OpenSnapshot(raw json.RawMessage, env location.Env) (*location.Location, error) {
	return OpenSnapshotOf(all.All(), raw, env)
}

// OpenSnapshotOf is OpenSnapshot with other kinds than the built-in ones.
func OpenSnapshotOf(list []location.Kind, raw json.RawMessage, env location.Env) (*location.Location, error) {
	l, dir, err := readSnapshot(kindsOf(list), raw)
	if err != nil {
		return nil, err
	}
	env.Dir = dir
	return l.open(kindsOf(list), env)
}

func readSnapshot(ks kinds, raw json.RawMessage) (*Location, string, error) {
	var s struct {
		Name   string          `json:"name"`
		Dir    string          `json:"dir"`
		Config json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(raw, &s); err != nil || len(s.Config) == 0 {
		return nil, "", fault.New(fault.Invalid, "open stored location: its description cannot be read")
	}
	file, err := parseYAML(s.Config) // JSON is YAML
	if err != nil || len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, "", fault.New(fault.Invalid, "open stored location: its description cannot be read")
	}
	r := newReader()
	r.kinds, r.file = ks, "stored plan"
	l := &Location{}
	l.decode(r, file.Docs[0].Body, at{"." + s.Name, ""})
	l.Name = s.Name
	if len(r.problems) > 0 {
		return nil, "", fault.New(fault.Invalid, "open stored location "+s.Name+": "+r.problems[0].Message, fault.Hint("this version of Keywright may be older than the one that stored it"))
	}
	return l, s.Dir, nil
}
