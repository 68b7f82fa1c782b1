package config

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/secret"
)

// EnvKey is the environment variable in which a test's command finds the name of the key.
const EnvKey = "KEYWRIGHT_KEY"

// storedTest is the stored form of a test.
type storedTest struct {
	Key    apikey.Name     `json:"key,omitempty"`
	Config json.RawMessage `json:"config"`
}

// Snapshot gives the value-free configuration of the test for rotation.Test.Config. RunTest reads it.
func (t Test) Snapshot() (json.RawMessage, error) {
	tree, err := json.Marshal(jsonOf(treeOf(reflect.ValueOf(t))))
	if err == nil {
		tree, err = json.Marshal(storedTest{Key: t.Key, Config: tree})
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "describe test")
	}
	return tree, nil
}

// RunTest makes one of the owner's tests with a value. raw is what Test.Snapshot gave, dir the directory of the configuration.
//
// A command gets the value on standard input, as one line, or in the environment variable that the test names, and the name of the key
// in KEYWRIGHT_KEY. A request carries the value only where the test names a header. The value never stands in an argument.
//
// Kinds: Invalid when the test says no or cannot be made as it is configured; Unavailable when it took too long or the other
// side could not be reached or answered with 5xx or 429; those of child.Run and httpx.
func RunTest(ctx context.Context, raw json.RawMessage, dir string, v secret.Value) error {
	var s storedTest
	if err := json.Unmarshal(raw, &s); err != nil {
		return fault.New(fault.Invalid, "run test: its description cannot be read")
	}
	file, err := parseYAML(s.Config) // JSON is YAML
	if err != nil || len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return fault.New(fault.Invalid, "run test: its description cannot be read")
	}
	r := newReader()
	t := &Test{}
	r.prefill(reflect.ValueOf(t))
	r.value(file.Docs[0].Body, reflect.ValueOf(t).Elem(), at{".test", "the test"})
	if len(r.problems) == 0 {
		t.judge(r, ".test", "key "+quote(string(s.Key)))
	}
	if len(r.problems) > 0 {
		return fault.New(fault.Invalid, "run test: "+r.problems[0].Message, fault.Hint("this version of Keywright may be older than the one that stored it"))
	}
	if t.HTTP != nil {
		return t.request(ctx, v)
	}
	return t.run(ctx, s.Key, dir, v)
}

func (t *Test) run(ctx context.Context, key apikey.Name, dir string, v secret.Value) error {
	c := child.Command{Argv: t.Command, Dir: dir, Env: []string{EnvKey + "=" + string(key)}, Pass: t.Pass, Timeout: t.Timeout}
	v.Reveal(func(b []byte) {
		if t.Env != "" {
			c.Env = append(c.Env, t.Env+"="+string(b)) // the kernel takes the environment as text: the owner asked for it
			return
		}
		c.Stdin = append(append(make([]byte, 0, len(b)+1), b...), '\n')
	})
	defer func() { clear(c.Stdin) }()
	res, err := child.Run(ctx, c)
	clear(res.Stdout)
	if err != nil && fault.Is(err, fault.Unknown) && res.Code > 0 {
		return fault.New(fault.Invalid, fmt.Sprintf("run test: %s says no: exit code %d", filepath.Base(t.Command[0]), res.Code),
			fault.Hint("run it by hand to see what it says; its output is not shown because it may hold a value"))
	}
	return fault.In(err, "run test")
}

func (t *Test) request(ctx context.Context, v secret.Value) error {
	u, err := url.Parse(t.HTTP.URL)
	if err != nil {
		return fault.New(fault.Invalid, "run test: its address cannot be read")
	}
	query := u.Query()
	u.RawQuery, u.Fragment = "", ""
	client, err := httpx.New(httpx.Options{BaseURL: u.String(), Timeout: t.Timeout})
	if err != nil {
		return fault.In(err, "run test")
	}
	defer client.CloseIdle()
	req := httpx.Request{Method: t.HTTP.Method, Query: query, Repeatable: true}
	if t.HTTP.Header != "" {
		req.Auth = httpx.Header(t.HTTP.Header, v)
	}
	reply, err := client.Do(ctx, req)
	if reply.Status == t.HTTP.Expect {
		return nil
	}
	if reply.Status == 0 {
		return fault.In(err, "run test")
	}
	kind := fault.Invalid
	if fault.Is(err, fault.Unavailable) || fault.Is(err, fault.RateLimited) {
		kind = fault.Unavailable
	}
	return fault.New(kind, fmt.Sprintf("run test: %s answered %d, and %d is expected", u.Host, reply.Status, t.HTTP.Expect))
}

// title is what a test is called when its owner gave no name.
func (t Test) title() string {
	switch {
	case t.Name != "":
		return t.Name
	case t.HTTP != nil:
		if u, err := url.Parse(t.HTTP.URL); err == nil {
			return u.Host + u.Path
		}
	case len(t.Command) > 0:
		return filepath.Base(t.Command[0])
	}
	return "test"
}
