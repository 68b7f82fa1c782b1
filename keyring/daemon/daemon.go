// Package daemon lets a keyring read from keywright serve, which tells of a new version at once: over its Unix socket, or over mutual TLS as an
// enrolled reader. It imports the standard library and Keywright alone.
//
//	source, err := daemon.New(daemon.Config{Address: "/run/keywright/keywright.sock", Keys: []string{"prod-primary"}})
//	ring, err := keyring.New(source)
package daemon

import (
	"errors"

	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/keysource/daemon"
	"github.com/keywright/keywright/keyring"
	"github.com/keywright/keywright/keyring/internal/place"
)

// Config names a daemon and the keys to read from it.
type Config struct {
	// Address is the absolute path of the daemon's socket, or https://HOST:PORT.
	Address string
	// Identity is the path of the file that "keywright reader new" made. With https it is needed, and with a socket not used.
	Identity string
	// Keys are the names of keys: the first is used, the others are backups. The daemon's configuration lists who may read each.
	Keys []string
}

// New makes a source. It reads the identity, and asks nothing of the daemon yet.
func New(c Config) (keyring.Source, error) {
	if len(c.Keys) == 0 {
		return nil, errors.New("keyring: no key of the daemon is named")
	}
	var readers []keysource.Reader
	for _, key := range c.Keys {
		r, err := daemon.New(daemon.Config{Address: c.Address, Identity: c.Identity, Key: key})
		if err != nil {
			return nil, err
		}
		readers = append(readers, r)
	}
	return place.New(readers...), nil
}
