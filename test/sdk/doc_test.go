// Package sdk_test runs the provider's official SDKs against the simulator, so that its shapes are those which real clients parse, and, behind the tag
// real, the TypeScript SDKs and Claude Code through the built gateway while its key changes. It holds no other code.
package sdk_test

import (
	"net/http"
	"testing"

	"github.com/keywright/keywright/internal/simulator"
)

// prepared is a simulator with one workspace key, served over memory so that
// the SDKs' back-off costs no time inside a synctest bubble.
type prepared struct {
	*simulator.Simulator
	client       *http.Client
	admin        string
	keyID, value string
	workspace    string
}

func prepare(t *testing.T, o simulator.Options) *prepared {
	t.Helper()
	s := simulator.New(o)
	transport, stop := s.Pipe()
	t.Cleanup(stop)
	ws := s.AddWorkspace("sdk").ID
	id, value, err := s.CreateKey(simulator.CreateKey{Name: "sdk-key", Workspace: ws})
	if err != nil {
		t.Fatal(err)
	}
	return &prepared{Simulator: s, client: &http.Client{Transport: transport}, admin: s.AdminKey(), keyID: id, value: value, workspace: ws}
}

// sent returns the status of each request to path, oldest first.
func (p *prepared) sent(path string) []int {
	var out []int
	for _, r := range p.Requests() {
		if r.Path == path {
			out = append(out, r.Status)
		}
	}
	return out
}
