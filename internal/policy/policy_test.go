package policy_test

import (
	"crypto/sha256"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/policy"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func digest(s string) apikey.Digest { return sha256.Sum256([]byte(s)) }

func class() apikey.Class { return apikey.Classes()[0] }

// version makes one that nothing is wrong with.
func version(id string, key apikey.Name, s apikey.State) apikey.Version {
	return apikey.Version{ID: apikey.VersionID(id), Key: key, State: s, Digest: digest(id), Environment: apikey.Production, Organization: "org", Workspace: "ws-" + string(key),
		Activated: now.Add(-10 * day), Added: now.Add(-20 * day), Tested: now.Add(-day), ProviderID: "apikey_" + id, Binding: apikey.BindingProved}
}

func place(name string, v apikey.Version) policy.Place {
	return policy.Place{Name: name, Wanted: v.ID, How: policy.ReadBack, Present: true, Digest: v.Digest, Seen: now.Add(-time.Minute)}
}

// good is a snapshot without findings.
func good() policy.Snapshot {
	a, b := version("va", "a", apikey.Current), version("vb", "b", apikey.Current)
	return policy.Snapshot{AdminKey: true, Witness: true, Keys: []policy.Key{
		{Name: "a", Environment: apikey.Production, Class: class(), Organization: "org", Workspace: "ws-a", Backup: "b", BackupAlive: policy.Live,
			Versions: []apikey.Version{a, version("sa", "a", apikey.Spare)}, Places: []policy.Place{place("pa", a)}},
		{Name: "b", Environment: apikey.Production, Class: class(), Organization: "org", Workspace: "ws-b", Versions: []apikey.Version{b}, Places: []policy.Place{place("pb", b)}},
	}}
}

func TestNothingIsWrong(t *testing.T) {
	if got := policy.Findings(good(), now); len(got) != 0 {
		t.Errorf("findings: %+v", got)
	}
	if got := policy.Findings(policy.Snapshot{AdminKey: true, Witness: true}, now); len(got) != 0 {
		t.Errorf("findings of nothing: %+v", got)
	}
}

func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(s *policy.Snapshot, a *policy.Key)
		code     policy.Code
		key      apikey.Name
		severity policy.Severity
		wants    bool
		say      string
		hint     string
		also     []policy.Code
	}{
		{"current is compromised", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Compromised = true },
			policy.CompromisedLive, "a", policy.Critical, true, "still accepts", "keywright emergency a", nil},
		{"spare is compromised", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[1].Compromised = true },
			policy.CompromisedLive, "a", policy.Critical, true, "(spare)", "keywright key retire sa", nil},
		{"current is refused", func(_ *policy.Snapshot, a *policy.Key) { a.Gone = "refused by the provider" },
			policy.CurrentGone, "a", policy.Critical, true, "in use, and others ended it: refused by the provider", "keywright emergency a", nil},
		{"incident", func(s *policy.Snapshot, _ *policy.Key) {
			s.Incidents = []policy.Incident{{ID: "inc-1", Key: "a", Title: "leak", Opened: now.Add(-2 * time.Hour)}}
		}, policy.IncidentOpen, "a", policy.High, true, "since 2h", "keywright incident show inc-1", nil},
		{"overdue", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Activated = now.Add(-100 * day) },
			policy.Overdue, "a", policy.High, true, "10 days ago", "keywright rotate a", nil},
		{"due to the second", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Activated = now.Add(-90 * day) },
			policy.Overdue, "a", policy.High, true, "due", "keywright rotate a", nil},
		{"overdue, and begins by itself", func(_ *policy.Snapshot, a *policy.Key) {
			a.Versions[0].Activated, a.Automatic = now.Add(-96*day), true
		}, policy.Overdue, "a", policy.Medium, false, "begins by itself", "keywright rotate a", nil},
		{"overdue for long, though it should begin by itself", func(_ *policy.Snapshot, a *policy.Key) {
			a.Versions[0].Activated, a.Automatic = now.Add(-98*day), true
		}, policy.Overdue, "a", policy.High, true, "8 days ago", "keywright rotate a", nil},
		{"overdue and in rotation", func(_ *policy.Snapshot, a *policy.Key) {
			a.Versions[0].Activated, a.Rotation = now.Add(-100*day), &policy.Rotation{ID: "r", Status: "running"}
		}, policy.Overdue, "a", policy.High, false, "", "", nil},
		{"due soon", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Activated = now.Add(-85 * day) },
			policy.DueSoon, "a", policy.Medium, false, "in 5 days", "keywright rotate a", nil},
		{"due soon, age unknown", func(_ *policy.Snapshot, a *policy.Key) {
			a.Versions[0].Activated, a.Versions[0].Added = time.Time{}, now.Add(-85*day)
		}, policy.DueSoon, "a", policy.Medium, false, "in 5 days", "", nil},
		{"due and no spare", func(_ *policy.Snapshot, a *policy.Key) {
			a.Versions = a.Versions[:1]
			a.Versions[0].Activated = now.Add(-85 * day)
		}, policy.DueNoSpare, "a", policy.High, true, "no spare", "keywright key add a --spare", []policy.Code{policy.DueSoon}},
		{"due and the spare ends too early", func(_ *policy.Snapshot, a *policy.Key) {
			a.Versions[0].Activated, a.Versions[1].Expires = now.Add(-85*day), now.Add(day)
		}, policy.DueNoSpare, "a", policy.High, true, "", "", []policy.Code{policy.DueSoon, policy.SpareExpiring}},
		{"never adopted", func(_ *policy.Snapshot, a *policy.Key) {
			a.Versions[0].State = apikey.Rejected
			a.Places[0].Wanted = ""
		},
			policy.NotAdopted, "a", policy.Medium, true, "never", "keywright key adopt a", nil},
		{"expires soon", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Expires = now.Add(6 * day) },
			policy.KeyExpiring, "a", policy.High, true, "in 6 days", "keywright rotate a", []policy.Code{policy.DueSoon}},
		{"expires before it is due", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Expires = now.Add(40 * day) },
			policy.KeyExpiring, "a", policy.Medium, false, "in 40 days", "", nil},
		{"expired", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Expires = now.Add(-3 * day) },
			policy.KeyExpired, "a", policy.Critical, true, "3 days ago", "keywright rotate a", nil},
		{"spare expires", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[1].Expires = now.Add(5 * day) },
			policy.SpareExpiring, "a", policy.Low, false, "in 5 days", "keywright key add a --spare", nil},
		{"spare expired", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[1].Expires = now.Add(-day) },
			policy.SpareExpired, "a", policy.Medium, true, "24h", "keywright key forget sa", nil},
		{"spare untested", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[1].Tested = now.Add(-31 * day) },
			policy.SpareUntested, "a", policy.Low, false, "31 days ago", "keywright key match a", nil},
		{"spare never tested", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[1].Tested = time.Time{} },
			policy.SpareUntested, "a", policy.Low, false, "never tested", "", nil},
		{"no backup", func(_ *policy.Snapshot, a *policy.Key) { a.Backup, a.BackupAlive = "", policy.Unasked },
			policy.NoBackup, "a", policy.Medium, false, "no backup", "keywright.yaml", []policy.Code{policy.NoBackup}},
		{"backup dead", func(_ *policy.Snapshot, a *policy.Key) { a.BackupAlive = policy.Dead },
			policy.BackupDead, "a", policy.Critical, true, "refuses its backup", "keywright rotate b", nil},
		{"backup empty", func(s *policy.Snapshot, a *policy.Key) {
			a.BackupAlive, s.Keys[1].Versions, s.Keys[1].Places = policy.Unasked, nil, nil
		}, policy.BackupDead, "a", policy.High, true, "has no value", "keywright key add b --spare", nil},
		{"backup in the same workspace", func(s *policy.Snapshot, _ *policy.Key) { s.Keys[1].Versions[0].Workspace = "ws-a" },
			policy.BackupSameDomain, "a", policy.Info, false, "same workspace", "", nil},
		{"personal", func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Principal = "user" },
			policy.PersonalKey, "a", policy.High, true, "acts as a person", "keywright key add a --spare", nil},
		{"long policy", func(_ *policy.Snapshot, a *policy.Key) { a.Class.RotateEvery = 91 * day },
			policy.LongPolicy, "a", policy.Low, false, "91 days", "rotate_every", nil},
		{"waiting", func(_ *policy.Snapshot, a *policy.Key) {
			a.Rotation = &policy.Rotation{ID: "r-1", Status: "waiting", Since: now.Add(-time.Hour), Note: "approval", Hint: "keywright rotation approve r-1"}
		}, policy.RotationWaiting, "a", policy.High, true, "since 1h0m0s: approval", "keywright rotation approve r-1", nil},
		{"paused", func(_ *policy.Snapshot, a *policy.Key) { a.Rotation = &policy.Rotation{ID: "r-1", Status: "paused"} },
			policy.RotationPaused, "a", policy.High, true, "is paused", "keywright rotation show r-1", nil},
		{"held", func(_ *policy.Snapshot, a *policy.Key) {
			a.Rotation = &policy.Rotation{ID: "r-1", Status: "running", Held: true, Note: "usage"}
		}, policy.RotationHeld, "a", policy.Medium, false, "is held: usage", "", nil},
		{"unknown key in a place", func(_ *policy.Snapshot, a *policy.Key) {
			a.Places[0].Digest = digest("foreign")
			a.Places[0].Changed = now
		},
			policy.Drift, "a", policy.High, true, "an unknown key", "keywright status --live", nil},
		{"old version in a place", func(_ *policy.Snapshot, a *policy.Key) {
			old := version("oa", "a", apikey.Previous)
			a.Versions = append(a.Versions, old)
			a.Places[0].Digest = old.Digest
		}, policy.Drift, "a", policy.High, true, "the previous version of a", "", nil},
		{"compromised version in a place, by label", func(_ *policy.Snapshot, a *policy.Key) {
			old := version("oa", "a", apikey.Inactive)
			old.Compromised = true
			a.Versions = append(a.Versions, old)
			a.Places[0].How, a.Places[0].Digest, a.Places[0].Fingerprint = policy.Label, apikey.Digest{}, old.Fingerprint()
		}, policy.Drift, "a", policy.Critical, true, "compromised", "", nil},
		{"empty place", func(_ *policy.Snapshot, a *policy.Key) {
			a.Places[0].Present, a.Places[0].Digest = false, apikey.Digest{}
		},
			policy.Drift, "a", policy.High, true, "holds nothing", "", nil},
		{"drift in a rotation", func(_ *policy.Snapshot, a *policy.Key) {
			a.Places[0].Digest, a.Rotation = digest("foreign"), &policy.Rotation{ID: "r", Status: "running"}
		}, policy.Drift, "a", policy.High, false, "", "", nil},
		{"place cannot be looked at", func(_ *policy.Snapshot, a *policy.Key) { a.Places[0].Trouble = "no route" },
			policy.Unreachable, "a", policy.Medium, false, "no route", "keywright status --live", nil},
		{"place cannot be read back", func(_ *policy.Snapshot, a *policy.Key) {
			a.Places[0].How, a.Places[0].Digest, a.Places[0].Changed = policy.ChangedAt, apikey.Digest{}, now
		}, policy.Unverifiable, "a", policy.Info, false, "changed 2026-11-22 12:00", "", nil},
		{"nobody signed", func(_ *policy.Snapshot, a *policy.Key) {
			a.Places[0] = policy.Place{Name: "pa", Wanted: "va", Manual: true}
		}, policy.SignatureOld, "a", policy.Medium, true, "nobody signed", "pa", nil},
		{"signed for another version", func(_ *policy.Snapshot, a *policy.Key) {
			a.Places[0] = policy.Place{Name: "pa", Wanted: "va", Manual: true, SignedFor: "kf_0000000000000000", SignedAt: now.Add(-30 * day)}
		}, policy.SignatureOld, "a", policy.Medium, true, "older than the rotation", "pa", nil},
		{"borrowed", func(s *policy.Snapshot, a *policy.Key) {
			a.Places[0].Wanted, a.Places[0].Digest = "vb", s.Keys[1].Versions[0].Digest
		}, policy.Borrowed, "a", policy.High, true, "borrowed from b", "keywright rotate a", nil},
		{"unknown keys at the provider", func(s *policy.Snapshot, _ *policy.Key) {
			s.Unlisted = []policy.Unlisted{{ID: "1", Name: "d"}, {ID: "2", Name: "c"}, {ID: "3", Name: "b"}, {ID: "apikey_4"}}
		}, policy.UnknownKeys, "", policy.Info, false, "4 (apikey_4, b, c, 1 more)", "", nil},
		{"clock ahead", func(s *policy.Snapshot, _ *policy.Key) { s.Skew = 6 * time.Minute }, policy.ClockSkew, "", policy.High, true, "6m", "clock", nil},
		{"clock behind", func(s *policy.Snapshot, _ *policy.Key) { s.Skew = -6 * time.Minute }, policy.ClockSkew, "", policy.High, true, "6m", "clock", nil},
		{"no admin key", func(s *policy.Snapshot, _ *policy.Key) { s.AdminKey = false }, policy.NoAdminKey, "", policy.Info, false, "by hand", "provider.admin_key", nil},
		{"no witness", func(s *policy.Snapshot, _ *policy.Key) { s.Witness = false }, policy.NoWitness, "", policy.Info, false, "not protected", "state.witness", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := good()
			c.change(&s, &s.Keys[0])
			all := policy.Findings(s, now)
			n := slices.IndexFunc(all, func(f policy.Finding) bool { return f.Code == c.code && f.Key == c.key })
			if n < 0 {
				t.Fatalf("not found among %+v", all)
			}
			f := all[n]
			if f.Severity != c.severity || f.Wants != c.wants || !strings.Contains(f.Text, c.say) || !strings.Contains(f.Hint, c.hint) || f.Hint == "" {
				t.Errorf("%+v", f)
			}
			for m, o := range all {
				if m != n && !slices.Contains(c.also, o.Code) {
					t.Errorf("also %+v", o)
				}
			}
		})
	}
}

