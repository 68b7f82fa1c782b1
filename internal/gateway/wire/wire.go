// Package wire reads and writes the little of the provider's formats that a proxy must know: where an event of a stream ends and what kind it is, what a
// message cost, and the form of an error.
//
// It works on bytes that it is given, keeps none of them, and never calls anything. The gateway calls it for each answer.
package wire

import (
	"bytes"
	"strconv"
)

// Kind is what an event of a stream means to the gateway. Everything else passes as it is.
type Kind uint8

// The kinds of events.
const (
	EventOther   Kind = iota
	EventStart        // message_start
	EventContent      // content_block_delta
	EventDelta        // message_delta, with the usage so far
	EventStop         // message_stop
	EventError        // error
)

// EventEnd gives the length of the first whole event in b, its blank line included, or 0. from is where a former search ended. Lines end
// with LF, CRLF or CR, as the format says.
func EventEnd(b []byte, from int) int {
	for i := max(from-3, 0); i < len(b); i++ {
		j := bytes.IndexAny(b[i:], "\r\n")
		if j < 0 {
			return 0
		}
		i += j
		next := i + 1
		if b[i] == '\r' {
			if next == len(b) {
				return 0 // an LF may follow
			}
			if b[next] == '\n' {
				next++
			}
		}
		if next == len(b) {
			return 0
		}
		switch b[next] {
		case '\n':
			return next + 1
		case '\r':
			if next+1 == len(b) {
				return 0
			}
			if b[next+1] == '\n' {
				return next + 2
			}
			return next + 1
		}
		i = next - 1
	}
	return 0
}

// KindOf reads the name of an event.
func KindOf(e []byte) Kind {
	switch string(Field(e, "event")) {
	case "message_start":
		return EventStart
	case "content_block_delta":
		return EventContent
	case "message_delta":
		return EventDelta
	case "message_stop":
		return EventStop
	case "error":
		return EventError
	}
	return EventOther
}

// Field gives the value of the first line of that name in an event. The result lies within e.
func Field(e []byte, name string) []byte {
	for len(e) > 0 {
		line := e
		if i := bytes.IndexAny(e, "\r\n"); i >= 0 {
			line, e = e[:i], e[i+1:]
		} else {
			e = nil
		}
		if len(line) > len(name) && line[len(name)] == ':' && string(line[:len(name)]) == name {
			return bytes.TrimPrefix(line[len(name)+1:], []byte(" "))
		}
	}
	return nil
}

// Usage is what a message cost in tokens, as the provider counts it.
type Usage struct{ Input, Output, CacheRead, CacheWrite int64 }

// Read takes the numbers out of the last usage object in b, where there is one. Quotes inside of texts are escaped, so the name
// stands for a real member. Numbers that are missing stay as they were.
func (u *Usage) Read(b []byte) bool {
	i := bytes.LastIndex(b, []byte(`"usage"`))
	if i < 0 {
		return false
	}
	b = b[i:]
	number(b, `"input_tokens"`, &u.Input)
	number(b, `"output_tokens"`, &u.Output)
	number(b, `"cache_read_input_tokens"`, &u.CacheRead)
	number(b, `"cache_creation_input_tokens"`, &u.CacheWrite)
	return true
}

func number(b []byte, name string, into *int64) {
	i := bytes.Index(b, []byte(name))
	if i < 0 {
		return
	}
	b = bytes.TrimLeft(b[i+len(name):], ": \t")
	end := 0
	for end < len(b) && end < 18 && b[end] >= '0' && b[end] <= '9' {
		end++
	}
	if n, err := strconv.ParseInt(string(b[:end]), 10, 64); err == nil {
		*into = n
	}
}

// ErrorJSON gives an error in the provider's form; requestID may be empty. Texts are constant or plain words, so quoting is enough.
func ErrorJSON(errorType, message, requestID string) []byte {
	b := append([]byte(`{"type":"error","error":{"type":`), strconv.Quote(errorType)...)
	b = append(b, `,"message":`...)
	b = strconv.AppendQuoteToASCII(b, message)
	b = append(b, '}')
	if requestID != "" {
		b = append(b, `,"request_id":`...)
		b = strconv.AppendQuoteToASCII(b, requestID)
	}
	return append(b, '}')
}

// ErrorEvent is ErrorJSON as an event of a stream.
func ErrorEvent(errorType, message string) []byte {
	b := append([]byte("event: error\ndata: "), ErrorJSON(errorType, message, "")...)
	return append(b, "\n\n"...)
}
