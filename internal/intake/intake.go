// Package intake takes a key from a person into the inventory: it checks the form of the value, asks the provider what the value
// is worth and where it belongs, finds its record in the provider's list, proves that both belong together, and seals it. It also
// retires and forgets versions outside a rotation. It never writes to a place, never shows, logs or keeps a value in the clear, and decides
// nothing about rotations. cli, api and web call it through app.
package intake

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// Vault seals the values of versions and opens them. Generation counts the values that the version's row held.
type Vault interface {
	Seal(ctx context.Context, id apikey.VersionID, key apikey.Name, v secret.Value) (sealed secret.Sealed, generation int, err error)
	Open(ctx context.Context, id apikey.VersionID) (secret.Value, error)
}

// Intake takes keys in. Store, Vault and Provider must be set. It is safe for concurrent use, also by several processes of one store.
type Intake struct {
	Store    *store.Store
	Vault    Vault
	Provider provider.Provider
	// ProviderURL is where the provider is asked; it is pinned with the slot. Empty means that it is not compared.
	ProviderURL string
	// Signal tells a rotation that a spare was added; nil where nobody listens. It is called after the commit.
	Signal func(ctx context.Context, rotation, actor string) error
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log is for operators; nil means none.
	Log *slog.Logger
	// Patience bounds each wait for the provider to follow a change of status; zero means two minutes.
	Patience time.Duration
	// Fault, when set, is called between the acts of a proof and of a retirement, with the name of the act that was just made; an error stops
	// the call as the end of the process would. Tests of crashes use it.
	Fault func(act string) error
}

// Slot is what is configured for the key that a value is handed in for.
type Slot struct {
	Key         apikey.Name
	Environment apikey.Environment
	// Class holds the intervals that apply to this key, with its own overrides filled in.
	Class apikey.Class
	// House is the organization's short name, the first part of the names that keys get in the Console.
	House string
	// Organization (UUID) and Workspace (wrkspc_…) are pinned by the configuration; empty, and the workspace "default", are
	// pinned by what a person confirms at the first intake.
	Organization string
	Workspace    string
	Purpose      string
	// Locations are the places of the key. They are looked at and never written to.
	Locations []*location.Location
}

// Options answer questions beforehand. The zero Options asks Confirm, and refuses where that is nil.
type Options struct {
	// Spare says that the person wants the key in the pool. It changes what Result.Next proposes and nothing else: every new version
	// enters as a spare.
	Spare bool
	// Actor is who hands the key in.
	Actor   string
	Purpose string // instead of the slot's
	// Created is when the key was made, where the provider's list does not say; zero means not known.
	Created time.Time

	// Confirm asks a person; nil means that nobody is there. It is called by the goroutine of the call. A refusal is Answer.Yes
	// false; an error ends the call as it is.
	Confirm func(ctx context.Context, q Question) (Answer, error)
	// Progress is called with every check as it is settled, and with checks of outcome Doing while the provider is waited for.
	Progress func(Check)

	// Pin confirms that the key belongs to the organization and workspace that the provider names.
	Pin bool
	// ProviderID chooses among several entries of the provider's list.
	ProviderID string
	// Unmatched accepts that no entry of the provider's list belongs to the value.
	Unmatched bool
	// SkipBinding leaves out the proof that id and value belong together.
	SkipBinding bool
	// AcceptExpiry takes a key that expires before its interval ends, though never one that a rotation could not use.
	AcceptExpiry bool
	// AcceptUse retires a version though usage of it is reported, or cannot be known.
	AcceptUse bool
	// AcceptProviderChange pins the slot to another provider URL than before.
	AcceptProviderChange bool
}

// QuestionKind says what is asked.
type QuestionKind string

// The questions. Each has a field of Options that answers it.
const (
	AskPin            QuestionKind = "pin"             // Options.Pin: does the key belong to this organization and workspace?
	AskChoose         QuestionKind = "choose"          // Options.ProviderID: which entry of the list is it?
	AskUnmatched      QuestionKind = "unmatched"       // Options.Unmatched: go on without an entry?
	AskExpiry         QuestionKind = "expiry"          // Options.AcceptExpiry: take a key that expires early?
	AskUse            QuestionKind = "use"             // Options.AcceptUse: retire a key that may be in use?
	AskProviderChange QuestionKind = "provider-change" // Options.AcceptProviderChange: is the provider's address meant to differ?
)

