package locationdoc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/tools/locationdoc"
)

type inner struct {
	Port int `yaml:"port" help:"The port."`
}

type config struct {
	Path   string        `yaml:"path" help:"A|B." required:"true"`
	Wait   time.Duration `yaml:"wait" help:"The wait." default:"5s"`
	Key    secret.Ref    `yaml:"key" help:"The key."`
	Style  string        `yaml:"style" help:"The style." enum:"a|b" default:"a"`
	Inner  []inner       `yaml:"inner" help:"The inner."`
	Hidden string        `yaml:"-"`
}

func kind(meta string) location.Kind {
	return location.Kind{Name: "x-y", Config: func() any { return &config{} }, Meta: []byte(meta)}
}

const meta = "title = \"X\"\nsummary = \"S.\"\nmaturity = \"new.\"\nchanges = \"C\"\nnotice = \"N\"\npermission = \"P\"\nundo = \"U\"\ntry = \"T\"\n"

func TestPage(t *testing.T) {
	b, err := locationdoc.Page(kind(meta))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# X\n\nS.\n\nKind `x-y`. Maturity: new.\n", "| `path` | text | required | A\\|B. |\n", "| `wait` | duration | `5s` | The wait. |\n",
		"| `key` | reference (`env:`, `file:`, `cmd:`) |  | The key. |\n", "| `style` | one of `a`, `b` | `a` | The style. |\n",
		"| `inner` | list of group |  | The inner. |\n| `inner.port` | number |  | The port. |\n", "| stages a value before it is in force | no |\n", "## What it changes\n\nC\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the page lacks %q:\n%s", want, b)
		}
	}
	if strings.Contains(string(b), "Hidden") {
		t.Error("the page shows a hidden member")
	}
	if _, err := locationdoc.Page(kind("title = \"X\"\n")); err == nil {
		t.Error("a page without its prose")
	}
	if _, err := locationdoc.Fields(&struct {
		A string `yaml:"a"`
	}{}); err == nil {
		t.Error("a member without help is accepted")
	}
}

func TestBetween(t *testing.T) {
	table := []byte("| a |\n")
	for text, want := range map[string]string{
		"no markers": "no markers",
		"a\n" + locationdoc.Begin + "\nold\n" + locationdoc.End + "\nb\n": "a\n" + locationdoc.Begin + "\n\n| a |\n\n" + locationdoc.End + "\nb\n",
		locationdoc.Begin:                                     "",
		locationdoc.End + locationdoc.Begin:                   "",
		locationdoc.Begin + locationdoc.End + locationdoc.End: "",
	} {
		got, err := locationdoc.Between([]byte(text), table)
		if string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
