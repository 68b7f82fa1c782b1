package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

var (
	uuidRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	})
	workspaceRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(wrkspc_[A-Za-z0-9]{1,64}|default)$`) })
	variableRE  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })
	headerRE    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`) })
	modelRE     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`) })
)

// validName reports whether s has the form that names of keys have: others have the same.
func validName(s string) bool { return apikey.Name(s).Valid() }

const nameHint = "1 to 63 lower-case letters, digits and inner dashes"

func classOf(c apikey.Class) *Class {
	return &Class{Name: c.Name, Environment: c.Environment, Risk: c.Risk, Policy: Policy{
		RotateEvery: c.RotateEvery, Soak: c.Soak, Watch: c.Watch, HealthWait: c.HealthWait, Approvals: c.Approvals,
	}}
}

// APIKey gives the class in the form of package apikey.
func (c *Class) APIKey() apikey.Class {
	return apikey.Class{
		Name: c.Name, Environment: c.Environment, Risk: c.Risk, RotateEvery: c.RotateEvery, Soak: c.Soak, Watch: c.Watch,
		HealthWait: c.HealthWait, Approvals: c.Approvals,
	}
}

var (
	_ special = (*Class)(nil)
	_ special = (*Key)(nil)
	_ special = (*Wave)(nil)
)

func (c *Class) decode(r *reader, n ast.Node, a at) {
	name := lastName(a)
	a.what = "class " + quote(name)
	r.entries(n, a, func(es []entry) {
		base, builtin := r.classes[name]
		if builtin {
			*c = *base
		} else if env, ok := r.scalarOf(es, "environment"); ok {
			for _, b := range []string{"production-primary", "staging", "development"} {
				if r.classes[b].Environment == apikey.Environment(env) || b == "development" {
					*c = Class{Environment: apikey.Environment(env), Risk: r.classes[b].Risk, Policy: r.classes[b].Policy}
					break
				}
			}
		} else {
			r.bad(n, "production, staging, development or a name of your own", `"environment" is missing in %s`, a.what)
		}
		r.fields(n, es, reflect.ValueOf(c).Elem(), a, nil)
	})
	c.Name = name
}

func (k *Key) decode(r *reader, n ast.Node, a at) {
	name := lastName(a)
	a.what = "key " + quote(name)
	k.Name = apikey.Name(name)
	r.entries(n, a, func(es []entry) {
		if class, ok := r.scalarOf(es, "class"); ok {
			if c := r.classes[class]; c != nil {
				k.Environment, k.Policy = c.Environment, c.Policy
				k.Windows = slices.Clone(c.Windows)
			} else {
				r.bad(r.entryOf(es, "class"), meant(class, slices.Collect(maps.Keys(r.classes)), "there are: "), "unknown class %s in %s", quote(class), a.what)
			}
		}
		if env, ok := r.scalarOf(es, "environment"); ok {
			k.Environment = apikey.Environment(env)
		}
		r.production = k.Environment == apikey.Production
		r.fields(n, es, reflect.ValueOf(k).Elem(), a, nil)
	})
}

func (w *Wave) decode(r *reader, n ast.Node, a at) {
	r.entries(n, a, func(es []entry) {
		name, _ := r.scalarOf(es, "name")
		w.Production = r.production && name != "staging"
		b := a
		b.what = "a wave of " + a.what
		if name != "" {
			b.what = "wave " + quote(name) + " of " + a.what
		}
		r.fields(n, es, reflect.ValueOf(w).Elem(), b, nil)
	})
}

func (r *reader) entryOf(es []entry, name string) ast.Node {
	for _, e := range es {
		if e.name == name {
			return e.val
		}
	}
	return nil
}

// scalarOf looks ahead for the text of one entry, without reporting.
func (r *reader) scalarOf(es []entry, name string) (string, bool) {
	n := r.entryOf(es, name)
	for range maxDepth {
		switch x := n.(type) {
		case *ast.AnchorNode:
			n = x.Value
			continue
		case *ast.AliasNode:
			n = r.anchors[strings.TrimPrefix(x.Value.String(), "*")]
			continue
		case nil:
			return "", false
		}
		break
	}
	if n == nil {
		return "", false
	}
	return r.text(n)
}

// resolve fills in what follows from the rest: absolute paths, state, waves of the short form, parallelism.
func (c *Config) resolve(d Dirs) {
	abs := func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(c.Dir, p)
	}
	s := &c.State
	if s.Dir == "" {
		s.Dir = filepath.Join(d.State, c.Organization)
	}
	s.Dir, s.Witness = abs(s.Dir), abs(s.Witness)
	if p, ok := s.Store.Path(); ok {
		s.Store = Store(abs(p))
	} else if s.Store == "" {
		s.Store = Store(filepath.Join(s.Dir, "keywright.db"))
	}
	if scheme, rest, ok := strings.Cut(s.MasterKey, ":"); ok && (scheme == "file" || scheme == "age") {
		s.MasterKey = scheme + ":" + abs(rest)
	}
	c.MasterDir = d.Config
	c.resolveGateway(abs)
	for _, k := range c.Keys {
		if k.Parallel == 0 {
			k.Parallel = c.Limits.Parallel
		}
		if len(k.Waves) == 0 {
			k.Waves = c.shortForm(k)
		}
		names := map[string]int{}
		for i := range k.Test {
			t := &k.Test[i]
			t.Key, t.Name = k.Name, t.title()
			if names[t.Name]++; names[t.Name] > 1 { // the journal tells tests apart by their names
				t.Name += fmt.Sprintf(" (%d)", names[t.Name])
			}
		}
	}
}

func (c *Config) shortForm(k *Key) []Wave {
	var before, production []string
	for _, name := range k.Locations {
		if l := c.Locations[name]; l != nil && !l.Production {
			before = append(before, name)
		} else {
			production = append(production, name)
		}
	}
	var waves []Wave
	if len(before) > 0 {
		waves = append(waves, Wave{Name: "staging", Locations: before})
	}
	if len(production) > 0 {
		waves = append(waves, Wave{Name: string(k.Environment), Locations: production, Production: k.Environment == apikey.Production})
	}
	if len(waves) == 2 && waves[1].Name == waves[0].Name {
		waves[1].Name = "main"
	}
	return waves
}

// judge looks at what no single field shows.
func (c *Config) judge(r *reader, o Options) {
	if !validName(c.Organization) {
		r.badAt(".organization", nameHint, `"organization" cannot be %s`, quote(c.Organization))
	}
	if why := badURL(c.Provider.URL); why != "" {
		r.badAt(".provider.url", "https://api.anthropic.com is the default", `"url" in "provider": %s`, why)
	}
	if c.Provider.SmokeModel != "" && !modelRE().MatchString(c.Provider.SmokeModel) {
		r.badAt(".provider.smoke_model", "", `"smoke_model" in "provider" is no name of a model`)
	}
	if c.Limits.Parallel < 1 || c.Limits.Parallel > 1024 {
		r.badAt(".limits.parallel", "1 to 1024", `"parallel" in "limits" cannot be %d`, c.Limits.Parallel)
	}
	c.judgeState(r)
	for _, name := range slices.Sorted(maps.Keys(c.Classes)) {
		class := c.Classes[name]
		path := ".classes." + name
		if !validName(name) {
			r.badAt(path, nameHint, "a class cannot be called %s", quote(name))
		}
		if !validName(string(class.Environment)) {
			r.badAt(path+".environment", nameHint, "an environment cannot be called %s", quote(string(class.Environment)))
		}
		if _, given := r.places[path]; given {
			c.judgePolicy(r, path, "class "+quote(name), class.Policy)
		}
	}
	c.judgeLocations(r, o)
	c.judgeKeys(r)
	c.judgeGateway(r)
	for i, ch := range c.Notify {
		path := fmt.Sprintf(".notify[%d]", i)
		if (len(ch.Command) > 0) == (ch.Webhook != nil) {
			r.badAt(path, "- command: ./tell or - webhook: { url: … }", "a channel of notify needs either command or webhook")
		}
		if ch.Webhook != nil {
			if why := badURL(ch.Webhook.URL); why != "" {
				r.badAt(path+".webhook.url", "", `"url" of a webhook in "notify": %s`, why)
			}
		}
	}
}

func (c *Config) judgeState(r *reader) {
	s := c.State
	if s.MasterKey != "" {
		scheme, rest, _ := strings.Cut(s.MasterKey, ":")
		hint := "file:PATH, systemd:NAME, passphrase:REFERENCE, age:PATH or aws-kms:KEY?region=REGION"
		switch {
		case !slices.Contains([]string{"file", "systemd", "passphrase", "age", "aws-kms"}, scheme) || rest == "":
			r.badAt(".state.master_key", hint, `"master_key" in "state" names no way to a master key`)
		case scheme == "passphrase":
			if _, err := secret.ParseRef(rest); err != nil {
				r.badAt(".state.master_key", "passphrase:env:NAME, passphrase:file:PATH or passphrase:cmd:PROGRAM", `"master_key" in "state": a reference to the passphrase is wanted, never the passphrase itself`)
			}
		case (scheme == "file" || scheme == "age") && within(rest, s.Dir):
			r.badAt(".state.master_key", "keep it where backups of the state do not take it along", `"master_key" in "state" lies in the state directory`)
		}
	}
	if s.Witness != "" && within(s.Witness, s.Dir) {
		r.badAt(".state.witness", "best on another disk or host", `"witness" in "state" lies in the state directory, where it proves nothing`)
	}
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func (c *Config) judgePolicy(r *reader, path, what string, p Policy) {
	if p.RotateEvery <= 0 {
		r.badAt(path+".rotate_every", "90d", `"rotate_every" in %s must be longer than nothing`, what)
	} else if p.Soak+p.Watch >= p.RotateEvery {
		r.badAt(path+".rotate_every", "soak and watch together must be shorter than rotate_every", "the policy of %s cannot be kept: soak %s and watch %s take longer than the %s between two rotations",
			what, formatDuration(p.Soak), formatDuration(p.Watch), formatDuration(p.RotateEvery))
	}
	approvers := 0
	for _, x := range c.Contacts {
		if x.Role == "approver" {
			approvers++
		}
	}
	switch {
	case p.Approvals < 0 || p.Approvals > 10:
		r.badAt(path+".approvals", "0 to 10", `"approvals" in %s cannot be %d`, what, p.Approvals)
	case approvers > 0 && p.Approvals > approvers:
		r.badAt(path+".approvals", "name more contacts with the role approver", "the policy of %s cannot be satisfied: it wants %d approvals, and contacts names %d with the role approver", what, p.Approvals, approvers)
	}
	if p.Parallel < 0 || p.Parallel > 1024 {
		r.badAt(path+".parallel", "1 to 1024", `"parallel" in %s cannot be %d`, what, p.Parallel)
	}
}

func (c *Config) judgeLocations(r *reader, o Options) {
	addresses := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Locations)) {
		l := c.Locations[name]
		path := ".locations." + name
		if !validName(name) {
			r.badAt(path, nameHint, "a location cannot be called %s", quote(name))
			continue
		}
		if l.Home != "" && c.Keys[l.Home] == nil {
			r.badAt(path+".home", meant(string(l.Home), c.keyNames(), "keys: "), "unknown key %s as home of location %q", quote(string(l.Home)), name)
		}
		place, err := l.open(c.kinds, location.Env{Dir: c.Dir, StateDir: c.State.Dir, Now: time.Now})
		if err != nil {
			msg, _ := strings.CutPrefix(err.Error(), "location "+name+": ")
			if mayBeValue(msg) {
				msg = "it cannot be used as it stands"
			}
			r.badAt(path, fault.HintOf(err), "location %q: %s", name, msg)
			continue
		}
		if o.SkipSamePlace {
			continue
		}
		address := place.Address()
		if other, same := addresses[address]; same {
			r.warnAt(path, "give one of them another place, or use one name for both", "location %q is the same place as %q", name, other)
		} else {
			addresses[address] = name
		}
	}
}

func (c *Config) keyNames() []string {
	var out []string
	for n := range c.Keys {
		out = append(out, string(n))
	}
	return out
}

func (c *Config) judgeKeys(r *reader) {
	usedBy := map[string][]apikey.Name{}
	places := slices.Collect(maps.Keys(c.Locations))
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		k := c.Keys[name]
		path, what := ".keys."+string(name), "key "+quote(string(name))
		if !name.Valid() {
			r.badAt(path, nameHint, "a key cannot be called %s", quote(string(name)))
			continue
		}
		c.judgePolicy(r, path, what, k.Policy)
		c.judgeIdentity(r, path, what, k)
		for i, t := range k.Test {
			t.judge(r, fmt.Sprintf("%s.test[%d]", path, i), what)
		}
		seen, waves := map[string]bool{}, map[string]bool{}
		_, short := r.places[path+".locations"]
		_, long := r.places[path+".waves"]
		if short && long {
			r.badAt(path+".locations", "keep waves", `%s has both "locations" and "waves"`, what)
		}
		production := false
		for i, w := range k.Waves {
			at := fmt.Sprintf("%s.waves[%d]", path, i)
			if waves[w.Name] {
				r.badAt(at+".name", "", "%s has two waves called %s", what, quote(w.Name))
			}
			waves[w.Name] = true
			if production && !w.Production {
				r.warnAt(at, "move it to the front", "wave %s of %s comes after production and tests nothing", quote(w.Name), what)
			}
			production = production || w.Production
			for j, place := range w.Locations {
				spot := func() string {
					if short {
						return fmt.Sprintf("%s.locations[%d]", path, slices.Index(k.Locations, place))
					}
					return fmt.Sprintf("%s.locations[%d]", at, j)
				}
				l := c.Locations[place]
				switch {
				case l == nil:
					r.badAt(spot(), meant(place, places, "locations: "), "unknown location %s in %s", quote(place), what)
				case seen[place]:
					r.badAt(spot(), "name it once", "location %q is in %s twice", place, what)
				case w.Production && l.Home != "" && l.Home != name:
					r.badAt(spot(), "use it in a wave before production", "location %q has its home with key %q and cannot be in production of %s", place, l.Home, what)
				default:
					usedBy[place] = append(usedBy[place], name)
				}
				if l != nil && k.Automatic && l.Kind == "manual" {
					r.warnAt(spot(), "set automatic: false, or reach the place by another kind", "%s is automatic, and a person begins its rotations all the same, since location %q is manual", what, place)
				}
				seen[place] = true
			}
		}
		if len(k.Waves) == 0 {
			r.warnAt(path, "name its places under locations or waves", "%s has no locations", what)
		}
	}
	for _, place := range slices.Sorted(maps.Keys(c.Locations)) {
		users, l := usedBy[place], c.Locations[place]
		switch {
		case len(users) == 0 && l.Home == "":
			r.warnAt(".locations."+place, "name it under a key", "location %q belongs to no key", place)
		case len(users) > 1 && l.Home == "":
			r.badAt(".locations."+place, "name under home the key whose value belongs there; the other uses it for its test only", "location %q is used by the keys %q and %q", place, users[0], users[1])
		}
	}
}

func (c *Config) judgeIdentity(r *reader, path, what string, k *Key) {
	if !validName(string(k.Environment)) {
		r.badAt(path+".environment", nameHint, "an environment cannot be called %s", quote(string(k.Environment)))
	}
	if k.Organization != "" && !uuidRE().MatchString(k.Organization) {
		r.badAt(path+".organization", "8, 4, 4, 4 and 12 hexadecimal digits with dashes between them", `"organization" in %s is no UUID`, what)
	}
	if k.Workspace != "" && !workspaceRE().MatchString(k.Workspace) {
		r.badAt(path+".workspace", "wrkspc_…, or default", `"workspace" in %s is no id of a workspace`, what)
	}
	for i, name := range k.Readers {
		if user, ok := strings.CutPrefix(name, "user:"); ok && user != "" && !strings.ContainsAny(user, " :/") || validName(name) {
			continue
		}
		r.badAt(fmt.Sprintf("%s.readers[%d]", path, i), "user:NAME, or the name of an enrolled reader", `"readers" in %s: %s is no reader`, what, quote(name))
	}
	switch b := c.Keys[k.Backup]; {
	case k.Backup == "":
	case k.Backup == k.Name:
		r.badAt(path+".backup", "name another key, best of another workspace", "%s is its own backup", what)
	case b == nil:
		r.badAt(path+".backup", meant(string(k.Backup), c.keyNames(), "keys: "), "unknown key %s as backup of %s", quote(string(k.Backup)), what)
	case b.Environment != k.Environment:
		r.warnAt(path+".backup", "", "the backup of %s is of another environment: %s, not %s", what, b.Environment, k.Environment)
	}
}

func (t Test) judge(r *reader, path, what string) {
	what = "a test of " + what
	if (len(t.Command) > 0) == (t.HTTP != nil) {
		r.badAt(path, "- command: ./test or - http: { url: … }", "%s needs either command or http", what)
		return
	}
	if t.Timeout <= 0 {
		r.badAt(path+".timeout", "60s", `"timeout" in %s must be longer than nothing`, what)
	}
	if t.HTTP == nil {
		for _, n := range append(slices.Clone(t.Pass), t.Env) {
			if n != "" && !variableRE().MatchString(n) {
				r.badAt(path, "the name alone, without $ and without a value", "%s: %s is no name of an environment variable", what, quote(n))
			}
		}
		return
	}
	if t.Env != "" || len(t.Pass) > 0 {
		r.badAt(path, "", "%s: env and pass belong to command", what)
	}
	if why := badURL(t.HTTP.URL); why != "" {
		r.badAt(path+".http.url", "", "%s: %s", what, why)
	}
	if t.HTTP.Expect < 200 || t.HTTP.Expect > 599 {
		r.badAt(path+".http.expect", "200 to 599", "%s cannot expect the status %d", what, t.HTTP.Expect)
	}
	if t.HTTP.Header != "" && !headerRE().MatchString(t.HTTP.Header) {
		r.badAt(path+".http.header", "such as x-api-key", "%s: header must be the name of a header", what)
	}
}

// badURL says why an address cannot be used, or "".
func badURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return "it is no address"
	case u.User != nil:
		return "the address holds a user or password"
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "plain http is allowed to this host alone"
	case u.Scheme != "http" && u.Scheme != "https":
		return "the address must begin with https"
	}
	return ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
