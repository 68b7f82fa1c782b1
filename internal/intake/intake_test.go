package intake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/provider/anthropic"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/store"
)

func inBubble(t *testing.T, o simulator.Options, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, o)) })
}

// wait lets the bubble's time pass.
func (w *world) wait(d time.Duration) { time.Sleep(d) }

func TestAdd(t *testing.T) {
	inBubble(t, simulator.Options{StatusDelay: 3 * time.Second}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{})
		r, err := w.add(w.intake(), v, w.slot(), options())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Checks {
			if c.Outcome != intake.OK {
				t.Errorf("%s: %s %s", c.Name, c.Outcome, c.Text)
			}
		}
		names := []string{intake.CheckFormat, intake.CheckKnown, intake.CheckLive, intake.CheckPlace, intake.CheckCount, intake.CheckMatch, intake.CheckPrincipal, intake.CheckName,
			intake.CheckExpiry, intake.CheckUnused, intake.CheckBinding, intake.CheckSealed}
		if len(r.Checks) != len(names) {
			t.Fatalf("checks: %+v", r.Checks)
		}
		for n, c := range r.Checks {
			if c.Name != names[n] {
				t.Errorf("check %d is %s, want %s", n, c.Name, names[n])
			}
		}
		got := w.versions()
		if len(got) != 1 {
			t.Fatalf("%d versions", len(got))
		}
		x := got[0]
		if x.State != apikey.Spare || x.ProviderID != id || x.Binding != apikey.BindingProved || x.Digest != v.Digest() || x.Organization != w.sim.Organization() ||
			x.Workspace != w.sim.DefaultWorkspace() || x.CreatedBy != actor || x.Purpose != "answers customers" || x.Created.IsZero() || x.Tested.IsZero() || x.Adopted {
			t.Errorf("version: %+v", x)
		}
		opened, err := w.vault.Open(t.Context(), x.ID)
		if err != nil || !opened.Equal(v) {
			t.Errorf("custody opens %v, %v", opened, err)
		}
		if w.status(id) != simulator.StatusActive || len(w.sim.Refused()) == 0 {
			t.Errorf("status %s, refused %d: the proof was not made", w.status(id), len(w.sim.Refused()))
		}
		if slices.ContainsFunc(w.sim.Requests(), func(r simulator.Request) bool { return r.Path == "/v1/messages" }) {
			t.Error("the intake left usage")
		}
		w.settled()
		var types []event.Type
		for _, e := range w.entries() {
			types = append(types, e.Event.Type)
		}
		if want := []event.Type{event.EffectIntended, event.EffectDone, event.VersionAdded}; !slices.Equal(types, want) {
			t.Errorf("recorded %v, want %v", types, want)
		}
		if r.Next != "keywright rotate prod-primary" {
			t.Errorf("next: %q", r.Next)
		}
	})
}

func TestAddSaysWhatIsKnown(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		x := w.mustAdd(v)
		before := w.changes()
		r, err := w.add(w.intake(), v, w.slot(), options())
		if err != nil || !r.Known || r.Version.ID != x.ID {
			t.Errorf("the same spare again: %+v, %v", r, err)
		}
		if w.changes() != before {
			t.Error("a known spare was proved again")
		}
		other := w.slot()
		other.Key = "prod-secondary"
		_, err = w.add(w.intake(), v, other, options())
		wantKind(t, err, fault.Conflict)
		other.Environment = apikey.Staging
		if _, err = w.add(w.intake(), v, other, options()); err == nil || !strings.Contains(err.Error(), "another environment") {
			t.Errorf("another environment: %v", err)
		}
		for _, s := range []apikey.State{apikey.Current, apikey.Pending, apikey.Previous, apikey.Inactive, apikey.Archived, apikey.Rejected, apikey.Expired} {
			w.become(x.ID, func(v *apikey.Version) { v.State = s })
			_, err = w.add(w.intake(), v, w.slot(), options())
			wantKind(t, err, fault.Conflict)
		}
		w.become(x.ID, func(v *apikey.Version) { v.State, v.Compromised = apikey.Spare, true })
		if _, err = w.add(w.intake(), v, w.slot(), options()); err == nil || !strings.Contains(err.Error(), "compromised") {
			t.Errorf("compromised: %v", err)
		}
		if n := len(w.versions()); n != 1 {
			t.Errorf("%d versions", n)
		}
	})
}

