package secret

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/keywright/keywright/internal/fault"
)

// Sort is what a value claims to be by its prefix. The prefixes are observed, not published, except where the provider's
// documentation names them; no checksum is published.
type Sort string

// The sorts of credential of the provider's family.
const (
	SortAPIKey       Sort = "API key"
	SortAdminKey     Sort = "admin key"
	SortScopedKey    Sort = "scoped key"
	SortAccessToken  Sort = "OAuth access token"
	SortRefreshToken Sort = "OAuth refresh token"
	SortSession      Sort = "session key"
	SortNear         Sort = "key of an unfamiliar sort"
	SortForeign      Sort = "something else"
)

const (
	family       = "sk-ant-"
	apiPrefix    = family + "api03-"
	bodyLength   = 95 // 93 characters and "AA"
	maxKeyLength = 512
)

var prefixes = []struct {
	prefix string
	sort   Sort
}{
	{apiPrefix, SortAPIKey},
	{family + "admin01-", SortAdminKey},
	{family + "api01-", SortScopedKey},
	{family + "oat01-", SortAccessToken},
	{family + "ort01-", SortRefreshToken},
	{family + "sid01-", SortSession},
	{family + "sid02-", SortSession},
}

// Format is the verdict on the shape of a value. It holds no part of the value but known prefixes.
type Format struct {
	Sort Sort
	// Warnings are oddities that do not forbid use, since lengths and prefixes may change.
	Warnings []string
}

// CheckAPIKey says whether v has the shape of an API key that can fill a slot. The error, of kind Invalid, names the first
// problem with its offset, counted in bytes from 0, and never quotes the value.
func CheckAPIKey(v Value) (Format, error) {
	var f Format
	var err error
	v.Reveal(func(b []byte) { f, err = check(string(b)) })
	return f, err
}

func check(s string) (Format, error) {
	bad := func(what, hint string) (Format, error) {
		return Format{Sort: sortOf(strings.TrimSpace(s))}, fault.New(fault.Invalid, "check key format: "+what, fault.Hint("%s", hint))
	}
	if s == "" {
		return bad("it is empty", "paste the key from the Console page that showed it")
	}
	for i := 0; i < len(s); i++ {
		if what := stray(s[i]); what != "" {
			where := "inside"
			switch {
			case strings.TrimLeft(s[:i], " \t\r\n\"'`") == "":
				where = "before the key"
			case strings.TrimRight(s[i:], " \t\r\n\"'`,;") == "":
				where = "after the key"
			}
			return bad(fmt.Sprintf("%s at offset %d (%s)", what, i, where), "copy the key alone, without quotes, blanks or line ends")
		}
	}
	f := Format{Sort: sortOf(s)}
	prefix := apiPrefix
	switch f.Sort {
	case SortAPIKey:
	case SortNear:
		rest := s[len(family):]
		if strings.HasPrefix(rest, "api02-") || strings.HasPrefix(rest, "api00-") {
			return bad("the prefix belongs to a retired sort of key", "make a new key in the Console; it starts with "+apiPrefix)
		}
		if strings.HasPrefix(apiPrefix, s) {
			return bad(fmt.Sprintf("%d characters, and a key has %d: it was cut short", len(s), len(apiPrefix)+bodyLength), "copy the whole key")
		}
		if prefix = nearPrefix.FindString(s); prefix == "" {
			return bad("it is a key of an unfamiliar sort", "an API key starts with "+apiPrefix)
		}
		f.Warnings = append(f.Warnings, "the prefix is newer than this version of Keywright knows")
	case SortAdminKey:
		return bad("it is an admin key, which must never be deployed", "hand in an API key (it starts with "+apiPrefix+"); the admin key belongs into provider.admin_key, by reference")
	case SortForeign:
		if strings.HasPrefix(s, "sk-") {
			return bad("it is a key of another provider", "an API key of this provider starts with "+apiPrefix)
		}
		return bad("it does not start with "+apiPrefix, "copy the whole key from the Console page that showed it")
	default:
		return bad("it is of the wrong sort: "+string(f.Sort), "hand in an API key; it starts with "+apiPrefix)
	}
	if n := strings.Count(s, family); n > 1 {
		return bad(fmt.Sprintf("it holds %d keys in a row", n), "copy one key alone")
	}
	body := s[len(prefix):]
	switch {
	case len(body) < 40:
		return bad(fmt.Sprintf("%d characters, and a key has %d: it was cut short", len(s), len(prefix)+bodyLength), "copy the whole key")
	case len(s) > maxKeyLength:
		return bad(fmt.Sprintf("%d characters: more than one key, or no key", len(s)), "copy one key alone")
	case len(body) != bodyLength:
		f.Warnings = append(f.Warnings, fmt.Sprintf("%d characters instead of the usual %d", len(s), len(prefix)+bodyLength))
	case !strings.HasSuffix(body, "AA"):
		f.Warnings = append(f.Warnings, "the last two characters are unusual")
	}
	return f, nil
}

// nearPrefix is the form that a later prefix of API keys is expected to have.
var nearPrefix = regexp.MustCompile("^" + family + `api[0-9]{2,4}-`)

func sortOf(s string) Sort {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p.prefix) {
			return p.sort
		}
	}
	if strings.HasPrefix(s, family) {
		return SortNear
	}
	return SortForeign
}

// stray names a byte that no key contains, or gives the empty string for one that may.
func stray(c byte) string {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		return ""
	case c == '\n':
		return "a line feed"
	case c == '\r':
		return "a carriage return"
	case c == '\t':
		return "a tab"
	case c == ' ':
		return "a blank"
	case c == '"', c == '\'', c == '`':
		return "a quote"
	case c == 0:
		return "a zero byte"
	case c < 0x20 || c == 0x7f:
		return "a control character"
	case c >= 0x80:
		return "a character outside ASCII"
	default:
		return "a character that no key contains"
	}
}
