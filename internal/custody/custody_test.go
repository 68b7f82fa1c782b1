package custody_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func binding() custody.Binding {
	return custody.Binding{Store: "s_0123456789abcdef", Key: "prod-primary", Version: "v_0123456789abcdef", Purpose: "value", Generation: 1}
}

func open(t *testing.T, spec string, env custody.Env) custody.Master {
	t.Helper()
	m, err := custody.OpenMaster(t.Context(), spec, env)
	if err != nil {
		t.Fatalf("open master: %v (%s)", err, fault.HintOf(err))
	}
	return m
}

func fileMaster(t *testing.T) custody.Master {
	t.Helper()
	return open(t, "", custody.Env{ConfigDir: t.TempDir(), FirstRun: true, LookupEnv: none})
}

func none(string) (string, bool) { return "", false }

// identity writes an age identity file and gives its spec.
func identity(t *testing.T, texts ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(path, []byte("# made for a test\n"+strings.Join(texts, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "age:" + path
}

func x25519(t *testing.T) string {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return i.String()
}

func hybrid(t *testing.T) string {
	t.Helper()
	i, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return i.String()
}

// masters opens one master of each sort; AWS KMS is a fake behind the real client.
func masters(t *testing.T) map[string]custody.Master {
	t.Helper()
	t.Setenv("CUSTODY_TEST_PASSPHRASE", "correct horse battery staple")
	env := custody.Env{ConfigDir: t.TempDir(), FirstRun: true}
	fakeKMS(t)
	return map[string]custody.Master{
		"file":       open(t, "file:master.key", env),
		"passphrase": open(t, "passphrase:env:CUSTODY_TEST_PASSPHRASE", env),
		"age":        open(t, identity(t, x25519(t)), env),
		"age hybrid": open(t, identity(t, hybrid(t)), env),
		"aws-kms":    open(t, "aws-kms:alias/keywright?region=us-east-1", env),
	}
}

// Every master keeps one contract.
func TestMasters(t *testing.T) {
	v := secrettest.Fake(t)
	all := masters(t)
	for name, m := range all {
		t.Run(name, func(t *testing.T) {
			c := custody.New(m)
			b := binding()
			sealed, err := c.Seal(t.Context(), v, b)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Open(t.Context(), sealed, b); err != nil || !got.Equal(v) {
				t.Fatalf("Open: %v, %v", got, err)
			}
			if by, err := custody.SealedBy(sealed); err != nil || by != m.ID() || c.MasterID() != by {
				t.Errorf("SealedBy = %q, %v; want %q", by, err, m.ID())
			}
			again, err := c.Seal(t.Context(), v, b)
			if err != nil || bytes.Equal(sealed, again) {
				t.Errorf("sealed twice alike, or %v", err)
			}
			secrettest.NoLeak(t, "sealed value", slices.Concat(sealed, again), v)
			secrettest.NoLeak(t, "JSON of it", must(json.Marshal(sealed)), v)

			// Rows cannot be swapped, nor carried to another store.
			for what, change := range map[string]func(*custody.Binding){
				"store":      func(b *custody.Binding) { b.Store = "s_other" },
				"key":        func(b *custody.Binding) { b.Key = "prod-secondary" },
				"version":    func(b *custody.Binding) { b.Version = "v_other" },
				"purpose":    func(b *custody.Binding) { b.Purpose = "other" },
				"generation": func(b *custody.Binding) { b.Generation++ },
				"boundary":   func(b *custody.Binding) { b.Store, b.Key = b.Store+string(b.Key[:1]), b.Key[1:] },
			} {
				other := b
				change(&other)
				if got, err := c.Open(t.Context(), sealed, other); !fault.Is(err, fault.Corrupt) || !got.IsZero() || fault.HintOf(err) == "" {
					t.Errorf("opened under another %s: %v, %v", what, got, err)
				}
			}

			// The wrap itself is bound too, and altered bytes are Corrupt.
			key := bytes.Repeat([]byte{7}, 32)
			wrapped, err := m.Wrap(t.Context(), bytes.Clone(key), []byte("one"))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.Unwrap(t.Context(), wrapped, []byte("one")); err != nil || !bytes.Equal(got, key) {
				t.Errorf("Unwrap: %x, %v", got, err)
			}
			bad := bytes.Clone(wrapped)
			bad[len(bad)-1] ^= 1
			for what, w := range map[string][]byte{"altered": bad, "cut": wrapped[:len(wrapped)-1], "cut short": wrapped[:1], "longer": append(bytes.Clone(wrapped), 0)} {
				if got, err := m.Unwrap(t.Context(), w, []byte("one")); !fault.Is(err, fault.Corrupt) || got != nil {
					t.Errorf("Unwrap of %s: %x, %v", what, got, err)
				}
			}
			if got, err := m.Unwrap(t.Context(), wrapped, []byte("two")); !fault.Is(err, fault.Corrupt) || got != nil {
				t.Errorf("Unwrap bound elsewhere: %x, %v", got, err)
			}
			if bytes.Contains(wrapped, key) {
				t.Error("the wrapped key is plain")
			}
		})
	}

	// Each opens only its own, says so by name, and hands over to each other.
	b := binding()
	for fromName, from := range all {
		sealed, err := custody.New(from).Seal(t.Context(), v, b)
		if err != nil {
			t.Fatal(err)
		}
		for toName, to := range all {
			if fromName == toName {
				continue
			}
			_, err := custody.New(to).Open(t.Context(), sealed, b)
			if !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), from.ID()) || !strings.Contains(err.Error(), to.ID()) || !strings.Contains(fault.HintOf(err), from.ID()) {
				t.Errorf("%s opened by %s: %v (%s)", fromName, toName, err, fault.HintOf(err))
			}
			moved, err := custody.New(from).Rewrap(t.Context(), sealed, b, to)
			if err != nil {
				t.Errorf("re-wrap from %s to %s: %v", fromName, toName, err)
				continue
			}
			if got, err := custody.New(to).Open(t.Context(), moved, b); err != nil || !got.Equal(v) {
				t.Errorf("re-wrapped from %s to %s: %v, %v", fromName, toName, got, err)
			}
			secrettest.NoLeak(t, "re-wrapped value", moved, v)
			again, err := custody.New(from).Rewrap(t.Context(), moved, b, to)
			if err != nil || !bytes.Equal(again, moved) {
				t.Errorf("a repeated re-wrap changed the bytes, or %v", err)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Every bit of a sealed value counts, and every length.
func TestTampering(t *testing.T) {
	c := custody.New(fileMaster(t))
	v, b := secrettest.Fake(t), binding()
	sealed := must(c.Seal(t.Context(), v, b))
	try := func(what string, s secret.Sealed) {
		got, err := c.Open(t.Context(), s, b)
		// A changed ID names another master; a higher layout is a later program's.
		if kind := fault.KindOf(err); err == nil || !got.IsZero() || kind != fault.Corrupt && kind != fault.Forbidden && kind != fault.Unsupported {
			t.Errorf("%s: %v, %v", what, got, err)
		}
		secrettest.NoLeak(t, "error", fmt.Append(nil, err, fault.HintOf(err)), v)
	}
	for i := range sealed {
		for bit := range 8 {
			s := slices.Clone(sealed)
			s[i] ^= 1 << bit
			try(fmt.Sprintf("bit %d of byte %d", bit, i), s)
		}
		try(fmt.Sprintf("cut to %d", i), sealed[:i])
		try(fmt.Sprintf("without byte %d", i), slices.Delete(slices.Clone(sealed), i, i+1))
	}
	try("a byte more", append(slices.Clone(sealed), 0))
	if _, err := c.Rewrap(t.Context(), sealed[:9], b, fileMaster(t)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("Rewrap of a part: %v", err)
	}
	bad := slices.Clone(sealed)
	bad[len(bad)-1] ^= 1
	for _, to := range []custody.Master{fileMaster(t), masterOf(c, t)} {
		if s, err := c.Rewrap(t.Context(), bad, b, to); err == nil || s != nil {
			t.Errorf("Rewrap of altered bytes: %v", err)
		}
	}
}

// masterOf gives a master with the ID of c that opens nothing of it.
func masterOf(c *custody.Custody, t *testing.T) custody.Master {
	return renamed{fileMaster(t), c.MasterID()}
}

type renamed struct {
	custody.Master
	id string
}

func (r renamed) ID() string { return r.id }

// failing stands in for a master that cannot be asked, or that answers nonsense.
type failing struct {
	id      string
	wrapped []byte
	key     []byte
	err     error
}

func (f failing) ID() string                                           { return f.id }
func (f failing) Wrap(context.Context, []byte, []byte) ([]byte, error) { return f.wrapped, f.err }
func (f failing) Unwrap(context.Context, []byte, []byte) ([]byte, error) {
	return bytes.Clone(f.key), f.err
}

func TestSealAndOpenRefuse(t *testing.T) {
	c := custody.New(fileMaster(t))
	v, b := secrettest.Fake(t), binding()
	for i, bad := range []custody.Binding{
		{}, {Key: b.Key, Version: b.Version, Purpose: "x"}, {Store: "s", Version: b.Version, Purpose: "x"}, {Store: "s", Key: b.Key, Purpose: "x"},
		{Store: "s", Key: b.Key, Version: b.Version}, {Store: "s", Key: b.Key, Version: b.Version, Purpose: "x", Generation: -1},
	} {
		if _, err := c.Seal(t.Context(), v, bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("binding %d sealed: %v", i, err)
		}
		if _, err := c.Open(t.Context(), nil, bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("binding %d opened: %v", i, err)
		}
	}
	gone := secrettest.Fake(t)
	gone.Destroy()
	for _, empty := range []secret.Value{{}, gone} {
		if _, err := c.Seal(t.Context(), empty, b); !fault.Is(err, fault.Invalid) {
			t.Errorf("an empty value was sealed: %v", err)
		}
	}
	down := fault.New(fault.Unavailable, "ask master", fault.Hint("wait"))
	if _, err := custody.New(failing{id: "x", err: down}).Seal(t.Context(), v, b); !fault.Is(err, fault.Unavailable) || fault.HintOf(err) != "wait" {
		t.Errorf("Seal with the master down: %v", err)
	}
	for what, f := range map[string]failing{
		"no ID": {wrapped: []byte("w")}, "no wrapped key": {id: "x"}, "long ID": {id: strings.Repeat("x", 513), wrapped: []byte("w")}, "long wrapped key": {id: "x", wrapped: make([]byte, 1<<16)},
	} {
		if s, err := custody.New(f).Seal(t.Context(), v, b); err == nil || s != nil {
			t.Errorf("%s: sealed", what)
		}
	}
	f := failing{id: "x", wrapped: []byte("w")}
	sealed := must(custody.New(f).Seal(t.Context(), v, b))
	f.err = down
	if _, err := custody.New(f).Open(t.Context(), sealed, b); !fault.Is(err, fault.Unavailable) || fault.HintOf(err) != "wait" {
		t.Errorf("Open with the master down: %v", err)
	}
	f.err = nil
	for _, f.key = range [][]byte{nil, make([]byte, 16), make([]byte, 32)} {
		if _, err := custody.New(f).Open(t.Context(), sealed, b); !fault.Is(err, fault.Corrupt) {
			t.Errorf("Open with a data key of %d bytes: %v", len(f.key), err)
		}
	}
}

// The header is bound to the value even where a master would not notice.
func TestHeaderIsBound(t *testing.T) {
	b := binding()
	f := failing{id: "x", wrapped: []byte("wrapped"), key: make([]byte, 32)}
	real := listening{failing: f, heard: map[string]string{}}
	sealed := must(custody.New(real).Seal(t.Context(), secrettest.Fake(t), b))
	f.key = []byte(real.heard["key"])
	if _, err := custody.New(f).Open(t.Context(), sealed, b); err != nil {
		t.Fatalf("a master that knows the data key: %v", err)
	}
	altered := secret.Sealed(bytes.Replace(sealed, []byte("wrapped"), []byte("Wrapped"), 1))
	if _, err := custody.New(f).Open(t.Context(), altered, b); !fault.Is(err, fault.Corrupt) {
		t.Errorf("an altered wrapped key: %v", err)
	}
	f.id = "y"
	renamed := slices.Clone(sealed)
	renamed[7] = 'y'
	if _, err := custody.New(f).Open(t.Context(), renamed, b); !fault.Is(err, fault.Corrupt) {
		t.Errorf("an altered master: %v", err)
	}

	// Each part of the binding, and the master's ID, reach the master.
	seen := map[string]string{}
	for what, change := range map[string]func(*custody.Binding, *listening){
		"nothing": func(*custody.Binding, *listening) {}, "store": func(b *custody.Binding, _ *listening) { b.Store = "s" }, "key": func(b *custody.Binding, _ *listening) { b.Key = "k" },
		"version": func(b *custody.Binding, _ *listening) { b.Version = "v" }, "purpose": func(b *custody.Binding, _ *listening) { b.Purpose = "p" },
		"generation": func(b *custody.Binding, _ *listening) { b.Generation = 9 }, "master": func(_ *custody.Binding, l *listening) { l.id = "z" },
	} {
		b, l := binding(), listening{failing: f, heard: map[string]string{}}
		change(&b, &l)
		must(custody.New(l).Seal(t.Context(), secrettest.Fake(t), b))
		if other, ok := seen[l.heard["aad"]]; ok {
			t.Errorf("the master hears the same for another %s and another %s", what, other)
		}
		seen[l.heard["aad"]] = what
	}
}

// listening keeps what it is asked to wrap.
type listening struct {
	failing
	heard map[string]string
}

func (l listening) Wrap(_ context.Context, key, aad []byte) ([]byte, error) {
	l.heard["key"], l.heard["aad"] = string(key), string(aad)
	return l.wrapped, nil
}

func TestNothingPrintsAMaster(t *testing.T) {
	dir := t.TempDir()
	m := open(t, "", custody.Env{ConfigDir: dir, FirstRun: true, LookupEnv: none})
	raw := must(os.ReadFile(filepath.Join(dir, custody.DefaultFile)))
	var out bytes.Buffer
	text := x25519(t)
	a := open(t, identity(t, text), custody.Env{})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", m, a, custody.New(m))
	}
	secrettest.NoLeak(t, "output", out.Bytes(), secret.New(raw), secret.New([]byte(text)))
	if strings.Contains(m.ID(), fmt.Sprintf("%x", raw[:4])) {
		t.Error("the ID shows the key")
	}
}

func FuzzOpen(f *testing.F) {
	c := custody.New(failing{id: "x", wrapped: []byte("wrapped"), key: make([]byte, 32)})
	v := secret.New([]byte("some value"))
	b := binding()
	sealed, err := c.Seal(f.Context(), v, b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(sealed))
	f.Add([]byte(sealed[:20]))
	f.Add([]byte("kwsv\x01\xff\xff"))
	f.Add([]byte("kwsv\x02"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		by, err := custody.SealedBy(data)
		if err != nil && !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Errorf("SealedBy: %v", err)
		}
		if err == nil && !bytes.Contains(data, []byte(by)) {
			t.Errorf("SealedBy invents %q", by)
		}
		if v, err := c.Open(t.Context(), data, b); err == nil || !v.IsZero() {
			t.Errorf("%x was opened", data)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	m, err := custody.OpenMaster(b.Context(), "", custody.Env{ConfigDir: b.TempDir(), FirstRun: true, LookupEnv: none})
	if err != nil {
		b.Fatal(err)
	}
	c, v := custody.New(m), secrettest.Fake(b)
	for b.Loop() {
		s, err := c.Seal(b.Context(), v, binding())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Open(b.Context(), s, binding()); err != nil {
			b.Fatal(err)
		}
	}
}
