package identity

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
)

func TestPeers(t *testing.T) {
	p := Peers{Apps: map[int]string{7: "cron"}}
	r := httptest.NewRequest("GET", "/", nil)
	if _, err := p.Identify(r); !errors.Is(err, ErrNoOpinion) {
		t.Errorf("without a socket: %v", err)
	}
	r = r.WithContext(context.WithValue(r.Context(), peerKey{}, &Peer{Unix: true, Known: true, UID: 7}))
	if c, err := p.Identify(r); err != nil || c.App != "cron" {
		t.Errorf("%v %v", c, err)
	}
}

func TestRecheck(t *testing.T) {
	for name, c := range map[string]struct {
		id   Rechecker
		good Caller
	}{
		"user":        {Peers{Apps: map[int]string{5: "a"}}, Caller{App: "a", Proof: "uid:5"}},
		"certificate": {Certificates{Apps: map[string]string{"n": "a"}}, Caller{App: "a", Proof: "certificate:n"}},
		"oidc":        {&oidcIdentifier{o: OIDC{Issuer: "https://i"}, exact: map[string]string{"s": "a"}}, Caller{App: "a", Proof: "oidc:https://i s"}},
	} {
		if err := c.id.Recheck(c.good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.id.Recheck(Caller{App: "b", Proof: c.good.Proof}); !errors.Is(err, errNotAgain) {
			t.Errorf("%s of another application: %v", name, err)
		}
		if err := c.id.Recheck(Caller{App: "a", Proof: c.good.Proof + "x"}); !errors.Is(err, errNotAgain) && !errors.Is(err, ErrNoOpinion) {
			t.Errorf("%s that is not known: %v", name, err)
		}
		if err := c.id.Recheck(Caller{App: "a", Proof: "token:x"}); !errors.Is(err, ErrNoOpinion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
