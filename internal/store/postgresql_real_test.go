//go:build real

package store

import (
	"testing"

	"github.com/keywright/keywright/internal/peers"
)

func TestPostgreSQL(t *testing.T) { suite(t, func(t testing.TB) string { return peers.PostgreSQL(t) }) }
