package secret_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"text/template"

	"github.com/goccy/go-yaml"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestNewTakesTheBytesOver(t *testing.T) {
	raw := []byte("some bytes of a value")
	kept := bytes.Clone(raw)
	v := secret.New(raw)
	if !bytes.Equal(raw, make([]byte, len(raw))) {
		t.Error("New left its argument as it was")
	}
	if got := v.RevealString(); got != string(kept) || v.Len() != len(kept) || v.IsZero() {
		t.Errorf("holds %d bytes", v.Len())
	}
	if v.Digest() != apikey.Digest(sha256.Sum256(kept)) || v.Fingerprint() != v.Digest().Fingerprint() {
		t.Error("the digest is not the SHA-256 of the bytes")
	}
}

func TestZeroValue(t *testing.T) {
	for _, v := range []secret.Value{{}, secret.New(nil), secret.New([]byte{})} {
		called := false
		v.Reveal(func(b []byte) { called = true; _ = append([]byte(nil), b...) })
		if !called || !v.IsZero() || v.Len() != 0 || v.Digest().Known() || v.Fingerprint() != "" || v.String() != "[no value]" || v.RevealString() != "" {
			t.Errorf("the zero value is something: %v", v)
		}
		v.Destroy()
	}
}

func TestEqual(t *testing.T) {
	a, same, other := secret.New([]byte("aaaa")), secret.New([]byte("aaaa")), secret.New([]byte("aaab"))
	gone := secret.New([]byte("aaaa"))
	gone.Destroy()
	for _, c := range []struct {
		v, w secret.Value
		want bool
	}{
		{a, a, true}, {a, same, true}, {same, a, true}, {a, other, false}, {a, secret.Value{}, false}, {secret.Value{}, a, false},
		{secret.Value{}, secret.Value{}, false}, {a, gone, false}, {gone, a, false}, {gone, gone, false},
	} {
		if c.v.Equal(c.w) != c.want {
			t.Errorf("Equal(%v, %v) = %v", c.v, c.w, !c.want)
		}
	}
}

func TestDestroyEndsEveryCopy(t *testing.T) {
	v := secrettest.Fake(t)
	w, digest := v, v.Digest()
	var inside []byte
	v.Reveal(func(b []byte) { inside = b }) // against the contract, to look at the memory
	v.Destroy()
	v.Destroy()
	if !w.IsZero() || w.RevealString() != "" {
		t.Error("a copy survived")
	}
	if !bytes.Equal(inside, make([]byte, len(inside))) {
		t.Error("the bytes were not overwritten")
	}
	if w.Digest() != digest || !strings.Contains(w.String(), string(digest.Fingerprint())) {
		t.Error("the digest did not outlive the value")
	}
}

func TestBytesAreOverwrittenWhenTheLastCopyIsGone(t *testing.T) {
	var inside []byte
	v := secrettest.Fake(t)
	v.Reveal(func(b []byte) { inside = b })
	v = secret.Value{}
	// A cleanup runs some time after a collection; the loop ends as soon as it did.
	for range 1000 {
		runtime.GC()
		runtime.Gosched()
		if zero(inside) {
			break
		}
	}
	if !zero(inside) {
		t.Error("the bytes of an unreachable value are still there")
	}
	runtime.KeepAlive(v)
}

//go:norace
func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func TestNothingPrintsOrMarshalsAValue(t *testing.T) {
	v := secrettest.Fake(t)
	type holder struct {
		Public  secret.Value
		private secret.Value
		Pointer *secret.Value
	}
	h := holder{v, v, &v}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U", "%t", "%p", "%T", "%w", "%6.3s"} {
		for _, x := range []any{v, &v, h, &h, []secret.Value{v}, map[string]secret.Value{"a": v}, []any{v}} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
	}
	fmt.Fprintln(&out, v, h)
	fmt.Fprintf(&out, "%v\n", fmt.Errorf("wrapped %v %w", v, fmt.Errorf("%s", v)))
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Error("text", "value", v, "pointer", &v, "holder", h, "in", []any{v})
	}
	if !strings.Contains(fmt.Sprint(v), string(v.Fingerprint())) {
		t.Errorf("Sprint gives %v", v)
	}
	for name, marshal := range map[string]func(any) ([]byte, error){
		"json": json.Marshal, "xml": xml.Marshal, "yaml": yaml.Marshal,
		"gob": func(x any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(x)
			return b.Bytes(), err
		},
	} {
		for _, x := range []any{v, &v, struct{ V secret.Value }{v}} {
			b, err := marshal(x)
			if err == nil {
				t.Errorf("%s marshals %T", name, x)
			}
			out.Write(b)
			fmt.Fprintln(&out, err)
		}
	}
	if _, err := v.MarshalBinary(); err == nil {
		t.Error("MarshalBinary works")
	}
	if _, err := v.MarshalYAML(); err == nil {
		t.Error("MarshalYAML works")
	}
	if err := template.Must(template.New("").Parse("{{.}} {{printf \"%s\" .Public}} {{html .Public}} {{js .Public}}")).Execute(&out, h); err != nil {
		t.Error(err)
	}
	if err := json.Unmarshal([]byte(`"text"`), &v); err == nil {
		t.Error("a value can be read from JSON")
	}
	secrettest.NoLeak(t, "output", out.Bytes(), h.private)
}

func TestConcurrentUse(t *testing.T) {
	v, w := secrettest.Fake(t), secrettest.Fake(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				_ = v.Equal(w)
				_ = w.Equal(v)
				_ = v.Len()
				_ = v.String()
				v.Reveal(func(b []byte) { _ = bytes.Count(b, []byte("A")) })
			}
			if i == 0 {
				v.Destroy()
			}
			if i == 1 {
				w.Destroy()
			}
		})
	}
	wg.Wait()
	if !v.IsZero() || !w.IsZero() {
		t.Error("a value survived")
	}
}

func TestCloneOutlivesTheOriginal(t *testing.T) {
	v := secrettest.Fake(t)
	c := v.Clone()
	if !c.Equal(v) || c.Digest() != v.Digest() {
		t.Fatal("the clone is another value")
	}
	v.Destroy()
	if c.Len() == 0 || (secret.Value{}).Clone().Len() != 0 {
		t.Error("the clone went with the original")
	}
}
