package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func inspect(t *testing.T, d location.Driver) location.Holding {
	t.Helper()
	h, err := d.Inspect(t.Context())
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return h
}

func put(t *testing.T, d location.Driver, v secret.Value) location.Receipt {
	t.Helper()
	r, err := d.Put(t.Context(), v, location.ExpectHolding(inspect(t, d)))
	if err != nil {
		t.Fatalf("put: %v (%s)", err, fault.HintOf(err))
	}
	return r
}

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("error %v of kind %v, want kind %v", err, fault.KindOf(err), kind)
	}
}

// engineWith runs a container "app" that holds v.
func engineWith(t *testing.T, v secret.Value, change ...func(object)) *fake {
	t.Helper()
	f := newFake(t)
	body := described(variable + "=" + v.RevealString())
	for _, c := range change {
		c(body)
	}
	f.run("app", body)
	return f
}

func held(b object) string {
	v, _ := value(b)
	return v
}

func restart(b object) string {
	return fmt.Sprint(b["HostConfig"].(object)["RestartPolicy"].(object)["Name"])
}

func TestOpenRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no name":       {},
		"path":          {Container: "../x"},
		"variable":      {Container: "app", Variable: "A B"},
		"relative":      {Container: "app", Host: "unix://docker.sock"},
		"scheme":        {Container: "app", Host: "ssh://host"},
		"plain and far": {Container: "app", Host: "tcp://10.0.0.1:2375"},
	} {
		if _, err := Open(cfg, location.Env{}); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, host := range []string{"", "tcp://127.0.0.1:2375", "tcp://[::1]:2375", "unix:///run/user/1/docker.sock"} {
		if _, err := Open(Config{Container: "app", Host: host}, location.Env{}); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
	d := open(t, "unix:///nonexistent/docker.sock", "app")
	_, err := d.Inspect(t.Context())
	wantKind(t, err, fault.Unavailable)
	d = open(t, "tcp://127.0.0.1:1", "app", func(c *Config) { c.Certificates = t.TempDir() })
	_, err = d.Inspect(t.Context())
	wantKind(t, err, fault.Invalid)
}

func TestMissingContainer(t *testing.T) {
	f := newFake(t)
	d := open(t, f.host, "app")
	if h := inspect(t, d); h.Present || h.Revision != "" {
		t.Errorf("holding %+v", h)
	}
	_, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{})
	wantKind(t, err, fault.NotFound)
	wantKind(t, d.(location.Prober).Probe(t.Context()), fault.NotFound)
	if errs := d.(location.Checker).Check(t.Context()); len(errs) != 1 || !fault.Is(errs[0], fault.NotFound) {
		t.Errorf("check: %v", errs)
	}
}

func TestTheNewContainerIsTheSame(t *testing.T) {
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	f := engineWith(t, a)
	f.mu.Lock()
	f.find("app")["NetworkSettings"].(object)["Networks"].(object)["second"] = object{"Aliases": []any{"x"}, "NetworkID": "n2", "IPAddress": "10.9.9.9"}
	f.find("app")["NetworkSettings"].(object)["Networks"].(object)["web"].(object)["IPAddress"] = "10.1.2.3"
	f.mu.Unlock()
	before := relatives(f.snapshot(), "app")[0]
	d := open(t, f.host, "app")
	put(t, d, b)
	all := relatives(f.snapshot(), "app")
	if len(all) != 2 || held(all[0]) != b.RevealString() || held(all[1]) != a.RevealString() {
		t.Fatalf("%d containers", len(all))
	}
	if len(running(f.snapshot(), "app")) != 1 || restart(all[0]) != "always" || restart(all[1]) != "no" {
		t.Errorf("restart policies %s and %s", restart(all[0]), restart(all[1]))
	}
	second := all[0]["NetworkSettings"].(object)["Networks"].(object)["second"]
	if fmt.Sprint(second) != "map[Aliases:[x]]" {
		t.Errorf("second network: %v", second)
	}
	for _, c := range []object{before, all[0]} {
		delete(c["NetworkSettings"].(object)["Networks"].(object), "second")
		delete(c["NetworkSettings"].(object)["Networks"].(object)["web"].(object), "IPAddress")
	}
	if x, y := configuration(before), configuration(all[0]); !bytes.Equal(x, y) {
		t.Errorf("the configuration changed\nfrom %s\nto   %s", x, y)
	}
}

