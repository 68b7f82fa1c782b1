package gitobj

import (
	"bytes"
	"errors"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Ident is who did something and when, as commits and tags say it. Both are claims.
type Ident struct {
	// Who is "name <address>" as it stands there.
	Who string
	// When keeps the time zone. It is zero when there is no readable time.
	When time.Time
}

// ParseIdent reads "name <address> seconds zone".
func ParseIdent(b []byte) Ident {
	end := bytes.LastIndexByte(b, '>')
	if end < 0 {
		return Ident{Who: string(b)}
	}
	i := Ident{Who: string(b[:end+1])}
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) == 0 {
		return i
	}
	seconds, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || seconds > 1<<40 || seconds < -1<<40 {
		return i
	}
	zone := time.UTC
	if len(fields) > 1 && len(fields[1]) == 5 {
		if n, err := strconv.Atoi(fields[1][1:]); err == nil {
			n = (n/100*60 + n%100) * 60
			if fields[1][0] == '-' {
				n = -n
			}
			if n != 0 {
				zone = time.FixedZone("", n)
			}
		}
	}
	i.When = time.Unix(seconds, 0).In(zone)
	return i
}

// CommitInfo is the header of a commit.
type CommitInfo struct {
	Tree      OID
	Parents   []OID
	Author    Ident
	Committer Ident
	// Message is the text behind the header, shared with the data that was parsed.
	Message []byte
}

var errObject = errors.New("corrupt object")

// ParseCommit reads the data of a commit. It is lenient about all but the names of tree and parents. Kinds: Corrupt.
func ParseCommit(data []byte) (CommitInfo, error) {
	var c CommitInfo
	bad := fault.Wrap(fault.Corrupt, errObject, "read commit")
	rest := data
	for len(rest) > 0 {
		line, next, _ := bytes.Cut(rest, []byte{'\n'})
		if len(line) == 0 {
			rest = next
			break
		}
		rest = next
		word, value, _ := bytes.Cut(line, []byte{' '})
		switch string(word) {
		case "tree", "parent":
			o, ok := ParseOID(string(value))
			if !ok {
				return c, bad
			}
			if word[0] == 't' && c.Tree.n == 0 {
				c.Tree = o
			} else if word[0] == 'p' {
				c.Parents = append(c.Parents, o)
			}
		case "author":
			c.Author = ParseIdent(value)
		case "committer":
			c.Committer = ParseIdent(value)
		}
	}
	if c.Tree.n == 0 {
		return c, bad
	}
	c.Message = rest
	return c, nil
}

// TagInfo is the header of an annotated tag.
type TagInfo struct {
	Object OID
	Type   Type
	Name   string
	Tagger Ident
}

// ParseTag reads the data of an annotated tag. Kinds: Corrupt.
func ParseTag(data []byte) (TagInfo, error) {
	var t TagInfo
	for rest := data; len(rest) > 0; {
		line, next, _ := bytes.Cut(rest, []byte{'\n'})
		if len(line) == 0 {
			break
		}
		rest = next
		word, value, _ := bytes.Cut(line, []byte{' '})
		switch string(word) {
		case "object":
			t.Object, _ = ParseOID(string(value))
		case "type":
			t.Type = ParseType(string(value))
		case "tag":
			t.Name = string(value)
		case "tagger":
			t.Tagger = ParseIdent(value)
		}
	}
	if t.Object.n == 0 || t.Type == 0 {
		return t, fault.Wrap(fault.Corrupt, errObject, "read tag")
	}
	return t, nil
}

// Mode is the mode of an entry of a tree.
type Mode uint32

// IsTree reports an entry that is a directory.
func (m Mode) IsTree() bool { return m&0o170000 == 0o040000 }

// IsModule reports an entry that is the commit of a submodule, which lies in another repository.
func (m Mode) IsModule() bool { return m&0o170000 == 0o160000 }

// IsLink reports a symbolic link, whose blob is the path it leads to.
func (m Mode) IsLink() bool { return m&0o170000 == 0o120000 }

// NextEntry reads the first entry of a tree's data: mode, name and raw name of the object, all shared with data. ok is false at the end
// and where the data is corrupt; rest is empty at the end only.
func NextEntry(data []byte, width int) (mode Mode, name, raw, rest []byte, ok bool) {
	i := 0
	for ; i < len(data) && data[i] != ' '; i++ {
		if c := data[i] - '0'; c < 8 && i < 8 {
			mode = mode<<3 | Mode(c)
		} else {
			return 0, nil, nil, data, false
		}
	}
	if i >= len(data) {
		return 0, nil, nil, data, false
	}
	at := data[i+1:]
	end := bytes.IndexByte(at, 0)
	if end < 0 || len(at) < end+1+width {
		return 0, nil, nil, data, false
	}
	return mode, at[:end], at[end+1 : end+1+width], at[end+1+width:], true
}

// Entries gives the entries of a tree's data: name, and mode with the object's raw name. It stops where the data is corrupt.
func Entries(data []byte, width int) iter.Seq2[[]byte, Entry] {
	return func(yield func([]byte, Entry) bool) {
		for {
			mode, name, raw, rest, ok := NextEntry(data, width)
			if !ok || !yield(name, Entry{mode, raw}) {
				return
			}
			data = rest
		}
	}
}

// Entry is an entry of a tree without its name.
type Entry struct {
	Mode Mode
	Raw  []byte
}