// Flag gives the command line flag that answers the question beforehand.
func (k QuestionKind) Flag() string {
	switch k {
	case AskPin:
		return "--pin"
	case AskChoose:
		return "--id ID"
	case AskUnmatched:
		return "--unmatched"
	case AskExpiry:
		return "--accept-expiry"
	case AskUse:
		return "--accept-use"
	case AskProviderChange:
		return "--accept-provider-change"
	}
	return ""
}

// Question is put to a person. Text is one or two sentences and ends with a question mark.
type Question struct {
	Kind QuestionKind
	Text string
	// Choices are given with AskChoose alone; the answer names the ID of one.
	Choices []Choice
}

// Choice is one possible answer.
type Choice struct {
	ID   string
	Text string
}

// Answer is what the person said.
type Answer struct {
	Yes    bool
	Choice string
}

// Outcome is how a check went.
type Outcome string

// The outcomes. A check that fails is the last of its Result, beside the error.
const (
	OK     Outcome = "ok"
	Warn   Outcome = "warn"
	Failed Outcome = "failed"
	Doing  Outcome = "doing" // only given to Options.Progress
)

// The names of checks, in the order in which they are made.
const (
	CheckFormat    = "format"
	CheckKnown     = "known"
	CheckLive      = "live"
	CheckPlace     = "organization and workspace"
	CheckCount     = "token count"
	CheckMatch     = "provider's list"
	CheckPrincipal = "principal"
	CheckName      = "name"
	CheckExpiry    = "expiry"
	CheckUnused    = "unused"
	CheckBinding   = "binding"
	CheckPlaces    = "places"
	CheckSealed    = "sealed"
	CheckRotation  = "rotation"
	CheckRetired   = "retired"
	CheckForgotten = "forgotten"
)

// Check is one thing that was looked at.
type Check struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text"`
}

// Result is what came of a call, also beside an error: then Version is zero unless it was stored, and the last check failed.
type Result struct {
	Version apikey.Version `json:"version"`
	// Known is true when the version was in the inventory before.
	Known  bool    `json:"known,omitempty"`
	Checks []Check `json:"checks"`
	// Rotation is the rotation that was told of the new version, or empty.
	Rotation string `json:"rotation,omitempty"`
	// Next is the command that follows, or empty.
	Next string `json:"next,omitempty"`
}

// Add reads one value from r and takes it into the inventory as a spare of the slot. A spare that is known already is no error. r is read
// to its end; see Read.
//
// Kinds: Invalid (the form, a personal key for production, an expiry), Conflict (the value is known elsewhere, belongs elsewhere, or a
// question was answered with no), Unauthenticated (the provider refuses it), Forbidden, RateLimited, Unavailable (nothing can be said
// now), Findings (a question, and nobody to ask), Canceled, and those of the store, the vault and the provider.
func (i *Intake) Add(ctx context.Context, r io.Reader, slot Slot, o Options) (Result, error) {
	h := i.hand(slot, o)
	v, err := Read(r)
	if err != nil {
		return h.end(CheckFormat, err)
	}
	defer v.Destroy()
	h.value = v
	return h.end(h.add(ctx))
}

// Source says where Adopt gets the value. The zero Source means the readable places of the slot, which must agree.
type Source struct {
	Location *location.Location
	Reader   io.Reader
}

// Adopt takes the value that is already deployed into the inventory as the current version of the slot, and notes for each place of the
// slot that it is meant to hold it. Such a version is never set inactive to prove its id. A spare of the slot that was deployed by hand becomes current.
// Kinds are those of Add; NotFound when no place yields a value; Conflict when places disagree or the key has a current version.
func (i *Intake) Adopt(ctx context.Context, from Source, slot Slot, o Options) (Result, error) {
	h := i.hand(slot, o)
	h.adopting = true
	return h.end(h.adopt(ctx, from))
}

func (i *Intake) now() time.Time {
	if i.Now == nil {
		return time.Now().UTC()
	}
	return i.Now().UTC()
}

func (i *Intake) log() *slog.Logger {
	if i.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return i.Log
}

func (i *Intake) patience() time.Duration {
	if i.Patience <= 0 {
		return 2 * time.Minute
	}
	return i.Patience
}

// identifier makes a random name of 16 hex digits.
func identifier(prefix string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}