func TestTheImageIsNotUpgraded(t *testing.T) {
	f := engineWith(t, secrettest.Fake(t))
	f.mu.Lock()
	f.images["app:1"] = "sha256:2222"
	f.mu.Unlock()
	d := open(t, f.host, "app")
	put(t, d, secrettest.Fake(t))
	all := relatives(f.snapshot(), "app")
	if len(all) != 2 || all[0]["Image"] != "sha256:1111" {
		t.Errorf("%d containers, the first of image %v", len(all), all[0]["Image"])
	}
}

// TestACrashAtEveryCall lets the engine see nothing more from the n-th writing call on, as kill -9 does, before or after it was applied,
// and lets a new driver finish or go back. At each crash a container with one of the two values runs, except between stop and start.
func TestACrashAtEveryCall(t *testing.T) {
	type way struct {
		name string
		do   func(t *testing.T, d location.Driver, a, b secret.Value) error
	}
	ctx := context.Background()
	ways := []way{
		{"put", func(t *testing.T, d location.Driver, _, b secret.Value) error {
			_, err := d.Put(ctx, b, location.Expect{})
			return err
		}},
		{"stage and promote", func(t *testing.T, d location.Driver, _, b secret.Value) error {
			r, err := d.(location.Stager).Stage(ctx, b, location.Expect{})
			if err == nil {
				_, err = d.(location.Promoter).Promote(ctx, r)
			}
			return err
		}},
	}
	for _, w := range ways {
		for _, back := range []string{"finish", "go back", "remove"} {
			for _, when := range []string{"before", "after"} {
				gaps, done := 0, false
				for n := 1; !done; n++ {
					a, b := secrettest.Fake(t), secrettest.Fake(t)
					f := engineWith(t, a)
					seen, dead, at := 0, false, ""
					f.at(func(call string) string {
						if dead {
							return "before"
						}
						if call == "HEAD /_ping" || strings.HasPrefix(call, "GET ") {
							return ""
						}
						if seen++; seen == n {
							dead, at = true, call
							return when
						}
						return ""
					})
					err := w.do(t, open(t, f.host, "app"), a, b)
					f.at(nil)
					done = !dead
					if done != (err == nil) {
						t.Fatalf("%s, call %d %s: %v", w.name, n, at, err)
					}
					where := fmt.Sprintf("%s, %s, killed %s call %d (%s)", w.name, back, when, n, at)
					boxes := running(f.snapshot(), "app")
					switch {
					case len(boxes) == 0 && (when == "after" && at == "POST stop" || when == "before" && at == "POST start"):
						gaps++
					case len(boxes) != 1 || held(boxes[0]) != a.RevealString() && held(boxes[0]) != b.RevealString():
						t.Fatalf("%s: %d run", where, len(boxes))
					}
					again := open(t, f.host, "app")
					want := b
					switch back {
					case "go back":
						want = a
					case "remove":
						// The caller puts what is in force, and purges the other.
						h := inspect(t, again)
						other := b
						if want = a; h.Holds(b.Digest()) {
							want, other = b, a
						}
						put(t, again, want)
						if err := again.(location.Remover).Remove(ctx, other.Digest()); err != nil {
							t.Fatalf("%s: remove: %v", where, err)
						}
						for _, c := range relatives(f.snapshot(), "app") {
							if labels := c["Config"].(object)["Labels"].(object); labels[labelManaged] == "true" && held(c) == other.RevealString() {
								t.Fatalf("%s: a container with the other value is left: %s", where, c["Name"])
							}
						}
					}
					put(t, again, want)
					h := inspect(t, again)
					boxes = running(f.snapshot(), "app")
					if !h.Holds(want.Digest()) || h.Facts[factState] != "" || len(boxes) != 1 || boxes[0]["Name"] != "/app" || held(boxes[0]) != want.RevealString() || restart(boxes[0]) != "always" {
						t.Fatalf("%s: afterwards %+v, %d run", where, h, len(boxes))
					}
					for _, c := range relatives(f.snapshot(), "app")[1:] {
						if restart(c) != "no" {
							t.Fatalf("%s: %s is started by the engine", where, c["Name"])
						}
					}
					if errs := again.(location.Checker).Check(ctx); len(errs) != 0 {
						t.Fatalf("%s: %v", where, errs)
					}
				}
				if gaps != 1 {
					t.Errorf("%s, %s: %d calls leave nothing running, want 1", w.name, when, gaps)
				}
			}
		}
	}
}

