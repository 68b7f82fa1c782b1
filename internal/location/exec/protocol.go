package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// version is the number of the protocol.
const version = 1

// request is what the program reads. Members that an operation does not need are left out.
type request struct {
	Protocol    int                `json:"protocol"`
	Op          string             `json:"op"`
	Location    string             `json:"location"`
	ID          string             `json:"id,omitempty"`
	Digest      apikey.Digest      `json:"digest,omitzero"`
	Fingerprint apikey.Fingerprint `json:"fingerprint,omitempty"`
	Expect      *expectation       `json:"expect,omitempty"`
	Receipt     *location.Receipt  `json:"receipt,omitempty"`
	value       secret.Value       // written last, as "value"
}

type expectation struct {
	Checked     bool               `json:"checked"`
	Absent      bool               `json:"absent,omitempty"`
	Revision    string             `json:"revision,omitempty"`
	Digest      apikey.Digest      `json:"digest,omitzero"`
	Fingerprint apikey.Fingerprint `json:"fingerprint,omitempty"`
}

// changes reports whether the operation changes the place or its consumers, so that a lost reply leaves doubt.
func (r request) changes() bool {
	return slices.Contains([]string{"put", "stage", "promote", "unstage", "remove", "reload"}, r.Op)
}

// encode gives the bytes for standard input. The caller clears them.
func (r request) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fault.New(fault.Invalid, "run program: the request cannot be written as JSON")
	}
	if r.value.IsZero() {
		return append(b, '\n'), nil
	}
	r.value.Reveal(func(v []byte) {
		if !utf8.Valid(v) {
			err = fault.New(fault.Invalid, "run program: the value is not text")
			return
		}
		out := make([]byte, 0, len(b)+6*len(v)+16) // room for every escape, so that no copy is left behind
		out = append(append(out, b[:len(b)-1]...), `,"value":"`...)
		for _, c := range v {
			switch {
			case c == '"' || c == '\\':
				out = append(out, '\\', c)
			case c < 0x20:
				out = fmt.Appendf(out, `\u%04x`, c)
			default:
				out = append(out, c)
			}
		}
		b = append(out, "\"}\n"...)
	})
	return b, err
}

// reply is what the program writes. Members that Keywright does not know are ignored.
type reply struct {
	OK *bool `json:"ok"`
	problem

	Holding      *holding         `json:"holding"`
	Receipt      *receipt         `json:"receipt"`
	Confirmation *confirmation    `json:"confirmation"`
	Abilities    []string         `json:"abilities"`
	Problems     []problem        `json:"problems"`
	Value        *json.RawMessage `json:"value"`

	held secret.Value
}

type problem struct {
	Kind       string `json:"kind"`
	Message    string `json:"message"`
	Hint       string `json:"hint"`
	RetryAfter int    `json:"retry_after"` // seconds
}

type holding struct {
	Present     bool               `json:"present"`
	How         location.Knowledge `json:"how"`
	Digest      apikey.Digest      `json:"digest"`
	Fingerprint apikey.Fingerprint `json:"fingerprint"`
	ChangedAt   time.Time          `json:"changed_at"`
	Revision    string             `json:"revision"`
	Facts       map[string]string  `json:"facts"`
	Pending     *struct {
		Digest   apikey.Digest `json:"digest"`
		Revision string        `json:"revision"`
		Ours     bool          `json:"ours"`
	} `json:"pending"`
}

type receipt struct {
	Revision string            `json:"revision"`
	Replaced string            `json:"replaced"`
	At       time.Time         `json:"at"`
	Facts    map[string]string `json:"facts"`
}

type confirmation struct {
	How     location.Knowledge `json:"how"`
	Running int                `json:"running"`
	Taken   int                `json:"taken"`
	Old     int                `json:"old"`
	Unknown int                `json:"unknown"`
	Facts   map[string]string  `json:"facts"`
}

