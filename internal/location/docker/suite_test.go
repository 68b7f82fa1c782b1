package docker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/secret"
)

const variable = "ANTHROPIC_API_KEY"

// described gives the body of a container with a lot of configuration.
func described(environment ...string) object {
	env := []any{"PATH=/bin", "MODE=fast # not a comment", "EMPTY="}
	for _, e := range environment {
		env = append(env, e)
	}
	return object{
		"Image": "app:1", "Env": env, "Cmd": []any{"serve", "--fast"}, "Labels": object{"team": "ai"}, "User": "1000:1000", "StopSignal": "SIGINT",
		"Volumes": object{"/data": object{}}, "FutureField": object{"x": []any{1.5, "y"}},
		"HostConfig": object{
			"NetworkMode": "web", "RestartPolicy": object{"Name": "always", "MaximumRetryCount": 0}, "Memory": 268435456,
			"Links": []any{"/db:/app/database"}, "Ulimits": []any{object{"Name": "nofile", "Soft": 1024, "Hard": 2048}}, "FutureSetting": "kept",
		},
		"NetworkingConfig": object{"EndpointsConfig": object{"web": object{"Aliases": []any{"api"}, "IPAMConfig": object{"IPv4Address": "10.1.2.3"}}}},
	}
}

// value gives the variable of a container as the engine lists it.
func value(b object) (string, bool) {
	for _, e := range b["Config"].(object)["Env"].([]any) {
		if v, ok := strings.CutPrefix(e.(string), variable+"="); ok {
			return v, true
		}
	}
	return "", false
}

// relatives gives the containers of a name, the one with the name first.
func relatives(boxes []object, name string) []object {
	var out []object
	for _, b := range boxes {
		switch n := strings.TrimPrefix(b["Name"].(string), "/"); {
		case n == name:
			out = slices.Insert(out, 0, b)
		case strings.HasPrefix(n, name+"-keywright-"):
			out = append(out, b)
		}
	}
	return out
}

// running gives the containers of a name that run.
func running(boxes []object, name string) []object {
	return slices.DeleteFunc(relatives(boxes, name), func(b object) bool { return b["State"].(object)["Running"] != true })
}

// configuration gives everything of a container that must stay the same when it is made anew.
func configuration(b object) []byte {
	config, host := b["Config"].(object), b["HostConfig"].(object)
	config["Env"] = slices.DeleteFunc(config["Env"].([]any), func(e any) bool { return strings.HasPrefix(e.(string), variable+"=") })
	labels, _ := config["Labels"].(object)
	for k := range labels {
		if strings.HasPrefix(k, labelPrefix) {
			delete(labels, k)
		}
	}
	short := b["Id"].(string)[:12]
	if config["Hostname"] == short {
		config["Hostname"] = "ITS-ID"
	}
	if links, ok := host["Links"].([]any); ok {
		for i, l := range links {
			other, alias, _ := strings.Cut(strings.TrimPrefix(l.(string), "/"), ":")
			links[i] = other + ":" + alias[strings.LastIndex(alias, "/")+1:]
		}
	}
	delete(host, "Binds")
	networks := b["NetworkSettings"].(object)["Networks"].(object)
	for _, n := range networks {
		delete(n.(object), "EndpointID")
		if aliases, ok := n.(object)["Aliases"].([]any); ok {
			n.(object)["Aliases"] = slices.DeleteFunc(aliases, func(a any) bool { return a == short })
		}
	}
	for _, m := range b["Mounts"].([]any) {
		delete(m.(object), "Mode") // engines write their default for a volume that is named
	}
	out, err := json.Marshal([]any{config, host, networks, b["Mounts"], b["Image"]})
	if err != nil {
		panic(err)
	}
	return out
}

func open(tb testing.TB, host, name string, change ...func(*Config)) location.Driver {
	tb.Helper()
	cfg := Config{Host: host, Container: name, Variable: variable}
	for _, c := range change {
		c(&cfg)
	}
	d, err := Open(cfg, location.Env{Name: "box"})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) {
	made := 0
	h := locationtest.Harness{
		How: location.ReadBack, RetryAfter: true,
		Faults: append(locationtest.StatusFaults(), locationtest.Interruptions()...),
		New: func(tb testing.TB) *locationtest.Place {
			f := newFake(tb)
			made++
			name := fmt.Sprintf("app-%d", made)
			f.run(name, described())
			inForce := func() object {
				all := running(f.snapshot(), name)
				if len(all) == 0 {
					tb.Fatal("nothing runs")
				}
				return all[0]
			}
			return &locationtest.Place{
				Driver: open(tb, f.host, name),
				Again:  func() location.Driver { return open(tb, f.host, name) },
				Held: func(testing.TB) ([]byte, bool) {
					v, ok := value(inForce())
					return []byte(v), ok && v != ""
				},
				Overwrite: func(_ testing.TB, v secret.Value) { f.run(name, described(variable+"="+v.RevealString())) },
				Neighbours: func(testing.TB) []byte {
					return configuration(inForce())
				},
				Copies: func(testing.TB) [][]byte {
					var all [][]byte
					for _, b := range f.snapshot() {
						v, _ := value(b)
						all = append(all, []byte(v))
					}
					return all
				},
				Break: f.breakOnce,
			}
		},
	}
	locationtest.Run(t, h)
}