// TestACrashInRestore does the same on the way back.
func TestACrashInRestore(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		done := false
		for n := 1; !done; n++ {
			a, b := secrettest.Fake(t), secrettest.Fake(t)
			f := engineWith(t, a)
			d := open(t, f.host, "app")
			r := put(t, d, b)
			seen, dead := 0, false
			f.at(func(call string) string {
				switch {
				case dead:
					return "before"
				case strings.HasPrefix(call, "GET ") || strings.HasPrefix(call, "HEAD "):
					return ""
				}
				if seen++; seen == n {
					dead = true
					return when
				}
				return ""
			})
			_, err := d.(location.Restorer).Restore(context.Background(), r)
			f.at(nil)
			done = !dead
			if done != (err == nil) {
				t.Fatalf("call %d: %v", n, err)
			}
			again := open(t, f.host, "app")
			if _, err := again.(location.Restorer).Restore(t.Context(), r); err != nil {
				t.Fatalf("%s call %d: restore again: %v", when, n, err)
			}
			boxes := running(f.snapshot(), "app")
			if h := inspect(t, again); !h.Holds(a.Digest()) || h.Facts[factState] != "" || len(boxes) != 1 || boxes[0]["Name"] != "/app" || restart(boxes[0]) != "always" {
				t.Fatalf("%s call %d: afterwards %+v", when, n, h)
			}
		}
	}
}

func TestANewContainerThatDoesNotStart(t *testing.T) {
	for _, code := range []int{500, 404, 409} {
		a, b := secrettest.Fake(t), secrettest.Fake(t)
		f := engineWith(t, a)
		old := relatives(f.snapshot(), "app")[0]["Id"].(string)
		starts := 0
		f.at(func(call string) string {
			delete(f.refuse, "/start")
			if call == "POST start" {
				if starts++; starts == 1 {
					f.refuse["/start"] = code
				}
			}
			return ""
		})
		d := open(t, f.host, "app")
		_, err := d.Put(t.Context(), b, location.Expect{})
		if err == nil || fault.Is(err, fault.Indeterminate) {
			t.Errorf("status %d: %v", code, err)
		}
		secrettest.NoLeak(t, "the error", []byte(fmt.Sprintf("%v %s", err, fault.HintOf(err))), a, b)
		all := running(f.snapshot(), "app")
		if len(all) != 1 || all[0]["Id"] != old || all[0]["Name"] != "/app" || restart(all[0]) != "always" {
			t.Fatalf("status %d: the old container does not run as before", code)
		}
		if h := inspect(t, d); !h.Holds(a.Digest()) || h.Facts[factState] != "" {
			t.Errorf("status %d: %+v", code, h)
		}
		put(t, d, b)
	}
}

