package custody_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func refused(t *testing.T, what, spec string, env custody.Env, kind fault.Kind) {
	t.Helper()
	m, err := custody.OpenMaster(t.Context(), spec, env)
	if err == nil || m != nil || fault.KindOf(err) != kind {
		t.Errorf("%s: %v, %v (%v)", what, m, err, fault.KindOf(err))
		return
	}
	if fault.HintOf(err) == "" {
		t.Errorf("%s: no hint with: %v", what, err)
	}
}

func TestSpecs(t *testing.T) {
	v := secrettest.Fake(t)
	env := custody.Env{ConfigDir: t.TempDir(), LookupEnv: none}
	for _, spec := range []string{
		"file", "file:", "nothing:x", "passphrase:", "passphrase:word", "passphrase:vault:x", "aws-kms:", "aws-kms:?region=us-east-1", "aws-kms:a b", "aws-kms:x?zone=a",
		"aws-kms:x?region=A", "aws-kms:x?region=a&region=b", "aws-kms:x?%zz", "systemd:../x", "systemd:a/b", "systemd:..", v.RevealString(), "passphrase:" + v.RevealString(),
	} {
		m, err := custody.OpenMaster(t.Context(), spec, env)
		if !fault.Is(err, fault.Invalid) || m != nil || fault.HintOf(err) == "" {
			t.Errorf("OpenMaster(%.20q): %v, %v (%s)", spec, m, err, fault.HintOf(err))
			continue
		}
		secrettest.NoLeak(t, "error", []byte(err.Error()+fault.HintOf(err)), v)
	}
}

func TestFileMaster(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, custody.DefaultFile)
	env := custody.Env{ConfigDir: dir, LookupEnv: none}
	refused(t, "no file, and not the first run", "", env, fault.NotFound)
	if _, err := os.Lstat(path); err == nil {
		t.Fatal("a master was made though it is not the first run")
	}

	env.FirstRun = true
	var ids sync.Map
	var wg sync.WaitGroup
	for range 8 { // two programs may start at once
		wg.Go(func() {
			m, err := custody.OpenMaster(t.Context(), "", env)
			if err != nil {
				t.Error(err)
				return
			}
			ids.Store(m.ID(), true)
		})
	}
	wg.Wait()
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Fatalf("%d masters were made", n)
	}
	info := must(os.Stat(path))
	raw := must(os.ReadFile(path))
	if info.Mode() != 0o600 || len(raw) != 32 || bytes.Equal(raw, make([]byte, 32)) {
		t.Errorf("the file has mode %v and %d bytes", info.Mode(), len(raw))
	}
	m := open(t, "file:"+path, env)
	if after := must(os.ReadFile(path)); !bytes.Equal(raw, after) {
		t.Error("opening changed the file")
	}
	if other := fileMaster(t); other.ID() == m.ID() {
		t.Error("two masters have one ID")
	}

	for what, mode := range map[string]os.FileMode{"group": 0o640, "world": 0o604, "writable": 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		refused(t, what, "", env, fault.Forbidden)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string][]byte{"empty": {}, "short": raw[:31], "long": append(bytes.Clone(raw), '\n'), "zeroes": make([]byte, 32)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, what, "", env, fault.Invalid)
		if after := must(os.ReadFile(path)); !bytes.Equal(after, content) {
			t.Errorf("%s: a damaged file was overwritten", what)
		}
	}
}

