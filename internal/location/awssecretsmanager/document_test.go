package awssecretsmanager

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// FuzzDocument checks the editor against encoding/json: whatever it accepts, it changes one member and not one byte more.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{
		`{"k":"v"}`, `{}`, ` { } `, "{\n\t\"a\": [1, {\"k\": \"}\"}],\n\t\"k\": \"\\\"\\\\\"\n}\n", `{"\u006b":"v","b":null}`, `{"k":1}`,
		`{"k":"a","k":"b"}`, `{"k":{}}`, `["k"]`, `{"a":{"k":"v"},"b":-1.5e+3,"c":true}`, `{"k":"\ud800"}`, "{\"k\":\"\xff\"}", `{"k"`, "",
		`{"k":null}`, `{"":"x"}`, `"k"`, `{"k":"v"}{`, "\xef\xbb\xbf{}",
	} {
		f.Add([]byte(s), "k", "new value")
		f.Add([]byte(s), "q\"\u2028<", "\x00\\\"\n\u2028<&")
	}
	f.Fuzz(func(t *testing.T, text []byte, name, value string) {
		if value == "" || name == "" || badName(name) {
			t.Skip() // refused by Put and by Open
		}
		before := document{field: name, text: secret.New(bytes.Clone(text))}
		after, err := before.with(secret.New([]byte(value)))
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		got, err := after.value()
		if err != nil || !got.Equal(secret.New([]byte(value))) {
			t.Fatalf("read back: %v", err)
		}
		var a, b map[string]any
		if len(text) > 0 {
			if err := json.Unmarshal(text, &a); err != nil {
				t.Fatalf("accepted what is not JSON: %v", err)
			}
		}
		out := []byte(after.text.RevealString())
		if err := json.Unmarshal(out, &b); err != nil {
			t.Fatalf("made what is not JSON: %v", err)
		}
		delete(a, name)
		delete(b, name)
		if len(a) != len(b) || len(a) > 0 && !reflect.DeepEqual(a, b) {
			t.Fatalf("neighbours changed from %q to %q", text, out)
		}
		// What was before and behind the value is there byte by byte, and writing again what was there gives the first text.
		m, err := find(out, name)
		if err != nil || !m.found {
			t.Fatalf("member not found again: %v", err)
		}
		if old, _ := find(text2(text), name); old.found && !bytes.Equal(bytes.Join([][]byte{out[:m.start], text[old.start:old.end], out[m.end:]}, nil), text) {
			t.Fatalf("bytes outside the value changed from %q to %q", text, out)
		}
	})
}

// text2 stands for the empty object where there is no text.
func text2(text []byte) []byte {
	if len(text) == 0 {
		return []byte("{}")
	}
	return text
}

func TestDocumentTooLong(t *testing.T) {
	v := secret.New(bytes.Repeat([]byte("x"), maxDocument))
	if _, err := (document{}).with(v); err != nil {
		t.Error(err)
	}
	_, err := document{field: "k"}.with(v)
	if !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
