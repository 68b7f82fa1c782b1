// Package fault gives every error in Keywright a kind that programs act on, a hint that people act on, and
// nothing else. It never holds a value, a foreign reply body or a stack; it does no I/O. Every package uses it.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind says what an error means for the program that receives it. The zero Kind is Unknown.
type Kind uint8

// The kinds. Decisions (retry, exit code, rollback) are made from these alone, never from message text.
const (
	// Unknown is an error that nobody classified: a defect in Keywright, or the world in an unforeseen state.
	Unknown Kind = iota
	// Invalid means that the input or configuration cannot be used as it is.
	Invalid
	// Unauthenticated means that the other side refused the credential that Keywright presented.
	Unauthenticated
	// Forbidden means that the credential was accepted and lacks a right.
	Forbidden
	// NotFound means that the named thing does not exist.
	NotFound
	// Conflict means that the thing is not in the state the caller expected: a foreign change, or drift.
	Conflict
	// RateLimited means that the other side asks for patience; RetryAfter may say how much.
	RateLimited
	// Unavailable means that the other side could not be reached or failed; nothing was applied.
	Unavailable
	// Indeterminate means that a change was sent and its reply lost: it may or may not have been applied.
	Indeterminate
	// Unsupported means that the place or provider cannot do what was asked, now or ever.
	Unsupported
	// Corrupt means that stored data failed its own check.
	Corrupt
	// Canceled means that the caller, or a person, asked to stop.
	Canceled
	// Findings means that the work was done and a person is wanted.
	Findings
	// Incomplete means that the work was done only in part, and which part was said.
	Incomplete
)

var kindNames = [...]string{"unknown", "invalid", "unauthenticated", "forbidden", "not found", "conflict", "rate limited", "unavailable", "indeterminate", "unsupported", "corrupt", "canceled", "findings", "incomplete"}

// String gives the kind's name in lower case, as it stands in the journal and in JSON.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Unknown]
}

// ParseKind is the inverse of String. An unfamiliar name gives Unknown, so that a newer journal can be read.
func ParseKind(s string) Kind {
	for i, n := range kindNames {
		if n == s {
			return Kind(i)
		}
	}
	return Unknown
}

// Error is an error with a kind. Make one with New or Wrap; read it with KindOf, HintOf and RetryAfterOf.
// It is immutable and safe for concurrent use.
type Error struct {
	kind       Kind
	message    string
	hint       string
	retryAfter time.Duration
	cause      error
}

// Option adds a detail to an error under construction.
type Option func(*Error)

// Hint says what a person should do next: it names a command, a permission or a page.
func Hint(format string, args ...any) Option {
	return func(e *Error) { e.hint = fmt.Sprintf(format, args...) }
}

// RetryAfter carries the other side's wish to be left alone for d.
func RetryAfter(d time.Duration) Option {
	return func(e *Error) { e.retryAfter = d }
}

// New makes an error: message is `verb object`, lower case, without a full stop.
func New(kind Kind, message string, opts ...Option) error {
	e := &Error{kind: kind, message: message}
	for _, o := range opts {
		o(e)
	}
	return e
}

// Newf is New with a formatted message and no options.
func Newf(kind Kind, format string, args ...any) error {
	return &Error{kind: kind, message: fmt.Sprintf(format, args...)}
}

// Wrap puts a message in front of cause and gives the whole the kind. A nil cause gives nil.
func Wrap(kind Kind, cause error, message string, opts ...Option) error {
	if cause == nil {
		return nil
	}
	e := &Error{kind: kind, message: message, cause: cause}
	for _, o := range opts {
		o(e)
	}
	return e
}

// In puts a message in front of cause and keeps its kind, hint and retry-after. A nil cause gives nil.
func In(cause error, message string, opts ...Option) error {
	return Wrap(KindOf(cause), cause, message, opts...)
}

// Error gives the one-line text: message, and the cause behind a colon. The hint is not part of it.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.message
	}
	return e.message + ": " + e.cause.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// KindOf gives the kind of the outermost classified error in err's chain. Context errors are Canceled
// (context.Canceled) and Unavailable (context.DeadlineExceeded); a nil or unclassified error is Unknown.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.kind
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return Unknown
}

// Is reports whether err is classified as kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// HintOf gives the outermost hint in err's chain, or the empty string.
func HintOf(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.hint != "" {
			return e.hint
		}
		err = e.cause
	}
	return ""
}

// RetryAfterOf gives the outermost non-zero retry-after in err's chain, or zero.
func RetryAfterOf(err error) time.Duration {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return 0
		}
		if e.retryAfter > 0 {
			return e.retryAfter
		}
		err = e.cause
	}
	return 0
}

// Exit codes are an interface; docs/exit-codes.md lists them.
const (
	ExitFine          = 0
	ExitInternal      = 1
	ExitUsage         = 2
	ExitRefused       = 3
	ExitNotFound      = 4
	ExitConflict      = 5
	ExitTryLater      = 6
	ExitIndeterminate = 7
	ExitFindings      = 8
	ExitIncomplete    = 9
	ExitInterrupted   = 130
)

// ExitCode maps an error to the exit code of the process. It is the only such mapping. Nil gives ExitFine.
func ExitCode(err error) int {
	if err == nil {
		return ExitFine
	}
	switch KindOf(err) {
	case Invalid, Unsupported:
		return ExitUsage
	case Unauthenticated, Forbidden:
		return ExitRefused
	case NotFound:
		return ExitNotFound
	case Conflict:
		return ExitConflict
	case RateLimited, Unavailable:
		return ExitTryLater
	case Indeterminate:
		return ExitIndeterminate
	case Findings:
		return ExitFindings
	case Incomplete:
		return ExitIncomplete
	case Canceled:
		return ExitInterrupted
	default:
		return ExitInternal
	}
}
