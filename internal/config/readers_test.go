package config_test

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/config"
)

func TestReadersOfAKey(t *testing.T) {
	load := func(readers string) (*config.Config, error) {
		c, _, err := config.LoadBytes("keywright.yaml", t.TempDir(), []byte("organization: acme\nkeys:\n  app: { class: development, owner: me@acme.example, readers: "+readers+" }\n"), config.Options{})
		return c, err
	}
	if c, err := load("[billing, 'user:zen', 'user:1001']"); err != nil || len(c.Keys["app"].Readers) != 3 {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"['user:']", "[Billing]", "['user:a b']", "['user:../x']", "[bill ing]", "[-x]"} {
		if _, err := load(bad); err == nil || !strings.Contains(err.Error(), "reader") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