// TestQuiet lists what must not be a finding.
func TestQuiet(t *testing.T) {
	for name, change := range map[string]func(s *policy.Snapshot, a *policy.Key){
		"blocked backup": func(_ *policy.Snapshot, a *policy.Key) { a.BackupAlive = policy.Blocked },
		"unasked backup": func(_ *policy.Snapshot, a *policy.Key) { a.BackupAlive = policy.Unasked },
		"staging has no backup": func(s *policy.Snapshot, _ *policy.Key) {
			s.Keys = s.Keys[1:]
			s.Keys[0].Environment = apikey.Staging
		},
		"personal in staging": func(s *policy.Snapshot, _ *policy.Key) {
			s.Keys[1].Environment = apikey.Staging
			s.Keys[1].Versions[0].Principal = "user"
		},
		"service account": func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Principal = "service_account" },
		"small skew":      func(s *policy.Snapshot, _ *policy.Key) { s.Skew = 5 * time.Minute },
		"never looked at": func(_ *policy.Snapshot, a *policy.Key) {
			a.Places[0].Seen, a.Places[0].Digest = time.Time{}, apikey.Digest{}
		},
		"running": func(_ *policy.Snapshot, a *policy.Key) { a.Rotation = &policy.Rotation{ID: "r", Status: "running"} },
		"compromised and inactive": func(_ *policy.Snapshot, a *policy.Key) {
			a.Versions[1].State, a.Versions[1].Compromised = apikey.Inactive, true
		},
		"signed": func(_ *policy.Snapshot, a *policy.Key) {
			a.Places[0] = policy.Place{Name: "pa", Wanted: "va", Manual: true, SignedFor: digest("va").Fingerprint(), SignedAt: now}
		},
		"no interval and no expiry": func(_ *policy.Snapshot, a *policy.Key) {
			a.Class.RotateEvery, a.Versions[0].Activated = 0, now.Add(-1000*day)
		},
		"expires after it is due":   func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Expires = now.Add(200 * day) },
		"not due for a week":        func(_ *policy.Snapshot, a *policy.Key) { a.Versions[0].Activated = now.Add(-83*day + time.Second) },
		"nobody looked at the list": func(s *policy.Snapshot, _ *policy.Key) { s.Unlisted = nil },
		"workspace not known": func(s *policy.Snapshot, a *policy.Key) {
			for _, k := range []*policy.Key{a, &s.Keys[1]} {
				k.Workspace, k.Versions[0].Workspace = "", ""
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			change(&s, &s.Keys[0])
			if got := policy.Findings(s, now); len(got) != 0 {
				t.Errorf("findings: %+v", got)
			}
		})
	}
}

