package keysource_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestReferences(t *testing.T) {
	for text, want := range map[string]keysource.Parsed{
		"file:/etc/a#b?c":                 {Scheme: "file", Name: "/etc/a#b?c"},
		"env:A_1":                         {Scheme: "env", Name: "A_1"},
		"store:prod-primary":              {Scheme: "store", Name: "prod-primary"},
		"daemon:/run/kw.sock#app":         {Scheme: "daemon", Name: "/run/kw.sock", Field: "app"},
		"daemon:https://h:8?identity=r#a": {Scheme: "daemon", Name: "https://h:8", Field: "a"},
		"aws:arn:aws:x:eu-1:1:secret:a/b": {Scheme: "aws", Name: "arn:aws:x:eu-1:1:secret:a/b"},
		"aws:a?region=r&every=2m#api_key": {Scheme: "aws", Name: "a", Field: "api_key", Every: 2 * time.Minute},
		"vault:kv/a/b?token=file:t#f":     {Scheme: "vault", Name: "kv/a/b", Field: "f"},
		"vault:kv/a?login=approle&role=r&secret-id=file:s&auth=x/y#f": {Scheme: "vault", Name: "kv/a", Field: "f"},
		"vault:kv/a?login=jwt&role=r&jwt=file:j#f":                    {Scheme: "vault", Name: "kv/a", Field: "f"},
		"kubernetes:ns/name.x?context=c#k":                            {Scheme: "kubernetes", Name: "ns/name.x", Field: "k"},
	} {
		var r keysource.Ref
		err := r.UnmarshalText([]byte(text))
		got, _ := r.Parse()
		if err != nil || got.Scheme != want.Scheme || got.Name != want.Name || got.Field != want.Field || got.Every != want.Every {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	value := secrettest.Fake(t)
	v := value.RevealString()
	for _, text := range []string{
		"", "x", "file:", "env:", "env:9", "store:", "store:A", "store:a#b", "store:a?x=y", "daemon:/s", "daemon:/s#A b", "daemon:#a", "aws:", "aws:a?nope=1", "aws:a?region=", "aws:a?region=r&region=s",
		"aws:a?every=1ms", "aws:a?every=x", "aws:a b", "vault:a#f", "vault:a/b", "vault:/a#f", "vault:a/b?token=cmd:x#f", "vault:a/b?token=x#f", "vault:a/b?secret-id=x#f", "vault:a/b?jwt=x#f", "vault:a/b?jwt=file:#f", "kubernetes:a#k", "kubernetes:a/b", "kubernetes:A/b#k",
		"kubernetes:a/b/c#k", "cmd:x", "http:x", v, "file:" + v, "aws:" + v, "vault:a/" + v + "#f", "aws:a#" + v,
	} {
		_, err := keysource.ParseRef(text)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("reference of %d bytes: %v", len(text), err)
			continue
		}
		secrettest.NoLeak(t, "error", []byte(err.Error()+fault.HintOf(err)), value)
	}
}

func FuzzRef(f *testing.F) {
	for _, s := range []string{"file:a", "aws:a?region=r#f", "daemon:https://h:1?identity=x#k", "vault:a/b#c", "store:k"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := keysource.Ref(s).Parse()
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Error(err)
			}
			return
		}
		if p.Scheme == "" || p.Name == "" || strings.ContainsAny(p.Field, "#?") || p.Scheme != "file" && strings.ContainsAny(p.Name, " \n\x00") {
			t.Errorf("%q: %+v", s, p)
		}
	})
}

func TestMember(t *testing.T) {
	for _, c := range []struct {
		text, field, want string
		kind              fault.Kind
	}{
		{"abc\r\n", "", "abc", 0}, {`{"k":"v\u0061"}`, "k", "va", 0}, {` { "a" : [1,{}], "k" : "v\n" } `, "k", "v", 0}, {"", "", "", fault.NotFound}, {"\n", "", "", fault.NotFound},
		{`{"a":"v"}`, "k", "", fault.NotFound}, {`{"k":"v","k":"w"}`, "k", "", fault.Invalid}, {`{"k":1}`, "k", "", fault.Invalid}, {`["k"]`, "k", "", fault.Invalid}, {`{"k":"v"`, "k", "", fault.Invalid},
		{`{"k":"v"} {}`, "k", "", fault.Invalid}, {"plain", "k", "", fault.Invalid}, {strings.Repeat("x", keysource.MaxValue+1), "", "", fault.Invalid},
	} {
		v, err := keysource.Member([]byte(c.text), c.field)
		if c.kind != 0 && !fault.Is(err, c.kind) || c.kind == 0 && (err != nil || v.RevealString() != c.want) {
			t.Errorf("%.20q %q: %v", c.text, c.field, err)
		}
	}
}

func TestFileTellsOfAChange(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		path := filepath.Join(dir, "key")
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	r := keysource.File("key", dir, time.Millisecond)
	got, err := r.Read(t.Context())
	if err != nil || got.Value.RevealString() != "one" {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() { told <- r.Wait(context.Background(), got.Mark) }()
	write("two\n")
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	if got, err = r.Read(t.Context()); err != nil || got.Value.RevealString() != "two" {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { told <- r.Wait(ctx, got.Mark) }()
	cancel()
	if err := <-told; !fault.Is(err, fault.Canceled) {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(t.Context(), got.Mark); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(t.Context()); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
