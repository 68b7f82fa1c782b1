package all_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/all"
	"github.com/keywright/keywright/internal/tools/locationdoc"
	"github.com/keywright/keywright/internal/tools/locationdoc/scan"
)

const stale = "%s is stale: run go generate ./internal/location/all"

func TestTheListIsFresh(t *testing.T) {
	folders, err := scan.Scan("..")
	if err != nil {
		t.Fatal(err)
	}
	want, err := scan.List(folders)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("zz_gen_all.go"); err != nil || !bytes.Equal(got, want) {
		t.Errorf(stale, "zz_gen_all.go")
	}
}

func TestThePagesAreFresh(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	want, err := locationdoc.Output(all.All(), readme)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf(stale, name)
		}
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "locations", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if _, ok := want["docs/locations/"+filepath.Base(p)]; !ok {
			t.Errorf("%s belongs to no kind: run go generate ./internal/location/all", p)
		}
	}
}

func TestEveryKindIsWhole(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	var seen []string
	for _, k := range all.All() {
		t.Run(k.Name, func(t *testing.T) {
			if !name.MatchString(k.Name) || slices.Contains(seen, k.Name) {
				t.Errorf("the name %q is odd, or stands there twice", k.Name)
			}
			seen = append(seen, k.Name)
			if _, err := location.ParseMeta(k.Meta); err != nil {
				t.Error(err)
			}
			a, b := k.Config(), k.Config()
			if a == b {
				t.Error("Config gives the same pointer twice")
			}
			if !reflect.ValueOf(a).Elem().IsZero() {
				t.Error("Config gives a filled struct; defaults belong into the tags")
			}
			list, err := locationdoc.Fields(a)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range list {
				if f.Required && f.Default != "" {
					t.Errorf("%s is required and has a default", f.Name)
				}
				if len(f.Enum) > 0 && f.Default != "" && !slices.Contains(f.Enum, f.Default) {
					t.Errorf("the default %q of %s is not among %q", f.Default, f.Name, f.Enum)
				}
				if f.Help[len(f.Help)-1] != '.' {
					t.Errorf("the help of %s is no sentence", f.Name)
				}
				if f.Default == "" {
					continue
				}
				if top := reflect.TypeOf(a).Elem(); top.Kind() == reflect.Struct && !bytes.ContainsRune([]byte(f.Name), '.') {
					text := f.Name + ": " + f.Default + "\n"
					if err := yaml.Unmarshal([]byte(text), k.Config()); err != nil {
						t.Errorf("the default of %s cannot be read: %v", f.Name, err)
					}
				}
			}
			if got, ok := all.Lookup(k.Name); !ok || got.Name != k.Name {
				t.Error("Lookup does not find it")
			}
		})
	}
	if _, ok := all.Lookup("no-such-kind"); ok || all.SupportOf("no-such-kind") != (all.Support{}) {
		t.Error("Lookup finds a kind that does not exist")
	}
}

// TestWhatIsSaidOfAKindIsWhatItsDriversCan opens kinds that need no surroundings and compares with the generated table.
func TestWhatIsSaidOfAKindIsWhatItsDriversCan(t *testing.T) {
	configs := map[string]string{"env-file": "{path: a.env, variable: A}", "manual": "{place: a, person: b}", "gateway": "{key: a}"}
	for name, text := range configs {
		k, ok := all.Lookup(name)
		if !ok {
			t.Errorf("no kind %s", name)
			continue
		}
		cfg := k.Config()
		if err := yaml.Unmarshal([]byte(text), cfg); err != nil {
			t.Fatal(err)
		}
		d, err := k.Open(cfg, location.Env{Dir: t.TempDir(), Name: "a"})
		if err != nil {
			t.Fatal(err)
		}
		can, said := reflect.ValueOf(location.AbilitiesOf(d)), reflect.ValueOf(all.SupportOf(name))
		for f := range can.Type().Fields() {
			if degree := said.FieldByName(f.Name).String(); can.FieldByName(f.Name).Bool() != (degree == string(all.Always)) {
				t.Errorf("%s: %s is said to be %q", name, f.Name, degree)
			}
		}
	}
}
