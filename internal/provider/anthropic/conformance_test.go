package anthropic_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/provider/anthropic"
	"github.com/keywright/keywright/internal/provider/providertest"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, harness())
}

func harness() providertest.Harness {
	return providertest.Harness{Peer: peer, Connect: connect}
}

func connect(tb testing.TB, c providertest.Connection) provider.Provider {
	tb.Helper()
	cfg := anthropic.Config{BaseURL: c.BaseURL, HTTP: httpx.Options{UserAgent: "keywright/test", Timeout: c.Timeout, Log: c.Log}}
	if !c.Admin.IsZero() {
		cfg.AdminKey = func(context.Context) (secret.Value, error) { return c.Admin, nil }
	}
	p, err := anthropic.New(cfg)
	if err != nil {
		tb.Fatalf("New: %v", err)
	}
	return p
}

// answers says what each documented error means for a value. It is written down a second time here, apart from the table in the code.
func answers() map[string]provider.Answer {
	return map[string]provider.Answer{
		"bad-request": provider.Unknown, "usage-limit": provider.Blocked, "credit-balance": provider.Blocked, "organization-on-hold": provider.Blocked,
		"claude-code-key-creator-not-member": provider.Dead, "authentication": provider.Dead, "billing": provider.Blocked,
		"linked-organization-spend-limit": provider.Blocked, "linked-organization-billing": provider.Blocked, "permission": provider.Blocked,
		"ip-address": provider.Blocked, "not-found": provider.Unknown, "request-timeout": provider.Unknown, "conflict": provider.Unknown,
		"request-too-large": provider.Unknown, "body-too-large-after-decoding": provider.Unknown, "rate-limit": provider.Blocked,
		"ramp-limit": provider.Blocked, "enforced-spend-limit": provider.Blocked, "contract-spend-limit": provider.Blocked,
		"api-error": provider.Unknown, "cmek-key-unreachable": provider.Unknown, "timeout": provider.Unknown, "overloaded": provider.Unknown,
	}
}

// peer starts a simulator. It shares no code with the client.
func peer(tb testing.TB) *providertest.Peer {
	tb.Helper()
	logs := &logBuffer{}
	// The clock stands still unless the suite moves it, in the middle of a minute.
	at := time.Date(2026, 11, 20, 12, 0, 30, 0, time.UTC)
	sim := simulator.New(simulator.Options{
		Clock: func() time.Time { return at }, StatusDelay: 5 * time.Second, OrganizationName: "Example Organization",
		Log: slog.New(slog.NewTextHandler(logs, nil)),
	})
	server := httptest.NewServer(sim.Handler())
	tb.Cleanup(server.Close)
	p := &providertest.Peer{
		URL: server.URL, Admin: secret.New([]byte(sim.AdminKey())), Organization: sim.Organization(), PageSize: 1000, Delay: 5 * time.Second,
		Workspaces: [2]string{sim.DefaultWorkspace(), sim.AddWorkspace("second").ID},
		Now:        sim.Now, Advance: sim.Advance, Requests: sim.RequestsOf, Lag: sim.SetUsageLag, Logs: logs.Bytes,
		Cap: func(n int) { sim.SetKeyLimits(n, 0) },
		Older: func(tb testing.TB) {
			tb.Helper()
			sim.Fail(simulator.Fault{Path: "/v1/organizations/analytics/*", Status: 404})
		},
	}
	made := 0
	p.NewKey = func(tb testing.TB, workspace string) (string, secret.Value) {
		tb.Helper()
		made++
		id, value, err := sim.CreateKey(simulator.CreateKey{Name: fmt.Sprintf("key-%d", made), Workspace: workspace})
		if err != nil {
			tb.Fatalf("CreateKey: %v", err)
		}
		return id, secret.New([]byte(value))
	}
	for _, e := range simulator.DocumentedErrors() {
		want, ok := answers()[e.Name]
		if !ok {
			tb.Errorf("nobody says what %s means for a value", e.Name)
		}
		p.Refusals = append(p.Refusals, providertest.Refusal{
			Name: e.Name, Want: want, RetryAfter: e.Fault.RetryAfter, Arm: func() func() { return sim.Fail(e.Fault).Remove },
		})
	}
	return p
}