func TestNoMasterInTheDataDirectory(t *testing.T) {
	root := t.TempDir()
	data := filepath.Join(root, "data")
	if err := os.MkdirAll(filepath.Join(data, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(data, "in"), filepath.Join(root, "config")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CUSTODY_TEST_PASSPHRASE", "correct horse battery staple")
	creds := func(string) (string, bool) { return data, true }
	if err := os.WriteFile(filepath.Join(data, "keywright-master"), bytes.Repeat([]byte{1}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		spec string
		env  custody.Env
	}{
		"default":     {"", custody.Env{ConfigDir: data, LookupEnv: none}},
		"by a link":   {"", custody.Env{ConfigDir: filepath.Join(root, "config"), LookupEnv: none}},
		"by path":     {"file:" + data + "/key", custody.Env{ConfigDir: root}},
		"passphrase":  {"passphrase:env:CUSTODY_TEST_PASSPHRASE", custody.Env{ConfigDir: data}},
		"age":         {"age:identity", custody.Env{ConfigDir: data}},
		"from system": {"", custody.Env{ConfigDir: root, LookupEnv: creds}},
	} {
		c.env.DataDir, c.env.FirstRun = data, true
		refused(t, what, c.spec, c.env, fault.Forbidden)
	}
	entries := must(os.ReadDir(filepath.Join(data, "in")))
	if len(entries) != 0 {
		t.Errorf("a refused master was made: %v", entries)
	}
}

func TestSystemdCredential(t *testing.T) {
	dir, config := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, custody.DefaultCredential)
	env := custody.Env{ConfigDir: config, FirstRun: true, LookupEnv: func(name string) (string, bool) {
		return dir, name == "CREDENTIALS_DIRECTORY"
	}}
	refused(t, "no such credential", "systemd:keywright-master", env, fault.NotFound)
	refused(t, "no directory", "systemd:keywright-master", custody.Env{LookupEnv: none}, fault.NotFound)
	file := open(t, "", env) // without a credential the default is the file
	raw := must(os.ReadFile(filepath.Join(config, custody.DefaultFile)))
	if err := os.WriteFile(path, raw, 0o440); err != nil {
		t.Fatal(err)
	}
	m := open(t, "", env)
	if m.ID() != file.ID() {
		t.Error("the same bytes as a credential are another master")
	}
	if err := os.Remove(filepath.Join(config, custody.DefaultFile)); err != nil {
		t.Fatal(err)
	}
	if open(t, "", env).ID() != m.ID() {
		t.Error("the credential is not the default")
	}
	if err := os.Chmod(path, 0o444); err != nil {
		t.Fatal(err)
	}
	refused(t, "a credential for everybody", "", env, fault.Forbidden)
}

func TestPassphrase(t *testing.T) {
	t.Setenv("CUSTODY_TEST_SHORT", "too short")
	t.Setenv("CUSTODY_TEST_PASSPHRASE", "correct horse battery staple")
	t.Setenv("CUSTODY_TEST_WRONG", "correct horse battery stable")
	const spec = "passphrase:env:CUSTODY_TEST_PASSPHRASE"
	dir := t.TempDir()
	path := filepath.Join(dir, custody.DefaultHeader)
	env := custody.Env{ConfigDir: dir}
	refused(t, "no header", spec, env, fault.NotFound)
	env.FirstRun = true
	refused(t, "a short one", "passphrase:env:CUSTODY_TEST_SHORT", env, fault.Invalid)
	refused(t, "none", "passphrase:env:CUSTODY_TEST_UNSET", env, fault.NotFound)
	if _, err := os.Lstat(path); err == nil {
		t.Fatal("a refused passphrase left a header")
	}
	m := open(t, spec, env)
	raw := must(os.ReadFile(path))
	if bytes.Contains(raw, []byte("horse")) {
		t.Error("the header holds the passphrase")
	}
	env.FirstRun = false
	if open(t, spec, env).ID() != m.ID() {
		t.Error("the same passphrase gives another master")
	}
	_, err := custody.OpenMaster(t.Context(), "passphrase:env:CUSTODY_TEST_WRONG", env)
	if !fault.Is(err, fault.Forbidden) || fault.HintOf(err) == "" || strings.Contains(err.Error(), "stable") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	other := env
	other.FirstRun, other.Header = true, "next.json"
	if open(t, spec, other).ID() == m.ID() {
		t.Error("another salt gives the same master")
	}

	var h map[string]any
	if err := json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	if h["memory_kib"] != 65536.0 || h["passes"] != 3.0 || h["kdf"] != "argon2id" {
		t.Errorf("parameters: %v", h)
	}
	for what, change := range map[string]func(map[string]any){
		"format": func(h map[string]any) { h["format"] = "x" }, "kdf": func(h map[string]any) { h["kdf"] = "scrypt" }, "little memory": func(h map[string]any) { h["memory_kib"] = 65535 },
		"much memory": func(h map[string]any) { h["memory_kib"] = 4 << 20 }, "few passes": func(h map[string]any) { h["passes"] = 2 }, "many passes": func(h map[string]any) { h["passes"] = 1000000 },
		"no lanes": func(h map[string]any) { h["lanes"] = 0 }, "short salt": func(h map[string]any) { h["salt"] = "AAAA" }, "unknown field": func(h map[string]any) { h["x"] = 1 }, "type": func(h map[string]any) { h["lanes"] = "4" },
	} {
		var copied map[string]any
		if err := json.Unmarshal(raw, &copied); err != nil {
			t.Fatal(err)
		}
		change(copied)
		if err := os.WriteFile(path, must(json.Marshal(copied)), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := custody.OpenMaster(t.Context(), spec, env); !fault.Is(err, fault.Invalid) || m != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, content := range map[string]string{"empty": "", "garbage": "\x00", "two": string(raw) + string(raw), "large": strings.Repeat(" ", 5000)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := custody.OpenMaster(t.Context(), spec, env); !fault.Is(err, fault.Invalid) || m != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAge(t *testing.T) {
	text := x25519(t)
	spec := identity(t, text)
	m := open(t, spec, custody.Env{})
	if again := open(t, identity(t, text), custody.Env{}); again.ID() != m.ID() {
		t.Error("one identity has two IDs")
	}
	for what, texts := range map[string][]string{"none": nil, "two": {text, x25519(t)}, "garbage": {"AGE-SECRET-KEY-1" + text[20:]}, "ssh": {"-----BEGIN OPENSSH PRIVATE KEY-----"}} {
		spec := identity(t, texts...)
		refused(t, what, spec, custody.Env{}, fault.Invalid)
		_, err := custody.OpenMaster(t.Context(), spec, custody.Env{})
		secrettest.NoLeak(t, "error", []byte(err.Error()), secret.New([]byte(text)))
	}
	path := strings.TrimPrefix(spec, "age:")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, "an identity for everybody", spec, custody.Env{}, fault.Forbidden)
	refused(t, "no identity", spec+"x", custody.Env{FirstRun: true}, fault.NotFound)
}
