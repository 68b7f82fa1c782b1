package config

import (
	"bytes"
	"reflect"

	"github.com/goccy/go-yaml"

	"github.com/keywright/keywright/internal/fault"
)

// Show gives the configuration as it is in force: one file, every default and class filled in, paths absolute, and references in place
// of values. Load reads it back to the same.
func Show(c *Config) ([]byte, error) {
	tree := treeOf(reflect.ValueOf(*c))
	out := tree[:0]
	for _, item := range tree {
		if item.Key != "include" {
			out = append(out, item)
		}
	}
	var b bytes.Buffer
	if err := yaml.NewEncoder(&b, yaml.Indent(2), yaml.IndentSequence(true)).Encode(out); err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "show configuration")
	}
	return b.Bytes(), nil
}
