package location

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// keyShaped finds a key of the provider's family where no value is at hand to compare with.
var keyShaped = regexp.MustCompile(`sk-ant-[a-z]{2,8}[0-9]{0,2}-[A-Za-z0-9_-]{16,}`)

// withheld stands in place of a text that contained a value.
const withheld = "[withheld]"

// shortest is the length in bytes below which a value is not searched for: it would be found by chance.
const shortest = 8

// carries reports whether text contains v, or anything of the shape of a key.
func carries(text string, v secret.Value) bool { return bytesCarry([]byte(text), v) }

func bytesCarry(text []byte, v secret.Value) bool {
	if len(text) == 0 {
		return false
	}
	if keyShaped.Match(text) {
		return true
	}
	found := false
	v.Reveal(func(b []byte) {
		if len(b) < shortest {
			return
		}
		for _, form := range forms(b) {
			found = found || bytes.Contains(text, form)
			clear(form)
		}
	})
	return found
}

// forms gives the shapes in which a value may stand in a text, each in memory of its own.
func forms(b []byte) [][]byte {
	out := [][]byte{bytes.Clone(b), []byte(url.QueryEscape(string(b))), []byte(url.PathEscape(string(b)))}
	if q, err := json.Marshal(string(b)); err == nil {
		out = append(out, q[1:len(q)-1])
	}
	if q := fmt.Sprintf("%q", b); len(q) > 2 {
		out = append(out, []byte(q[1:len(q)-1]))
	}
	h := []byte(hex.EncodeToString(b))
	out = append(out, h, bytes.ToUpper(h))
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for lead := range 3 {
			s := enc.EncodeToString(append(make([]byte, lead), b...))
			// The first and the last group mix in neighbouring bytes.
			if len(s) >= 8+shortest {
				out = append(out, []byte(s[4:len(s)-4]))
			}
		}
	}
	// The second half of a long value is a leak too.
	if len(b) >= 32 {
		out = append(out, bytes.Clone(b[len(b)/2:]))
	}
	return out
}

// errorCarries looks at every error of the tree, its hint and its printed fields.
func errorCarries(err error, v secret.Value) bool {
	if err == nil {
		return false
	}
	for _, text := range []string{err.Error(), fault.HintOf(err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if carries(text, v) {
			return true
		}
	}
	switch e := err.(type) { //nolint:errorlint // It walks the tree itself, one error at a time.
	case interface{ Unwrap() error }:
		return errorCarries(e.Unwrap(), v)
	case interface{ Unwrap() []error }:
		for _, sub := range e.Unwrap() {
			if errorCarries(sub, v) {
				return true
			}
		}
	}
	return false
}

// withoutValues gives the facts with every text that contains a value replaced.
func withoutValues(facts map[string]string, v secret.Value) map[string]string {
	if len(facts) == 0 {
		return facts
	}
	clean := make(map[string]string, len(facts))
	for k, s := range facts {
		if carries(s, v) {
			s = withheld
		}
		if !carries(k, v) {
			clean[k] = s
		}
	}
	return clean
}
