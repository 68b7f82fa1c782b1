package keysource

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// Ref names the place of a value in one line: SCHEME:NAME?OPTION=WORD&…#FIELD. Docs/gateway.md has the table. It is no secret. What is behind
// file: and env: is a path or a variable as it stands, without options and field.
type Ref string

// Parsed is a Ref in its parts.
type Parsed struct {
	// Scheme is file, env, store, daemon, aws, vault or kubernetes.
	Scheme string
	// Name is what stands between the colon and the options: a path, a variable, a key, an address, the name of a secret.
	Name string
	// Field is what stands behind #: the member of a JSON object, the field of a secret, or the key that a daemon is asked for.
	Field string
	// Options are those that the scheme knows, by name.
	Options map[string]string
	// Every is the option of that name: the pause between two looks, zero when it was not given.
	Every time.Duration
}

// form says what a scheme takes.
type form struct {
	example string
	options []string
	field   int // -1 none, 0 may be there, 1 must be
	name    *regexp.Regexp
}

const leastEvery = time.Second

var any1 = regexp.MustCompile(`^[^\x00-\x20\x7f]+$`)

func forms() map[string]form {
	return map[string]form{
		"file":       {example: "file:PATH", field: -1},
		"env":        {example: "env:NAME", field: -1},
		"store":      {example: "store:KEY", field: -1, name: any1},
		"daemon":     {example: "daemon:SOCKET#KEY or daemon:https://HOST:PORT?identity=FILE#KEY", options: []string{"identity"}, field: 1, name: any1},
		"aws":        {example: "aws:SECRET?region=REGION#MEMBER", options: []string{"region", "profile", "stage", "endpoint", "every"}, name: any1},
		"vault":      {example: "vault:MOUNT/PATH?address=URL&token=file:PATH#FIELD", options: []string{"address", "token", "login", "role", "secret-id", "jwt", "auth", "namespace", "ca", "every"}, field: 1, name: regexp.MustCompile(`^[^\x00-\x20\x7f/]+(/[^\x00-\x20\x7f/]+)+$`)},
		"kubernetes": {example: "kubernetes:NAMESPACE/SECRET#KEY", options: []string{"context", "kubeconfig"}, field: 1, name: regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)},
	}
}

// Parse takes a reference apart and checks its form. The error is of kind Invalid and quotes nothing, since people paste values here.
func (r Ref) Parse() (Parsed, error) {
	scheme, rest, _ := strings.Cut(string(r), ":")
	f, known := forms()[scheme]
	// ParseRef finds what looks like a value.
	if _, err := secret.ParseRef("file:" + rest); err != nil || !known {
		if rest != "" && err != nil {
			return Parsed{}, fault.New(fault.Invalid, "parse reference: it holds something that looks like a key", fault.Hint("name the place of the value, never the value itself"))
		}
		return Parsed{}, fault.New(fault.Invalid, "parse reference: want file:, store:, daemon:, aws:, vault: or kubernetes: and a name", fault.Hint("such as vault:secret/anthropic#api_key; docs/gateway.md has the list"))
	}
	bad := func(what string) (Parsed, error) {
		return Parsed{}, fault.New(fault.Invalid, "parse reference: "+what, fault.Hint("write it as %s", f.example))
	}
	p := Parsed{Scheme: scheme, Name: rest}
	if scheme == "file" || scheme == "env" {
		if _, err := secret.ParseRef(string(r)); err != nil {
			return Parsed{}, err
		}
		return p, nil
	}
	var query string
	p.Name, p.Field, _ = strings.Cut(rest, "#")
	p.Name, query, _ = strings.Cut(p.Name, "?")
	switch {
	case !f.name.MatchString(p.Name):
		return bad("the name of the place is not of the form that " + scheme + ": wants")
	case f.field < 0 && p.Field != "":
		return bad(scheme + ": takes nothing behind #")
	case f.field > 0 && p.Field == "":
		return bad(scheme + ": wants the field behind #")
	case strings.ContainsAny(p.Field, "?#") || !quoted(p.Field):
		return bad("what stands behind # is no name; options stand before it")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return bad("its options are not of the form NAME=WORD&NAME=WORD")
	}
	p.Options = make(map[string]string, len(values))
	for name, list := range values {
		if !slices.Contains(f.options, name) || len(list) != 1 || list[0] == "" || !quoted(list[0]) {
			return bad(fmt.Sprintf("%s: takes these options, each once: %s", scheme, cmp.Or(strings.Join(f.options, ", "), "none")))
		}
		p.Options[name] = list[0]
	}
	for _, name := range []string{"token", "secret-id"} {
		if inner, ok := p.Options[name]; ok {
			if _, err := secret.ParseRef(inner); err != nil || strings.HasPrefix(inner, "cmd:") {
				return bad(name + " wants file:PATH or env:NAME")
			}
		}
	}
	if inner, ok := p.Options["jwt"]; ok && (!strings.HasPrefix(inner, "file:") || inner == "file:") {
		return bad("jwt wants file:PATH")
	}
	if text, ok := p.Options["every"]; ok {
		if p.Every, err = time.ParseDuration(text); err != nil || p.Every < leastEvery {
			return bad("every wants a length of time of at least " + leastEvery.String())
		}
	}
	if scheme == "store" && !apikey.Name(p.Name).Valid() || scheme == "daemon" && !apikey.Name(p.Field).Valid() {
		return bad("that is no name of a key")
	}
	return p, nil
}

// ParseRef checks the form of a reference; see Ref.Parse.
func ParseRef(s string) (Ref, error) {
	if _, err := Ref(s).Parse(); err != nil {
		return "", err
	}
	return Ref(s), nil
}

// UnmarshalText makes Ref usable in configuration; it fails as Parse does.
func (r *Ref) UnmarshalText(b []byte) error {
	parsed, err := ParseRef(string(b))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}
