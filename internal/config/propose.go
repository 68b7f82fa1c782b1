package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/goccy/go-yaml"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// Answers is what a person says when a configuration is begun. Empty fields are guessed, or left out with a comment.
type Answers struct {
	Organization string
	Key          apikey.Name
	Class        string
	Owner        string
	Workspace    string
	// AdminKey is a reference, or empty for none.
	AdminKey secret.Ref
	// ProviderURL is empty for the provider's own address.
	ProviderURL string
	// Variable is the variable to look for; empty means ANTHROPIC_API_KEY.
	Variable string
	// EnvFiles are files to take up as locations beside those that were found.
	EnvFiles []string
}

// Finding is something that Propose saw in a directory. It holds no value.
type Finding struct {
	// What is a sentence for the person, such as: .env.production sets ANTHROPIC_API_KEY.
	What string
	// Location is the location that stands for it in the file, or empty when a person must decide.
	Location string
	// Hint says what to do about what is not in the file.
	Hint string
}

const (
	maxLook  = 1 << 20
	maxFound = 20
)

// Propose looks at a directory and gives the text of a configuration for it, which Load accepts, and what it saw. It writes nothing, runs
// nothing, makes no connection, and reads files only for names: no value enters the text. Below dir it looks at dir itself, .github/workflows
// and k8s, deploy, manifests and kubernetes. What it guessed stands in the answers afterwards. Errors are Invalid (an answer cannot be used) and Forbidden (dir cannot be read).
func Propose(dir string, a *Answers) ([]byte, []Finding, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "look at directory")
	}
	if a.Organization == "" {
		a.Organization = nameOf(filepath.Base(abs), "my-organization")
	}
	if a.Class == "" {
		a.Class = "development"
	}
	if a.Key == "" {
		a.Key = apikey.Name(map[string]string{"production-primary": "prod-primary", "production-secondary": "prod-secondary"}[a.Class])
		if a.Key == "" {
			a.Key = apikey.Name(nameOf(a.Class, "development"))
		}
	}
	if a.Variable == "" {
		a.Variable = "ANTHROPIC_API_KEY"
	}
	if a.Owner == "" {
		a.Owner = "you"
	}
	switch {
	case !variableRE().MatchString(a.Variable):
		return nil, nil, fault.New(fault.Invalid, "propose configuration: that is no name of an environment variable")
	case !a.Key.Valid():
		return nil, nil, fault.New(fault.Invalid, "propose configuration: that is no name of a key", fault.Hint(nameHint))
	}
	s := &survey{dir: abs, variable: a.Variable, names: map[string]bool{}}
	for _, c := range apikey.Classes() {
		if c.Name == a.Class {
			s.environment = c.Environment
		}
	}
	if err := s.run(a.EnvFiles); err != nil {
		return nil, nil, err
	}
	text := s.write(*a)
	if _, _, err := LoadBytes(FileName, abs, text, Options{}); err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "propose configuration", fault.Hint("one of the answers cannot be used"))
	}
	return text, s.findings, nil
}

// proposed is a location to write.
type proposed struct{ name, path, comment string }

type survey struct {
	dir, variable string
	environment   apikey.Environment
	findings      []Finding
	places        []proposed
	names         map[string]bool
}

func (s *survey) found(hint, format string, args ...any) {
	if len(s.findings) < maxFound {
		s.findings = append(s.findings, Finding{What: fmt.Sprintf(format, args...), Hint: hint})
	}
}

func (s *survey) run(more []string) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "look at directory")
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case !e.Type().IsRegular() || mayBeValue(name):
		case name == ".env" || strings.HasPrefix(name, ".env.") || strings.HasSuffix(name, ".env") || name == ".envrc":
			s.envFile(name)
		case strings.HasPrefix(name, "docker-compose") || strings.HasPrefix(name, "compose."):
			if s.mentions(name) {
				s.found("a container reads its environment when it is made: name the env_file as a location, and under reload the command that makes the container anew", "%s uses %s", name, s.variable)
			}
		}
	}
	for _, p := range more {
		rel, err := filepath.Rel(s.dir, p)
		if err != nil || strings.HasPrefix(rel, "..") {
			rel = p
		}
		if !slices.ContainsFunc(s.places, func(q proposed) bool { return q.path == rel }) {
			f := Finding{What: rel + " was named by you", Location: s.place(rel, "named by you"), Hint: s.exposed(rel)}
			if f.Hint != "" {
				s.findings = append(s.findings, f)
			}
		}
	}
	s.below(".github/workflows", "the secret of the repository is write-only; a location of kind exec can set it by a program of yours, or kind manual by a person")
	for _, d := range []string{"k8s", "deploy", "manifests", "kubernetes"} {
		s.below(d, "a location of kind kubernetes keeps the Secret: name namespace and secret")
	}
	if home, err := os.UserHomeDir(); err == nil {
		s.present(filepath.Join(home, ".kube", "config"), "a kubeconfig is there", "a location of kind kubernetes can keep a Secret of a cluster")
		s.present(filepath.Join(home, ".aws", "config"), "an AWS profile is there", "a location of kind aws-secrets-manager can keep a secret")
	}
	return nil
}

func (s *survey) present(path, what, hint string) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
		s.found(hint, "%s", what)
	}
}

