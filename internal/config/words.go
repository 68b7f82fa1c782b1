package config

import (
	"context"
	"encoding"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

var (
	_ special                  = (*Argv)(nil)
	_ special                  = (*Batch)(nil)
	_ encoding.TextUnmarshaler = (*Store)(nil)
	_ encoding.TextUnmarshaler = (*Window)(nil)
)

// Argv is a program and its arguments. In a file it is a list, or one line that child.Split takes apart.
type Argv []string

func (v *Argv) decode(r *reader, n ast.Node, a at) {
	r.items(n, a, true, func(nodes []ast.Node) {
		var argv []string
		for _, x := range nodes {
			s, ok := r.text(x)
			if !ok {
				r.bad(x, "write a list of words", "%q in %s must be a list of words", lastName(a), a.what)
				return
			}
			argv = append(argv, s)
		}
		if line, isLine := r.text(n); isLine {
			var err error
			if argv, err = child.Split(line); err != nil {
				r.bad(n, "", "%q in %s: a quote or backslash is left open", lastName(a), a.what)
				return
			}
		}
		if len(argv) == 0 || argv[0] == "" || slices.ContainsFunc(argv, func(s string) bool { return strings.ContainsRune(s, 0) }) {
			r.bad(n, "[./program, ARGUMENT]", "%q in %s names no program", lastName(a), a.what)
			return
		}
		*v = argv
	})
}

// Batch says how many places of a wave change at a time. The zero Batch is all at once.
type Batch struct {
	// Size is a number of places; it is 0 when Shares counts.
	Size int
	// Shares are growing percentages of the wave after each batch, the last one 100.
	Shares []int
}

func (b *Batch) decode(r *reader, n ast.Node, a at) {
	bad := func(n ast.Node) {
		r.bad(n, "write a share such as 34%, a number of places, or growing shares such as [10%, 50%, 100%]", "%q in %s is neither a share nor a number", lastName(a), a.what)
	}
	r.items(n, a, true, func(nodes []ast.Node) {
		var words []string
		for _, x := range nodes {
			s, ok := r.text(x)
			if !ok {
				bad(x)
				return
			}
			for w := range strings.SplitSeq(s, "/") {
				words = append(words, strings.TrimSpace(w))
			}
		}
		if len(words) == 1 && !strings.HasSuffix(words[0], "%") {
			size, err := strconv.Atoi(words[0])
			if err != nil || size < 1 {
				bad(n)
				return
			}
			*b = Batch{Size: size}
			return
		}
		var shares []int
		for _, w := range words {
			number, isShare := strings.CutSuffix(w, "%")
			share, err := strconv.Atoi(number)
			switch {
			case !isShare || err != nil || share < 1 || share > 100:
				bad(n)
				return
			case len(shares) > 0 && share <= shares[len(shares)-1]:
				r.bad(n, "such as [10%, 50%, 100%]", "the shares of %q in %s must grow", lastName(a), a.what)
				return
			}
			shares = append(shares, share)
		}
		switch {
		case len(shares) == 0:
			bad(n)
			return
		case len(shares) == 1:
			for step := shares[0]; shares[len(shares)-1] < 100; {
				shares = append(shares, min(100, shares[len(shares)-1]+step))
			}
		case shares[len(shares)-1] != 100:
			r.bad(n, "add 100%", "the last share of %q in %s must be 100%%", lastName(a), a.what)
			return
		}
		*b = Batch{Shares: shares}
	})
}

// Split divides names into batches, in order. A share is rounded down, but a batch has at least one name.
func (b Batch) Split(names []string) [][]string {
	var out [][]string
	switch {
	case len(names) == 0:
	case b.Size > 0:
		for chunk := range slices.Chunk(names, b.Size) {
			out = append(out, slices.Clone(chunk))
		}
	case len(b.Shares) > 0:
		from := 0
		for _, share := range b.Shares {
			to := max(from+1, len(names)*share/100)
			if from < len(names) {
				out = append(out, slices.Clone(names[from:to]))
			}
			from = to
		}
	default:
		out = [][]string{slices.Clone(names)}
	}
	return out
}

// String gives the form that stands in a file; the zero Batch gives "100%".
func (b Batch) String() string {
	if b.Size > 0 {
		return strconv.Itoa(b.Size)
	}
	if len(b.Shares) == 0 {
		return "100%"
	}
	var words []string
	for _, s := range b.Shares {
		words = append(words, strconv.Itoa(s)+"%")
	}
	return strings.Join(words, "/")
}

// Store is the database: the path of an SQLite file, a postgres:// URL without a password, or a reference to a URL. The zero Store
// is the SQLite file keywright.db in the state directory.
type Store string

// UnmarshalText checks the form. It quotes nothing.
func (s *Store) UnmarshalText(b []byte) error {
	t := string(b)
	scheme, _, colon := strings.Cut(t, ":")
	switch {
	case t == "":
		return fault.New(fault.Invalid, "it is empty", fault.Hint("a path, a postgres:// URL or a reference"))
	case colon && slices.Contains([]string{"env", "file", "cmd"}, scheme):
		if _, err := secret.ParseRef(t); err != nil {
			return err
		}
	case colon && (scheme == "postgres" || scheme == "postgresql"):
		u, err := url.Parse(t)
		if err != nil || u.Host == "" && u.Query().Get("host") == "" {
			return fault.New(fault.Invalid, "it is no URL of a database", fault.Hint("postgres://USER@HOST:5432/DATABASE"))
		}
		if _, has := u.User.Password(); has || u.Query().Has("password") {
			return fault.New(fault.Invalid, "the URL holds a password", fault.Hint("leave the password out and use a .pgpass file, or put the URL into an environment variable and write env:NAME"))
		}
	case strings.Contains(t, "://"):
		return fault.New(fault.Invalid, "no such sort of database", fault.Hint("a path, a postgres:// URL or a reference"))
	}
	*s = Store(t)
	return nil
}

// Ref gives the reference behind which the URL stands; ok is false when s is a path or a URL itself.
func (s Store) Ref() (ref secret.Ref, ok bool) {
	scheme, _, colon := strings.Cut(string(s), ":")
	if !colon || !slices.Contains([]string{"env", "file", "cmd"}, scheme) {
		return "", false
	}
	return secret.Ref(s), true
}

// Path gives the path of an SQLite file; ok is false when s is a URL or a reference, or empty.
func (s Store) Path() (path string, ok bool) {
	_, isRef := s.Ref()
	return string(s), s != "" && !isRef && !strings.Contains(string(s), "://")
}

// Resolve gives what package store opens: a path or a URL. A relative path starts at dir, the directory of the configuration; the zero
// Store is a file in state. Kinds are those of secret.Ref.Resolve, and Invalid when a reference leads to no URL of a database.
func (s Store) Resolve(ctx context.Context, dir, state string) (string, error) {
	if s == "" {
		return filepath.Join(state, "keywright.db"), nil
	}
	if p, ok := s.Path(); ok {
		if filepath.IsAbs(p) {
			return p, nil
		}
		return filepath.Join(dir, p), nil
	}
	ref, ok := s.Ref()
	if !ok {
		return string(s), nil
	}
	v, err := ref.Resolve(ctx, dir)
	if err != nil {
		return "", fault.In(err, "find store")
	}
	defer v.Destroy()
	url := v.RevealString()
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return "", fault.Newf(fault.Invalid, "find store: what %s refers to is no postgres:// URL", ref)
	}
	return url, nil
}

