package config

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The schema, read by another library, accepts what Load accepts and refuses the usual mistakes.
func TestSchema(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string) error {
		j, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(v)
	}
	good := example(t)
	if err := check(good); err != nil {
		t.Error(err)
	}
	shown, err := Show(must(t, good))
	if err != nil {
		t.Fatal(err)
	}
	if err := check(string(shown)); err != nil {
		t.Errorf("%v\n%s", err, shown)
	}
	for _, c := range [][2]string{
		{"organization:", "organisation:"},
		{"admin_key: env:ANTHROPIC_ADMIN_KEY", "admin_key: hunter2"},
		{"    class: production-primary\n", ""},
		{"kind: env-file", "kind: env-fil"},
		{"    path: /etc/zen/staging.env\n", ""},
		{"variable:", "varible:"},
		{"    style: versioned", "    style: verzioned"},
		{"batch: 34%", "batch: lots"},
		{"watch: 5m", "watch: 5 minutes"},
		{"approvals: 1", "approvals: one"},
		{"Mon-Thu 09:00", "Mon-Thu 9"},
		{"fail: authentication_error|HTTP 401", "fails: x"},
		{"role: approver, ", ""},
		{"- command: ./scripts/tell-team", "- comand: x"},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		if bad == good {
			t.Fatalf("the example has no %q", c[0])
		}
		if check(bad) == nil {
			t.Errorf("%q in place of %q is accepted", c[1], c[0])
		}
		if _, _, err := load(t, bad); err == nil {
			t.Errorf("%q in place of %q is loaded", c[1], c[0])
		}
	}
}

// What is generated is fresh: run go generate in this folder.
func TestGenerated(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(text) {
		t.Error("no JSON")
	}
	for name, want := range map[string]string{"../../docs/keywright.schema.json": string(text), "../../docs/configuration.md": ""} {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if want, err = FillPage(string(got)); err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != want {
			t.Errorf("%s is stale", name)
		}
	}
	if _, err := FillPage("x"); err == nil {
		t.Error("a page without markers is filled")
	}
}
