// Package all opens a place of a value by its reference. It asks nothing of the place. app calls it for gateways.
package all

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/keysource/awssecrets"
	"github.com/keywright/keywright/internal/keysource/daemon"
	"github.com/keywright/keywright/internal/keysource/kubernetes"
	"github.com/keywright/keywright/internal/keysource/vault"
	"github.com/keywright/keywright/internal/secret"
)

// Options says what references are relative to.
type Options struct {
	// Dir is where relative paths start.
	Dir string
	// Every is the pause between two looks at a file; zero means keysource.DefaultEvery.
	Every time.Duration
	// Development permits env:.
	Development bool
	// Store opens store:KEY; nil where no store is open.
	Store func(key apikey.Name) (keysource.Reader, error)
}

// Open makes the reader of a reference. Kinds: Invalid, and those of reading an identity.
func Open(ref keysource.Ref, o Options) (keysource.Reader, error) {
	p, err := ref.Parse()
	if err != nil {
		return nil, err
	}
	abs := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(o.Dir, path)
	}
	switch p.Scheme {
	case "file":
		return keysource.File(p.Name, o.Dir, o.Every), nil
	case "env":
		if !o.Development {
			return nil, fault.New(fault.Invalid, "open place: it is the environment", fault.Hint("use file:PATH with mode 0600; the environment is for development alone"))
		}
		return keysource.Env(p.Name), nil
	case "store":
		if o.Store == nil {
			return nil, fault.New(fault.Invalid, "open place: store: needs keywright.yaml", fault.Hint("run it with -c keywright.yaml, or ask the daemon: daemon:SOCKET#%s", p.Name))
		}
		return o.Store(apikey.Name(p.Name))
	case "daemon":
		address := p.Name
		if !strings.Contains(address, "://") {
			address = abs(address)
		}
		return daemon.New(daemon.Config{Address: address, Identity: abs(p.Options["identity"]), Key: p.Field})
	case "aws":
		return awssecrets.New(awssecrets.Config{Secret: p.Name, Field: p.Field, Region: p.Options["region"], Profile: p.Options["profile"], Stage: p.Options["stage"], Endpoint: p.Options["endpoint"], Every: p.Every})
	case "vault":
		inner := func(option string) string {
			if path, ok := strings.CutPrefix(p.Options[option], "file:"); ok {
				return "file:" + abs(path)
			}
			return p.Options[option]
		}
		return vault.New(vault.Config{
			Path: p.Name, Field: p.Field, Address: p.Options["address"], Namespace: p.Options["namespace"], Token: secret.Ref(inner("token")), CA: abs(p.Options["ca"]), Every: p.Every,
			Login: vault.Login{
				Method: vault.Method(p.Options["login"]), Mount: p.Options["auth"], Role: inner("role"), SecretID: secret.Ref(inner("secret-id")), JWT: strings.TrimPrefix(inner("jwt"), "file:"),
			},
		})
	case "kubernetes":
		namespace, name, _ := strings.Cut(p.Name, "/")
		return kubernetes.New(kubernetes.Config{Namespace: namespace, Secret: name, Field: p.Field, Kubeconfig: abs(p.Options["kubeconfig"]), Context: p.Options["context"]})
	}
	return nil, fault.Newf(fault.Unsupported, "open place: %s: is not known here", p.Scheme)
}