var weekdays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// Window is a weekly time in which something may begin: days, from and to in minutes after midnight (To may be 1440), in a time zone. It is
// open from From up to, and not including, To. The zero Window is never open.
type Window struct {
	Days     [7]bool // by time.Weekday
	From, To int
	Zone     *time.Location
}

// UnmarshalText reads DAYS FROM-TO [ZONE], such as "Mon-Thu,Sun 09:00-16:00 Europe/Berlin". DAYS may be daily. Without a zone it
// is UTC.
func (w *Window) UnmarshalText(b []byte) error {
	const form = "write it as: Mon-Thu 09:00-16:00 Europe/Berlin"
	bad := func(what string) error { return fault.New(fault.Invalid, what, fault.Hint(form)) }
	parts := strings.Fields(string(b))
	if len(parts) < 2 || len(parts) > 3 {
		return bad("days, hours and a time zone are wanted")
	}
	out := Window{Zone: time.UTC}
	for span := range strings.SplitSeq(parts[0], ",") {
		if strings.EqualFold(span, "daily") {
			out.Days = [7]bool{true, true, true, true, true, true, true}
			continue
		}
		first, last, isSpan := strings.Cut(span, "-")
		if !isSpan {
			last = first
		}
		from, to := weekday(first), weekday(last)
		if from < 0 || to < 0 {
			return bad("the days are Mon, Tue, Wed, Thu, Fri, Sat, Sun, spans of them, or daily")
		}
		for d := from; ; d = (d + 1) % 7 {
			out.Days[d] = true
			if d == to {
				break
			}
		}
	}
	from, to, ok := strings.Cut(parts[1], "-")
	var errFrom, errTo error
	out.From, errFrom = clock(from)
	out.To, errTo = clock(to)
	switch {
	case !ok || errFrom != nil || errTo != nil:
		return bad("the hours are HH:MM-HH:MM, from 00:00 to 24:00")
	case out.From >= out.To:
		return fault.New(fault.Invalid, "the window is never open, since it ends before it begins", fault.Hint("for a night write two windows, one up to 24:00 and one from 00:00"))
	}
	if len(parts) == 3 {
		zone, err := time.LoadLocation(parts[2])
		if err != nil || strings.EqualFold(parts[2], "local") {
			return fault.New(fault.Invalid, "no such time zone", fault.Hint("a name such as Europe/Berlin or UTC"))
		}
		out.Zone = zone
	}
	*w = out
	return nil
}

