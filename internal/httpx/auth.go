package httpx

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/keywright/keywright/internal/fault"
)

// Revealer lends secret bytes for the length of a call. secret.Value is one.
type Revealer interface {
	Reveal(use func(b []byte))
}

// Auth says how a secret travels in a request: in which header, and in what form. It holds no bytes; they are asked for when the request
// is about to be sent. The zero Auth sends nothing.
type Auth struct {
	header string
	form   func(b []byte) string
	value  Revealer
}

// Header sends the value as a header of its own, such as x-api-key or PRIVATE-TOKEN.
func Header(name string, v Revealer) Auth {
	return Auth{header: name, form: func(b []byte) string { return string(b) }, value: v}
}

// Bearer sends the value as Authorization: Bearer.
func Bearer(v Revealer) Auth {
	return Auth{header: "Authorization", form: func(b []byte) string { return "Bearer " + string(b) }, value: v}
}

// Basic sends the user name and the value as Authorization: Basic.
func Basic(user string, v Revealer) Auth {
	return Auth{header: "Authorization", value: v, form: func(b []byte) string {
		return "Basic " + base64.StdEncoding.EncodeToString(append([]byte(user+":"), b...))
	}}
}

// String names the header alone.
func (a Auth) String() string {
	if a.header == "" {
		return "no authentication"
	}
	return "authentication by " + a.header
}

// set puts the value into h. The error is of kind Invalid and describes the value without quoting it.
func (a Auth) set(h http.Header) error {
	if a.header == "" {
		return nil
	}
	var err error
	a.value.Reveal(func(b []byte) {
		switch {
		case len(b) == 0:
			err = fault.New(fault.Invalid, "set "+a.header+": there is no value")
		case !visible(b):
			err = fault.New(fault.Invalid, "set "+a.header+": the value has a blank, control or non-ASCII character")
		default:
			h.Set(a.header, a.form(b))
		}
	})
	return err
}

// echo is how many characters of a value in a foreign text make the text unfit to be shown.
const echo = 12

// echoed reports whether text repeats a part of the value.
func (a Auth) echoed(text string) bool {
	if a.header == "" || len(text) < echo {
		return false
	}
	found := false
	a.value.Reveal(func(b []byte) {
		s := string(b)
		for i := 0; i+echo <= len(text) && !found; i++ {
			found = strings.Contains(s, text[i:i+echo])
		}
	})
	return found
}

// visible reports whether b has printable ASCII characters other than the blank, and nothing else.
func visible(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
