// Package vault lets a keyring read from the key-value store of HashiCorp Vault or OpenBao, version 1 or 2. It imports the standard library and
// Keywright alone.
//
//	source, err := vault.New(vault.Config{Path: "secret/anthropic", Field: "api_key", TokenFile: "/run/vault/token"})
//	ring, err := keyring.New(source)
package vault

import (
	"time"

	"github.com/keywright/keywright/internal/keysource/vault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/keyring"
	"github.com/keywright/keywright/keyring/internal/place"
)

// Config names a secret and a field of it.
type Config struct {
	// Path is the mount and the path in it, without the data/ of version 2. Field is the name in the secret.
	Path, Field string
	// Address is https://HOST:PORT, or http on this host; without it that of VAULT_ADDR. Namespace likewise, and VAULT_NAMESPACE.
	Address, Namespace string
	// TokenFile is a file of mode 0600 with Vault's own token, such as an agent keeps. It is read before each call. Without it VAULT_TOKEN, else
	// the file .vault-token in the home directory.
	TokenFile string
	// Login gets and renews a token instead.
	Login Login
	// CA is a PEM file of authorities for the server's certificate; without it VAULT_CACERT, else the system's.
	CA string
	// Every is the pause between two looks for a change; zero means 30 seconds.
	Every time.Duration
}

// Ways to log in.
const (
	AppRole    = "approle"
	Kubernetes = "kubernetes"
	JWT        = "jwt"
)

// Login says how the program gets a token of its own. The token is kept in memory, renewed when two thirds of its time have passed, and replaced
// by that of a new login when Vault does not accept it any more.
type Login struct {
	// Method is AppRole, Kubernetes or JWT. Without it there is no login.
	Method string
	// Mount is where the method is enabled, below auth/; without it the method's name.
	Mount string
	// Role is AppRole's role id, as it stands or as file:PATH; for the others it is the name of a role.
	Role string
	// SecretIDFile is a file of mode 0600 with AppRole's secret id, read before each login. Leave it empty where the role wants none.
	SecretIDFile string
	// JWTFile is the file of the JWT, read before each login. With Kubernetes it may be left empty: that of the pod's service account.
	JWTFile string
}

// New makes a source. It asks nothing yet.
func New(c Config) (keyring.Source, error) {
	var token secret.Ref
	if c.TokenFile != "" {
		token = secret.Ref("file:" + c.TokenFile)
	}
	login := vault.Login{Method: vault.Method(c.Login.Method), Mount: c.Login.Mount, Role: c.Login.Role, JWT: c.Login.JWTFile}
	if c.Login.SecretIDFile != "" {
		login.SecretID = secret.Ref("file:" + c.Login.SecretIDFile)
	}
	r, err := vault.New(vault.Config{Path: c.Path, Field: c.Field, Address: c.Address, Namespace: c.Namespace, Token: token, Login: login, CA: c.CA, Every: c.Every})
	if err != nil {
		return nil, err
	}
	return place.New(r), nil
}
