package baseline

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

const (
	one = "kf_0123456789abcdef"
	two = "kl_fedcba9876543210"
)

func TestParse(t *testing.T) {
	b, err := Parse("f", []byte(Header+"\r\n# remark\n\n"+one+" never a@b.example it is rotated: see\t#4  \n"+two+"\t2026-11-30\tme\twhy not\n"))
	if err != nil || b.Len() != 2 {
		t.Fatal(b, err)
	}
	e, ok := b.Ignores(one, time.Now())
	if !ok || e.Author != "a@b.example" || e.Reason != "it is rotated: see\t#4" || e.Line != 4 {
		t.Errorf("%+v %v", e, ok)
	}
	if _, ok := b.Ignores("kf_0000000000000000", time.Now()); ok {
		t.Error("ignores a key that is not named")
	}
}

func TestAnEntryCountsToTheEndOfItsDay(t *testing.T) {
	b, err := Parse("f", []byte(Header+"\n"+two+" 2026-11-30 me why\n"))
	if err != nil {
		t.Fatal(err)
	}
	last := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
	if _, ok := b.Ignores(two, last); !ok {
		t.Error("the last day does not count")
	}
	if _, ok := b.Ignores(two, last.Add(time.Second)); ok || !b.Has(two) {
		t.Error("the day after counts")
	}
}

func TestProblemsNameTheirLineAndQuoteNothing(t *testing.T) {
	v := secrettest.Fake(t)
	value := ""
	v.Reveal(func(b []byte) { value = string(b) })
	for text, want := range map[string]string{
		"":                       `f:1: the first line must be "keywright-baseline 1"`,
		"keywright-baseline 2\n": `f:1: the first line`,
		Header + "\n\n" + value + " never me why\n":                 "f:3: the first word is no fingerprint",
		Header + "\n" + one + "\n":                                  "f:2: the expiry is missing",
		Header + "\n" + one + " never\n":                            "f:2: the author is missing",
		Header + "\n" + one + " never me\n":                         "f:2: the reason is missing",
		Header + "\n" + one + " never me  \n":                       "f:2: the reason is missing",
		Header + "\n" + one + " 2026-13-01 me why\n":                "f:2: the expiry is no day",
		Header + "\n" + one + " " + value + " me why\n":             "f:2: the expiry is no day",
		Header + "\n" + one + " never me why\x1b[m\n":               "f:2: it holds a character that does not print",
		Header + "\n# x\n\xff\n":                                    "f:3: it holds bytes that are no UTF-8",
		Header + "\n" + one + " never a b\n" + one + " never a b\n": "f:3: the key is named before, in line 2",
		Header + "\nx\ny\nz\n":                                      "f:2: the first word is no fingerprint (kf_ or kl_ and 16 hex digits) (and 2 more problems)",
	} {
		_, err := Parse("f", []byte(text))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		secrettest.NoLeak(t, "error", fmt.Appendf(nil, "%v %s", err, fault.HintOf(err)), v)
	}
	if _, err := Parse("f", bytes.Repeat([]byte("#"), MaxSize+1)); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

func TestAddRefusesWhatALineCannotHold(t *testing.T) {
	var b Baseline
	good := Entry{ID: one, Author: "me", Reason: "why", Expires: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	if err := b.Add(good); err != nil {
		t.Fatal(err)
	}
	for _, e := range []Entry{{}, {ID: "x", Author: "me", Reason: "why"}, {ID: one, Reason: "why"}, {ID: one, Author: "a b", Reason: "why"}, {ID: one, Author: "me", Reason: "a\nb"}, {ID: one, Author: "me", Reason: " a"}} {
		if err := b.Add(e); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if got := string(b.Format()); got != Header+"\n"+one+" 2026-01-02 me why\n" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Header + "\n# remark\n\n" + one + " never a@b.example it is rotated\n" + two + " 2026-11-30 me why\n"))
	f.Add([]byte(Header + "\n" + one + "\tnever  me\t why  not \r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := Parse("f", text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := Parse("f", b.Format())
		if err != nil {
			t.Fatalf("%q was written as %q: %v", text, b.Format(), err)
		}
		if !bytes.Equal(again.Format(), b.Format()) {
			t.Fatalf("%q and %q", b.Format(), again.Format())
		}
	})
}
