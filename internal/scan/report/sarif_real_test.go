//go:build real

package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/keywright/keywright/internal/peers"
)

// TestRealSARIFSchema holds reports against the published schema, formats of texts included: one with every part, and an empty one.
func TestRealSARIFSchema(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(peers.SARIFSchema(t)))
	if err != nil {
		t.Fatal(err)
	}
	const id = "https://schema.example/sarif-2.1.0.json"
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(id, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(id)
	if err != nil {
		t.Fatal(err)
	}
	valid := func(text string) error {
		log, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return err
		}
		return schema.Validate(log)
	}
	sarif := rendering{"sarif", (*Report).SARIF}
	from := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	used := &Usage{From: from, To: from.Add(time.Hour), Counts: "requests", FreshTo: from, Cost: &Cost{FreshTo: from}}
	used.Add("claude-a", 3, from, from)
	used.Charge("claude-a", 12_340_000_000, 15_000_000_000)
	reports := map[string]*Report{"empty": NewCollector(masker(), nil, Lenient).Report()}
	for _, text := range hostile {
		r := sample(masker(), text)
		for i := range r.Keys {
			r.Keys[i].Usage, r.Keys[i].Verdict = used, &Verdict{State: Dead}
		}
		reports["with "+text] = r
	}
	for name, r := range reports {
		if err := valid(render(t, sarif, r)); err != nil {
			t.Errorf("%.40q: %v", name, err)
		}
	}
	good := render(t, sarif, reports["with a b"])
	for _, change := range [][2]string{{`"ruleIndex"`, `"ruleNumber"`}, {`"level": "`, `"level": "x`}, {`"2.1.0"`, `"2.0.0"`}} {
		if bad := strings.Replace(good, change[0], change[1], 1); bad == good || valid(bad) == nil {
			t.Errorf("%s: the schema is not asked", change[1])
		}
	}
}
