package manual_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/manual"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// book is where people sign.
type book map[string]location.Signature

func (b book) signed(_ context.Context, name string) (location.Signature, bool) {
	s, ok := b[name]
	return s, ok
}

func (b book) sign(name string, v secret.Value, at time.Time) {
	b[name] = location.Signature{Fingerprint: string(v.Fingerprint()), By: "robin@example.com", At: at}
}

func open(t *testing.T, b book) location.Driver {
	t.Helper()
	env := location.Env{Name: "vault"}
	if b != nil {
		env.Signed = b.signed
	}
	d, err := manual.Kind().Open(&manual.Config{Place: "the team vault", Person: "Robin", Steps: []string{"Open the vault.", "Edit the item."}}, env)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestASignatureIsTheChange(t *testing.T) {
	ctx, b := t.Context(), book{}
	l := location.New("vault", "manual", open(t, b), location.Options{})
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.FixedZone("east", 3600))

	h, err := l.Inspect(ctx)
	if err != nil || h.Present || h.Known() || h.How != location.Nothing {
		t.Fatalf("inspect before any signature: %+v, %v", h, err)
	}
	first, second := secrettest.Fake(t), secrettest.Fake(t)
	if _, _, err := l.Put(ctx, first, location.ExpectHolding(h)); !fault.Is(err, fault.Findings) || !strings.Contains(fault.HintOf(err), "Robin") {
		t.Fatalf("put without a signature: %v", err)
	}
	b.sign("other", first, at)
	if _, _, err := l.Put(ctx, first, location.ExpectHolding(h)); !fault.Is(err, fault.Findings) {
		t.Fatalf("put with a signature for another location: %v", err)
	}
	b.sign("vault", first, at)
	r, h, err := l.Put(ctx, first, location.ExpectHolding(h))
	if err != nil || h.How != location.Signed || !h.Holds(first.Digest()) || h.Digest.Known() || r.Facts["manual"] != "signed" || r.Facts["signed by"] != "robin@example.com" || !r.At.Equal(at) {
		t.Fatalf("put with a signature: %+v, %+v, %v", r, h, err)
	}
	// The next change: expected is the state before the signature that makes it.
	before := location.ExpectHolding(h)
	if _, _, err := l.Put(ctx, second, before); !fault.Is(err, fault.Findings) {
		t.Fatalf("put before the second signature: %v", err)
	}
	b.sign("vault", second, at.Add(time.Hour))
	r2, h2, err := l.Put(ctx, second, before)
	if err != nil || !h2.Holds(second.Digest()) || r2.Replaced != r.Revision || r2.Revision == r.Revision || r2.Revision != h2.Revision {
		t.Fatalf("put after the second signature: %+v, %v", r2, err)
	}
	b.sign("vault", secrettest.Fake(t), at.Add(2*time.Hour))
	if _, _, err := l.Put(ctx, second, location.ExpectHolding(h2)); !fault.Is(err, fault.Conflict) {
		t.Errorf("put after a signature for a third value: %v", err)
	}
	out, err := json.Marshal(r2)
	if err != nil {
		t.Fatal(err)
	}
	secrettest.NoLeak(t, "receipt and holding", fmt.Appendf(out, "%+v", h2), first, second)
}

func TestWithoutAStoreNothingIsKnown(t *testing.T) {
	h, err := open(t, nil).Inspect(t.Context())
	if err != nil || h.Known() || h.How != location.Nothing {
		t.Errorf("inspect: %+v, %v", h, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, nil).Put(ctx, secrettest.Fake(t), location.Expect{}); !fault.Is(err, fault.Canceled) {
		t.Errorf("put with a cancelled context: %v", err)
	}
}

func TestInstructions(t *testing.T) {
	l := location.New("vault", "manual", open(t, nil), location.Options{})
	v := secrettest.Fake(t)
	s, err := l.Instructions(v.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Robin", string(v.Fingerprint()), "the team vault", "1. Open the vault.\n2. Edit the item.\n"} {
		if !strings.Contains(s, want) {
			t.Errorf("instructions lack %q: %s", want, s)
		}
	}
	if a := l.Abilities(); a != (location.Abilities{Manual: true}) {
		t.Errorf("abilities: %+v", a)
	}
}

func TestPlaceAndPersonAreNeeded(t *testing.T) {
	for _, c := range []manual.Config{{}, {Place: "x"}, {Person: "x"}, {Place: " ", Person: "x"}} {
		if _, err := manual.New(c, location.Env{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
