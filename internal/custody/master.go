package custody

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/secret"
)

// Env is what OpenMaster needs to know of the surroundings.
type Env struct {
	// ConfigDir is the directory of the configuration: relative paths start there, and default files lie there.
	ConfigDir string
	// DataDir is the data directory, in which no master may lie.
	DataDir string
	// FirstRun allows making a missing master file or passphrase header. Set it only while the store holds no sealed
	// value: a new master in place of a lost one would open nothing.
	FirstRun bool
	// Header is the file with the public parameters of a passphrase, made on first run; empty means
	// "master.passphrase.json". A change of the passphrase needs a second one until every value is re-wrapped.
	Header string
	// LookupEnv reads an environment variable; nil means os.LookupEnv.
	LookupEnv func(name string) (string, bool)
}

// Default names of files.
const (
	DefaultFile       = "master.key"
	DefaultHeader     = "master.passphrase.json"
	DefaultCredential = "keywright-master" // as in LoadCredential= of a systemd unit
)

func (e Env) lookup(name string) (string, bool) {
	if e.LookupEnv != nil {
		return e.LookupEnv(name)
	}
	return os.LookupEnv(name)
}

func (e Env) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(e.ConfigDir, p)
}

// OpenMaster opens the master that spec names:
//
//	(empty)                        the systemd credential "keywright-master" if there is one, else file:master.key
//	file:PATH                      32 random bytes in a file of mode 0600; made on first run
//	systemd:NAME                   the same as a credential that systemd hands over
//	passphrase:REF                 Argon2id of what the reference (env:, file: or cmd:) yields; header made on first run
//	age:PATH                       an age identity file, X25519 or hybrid, without a passphrase
//	aws-kms:KEY[?region=REGION]    a symmetric AWS KMS key by id, ARN or alias; nothing is asked of AWS before first use
//
// Kinds: Invalid (spec or file of the wrong form), NotFound, Forbidden (readable by others, in the data directory, or a
// wrong passphrase), and those of secret.Ref.Resolve. No error quotes key material.
func OpenMaster(ctx context.Context, spec string, env Env) (Master, error) {
	if spec == "" {
		if path, ok := credentialPath(DefaultCredential, env); ok && exists(path) {
			spec = "systemd:" + DefaultCredential
		} else {
			spec = "file:" + DefaultFile
		}
	}
	scheme, rest, ok := strings.Cut(spec, ":")
	if !ok || rest == "" {
		return nil, badSpec("want SCHEME:REST")
	}
	switch scheme {
	case "file":
		return openFile(env.path(rest), env)
	case "systemd":
		return openCredential(rest, env)
	case "passphrase":
		ref, err := secret.ParseRef(rest)
		if err != nil {
			return nil, fault.In(err, "open master")
		}
		return openPassphrase(ctx, ref, env)
	case "age":
		return openAge(env.path(rest), env)
	case "aws-kms":
		return openKMS(rest)
	}
	return nil, badSpec("unknown scheme in front of the colon")
}

func badSpec(what string) error {
	return fault.New(fault.Invalid, "open master: "+what, fault.Hint("use file:PATH, systemd:NAME, passphrase:REF, age:PATH or aws-kms:KEY?region=REGION"))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func credentialPath(name string, env Env) (string, bool) {
	dir, ok := env.lookup("CREDENTIALS_DIRECTORY")
	if !ok || dir == "" {
		return "", false
	}
	return filepath.Join(dir, name), true
}

func openCredential(name string, env Env) (Master, error) {
	if name != filepath.Base(name) || name == "." || name == ".." {
		return nil, badSpec("systemd: needs the bare name of a credential")
	}
	path, ok := credentialPath(name, env)
	if !ok {
		return nil, fault.New(fault.NotFound, "open master: systemd handed over no credentials", fault.Hint("add LoadCredentialEncrypted=%s to the unit", name))
	}
	return readRaw(path, keyfile.Delivered, env)
}

func openFile(path string, env Env) (Master, error) {
	if err := keyfile.Outside(path, env.DataDir); err != nil {
		return nil, fault.In(err, "open master")
	}
	if env.FirstRun && !exists(path) {
		if err := makeRaw(path); err != nil && !fault.Is(err, fault.Conflict) {
			return nil, fault.In(err, "make master")
		}
	}
	return readRaw(path, keyfile.Private, env)
}

func missing(err error, path string) error {
	if fault.Is(err, fault.NotFound) {
		return fault.In(err, "open master", fault.Hint("bring %s back from where you keep a copy: without it no sealed value can be opened", path))
	}
	return fault.In(err, "open master")
}

func wrongLength(path string, n string) error {
	return fault.New(fault.Invalid, fmt.Sprintf("open master: %q holds %s, and a master has %d bytes", path, n, masterSize),
		fault.Hint("it was cut or replaced: bring it back from where you keep a copy"))
}