func TestAddLiveTest(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault simulator.Fault
		want  fault.Kind
	}{
		{"refused", simulator.Fault{Path: "/v1/models", Status: 401, Type: "authentication_error"}, fault.Unauthenticated},
		{"creator left", simulator.Fault{Path: "/v1/models", Status: 400, ErrorCode: "claude_code_key_creator_not_member"}, fault.Unauthenticated},
		{"permission", simulator.Fault{Path: "/v1/models", Status: 403, Type: "permission_error"}, fault.Forbidden},
		{"payment", simulator.Fault{Path: "/v1/models", Status: 402, Type: "billing_error"}, fault.Unavailable},
		{"limit", simulator.Fault{Path: "/v1/models", Status: 429, Type: "rate_limit_error", RetryAfter: time.Minute}, fault.RateLimited},
		{"overloaded", simulator.Fault{Path: "/v1/models", Status: 529, Type: "overloaded_error"}, fault.Unavailable},
		{"cut", simulator.Fault{Path: "/v1/models", Kind: simulator.FaultDropBefore}, fault.Unavailable},
		{"garbage", simulator.Fault{Path: "/v1/models", Kind: simulator.FaultGarbageBody}, fault.Unavailable},
		{"count refused", simulator.Fault{Path: "/v1/messages/count_tokens", Status: 403, Type: "permission_error"}, fault.Forbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
				id, v := w.make(simulator.CreateKey{})
				w.sim.Fail(c.fault)
				r, err := w.add(w.intake(), v, w.slot(), options())
				wantKind(t, err, c.want)
				if last := r.Checks[len(r.Checks)-1]; last.Outcome != intake.Failed {
					t.Errorf("last check: %+v", last)
				}
				if len(w.versions()) != 0 || w.changes() != 0 || w.status(id) != simulator.StatusActive {
					t.Error("something was changed")
				}
			})
		})
	}
}

func TestAddPins(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		second := w.sim.AddWorkspace("second").ID
		_, v := w.make(simulator.CreateKey{})
		_, foreign := w.make(simulator.CreateKey{Workspace: second})

		_, err := w.add(w.intake(), v, w.slot(), intake.Options{Actor: actor})
		wantKind(t, err, fault.Findings)
		if !strings.Contains(fault.HintOf(err), "--pin") {
			t.Errorf("hint: %s", fault.HintOf(err))
		}
		var asked []intake.Question
		say := func(yes bool) intake.Options {
			return intake.Options{Actor: actor, Confirm: func(_ context.Context, q intake.Question) (intake.Answer, error) {
				asked = append(asked, q)
				return intake.Answer{Yes: yes}, nil
			}}
		}
		_, err = w.add(w.intake(), v, w.slot(), say(false))
		wantKind(t, err, fault.Conflict)
		if _, err = w.add(w.intake(), v, w.slot(), say(true)); err != nil {
			t.Fatal(err)
		}
		if len(asked) != 2 || asked[0].Kind != intake.AskPin || !strings.Contains(asked[0].Text, w.sim.Organization()) {
			t.Errorf("asked %+v", asked)
		}
		pins, err := w.intake().Pins(t.Context(), w.slot())
		if err != nil || pins.Organization != w.sim.Organization() || pins.Workspace != w.sim.DefaultWorkspace() || pins.PinnedBy != actor || pins.ProviderURL != simulator.PipeURL {
			t.Errorf("pins: %+v, %v", pins, err)
		}
		_, err = w.add(w.intake(), foreign, w.slot(), options())
		wantKind(t, err, fault.Conflict)

		slot := w.slot()
		slot.Workspace = "default" // means what a person confirmed
		if pins, _ := w.intake().Pins(t.Context(), slot); pins.Workspace != w.sim.DefaultWorkspace() {
			t.Errorf("default is %q", pins.Workspace)
		}
		slot.Workspace = second // the configuration wins
		if _, err := w.add(w.intake(), foreign, slot, intake.Options{Actor: actor}); err != nil {
			t.Errorf("pinned by configuration: %v", err)
		}
		_, third := w.make(simulator.CreateKey{Workspace: second})
		slot.Organization = "00000000-0000-4000-8000-000000000000"
		_, err = w.add(w.intake(), third, slot, options())
		wantKind(t, err, fault.Conflict)

		slot.Organization = ""
		i := w.intake()
		i.ProviderURL = "https://elsewhere.example"
		_, err = w.add(i, third, slot, options())
		wantKind(t, err, fault.Findings)
		o := options()
		o.AcceptProviderChange = true
		if _, err := w.add(i, third, slot, o); err != nil {
			t.Errorf("accepted change of provider: %v", err)
		}
	})
}