func TestACancelledCallerLeavesNothingStopped(t *testing.T) {
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	f := engineWith(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.at(func(call string) string {
		if call == "POST stop" {
			cancel()
		}
		return ""
	})
	d := open(t, f.host, "app")
	if _, err := d.Put(ctx, b, location.Expect{}); err != nil {
		t.Errorf("put: %v", err)
	}
	if all := running(f.snapshot(), "app"); len(all) != 1 || held(all[0]) != b.RevealString() || all[0]["Name"] != "/app" {
		t.Errorf("%d run", len(all))
	}
}

func TestRefusedContainers(t *testing.T) {
	for name, change := range map[string]func(object){
		"removed by the engine": func(b object) { b["HostConfig"].(object)["AutoRemove"] = true },
		"swarm":                 func(b object) { b["Labels"].(object)["com.docker.swarm.service.id"] = "x" },
		"twice":                 func(b object) { b["Env"] = append(b["Env"].([]any), variable+"=again") },
	} {
		f := engineWith(t, secrettest.Fake(t), change)
		d := open(t, f.host, "app")
		before := len(f.snapshot())
		_, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{})
		wantKind(t, err, fault.Unsupported)
		errs := d.(location.Checker).Check(t.Context())
		if len(errs) != 1 || !fault.Is(errs[0], fault.Unsupported) || fault.HintOf(errs[0]) == "" || len(f.snapshot()) != before {
			t.Errorf("%s: %v", name, errs)
		}
	}
	f := engineWith(t, secrettest.Fake(t))
	id := relatives(f.snapshot(), "app")[0]["Id"].(string)
	f.run("side", object{"Image": "app:1", "Env": []any{}, "HostConfig": object{"NetworkMode": "container:" + id}})
	_, err := open(t, f.host, "app").Put(t.Context(), secrettest.Fake(t), location.Expect{})
	wantKind(t, err, fault.Unsupported)
	if !strings.Contains(err.Error(), "side") {
		t.Errorf("error %v", err)
	}
}

func TestComposeIsAllowedByName(t *testing.T) {
	f := engineWith(t, secrettest.Fake(t), func(b object) { b["Labels"].(object)["com.docker.compose.project"] = "shop" })
	errs := open(t, f.host, "app").(location.Checker).Check(t.Context())
	if len(errs) != 1 || !fault.Is(errs[0], fault.Conflict) || !strings.Contains(fault.HintOf(errs[0]), "env-file") {
		t.Errorf("check: %v", errs)
	}
	d := open(t, f.host, "app", func(c *Config) { c.AllowCompose = true })
	if errs := d.(location.Checker).Check(t.Context()); len(errs) != 0 {
		t.Errorf("allowed, and %v", errs)
	}
	put(t, d, secrettest.Fake(t))
	if relatives(f.snapshot(), "app")[0]["Config"].(object)["Labels"].(object)["com.docker.compose.project"] != "shop" {
		t.Error("the label of Compose is gone")
	}
}