func TestSharedValue(t *testing.T) {
	s := good()
	s.Keys[1].Environment = apikey.Staging
	s.Keys[1].Places[0].Digest = s.Keys[0].Versions[0].Digest // the place of b holds the value of a, and nobody lent it
	got := policy.Findings(s, now)
	var shared []policy.Finding
	for _, f := range got {
		if f.Code == policy.SharedValue {
			shared = append(shared, f)
		}
	}
	if len(shared) != 2 || shared[0].Key != "a" || shared[1].Key != "b" || shared[0].Severity != policy.Critical || !shared[0].Wants || !strings.Contains(shared[0].Text, "also in b, in different environments") {
		t.Errorf("%+v", got)
	}
	s.Keys[1].Environment = apikey.Production
	for _, f := range policy.Findings(s, now) {
		if f.Code == policy.SharedValue && f.Severity != policy.High {
			t.Errorf("%+v", f)
		}
	}
}

func TestDue(t *testing.T) {
	c := apikey.Class{RotateEvery: 90 * day, Soak: day, Watch: day}
	at := now.Add(-10 * day)
	for _, x := range []struct {
		name               string
		class              apikey.Class
		activated, expires time.Time
		want               time.Time
	}{
		{"interval", c, at, time.Time{}, at.Add(90 * day)},
		{"later expiry", c, at, now.Add(400 * day), at.Add(90 * day)},
		{"earlier expiry, with time to rotate", c, at, now.Add(20 * day), now.Add(18 * day)},
		{"age unknown", c, time.Time{}, now.Add(20 * day), now.Add(18 * day)},
		{"nothing known", c, time.Time{}, time.Time{}, time.Time{}},
		{"no interval", apikey.Class{}, at, time.Time{}, time.Time{}},
	} {
		if got := policy.Due(x.class, x.activated, x.expires); !got.Equal(x.want) {
			t.Errorf("%s: %v, want %v", x.name, got, x.want)
		}
	}
}

