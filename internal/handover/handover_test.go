package handover_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/handover"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestSealOpensForItsReaderAlone(t *testing.T) {
	key, err := handover.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := handover.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	v, b := secrettest.Fake(t), handover.Binding{Reader: "billing", Key: "app", Generation: 7}
	sealed, err := handover.Seal(key.PublicKey().Bytes(), b, v)
	if err != nil {
		t.Fatal(err)
	}
	secrettest.NoLeak(t, "sealed value", sealed, v)
	if got, err := handover.Open(key, b, sealed); err != nil || !got.Equal(v) {
		t.Errorf("%v", err)
	}
	if _, err := handover.Open(other, b, sealed); !fault.Is(err, fault.Corrupt) {
		t.Errorf("another reader: %v", err)
	}
	for _, c := range []handover.Binding{{Reader: "billin", Key: "gapp", Generation: 7}, {Reader: "billing", Key: "other", Generation: 7}, {Reader: "billing", Key: "app", Generation: 8}, {Reader: "search", Key: "app", Generation: 7}} {
		if _, err := handover.Open(key, c, sealed); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for i := range sealed {
		sealed[i] ^= 1
		if _, err := handover.Open(key, b, sealed); !fault.Is(err, fault.Corrupt) {
			t.Errorf("byte %d: %v", i, err)
		}
		sealed[i] ^= 1
	}
	for _, to := range [][]byte{nil, make([]byte, 31), make([]byte, 32)} {
		if _, err := handover.Seal(to, b, v); !fault.Is(err, fault.Invalid) {
			t.Errorf("a key of %d bytes: %v", len(to), err)
		}
	}
}

func TestIdentity(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pin := handover.Pin{1, 2, 3}
	i, err := handover.NewIdentity("billing", pin)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "reader.json")
	if err := i.Write(path); err != nil {
		t.Fatal(err)
	}
	if err := i.Write(path); !fault.Is(err, fault.Conflict) {
		t.Errorf("written over: %v", err)
	}
	got, err := handover.ReadIdentity(path)
	if err != nil || got.Daemon != pin || !got.Key().Equal(i.Key()) {
		t.Fatal(err)
	}
	a, err := i.Public()
	if err != nil {
		t.Fatal(err)
	}
	b, err := got.Public()
	if err != nil || a.Pin != b.Pin || a.Line() != b.Line() {
		t.Errorf("the file gives another reader: %v", err)
	}
	if p, err := handover.ParseLine(" " + a.Line() + "\n"); err != nil || p.Name != "billing" || p.Pin != a.Pin || string(p.To) != string(a.To) {
		t.Errorf("%+v %v", p, err)
	}
	for _, bad := range []string{"", "kwreader1.", a.Line()[1:], a.Line()[:40], "kwreader1.e30"} {
		if _, err := handover.ParseLine(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	var q handover.Pin
	if text, err := pin.MarshalText(); err != nil || q.UnmarshalText(text) != nil || q != pin {
		t.Errorf("%s %v", text, err)
	}
	for _, bad := range []string{"", "sha256/", "sha256/abc", "sha1/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		if err := q.UnmarshalText([]byte(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := handover.NewIdentity("Bill ing", pin); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := handover.ReadIdentity(path); !fault.Is(err, fault.Forbidden) {
		t.Errorf("others may read it: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad"), []byte(`{"name":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := handover.ReadIdentity(filepath.Join(dir, "bad")); !fault.Is(err, fault.Corrupt) {
		t.Errorf("damaged: %v", err)
	}
	if i, err = handover.NewIdentity("x", handover.Pin{}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.ClientTLS(); !fault.Is(err, fault.Invalid) {
		t.Errorf("no daemon is named: %v", err)
	}
}
