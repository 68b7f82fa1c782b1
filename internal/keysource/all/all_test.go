package all_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/keysource/all"
)

func TestEverySchemeOpens(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("value\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYSOURCE_TEST", "value")
	var asked apikey.Name
	o := all.Options{Dir: dir, Development: true, Store: func(key apikey.Name) (keysource.Reader, error) {
		asked = key
		return keysource.Env("KEYSOURCE_TEST"), nil
	}}
	for _, ref := range []keysource.Ref{"file:key", "env:KEYSOURCE_TEST", "store:app"} {
		r, err := all.Open(ref, o)
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		if got, err := r.Read(t.Context()); err != nil || got.Value.RevealString() != "value" {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if asked != "app" {
		t.Errorf("the store was asked for %q", asked)
	}
	for _, ref := range []keysource.Ref{"daemon:kw.sock#app", "aws:app?region=eu-central-1#key", "vault:kv/a?address=https://vault.example&token=file:token#key", "vault:kv/a?address=https://vault.example&login=kubernetes&role=app#key", "vault:kv/a?address=https://vault.example&login=approle&role=r&secret-id=file:s#key", "kubernetes:ai/app#key"} {
		if _, err := all.Open(ref, o); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for ref, kind := range map[keysource.Ref]fault.Kind{
		"env:KEYSOURCE_TEST": fault.Invalid, "store:app": fault.Invalid, "nonsense": fault.Invalid, "daemon:https://h:1#app": fault.Invalid, "daemon:https://h:1?identity=none#app": fault.NotFound,
		"aws:a?endpoint=http://h#k": fault.Invalid, "vault:kv/a?address=http://h#k": fault.Invalid, "vault:kv/a?address=https://h&login=userpass&role=r#k": fault.Invalid,
	} {
		if _, err := all.Open(ref, all.Options{Dir: dir}); !fault.Is(err, kind) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