// without gives the provider's replies as they would be without the headers that name organization and workspace.
type without struct{ *anthropic.Admin }

func (p without) Inspect(ctx context.Context, v secret.Value) (provider.Verdict, error) {
	got, err := p.Admin.Inspect(ctx, v)
	got.Workspace = ""
	return got, err
}

func TestAddNeedsTheHeaders(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		i := w.intake()
		i.Provider = without{w.provider.(*anthropic.Admin)}
		_, err := w.add(i, v, w.slot(), options())
		wantKind(t, err, fault.Conflict)
	})
}

// altered shows another list than the provider's.
type altered struct {
	*anthropic.Admin
	list func([]provider.Key) []provider.Key
}

func (p altered) List(ctx context.Context, workspace string) ([]provider.Key, error) {
	keys, err := p.Admin.List(ctx, workspace)
	return p.list(keys), err
}

func TestAddMatch(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{})
		twin, _ := w.make(simulator.CreateKey{Name: "twin"})
		i := w.intake()
		show := func(f func([]provider.Key) []provider.Key) { i.Provider = altered{w.provider.(*anthropic.Admin), f} }
		sameHint := func(keys []provider.Key) []provider.Key {
			n := slices.IndexFunc(keys, func(k provider.Key) bool { return k.ID == id })
			for m := range keys {
				keys[m].Hint = keys[n].Hint
			}
			return keys
		}

		show(func([]provider.Key) []provider.Key { return nil })
		_, err := w.add(i, v, w.slot(), options())
		wantKind(t, err, fault.Findings)
		o := options()
		o.Unmatched = true
		r, err := w.add(i, v, w.slot(), o)
		if err != nil || r.Version.ProviderID != "" || r.Version.Binding != apikey.BindingNone || outcome(r, intake.CheckMatch) != intake.Warn {
			t.Fatalf("unmatched: %+v, %v", r, err)
		}

		// Found again later, and proved.
		i.Provider = w.provider
		rs, err := i.Match(t.Context(), w.slot(), options())
		if err != nil || len(rs) != 1 || rs[0].Version.ProviderID != id || rs[0].Version.Binding != apikey.BindingProved {
			t.Fatalf("matched again: %+v, %v", rs, err)
		}
		w.settled()
		if _, err := w.intake().Forget(t.Context(), r.Version.ID, options()); err != nil {
			t.Fatal(err)
		}

		show(sameHint)
		_, err = w.add(i, v, w.slot(), options())
		wantKind(t, err, fault.Findings)
		if !strings.Contains(err.Error(), twin) || !strings.Contains(fault.HintOf(err), "--id") {
			t.Errorf("not said which: %v (%s)", err, fault.HintOf(err))
		}
		o = options()
		o.Confirm = func(_ context.Context, q intake.Question) (intake.Answer, error) {
			if q.Kind != intake.AskChoose || len(q.Choices) != 2 {
				t.Errorf("asked %+v", q)
			}
			return intake.Answer{Yes: true, Choice: twin}, nil
		}
		// The wrong one: the proof finds out, and the other key works again.
		_, err = w.add(i, v, w.slot(), o)
		wantKind(t, err, fault.Conflict)
		if w.status(twin) != simulator.StatusActive || len(w.versions()) != 0 {
			t.Errorf("twin is %s, %d versions", w.status(twin), len(w.versions()))
		}
		w.settled()
		o = options()
		o.ProviderID = "apikey_none"
		_, err = w.add(i, v, w.slot(), o)
		wantKind(t, err, fault.Conflict)
		o.ProviderID = id
		if r, err = w.add(i, v, w.slot(), o); err != nil || r.Version.Binding != apikey.BindingProved {
			t.Fatalf("the right one: %+v, %v", r, err)
		}

		// An id belongs to one value.
		_, third := w.make(simulator.CreateKey{Name: "third"})
		show(func(keys []provider.Key) []provider.Key {
			n := slices.IndexFunc(keys, func(k provider.Key) bool { return k.Matches(third) })
			hint := keys[n].Hint
			keys = slices.DeleteFunc(keys, func(k provider.Key) bool { return k.ID != id })
			keys[0].Hint = hint
			return keys
		})
		_, err = w.add(i, third, w.slot(), options())
		wantKind(t, err, fault.Conflict)
		if w.changes() == 0 || len(w.versions()) != 1 {
			t.Errorf("%d versions", len(w.versions()))
		}
	})
}

