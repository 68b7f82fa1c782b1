package known

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
)

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func TestALineIsReadAsItWasWritten(t *testing.T) {
	text := Header + "\r\n# remark\n\n"
	var values []string
	for _, v := range []string{
		hex.EncodeToString(random(40)), rand.Text() + strings.ToLower(rand.Text()), "a-" + base64.RawURLEncoding.EncodeToString(random(48)) + "_",
		base64.StdEncoding.EncodeToString(random(47)), "p$w:" + base64.RawStdEncoding.EncodeToString(random(40)) + "!",
	} {
		line, err := Line([]byte(v))
		if err != nil {
			t.Fatal(err)
		}
		text += line + " a note\n"
		values = append(values, v)
	}
	var s Set
	if err := s.Add("f", []byte(text)); err != nil {
		t.Fatal(err)
	}
	if len(s.Shapes()) != len(values) || len(s.Fingerprints()) != len(values) {
		t.Errorf("%v %v", s.Shapes(), s.Fingerprints())
	}
	for i, v := range values {
		if d := apikey.Digest(sha256.Sum256([]byte(v))); !s.Holds(d) || s.Holds(apikey.Digest{1}) {
			t.Errorf("value %d is not held", i)
		}
		want := scan.Shape{Length: len(v), Alphabet: alphabets()[i]}
		if s.Shapes()[i] != want {
			t.Errorf("value %d: %v, want %v", i, s.Shapes()[i], want)
		}
	}
}

func TestBadFilesAreRefusedWithoutQuotingThem(t *testing.T) {
	secret := "p" + rand.Text()
	const good = "kf_0123456789abcdef"
	for _, text := range []string{
		"", secret, "\n" + Header, Header + "\n" + secret, Header + "\n" + good + " 40", Header + "\n" + secret + " 40 url-safe",
		Header + "\n" + good + " 40 " + secret, Header + "\n" + good + " " + secret + " url-safe", Header + "\n" + good + " 19 url-safe",
		Header + "\n" + good + " 4097 url-safe", Header + "\n" + good + " 40 url-safe \x1b[m", Header + "\nkl_0123456789abcdef 40 url-safe",
		Header + strings.Repeat("\n", MaxSize),
	} {
		var s Set
		err := s.Add("f", []byte(text))
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

func TestValuesThatAFingerprintGivesAwayAreRefused(t *testing.T) {
	for _, v := range []string{"", "hunter2", strings.Repeat("ab", 40), rand.Text()[:20], rand.Text() + " " + rand.Text(), rand.Text() + rand.Text() + "é", strings.Repeat(rand.Text(), 200)} {
		if line, err := Line([]byte(v)); !fault.Is(err, fault.Invalid) || v != "" && strings.Contains(err.Error(), v) {
			t.Errorf("%.20q…: %q, %v", v, line, err)
		}
	}
}

func FuzzAdd(f *testing.F) {
	f.Add([]byte(Header + "\nkf_0123456789abcdef 47 url-safe a note\n"))
	f.Add([]byte(Header + "\r\n# remark\r\n\r\nkf_0123456789abcdef\t20 base64"))
	f.Add([]byte(Header + "\nkf_0123456789abcdef 020 hexadecimal \x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Set
		if err := s.Add("f", text); err != nil {
			return
		}
		if len(s.Shapes()) > mostShapes || len(s.Shapes()) > len(s.Fingerprints()) && len(s.Fingerprints()) == 0 {
			t.Errorf("%d shapes of %d keys", len(s.Shapes()), len(s.Fingerprints()))
		}
		for _, sh := range s.Shapes() {
			if sh.Length < Shortest || sh.Length > Longest || sh.Alphabet.String() == "unnamed" {
				t.Errorf("%+v", sh)
			}
		}
	})
}