// below looks at the YAML files of a folder.
func (s *survey) below(folder, hint string) {
	entries, err := os.ReadDir(filepath.Join(s.dir, folder))
	if err != nil {
		return // there is none
	}
	for _, e := range entries {
		name := e.Name()
		if e.Type().IsRegular() && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) && !mayBeValue(name) && s.mentions(filepath.Join(folder, name)) {
			s.found(hint, "%s uses %s", filepath.Join(folder, name), s.variable)
		}
	}
}

// content reads a small file; the caller clears it. It gives nil for what is no ordinary file.
func (s *survey) content(name string) []byte {
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxLook {
		return nil
	}
	b := make([]byte, maxLook)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF { //nolint:errorlint // ReadFull gives these bare.
		return nil
	}
	return b[:n]
}

// mentions reports whether a file names the variable.
func (s *survey) mentions(name string) bool {
	b := s.content(name)
	defer clear(b)
	return bytes.Contains(b, []byte(s.variable))
}

func (s *survey) envFile(name string) {
	b := s.content(name)
	defer clear(b)
	sets := regexp.MustCompile(`(?m)^[ \t]*(export[ \t]+)?` + regexp.QuoteMeta(s.variable) + `[ \t]*=`).Match(b)
	switch {
	case !sets:
	case strings.Contains(name, "example") || strings.Contains(name, "sample") || strings.Contains(name, "template") || strings.Contains(name, "dist"):
		s.found("nothing, if it holds a placeholder", "%s sets %s, and looks like an example", name, s.variable)
	case environmentOf(name) != "" && environmentOf(name) != s.environment:
		s.found("give it a key of its own: a value in two environments is refused", "%s sets %s, and looks like %s", name, s.variable, environmentOf(name))
	default:
		location := s.place(name, "sets "+s.variable)
		s.findings = append(s.findings, Finding{What: name + " sets " + s.variable, Location: location, Hint: s.exposed(name)})
	}
}

// exposed says what to do about a file that others can read or change; it is empty when they cannot.
func (s *survey) exposed(name string) string {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.dir, name)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return "others can read it: chmod 600 " + name
}

// environmentOf guesses from a file's name where it is used.
func environmentOf(name string) apikey.Environment {
	for _, part := range strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '.' || r == '-' || r == '_' }) {
		switch part {
		case "prod", "production", "live":
			return apikey.Production
		case "staging", "stage", "preview":
			return apikey.Staging
		case "dev", "development", "local", "test":
			return apikey.Development
		}
	}
	return ""
}

func (s *survey) place(path, comment string) string {
	base := nameOf(filepath.Base(path), "env")
	if base == "env" || strings.HasPrefix(base, "env-") {
		base = "dot" + base
	}
	name := base
	for i := 2; s.names[name]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	s.names[name] = true
	s.places = append(s.places, proposed{name, path, comment})
	return name
}

var notName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[^a-z0-9]+`) })

// nameOf makes a name of s, or gives other.
func nameOf(s, other string) string {
	n := strings.Trim(notName().ReplaceAllString(strings.ToLower(s), "-"), "-")
	if len(n) > 40 {
		n = strings.Trim(n[:40], "-")
	}
	if n == "" || mayBeValue(n) {
		return other
	}
	return n
}

// scalarText writes s as YAML.
func scalarText(s string) string {
	b, err := yaml.Marshal(s)
	if out := strings.TrimSpace(string(b)); err == nil && !strings.Contains(out, "\n") {
		return out
	}
	return fmt.Sprintf("%q", s)
}

func (s *survey) write(a Answers) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Keywright's configuration. It holds no value of a key, only references to where values can be read.")
	line("# keywright config check says what is wrong with it; docs/configuration.md describes every field.")
	line("organization: %s", scalarText(a.Organization))
	line("")
	line("provider:")
	if a.ProviderURL != "" {
		line("  url: %s", scalarText(a.ProviderURL))
	}
	if a.AdminKey != "" {
		line("  admin_key: %s", scalarText(string(a.AdminKey)))
	} else {
		line("  type: anthropic")
		line("  # With an Admin API key Keywright retires old keys itself, and sees whether they are still used:")
		line("  # admin_key: env:ANTHROPIC_ADMIN_KEY")
	}
	line("")
	line("keys:")
	line("  %s:", a.Key)
	line("    class: %s # production-primary and production-secondary 90 days, staging 180, development 365", scalarText(a.Class))
	line("    owner: %s # who answers for the key", scalarText(a.Owner))
	if a.Workspace != "" {
		line("    workspace: %s", scalarText(a.Workspace))
	}
	line("    # backup: NAME # the key that takes over in an emergency")
	line("    # test: # checks with the new value, before anything is changed; the value comes on standard input")
	line("    #   - command: ./scripts/check-key")
	if len(s.places) == 0 {
		line("    locations: [] # no place was found: define one below, and name it here")
		line("")
		line("# locations:")
		line("#   app-env:")
		line("#     kind: env-file")
		line("#     path: .env")
		line("#     variable: %s", s.variable)
		return []byte(b.String())
	}
	var names []string
	for _, p := range s.places {
		names = append(names, p.name)
	}
	line("    locations: [%s]", strings.Join(names, ", "))
	line("")
	line("locations:")
	for _, p := range s.places {
		line("  %s: # %s", p.name, p.comment)
		line("    kind: env-file")
		line("    path: %s", scalarText(p.path))
		line("    variable: %s", s.variable)
		line("    # reload: { command: systemctl restart my-app } # programs read such a file when they start")
		line("    # probe: { http: \"http://127.0.0.1:8080/healthz\" }")
	}
	return []byte(b.String())
}