func TestProbe(t *testing.T) {
	now := time.Unix(1_700_000_100, 0)
	for name, c := range map[string]struct {
		state object
		count int
		bad   bool
	}{
		"runs":               {state: object{}},
		"healthy":            {state: object{"Health": object{"Status": "healthy"}}},
		"starting":           {state: object{"Health": object{"Status": "starting"}}, bad: true},
		"unhealthy":          {state: object{"Health": object{"Status": "unhealthy"}}, bad: true},
		"exited":             {state: object{"Running": false, "ExitCode": 3}, bad: true},
		"paused":             {state: object{"Paused": true}, bad: true},
		"restarting":         {state: object{"Restarting": true}, bad: true},
		"restarted long ago": {state: object{"StartedAt": now.Add(-time.Minute)}, count: 4},
		"restarted just now": {state: object{"StartedAt": now.Add(-time.Second)}, count: 4, bad: true},
	} {
		f := engineWith(t, secrettest.Fake(t))
		f.mu.Lock()
		box := f.find("app")
		for k, v := range c.state {
			box["State"].(object)[k] = v
		}
		box["RestartCount"] = c.count
		f.mu.Unlock()
		d, err := Open(Config{Host: f.host, Container: "app"}, location.Env{Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.(location.Prober).Probe(t.Context()); (err != nil) != c.bad || err != nil && !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfirmCountsAnOldContainerThatRunsBeside(t *testing.T) {
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	f := engineWith(t, a)
	d := open(t, f.host, "app")
	put(t, d, b)
	c, err := d.(location.Confirmer).Confirm(t.Context(), b.Digest())
	if err != nil || !c.Complete() || c.How != location.ReadBack {
		t.Errorf("%+v, %v", c, err)
	}
	f.mu.Lock()
	for _, box := range f.boxes {
		box["State"].(object)["Running"] = true // a person started the kept one
	}
	f.mu.Unlock()
	c, err = d.(location.Confirmer).Confirm(t.Context(), b.Digest())
	if err != nil || c.Running != 2 || c.Taken != 1 || c.Old != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if errs := d.(location.Checker).Check(t.Context()); len(errs) != 1 {
		t.Errorf("check: %v", errs)
	}
	put(t, d, b)
	if all := running(f.snapshot(), "app"); len(all) != 1 || held(all[0]) != b.RevealString() {
		t.Errorf("%d run after putting again", len(all))
	}
}

func TestTheFirstContainerIsNeverRemoved(t *testing.T) {
	a, b, c := secrettest.Fake(t), secrettest.Fake(t), secrettest.Fake(t)
	f := engineWith(t, a)
	d := open(t, f.host, "app")
	put(t, d, b)
	put(t, d, c)
	for _, v := range []secret.Value{a, b} {
		if err := d.(location.Remover).Remove(t.Context(), v.Digest()); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	for _, box := range relatives(f.snapshot(), "app") {
		left = append(left, held(box))
	}
	slices.Sort(left)
	want := []string{a.RevealString(), c.RevealString()}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("%d containers are left", len(left))
	}
}

// FuzzLike makes bodies of arbitrary configurations: apart from the listed members everything stays as it was.
func FuzzLike(f *testing.F) {
	f.Add([]byte(`{"Env":["A=b"],"Labels":null,"X":1.50}`), []byte(`{"NetworkMode":"host","Binds":["v:/x:ro"],"Mounts":[{"Type":"volume","Target":"/data"}]}`))
	f.Add([]byte(`{"Env":7,"Hostname":[]}`), []byte(`{"Links":["/a:/b/c","x"],"Binds":["::"],"NetworkMode":"container:x"}`))
	f.Fuzz(func(t *testing.T, config, host []byte) {
		b := box{ID: "0123456789abcdef"}
		if json.Unmarshal(config, &b.Config) != nil || json.Unmarshal(host, &b.HostConfig) != nil || b.Config == nil || b.HostConfig == nil {
			t.Skip()
		}
		b.Mounts = append(b.Mounts, struct {
			Type        string
			Name        string
			Destination string
			RW          bool
		}{"volume", "anonymous", "/data", true})
		body, _ := like(b, with(b.environment(), variable, "v"), map[string]string{labelManaged: "true"})
		if v, n := lookup(get[[]string](body, "Env"), variable); n == 0 || v != "v" {
			t.Errorf("the variable is %q, %d times", v, n)
		}
		for k, v := range b.Config {
			if !slices.Contains([]string{"Env", "Labels", "Hostname", "ExposedPorts", "Domainname", "HostConfig", "NetworkingConfig"}, k) && !bytes.Equal(body[k], v) {
				t.Errorf("%s changed", k)
			}
		}
		made := get[map[string]json.RawMessage](body, "HostConfig")
		for k := range b.HostConfig {
			if _, ok := made[k]; !ok {
				t.Errorf("%s is gone", k)
			}
		}
	})
}
