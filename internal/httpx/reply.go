package httpx

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Reply is what came back. Text of the other side is reachable only by Decode, Word, Match and HeaderWord, none of which puts it into an
// error; what a caller takes by Decode it must treat as foreign. The zero Reply means that nothing came.
type Reply struct {
	// Status is the HTTP status, or 0.
	Status int
	// RequestID is the other side's id of the call, from request-id or x-request-id; empty when it is absent, odd or longer than 64
	// characters.
	RequestID string
	// Date is the other side's clock, or zero.
	Date time.Time
	// RetryAfter is how long the other side wants to be left alone, at most 31 days, or zero.
	RetryAfter time.Duration

	header http.Header
	body   []byte
	auth   Auth
	write  bool
}

// String gives status and request id; the body never shows.
func (r Reply) String() string { return fmt.Sprintf("reply %d %s", r.Status, r.RequestID) }

// Format is String, whatever the verb.
func (r Reply) Format(f fmt.State, _ rune) { fmt.Fprint(f, r.String()) }

// LogValue is String, for log/slog.
func (r Reply) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Decode reads the body as one JSON value into the value that into points to. Unknown fields are ignored. The error quotes nothing; it
// is Unavailable, or Indeterminate for a write.
func (r Reply) Decode(into any) error {
	d := json.NewDecoder(bytes.NewReader(r.body))
	if err := d.Decode(into); err != nil {
		return r.unusable("read reply: it is not the expected JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return r.unusable("read reply: there is text behind the JSON")
	}
	return nil
}

// Word gives the string at a dotted path of a JSON object, such as error.type, when it is one of the allowed words, else "".
func (r Reply) Word(path string, allowed ...string) string {
	if s, ok := r.at(path); ok && slices.Contains(allowed, s) {
		return s
	}
	return ""
}

// Match reports whether there is a string at a dotted path and the pattern fits it. The string itself stays inside.
func (r Reply) Match(path string, pattern *regexp.Regexp) bool {
	s, ok := r.at(path)
	return ok && pattern.MatchString(s)
}

// HeaderWord gives a header's value when the pattern fits it and it repeats no part of the value sent, else "".
func (r Reply) HeaderWord(name string, pattern *regexp.Regexp) string {
	s := r.header.Get(name)
	if s == "" || !pattern.MatchString(s) || r.auth.echoed(s) {
		return ""
	}
	return s
}

func (r Reply) at(path string) (string, bool) {
	raw := json.RawMessage(r.body)
	for name := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return "", false
		}
		raw = object[name]
	}
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// unusable is the error of a reply that came with a good status and says nothing.
func (r Reply) unusable(message string) error {
	if r.write {
		return fault.New(fault.Indeterminate, message, fault.Hint("the change may have been applied: look before it is repeated"))
	}
	return fault.New(fault.Unavailable, message)
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

func requestID(h http.Header, auth Auth) string {
	for _, name := range []string{"request-id", "x-request-id", "x-github-request-id", "x-amzn-requestid"} {
		if id := h.Get(name); id != "" && idPattern.MatchString(id) && !auth.echoed(id) {
			return id
		}
	}
	return ""
}

const maxRetryAfter = 31 * 24 * time.Hour

// retryAfter reads retry-after-ms, then Retry-After as seconds or as a date against the reply's own clock.
func retryAfter(h http.Header, date time.Time, now func() time.Time) time.Duration {
	clip := func(n float64, unit time.Duration) time.Duration {
		d := n * float64(unit)
		switch {
		case math.IsNaN(d) || d <= 0:
			return 0
		case d > float64(maxRetryAfter):
			return maxRetryAfter
		}
		return time.Duration(d)
	}
	if n, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		return clip(n, time.Millisecond)
	}
	raw := h.Get("Retry-After")
	if n, err := strconv.ParseFloat(raw, 64); err == nil {
		return clip(n, time.Second)
	}
	at, err := http.ParseTime(raw)
	if err != nil {
		return 0
	}
	if date.IsZero() {
		date = now()
	}
	return clip(at.Sub(date).Seconds(), time.Second)
}