func weekday(s string) int {
	return slices.IndexFunc(weekdays, func(d string) bool { return strings.EqualFold(d, s) })
}

func clock(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("parse clock: %w", err)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// MarshalText gives the form that stands in a file.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// String gives the form that stands in a file.
func (w Window) String() string {
	var days []string
	for i := 1; i <= 7; i++ {
		if w.Days[i%7] {
			days = append(days, weekdays[i%7])
		}
	}
	list := strings.Join(days, ",")
	if len(days) == 7 {
		list = "daily"
	}
	for i := 1; i < len(days) && len(days) < 7; i++ { // a single span of more than one day
		if (weekday(days[i-1])+1)%7 != weekday(days[i]) {
			break
		}
		if i == len(days)-1 {
			list = days[0] + "-" + days[i]
		}
	}
	zone := time.UTC
	if w.Zone != nil {
		zone = w.Zone
	}
	return fmt.Sprintf("%s %02d:%02d-%02d:%02d %s", list, w.From/60, w.From%60, w.To/60, w.To%60, zone)
}

// Open reports whether t lies in the window.
func (w Window) Open(t time.Time) bool {
	if w.Zone == nil {
		return false
	}
	t = t.In(w.Zone)
	m := t.Hour()*60 + t.Minute()
	return w.Days[t.Weekday()] && m >= w.From && m < w.To
}

// NextOpen gives the first moment, not before t, in which one of the windows is open: t itself when there are none. The zero time
// means never.
func NextOpen(windows []Window, t time.Time) time.Time {
	if len(windows) == 0 {
		return t
	}
	var first time.Time
	for _, w := range windows {
		if w.Open(t) {
			return t
		}
		if w.Zone == nil {
			continue
		}
		l := t.In(w.Zone)
		for d := range 9 {
			begin := time.Date(l.Year(), l.Month(), l.Day()+d, w.From/60, w.From%60, 0, 0, w.Zone)
			// On the day of a change of clocks the hour may not exist; the moment after it counts if it still lies in the window.
			if !begin.Before(t) && w.Open(begin) {
				if first.IsZero() || begin.Before(first) {
					first = begin
				}
				break
			}
		}
	}
	return first
}
