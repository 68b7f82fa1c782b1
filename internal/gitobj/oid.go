// Package gitobj reads the objects and refs of a git repository from disk: loose objects, packs, alternates, bundles, refs,
// reflogs, grafts. It never runs git, never writes, never follows a pointer out of the given path unless told to, and honours
// nothing that a repository's configuration asks for. What it cannot read is counted and named. Called by scan and its folders.
package gitobj

import (
	"encoding/hex"
	"strings"
)

// Format is a repository's hash: SHA1 or SHA256. The zero Format is SHA1.
type Format uint8

// The formats.
const (
	SHA1 Format = iota
	SHA256
)

// Size gives the number of bytes of an object's name.
func (f Format) Size() int {
	if f == SHA256 {
		return 32
	}
	return 20
}

// String gives git's name for the format.
func (f Format) String() string {
	if f == SHA256 {
		return "sha256"
	}
	return "sha1"
}

// OID is the name of an object. It is comparable; the zero OID names nothing.
type OID struct {
	sum [32]byte
	n   uint8
}

// MakeOID makes a name from its raw bytes, of which there are 20 or 32; any other number gives the zero OID.
func MakeOID(raw []byte) OID {
	var o OID
	if len(raw) == 20 || len(raw) == 32 {
		o.n = uint8(copy(o.sum[:], raw)) //nolint:gosec // 20 or 32
	}
	return o
}

// ParseOID makes a name from 40 or 64 hex digits.
func ParseOID(s string) (OID, bool) {
	var raw [32]byte
	if len(s) != 40 && len(s) != 64 {
		return OID{}, false
	}
	n, err := hex.Decode(raw[:], []byte(s))
	if err != nil {
		return OID{}, false
	}
	return MakeOID(raw[:n]), true
}

// Bytes gives the raw name.
func (o *OID) Bytes() []byte { return o.sum[:o.n] }

// String gives the name in hex; of the zero OID the empty string.
func (o OID) String() string { return hex.EncodeToString(o.sum[:o.n]) }

// IsZero reports whether o names nothing: the zero OID, or git's name of zeros.
func (o OID) IsZero() bool { return o.sum == [32]byte{} }

// Compare orders names by their bytes.
func (o OID) Compare(p OID) int { return strings.Compare(string(o.sum[:o.n]), string(p.sum[:p.n])) }

// Type is the type of an object, with the number that packs use.
type Type uint8

// The types. The zero Type is unknown.
const (
	Commit Type = 1
	Tree   Type = 2
	Blob   Type = 3
	Tag    Type = 4

	ofsDelta = 6
	refDelta = 7
)

var typeNames = [...]string{"unknown", "commit", "tree", "blob", "tag"}

// String gives git's name for the type.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return typeNames[0]
}

// ParseType is the inverse of String; it gives zero for anything else.
func ParseType(s string) Type {
	for i, n := range typeNames {
		if i > 0 && n == s {
			return Type(i)
		}
	}
	return 0
}
