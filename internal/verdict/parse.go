package verdict

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// MaxBody is how much of an error's body Parse needs at most.
const MaxBody = 64 << 10

// Parse reduces an answer to what a verdict needs. get gives a header by its lower-case or canonical name, or the empty string; body is the
// start of the body of an error. now serves for a retry-after that is a date.
func Parse(status int, get func(name string) string, body []byte, now time.Time) Answer {
	a := Answer{Status: status, RetryAfter: RetryAfter(get, now), NoRetry: get("x-should-retry") == "false"}
	a.Type, a.Code, a.Message, a.Shaped = ParseError(body)
	return a
}

// ParseError reads an error of the provider's form, from a body or from the data of an error event. shaped is false for anything else.
func ParseError(body []byte) (errorType, code, message string, shaped bool) {
	if len(body) > MaxBody || len(body) == 0 || !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return "", "", "", false
	}
	var b struct {
		Type  string `json:"type"`
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
			Details struct {
				Code string `json:"error_code"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &b) != nil || b.Type != "error" || b.Error.Type == "" {
		return "", "", "", false
	}
	return b.Error.Type, b.Error.Details.Code, b.Error.Message, true
}

// RetryAfter reads retry-after-ms, then retry-after, in seconds (whole or not) or as a date. Zero means that there is none, or that it
// makes no sense.
func RetryAfter(get func(name string) string, now time.Time) time.Duration {
	if s := get("retry-after-ms"); s != "" {
		if d := duration(s, time.Millisecond); d > 0 {
			return d
		}
	}
	s := get("retry-after")
	if s == "" {
		return 0
	}
	if d := duration(s, time.Second); d > 0 {
		return d
	}
	// RFC 9110, section 5.6.7: the preferred form of dates.
	at, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", s)
	if err != nil || !at.After(now) {
		return 0
	}
	return at.Sub(now)
}

func duration(s string, unit time.Duration) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0) || math.IsInf(f, 0) {
		return 0
	}
	if f *= float64(unit); f > float64(365*24*time.Hour) {
		return 365 * 24 * time.Hour
	}
	return time.Duration(f)
}