// ask runs the program once.
func (d *driver) ask(ctx context.Context, r request) (reply, error) {
	what := "run program: " + r.Op
	if ctx.Err() != nil {
		return reply{}, fault.In(context.Cause(ctx), what)
	}
	if _, err := child.Resolve(d.cfg.Command, d.env.Dir); err != nil {
		return reply{}, err
	}
	r.Protocol, r.Location = version, d.env.Name
	in, err := r.encode()
	if err != nil {
		return reply{}, err
	}
	defer clear(in)
	res, err := child.Run(ctx, child.Command{Argv: d.cfg.Command, Dir: d.env.Dir, Pass: d.cfg.Environment, Stdin: in, Timeout: d.cfg.Timeout})
	defer clear(res.Stdout)
	lost := fault.Unknown // what a reply that is not understood means
	if r.changes() {
		lost = fault.Indeterminate
	}
	switch {
	case err == nil, res.Code > 0:
	case fault.Is(err, fault.Invalid) && res.Code == -1 && len(res.Stdout) == 0:
		return reply{}, err // it could not be started
	case r.changes():
		return reply{}, fault.Wrap(lost, err, what)
	default:
		return reply{}, fault.In(err, what)
	}
	got, understood := decode(res.Stdout)
	switch {
	case !understood && err != nil:
		return reply{}, fault.Wrap(lost, err, what)
	case !understood:
		return reply{}, fault.New(lost, what+": its reply is not understood", fault.Hint("it must write one JSON object to standard output, with `ok`; its output is not shown because it may hold a value"))
	case !*got.OK:
		return reply{}, got.problem.error(what, r.value)
	case err != nil:
		return reply{}, fault.Wrap(lost, err, what+": it replied with success and then ended with an error")
	}
	return got, nil
}

// decode reads one JSON object and nothing behind it.
func decode(out []byte) (reply, bool) {
	var r reply
	if !utf8.Valid(out) || json.Unmarshal(out, &r) != nil || r.OK == nil {
		return reply{}, false
	}
	if r.Value != nil {
		raw := *r.Value
		defer clear(raw)
		r.Value = nil
		var s string
		if err := json.Unmarshal(raw, &s); err != nil || strings.ContainsRune(s, utf8.RuneError) {
			return reply{}, false
		}
		r.held = secret.New([]byte(s))
	}
	return r, true
}

// kinds are the kinds that a program may give. Others are Unknown.
var kinds = []fault.Kind{fault.Invalid, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Conflict, fault.RateLimited, fault.Unavailable, fault.Indeterminate, fault.Unsupported, fault.Corrupt}

// error makes our error of what the program said about a failure. v is the value that it was given.
func (p problem) error(what string, v secret.Value) error {
	kind := fault.ParseKind(strings.NewReplacer("_", " ", "-", " ").Replace(p.Kind))
	if !slices.Contains(kinds, kind) {
		kind = fault.Unknown
	}
	var opts []fault.Option
	if hint := speech(p.Hint, v); hint != "" {
		opts = append(opts, fault.Hint("%s", hint))
	}
	if p.RetryAfter > 0 && p.RetryAfter <= 3600 {
		opts = append(opts, fault.RetryAfter(time.Duration(p.RetryAfter)*time.Second))
	}
	if said := speech(p.Message, v); said != "" {
		what += ": " + said
	} else {
		what += ": it gave no reason"
	}
	return fault.New(kind, what, opts...)
}

const (
	longestSpeech = 300 // characters of a message or a hint
	longestMark   = 200 // bytes of a revision or a fact
	mostFacts     = 16
	longestWord   = 40 // characters; a longer word may be a value in some encoding
)

var longWordRE = regexp.MustCompile(fmt.Sprintf(`[A-Za-z0-9+/=_%%-]{%d,}`, longestWord))

// speech makes a text of the program fit to be shown: one line of bounded length, without long words, and nothing at all when
// it has a part of the value in it.
func speech(s string, v secret.Value) string {
	if partOf(s, v) {
		return "its message is withheld, since it held a part of the value"
	}
	s = longWordRE.ReplaceAllString(s, "[...]")
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
	if r := []rune(s); len(r) > longestSpeech {
		s = string(r[:longestSpeech]) + "..."
	}
	return s
}