func TestAddWithoutHintsAsks(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{})
		i := w.intake()
		i.Provider = altered{w.provider.(*anthropic.Admin), func(keys []provider.Key) []provider.Key {
			keys[0].Hint = provider.Hint{}
			return keys
		}}
		_, err := w.add(i, v, w.slot(), options())
		wantKind(t, err, fault.Findings)
		o := options()
		o.Confirm = func(context.Context, intake.Question) (intake.Answer, error) { return intake.Answer{}, nil }
		_, err = w.add(i, v, w.slot(), o)
		wantKind(t, err, fault.Conflict)
		o.ProviderID = id
		if r, err := w.add(i, v, w.slot(), o); err != nil || r.Version.Binding != apikey.BindingProved {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestAddWithoutAdminKey(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		i := w.intake()
		i.Provider = w.keys
		r, err := w.add(i, v, w.slot(), options())
		if err != nil || r.Version.ProviderID != "" || outcome(r, intake.CheckMatch) != intake.Warn || outcome(r, intake.CheckBinding) != "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// otherOrganization is an admin key of another organization than the value's.
type otherOrganization struct{ *anthropic.Admin }

func (otherOrganization) Organization(context.Context) (id, name string, err error) {
	return "11111111-0000-4000-8000-000000000000", "Other", nil
}

func TestAddWithTheAdminKeyOfAnotherOrganization(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		i := w.intake()
		i.Provider = otherOrganization{w.provider.(*anthropic.Admin)}
		r, err := w.add(i, v, w.slot(), options())
		if err != nil || r.Version.ProviderID != "" || !strings.Contains(text(r, intake.CheckMatch), "another organization") || w.changes() != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestAddPrincipalNameAndExpiry(t *testing.T) {
	day := 24 * time.Hour
	c := apikey.Classes()[0]
	for _, x := range []struct {
		name    string
		create  simulator.CreateKey
		expires time.Duration
		staging bool
		accept  bool
		want    fault.Kind // Unknown: taken in
		warn    string
	}{
		{"personal in production", simulator.CreateKey{Principal: simulator.Principal{Kind: simulator.PrincipalUser}}, 0, false, false, fault.Invalid, ""},
		{"personal in staging", simulator.CreateKey{Principal: simulator.Principal{Kind: simulator.PrincipalUser}}, 0, true, false, fault.Unknown, intake.CheckPrincipal},
		{"service account", simulator.CreateKey{Principal: simulator.Principal{Kind: simulator.PrincipalServiceAccount}}, 0, false, false, fault.Unknown, ""},
		{"odd name", simulator.CreateKey{Name: "my key"}, 0, false, false, fault.Unknown, intake.CheckName},
		{"no such day", simulator.CreateKey{Name: "acme-prod-primary-20261399"}, 0, false, false, fault.Unknown, intake.CheckName},
		{"outlives", simulator.CreateKey{}, 400 * day, false, false, fault.Unknown, ""},
		{"expires within the rotation", simulator.CreateKey{}, c.Soak, false, true, fault.Invalid, ""},
		{"expires early", simulator.CreateKey{}, 30 * day, false, false, fault.Findings, ""},
		{"expires early, accepted", simulator.CreateKey{}, 30 * day, false, true, fault.Unknown, intake.CheckExpiry},
	} {
		t.Run(x.name, func(t *testing.T) {
			inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
				if x.expires > 0 {
					x.create.ExpiresAt = now().Add(x.expires)
				}
				id, v := w.make(x.create)
				slot, o := w.slot(), options()
				if x.staging {
					slot.Environment = apikey.Staging
				}
				o.AcceptExpiry = x.accept
				r, err := w.add(w.intake(), v, slot, o)
				if x.want != fault.Unknown {
					wantKind(t, err, x.want)
					if w.changes() != 0 || len(w.versions()) != 0 {
						t.Error("something was changed")
					}
					return
				}
				if err != nil || w.status(id) != simulator.StatusActive {
					t.Fatalf("%v, %s", err, w.status(id))
				}
				for _, c := range r.Checks {
					if (c.Outcome == intake.Warn) != (c.Name == x.warn) {
						t.Errorf("%+v", c)
					}
				}
			})
		})
	}
}

func TestAddLeavesAloneWhatIsInUse(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(w *world, id string, v secret.Value, slot *intake.Slot, o *intake.Options)
		say   string
	}{
		{"a place holds it", func(w *world, _ string, v secret.Value, slot *intake.Slot, _ *intake.Options) {
			slot.Locations = []*location.Location{w.place("empty", secret.Value{}), w.place("env", v)}
		}, "env holds it"},
		{"usage", func(w *world, id string, _ secret.Value, _ *intake.Slot, _ *intake.Options) {
			w.sim.AddUsage(simulator.Usage{At: w.sim.Now().Add(-time.Minute), KeyID: id, Requests: 7, InputTokens: 5})
		}, "7 requests"},
		{"usage cannot be read", func(w *world, _ string, _ secret.Value, _ *intake.Slot, _ *intake.Options) {
			w.sim.Fail(simulator.Fault{Path: "/v1/organizations/analytics/*", Status: 500})
		}, "cannot be read"},
		{"not wanted", func(_ *world, _ string, _ secret.Value, _ *intake.Slot, o *intake.Options) { o.SkipBinding = true }, "not wanted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
				id, v := w.make(simulator.CreateKey{})
				w.wait(10 * time.Minute)
				slot, o := w.slot(), options()
				c.setup(w, id, v, &slot, &o)
				r, err := w.add(w.intake(), v, slot, o)
				if err != nil || r.Version.Binding != apikey.BindingHint || r.Version.ProviderID != id || w.changes() != 0 {
					t.Errorf("%+v, %v, %d changes", r.Version, err, w.changes())
				}
				if !strings.Contains(text(r, intake.CheckBinding), c.say) {
					t.Errorf("says %q", text(r, intake.CheckBinding))
				}
			})
		})
	}
}

