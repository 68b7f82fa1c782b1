// Package object knows how the provider names what it keeps for its customers: files, batches, skills, containers and conversations. It tells which of
// them an answer names.
//
// It only reads texts: it never calls anything and never decides whose an object is, which the ledger knows. The gateway and its readers of requests
// call it.
package object

// The kinds of objects. A published skill is one that its request says is the provider's own.
const (
	Batch     = "batch"
	File      = "file"
	Skill     = "skill"
	Published = "published skill"
	Container = "container"
	Thread    = "thread"
)

// Name names an object at the provider.
type Name struct {
	Kind string // one of the constants
	ID   string
}

// PlainID reports whether s has the characters of the provider's ids alone: letters, digits, '-', '_', ':', '@' and single dots that do not come
// first, and no more than 128 of them.
func PlainID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == ':', c == '@':
		case c == '.' && i > 0 && s[i-1] != '.':
		default:
			return false
		}
	}
	return true
}