// partOf reports whether eight bytes of the value in a row, or the whole of a shorter one, stand in s.
func partOf(s string, v secret.Value) bool {
	found := false
	v.Reveal(func(b []byte) {
		n := min(8, len(b))
		for i := 0; n > 0 && i+n <= len(b) && !found; i++ {
			found = bytes.Contains([]byte(s), b[i:i+n])
		}
	})
	return found
}

// mark gives a revision as the program wrote it, or nothing when it is no short printable text or holds a part of the value.
func mark(s string, v secret.Value) string {
	if len(s) > longestMark || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || partOf(s, v) {
		return ""
	}
	return s
}

func facts(in map[string]string, v secret.Value) map[string]string {
	if len(in) > mostFacts {
		return nil
	}
	out := map[string]string{}
	for k, s := range in {
		if k = mark(k, v); k != "" {
			out[k] = mark(s, v)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (r reply) receipt(v secret.Value) location.Receipt {
	if r.Receipt == nil {
		return location.Receipt{}
	}
	return location.Receipt{Revision: mark(r.Receipt.Revision, v), Replaced: mark(r.Receipt.Replaced, v), At: r.Receipt.At, Facts: facts(r.Receipt.Facts, v)}
}

var fingerprintRE = regexp.MustCompile(`^kf_[0-9a-f]{16}$`)

// holding checks that the program knows what it claims to know.
func (r reply) holding() (location.Holding, error) {
	bad := func(what string) (location.Holding, error) {
		return location.Holding{}, fault.New(fault.Invalid, "run program: inspect: "+what, fault.Hint("read back needs `digest`, label needs `fingerprint`, changed needs `changed_at`"))
	}
	h := r.Holding
	if h == nil {
		return bad("the reply has no `holding`")
	}
	if h.Fingerprint != "" && !fingerprintRE.MatchString(string(h.Fingerprint)) {
		return bad("its fingerprint is none")
	}
	none := secret.Value{}
	out := location.Holding{Present: h.Present, How: h.How, ChangedAt: h.ChangedAt, Revision: mark(h.Revision, none), Facts: facts(h.Facts, none)}
	if out.Revision != h.Revision {
		return bad(fmt.Sprintf("its revision is no printable text of at most %d bytes", longestMark))
	}
	switch h.How {
	case location.ReadBack:
		if h.Present && !h.Digest.Known() {
			return bad("it claims to have read back, without a digest")
		}
		out.Digest, out.Fingerprint = h.Digest, h.Digest.Fingerprint()
	case location.Label:
		if h.Present && h.Fingerprint == "" && !h.Digest.Known() {
			return bad("it claims to have read a label, without a fingerprint")
		}
		out.Fingerprint = h.Fingerprint
		if out.Fingerprint == "" {
			out.Fingerprint = h.Digest.Fingerprint()
		}
	case location.ChangedAt:
		if h.Present && h.ChangedAt.IsZero() {
			return bad("it claims to know the time of the change, without one")
		}
	case location.Nothing:
		out.ChangedAt = time.Time{}
	default:
		return bad("`how` is none of read back, label, changed and unverifiable")
	}
	if !h.Present {
		out.Digest, out.Fingerprint = apikey.Digest{}, ""
	}
	if h.Pending != nil {
		out.Pending = &location.Pending{Digest: h.Pending.Digest, Revision: mark(h.Pending.Revision, none), Ours: h.Pending.Ours}
	}
	return out, nil
}

func (r reply) confirmation() (location.Confirmation, error) {
	c := r.Confirmation
	if c == nil || min(c.Running, c.Taken, c.Old, c.Unknown) < 0 || c.Taken+c.Old+c.Unknown != c.Running || c.Running > 1e6 {
		return location.Confirmation{}, fault.New(fault.Invalid, "run program: confirm: the reply has no `confirmation` whose counts add up", fault.Hint("running = taken + old + unknown"))
	}
	switch c.How {
	case location.ReadBack, location.Label, location.ChangedAt, location.Nothing:
	default:
		return location.Confirmation{}, fault.New(fault.Invalid, "run program: confirm: `how` is none of read back, label, changed and unverifiable")
	}
	return location.Confirmation{How: c.How, Running: c.Running, Taken: c.Taken, Old: c.Old, Unknown: c.Unknown, Facts: facts(c.Facts, secret.Value{})}, nil
}