func TestAddTellsTheRotation(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		w.update(func(tx *store.Tx) error {
			return tx.CreateRotation(rotation.Row{ID: "r-1", Key: key, Kind: rotation.Manual, Status: rotation.Waiting, Plan: rotation.Plan{ID: "r-1", Key: key}})
		})
		_, v := w.make(simulator.CreateKey{})
		r, err := w.add(w.intake(), v, w.slot(), options())
		if err != nil || r.Rotation != "r-1" || !slices.Equal(w.told, []string{"r-1 by " + actor}) {
			t.Errorf("%+v, %v, told %v", r, err, w.told)
		}
		// A rotation that has its version is left alone; trouble with telling is no error.
		w.update(func(tx *store.Tx) error { return tx.ClaimSpare(r.Version.ID, "r-1") })
		_, v = w.make(simulator.CreateKey{})
		if r, err = w.add(w.intake(), v, w.slot(), options()); err != nil || r.Rotation != "" {
			t.Errorf("%+v, %v", r, err)
		}
		w.update(func(tx *store.Tx) error { return tx.ReleaseClaim("r-1") })
		i := w.intake()
		i.Signal = func(context.Context, string, string) error { return errors.New("no") }
		_, v = w.make(simulator.CreateKey{})
		if r, err = w.add(i, v, w.slot(), options()); err != nil || outcome(r, intake.CheckRotation) != intake.Warn {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestReadTakesOneValue(t *testing.T) {
	v := secrettest.Fake(t)
	s := v.RevealString()
	admin := secrettest.FakeAdmin(t).RevealString()
	for _, c := range []struct{ name, in, want string }{
		{"alone", s, ""},
		{"line end", s + "\n", ""},
		{"line end of Windows", s + "\r\n", ""},
		{"two line ends", s + "\n\n", fmt.Sprintf("line feed at offset %d", len(s))},
		{"return alone", s + "\r", fmt.Sprintf("carriage return at offset %d", len(s))},
		{"blank before the end", s + " \n", fmt.Sprintf("blank at offset %d", len(s))},
		{"blank in front", " " + s, "blank at offset 0 (before the key)"},
		{"quotes", `"` + s + `"`, "quote at offset 0"},
		{"two keys", s + "\n" + s, "line feed at offset"},
		{"nothing", "", "empty"},
		{"a line end alone", "\n", "empty"},
		{"admin key", admin, "admin key"},
		{"cut", s[:40], "cut short"},
		{"too much", strings.Repeat("a", intake.MaxInput+1), "more than"},
		{"endless", strings.Repeat(s, 1000), "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := intake.Read(strings.NewReader(c.in))
			if c.want == "" {
				if err != nil || !got.Equal(v) {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) || fault.HintOf(err) == "" {
				t.Errorf("%v, want %q", err, c.want)
			}
			secrettest.NoLeak(t, "error", fmt.Appendf(nil, "%v %s", err, fault.HintOf(err)), v)
		})
	}
	if _, err := intake.Read(brokenReader{}); !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "pipe") {
		t.Errorf("broken input: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken pipe") }

func FuzzRead(f *testing.F) {
	for _, s := range []string{"", "\n", "sk-ant-api03-", "x\r\n", "\x00", strings.Repeat("-", 200)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := intake.Read(strings.NewReader(string(in)))
		if err != nil {
			if !fault.Is(err, fault.Invalid) || !v.IsZero() {
				t.Fatalf("%v with %v", err, v)
			}
			for n := 0; n+24 <= len(in); n++ { // no stretch of the input stands in the error
				if part := string(in[n : n+24]); strings.Contains(err.Error(), part) {
					t.Fatalf("the error quotes the input: %v", err)
				}
			}
			return
		}
		got := v.RevealString()
		if got != string(in) && got+"\n" != string(in) && got+"\r\n" != string(in) {
			t.Fatal("took something else")
		}
	})
}

// TestMatchTestsAgain asks about what is in the inventory: it finds what died, and goes on with the others.
func TestMatchTestsAgain(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		dead, v := w.make(simulator.CreateKey{})
		x := w.mustAdd(v)
		w.wait(time.Second)
		_, v = w.make(simulator.CreateKey{ExpiresAt: now().Add(30 * 24 * time.Hour)})
		o := options()
		o.AcceptExpiry, o.SkipBinding = true, true
		r, err := w.add(w.intake(), v, w.slot(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.sim.SetStatus(dead, simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
		w.wait(time.Hour)
		rs, err := w.intake().Match(t.Context(), w.slot(), options())
		wantKind(t, err, fault.Unauthenticated)
		if len(rs) != 2 || rs[0].Version.ID != x.ID || outcome(rs[0], intake.CheckLive) != intake.Failed || !rs[0].Version.Tested.Equal(x.Tested) {
			t.Fatalf("the dead one: %+v", rs)
		}
		if rs[1].Version.Binding != apikey.BindingProved || !rs[1].Version.Tested.After(r.Version.Tested) {
			t.Errorf("the live one: %+v", rs[1])
		}
	})
}

// TestAddMeetsATakenValue lets two people hand in one key at once where nothing is proved: one of them gets it in.
func TestAddMeetsATakenValue(t *testing.T) {
	inBubble(t, simulator.Options{Latency: time.Second}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		o := options()
		o.SkipBinding = true
		errs := make(chan error)
		for range 2 {
			go func() {
				_, err := w.intake().Add(t.Context(), input(v), w.slot(), o)
				errs <- err
			}()
		}
		a, b := <-errs, <-errs
		if (a == nil) == (b == nil) || len(w.versions()) != 1 {
			t.Errorf("%v, %v, %d versions", a, b, len(w.versions()))
		}
		if err := errors.Join(a, b); fault.KindOf(err) != fault.Conflict {
			t.Errorf("%v", err)
		}
	})
}