// everything has a bit of all.
func everything() policy.Snapshot {
	s := good()
	s.AdminKey, s.Witness, s.Skew = false, false, time.Hour
	s.Incidents = []policy.Incident{{ID: "1", Key: "b"}, {ID: "2", Key: "a"}}
	s.Unlisted = []policy.Unlisted{{ID: "x"}, {ID: "y", Name: "n"}, {ID: "z"}, {ID: "w"}}
	for _, n := range []apikey.Name{"c", "d", "e"} {
		v, p := version("v"+string(n), n, apikey.Current), version("p"+string(n), n, apikey.Previous)
		v.Activated, v.Principal, p.Compromised = now.Add(-100*day), "user", true
		shared := place("s"+string(n), v)
		shared.Digest = digest("shared")
		s.Keys = append(s.Keys, policy.Key{Name: n, Environment: apikey.Production, Class: class(), Versions: []apikey.Version{v, p}, Places: []policy.Place{shared, place("x"+string(n), p)}})
	}
	return s
}

func TestOrder(t *testing.T) {
	want := policy.Findings(everything(), now)
	if len(want) < 20 {
		t.Fatalf("only %d findings", len(want))
	}
	rank := func(f policy.Finding) int { return slices.Index(policy.Severities(), f.Severity) }
	for n := 1; n < len(want); n++ {
		a, b := want[n-1], want[n]
		if !a.Wants && b.Wants || a.Wants == b.Wants && rank(a) > rank(b) || a.Wants == b.Wants && rank(a) == rank(b) && a.Key > b.Key {
			t.Errorf("%+v before %+v", a, b)
		}
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := everything()
		mix := func(n int, swap func(i, j int)) { r.Shuffle(n, swap) }
		mix(len(s.Keys), func(i, j int) { s.Keys[i], s.Keys[j] = s.Keys[j], s.Keys[i] })
		mix(len(s.Incidents), func(i, j int) { s.Incidents[i], s.Incidents[j] = s.Incidents[j], s.Incidents[i] })
		mix(len(s.Unlisted), func(i, j int) { s.Unlisted[i], s.Unlisted[j] = s.Unlisted[j], s.Unlisted[i] })
		for k := range s.Keys {
			v, p := s.Keys[k].Versions, s.Keys[k].Places
			mix(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
			mix(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
		}
		if got := policy.Findings(s, now); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: another order", seed)
		}
	}
}

// TestOddSnapshots gives half-known things: nothing may panic, and every finding is whole.
func TestOddSnapshots(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 2))
		pick := func(n int) bool { return r.IntN(n) == 0 }
		s := everything()
		for k := range s.Keys {
			key := &s.Keys[k]
			if pick(3) {
				key.Class = apikey.Class{}
			}
			if pick(3) {
				key.Versions = nil
			}
			if pick(3) {
				key.Backup = "gone"
			}
			if pick(4) {
				key.Rotation = &policy.Rotation{Status: []string{"running", "waiting", "paused", "odd"}[r.IntN(4)], Held: pick(2)}
			}
			for v := range key.Versions {
				if pick(3) {
					key.Versions[v].Digest = apikey.Digest{}
				}
				if pick(3) {
					key.Versions[v].Expires = now.Add(time.Duration(r.IntN(40)-20) * day)
				}
				if pick(3) {
					key.Versions[v].State = apikey.Spare
				}
			}
			for p := range key.Places {
				if pick(2) {
					key.Places[p] = policy.Place{Name: "p", Wanted: "vb", How: []policy.Knowledge{"", policy.Label, policy.Signed, policy.Nothing}[r.IntN(4)], Seen: now, Present: pick(2)}
				}
			}
		}
		for _, f := range policy.Findings(s, now) {
			if f.Code == "" || f.Text == "" || f.Hint == "" || !slices.Contains(policy.Severities(), f.Severity) {
				t.Fatalf("seed %d: %+v", seed, f)
			}
		}
	}
}
