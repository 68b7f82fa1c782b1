package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What the imitation does with a stream. A plan is one of these words, how many events or pieces of text go before it happens, and the type of the
// error, as "early-error 2 api_error".
const (
	earlyError  = "early-error"  // an error event before content, in the first attempt
	alwaysError = "always-error" // the same in every attempt
	earlyCut    = "early-cut"    // the connection breaks before content, in the first attempt
	lateError   = "late-error"   // an error event after content
	lateCut     = "late-cut"     // the connection breaks after content
	lateHalf    = "late-half"    // the connection breaks inside of an event
	lateEnd     = "late-end"     // the answer ends as if it were whole, without its last events
)

// preamble is how many events of a script stand before its content.
const preamble = 3

// stage answers streams as their plans say. It is safe for concurrent use.
type stage struct {
	deltas   int
	pause    func() time.Duration // between two events
	attempts sync.Map             // id of a request -> *atomic.Int64
	streams  atomic.Int64
}

func (s *stage) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	id := "msg_" + strconv.FormatInt(s.streams.Add(1), 36)
	if !streams(body) {
		if s.pause != nil && !wait(r.Context(), s.pause()) {
			return
		}
		giveMessage(w, id)
		return
	}
	attempt := int64(1)
	if request := r.Header.Get(idHeader); request != "" {
		n, _ := s.attempts.LoadOrStore(request, new(atomic.Int64))
		attempt = n.(*atomic.Int64).Add(1)
	}
	var plan, errorType string
	at := 0
	_, _ = fmt.Sscan(r.Header.Get(planHeader), &plan, &at, &errorType) // a plan without an error has two words
	if attempt > 1 && (plan == earlyError || plan == earlyCut) {
		plan = ""
	}
	w.Header().Set("Content-Type", "text/event-stream")
	line := http.NewResponseController(w)
	events := script(id, s.deltas)
	if strings.HasPrefix(plan, "late-") {
		at += preamble
	}
	for i, e := range events {
		if plan != "" && i == at {
			if plan == earlyCut && i == 0 {
				panic(http.ErrAbortHandler) // not even a head
			}
			s.act(w, plan, errorType, e)
			_ = line.Flush() // a connection that is cut takes what is buffered with it
			if plan == earlyCut || plan == lateCut || plan == lateHalf {
				panic(http.ErrAbortHandler)
			}
			return
		}
		if _, err := io.WriteString(w, e); err != nil {
			return
		}
		if s.pause == nil && i != preamble {
			continue
		}
		_ = line.Flush()
		if s.pause != nil && !wait(r.Context(), s.pause()) {
			return
		}
	}
}

func (s *stage) act(w io.Writer, plan, errorType, e string) {
	switch plan {
	case earlyError, alwaysError, lateError:
		fmt.Fprintf(w, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":%q,\"message\":\"no further\"}}\n\n", errorType)
	case lateHalf:
		_, _ = io.WriteString(w, e[:len(e)/2]) // the connection ends next
	}
}

// giveMessage writes an answer of about one kilobyte.
func giveMessage(w http.ResponseWriter, id string) {
	text := message(id)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = io.WriteString(w, text) // who has gone does not read it
}

// How a stream ended for who read it.
const (
	endedWhole   = "whole"
	endedTold    = "with an error event after content"
	endedEarly   = "with an error event before content"
	endedShort   = "silently short"
	endedSpliced = "with events that are not of one message in its order"
)

// ending judges the text of a stream whose connection ended as it should: but for an error event at its end, it must be what the imitation
// wrote for one message, from its beginning, in whole events.
func ending(text string, deltas int) string {
	rest, told := cutError(text)
	events := script(idIn(rest), deltas)
	full := strings.Join(events, "")
	switch {
	case !strings.HasPrefix(full, rest):
		return endedSpliced
	case told && len(rest) <= len(strings.Join(events[:preamble], "")):
		return endedEarly
	case told && len(rest) == len(full):
		return endedSpliced // a message that has ended has no error
	case told && !strings.HasSuffix(rest, "\n\n"):
		return endedSpliced
	case told:
		return endedTold
	case len(rest) == len(full):
		return endedWhole
	}
	return endedShort
}

// cutError takes an error event of the provider's form off the end of a stream.
func cutError(text string) (rest string, found bool) {
	const begin = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\""
	i := strings.LastIndex(text, begin)
	if i < 0 || i > 0 && !strings.HasSuffix(text[:i], "\n\n") || !strings.HasSuffix(text, "}\n\n") || strings.Count(text[i:], "\n") != 3 {
		return text, false
	}
	return text[:i], true
}

// idIn gives the id of the message that a stream begins with.
func idIn(text string) string {
	_, rest, _ := strings.Cut(text, `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}
