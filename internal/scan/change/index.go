package change

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gitobj"
)

// maxIndex is the largest index that is read.
const maxIndex = 1 << 30

// entry is one path of the index.
type entry struct {
	path string
	mode gitobj.Mode
	oid  gitobj.OID
}

// index is what git's index says: the staged paths in order, and which trees are known to be unchanged.
type index struct {
	entries []entry
	trees   *cached
}

// cached is a node of the index's tree cache. A zero oid means that something below has changed.
type cached struct {
	oid      gitobj.OID
	children map[string]*cached
}

func (c *cached) child(name string) *cached {
	if c == nil {
		return nil
	}
	return c.children[name]
}

var errIndex = errors.New("the index is corrupt")

// readIndex reads an index of version 2, 3 or 4. A missing file is an empty index. Kinds: Corrupt, Unsupported (a split index, or a later
// version), Unavailable.
func readIndex(path string, format gitobj.Format) (*index, error) {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return &index{}, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read index")
	}
	if !st.Mode().IsRegular() || st.Size() > maxIndex {
		return nil, fault.New(fault.Unsupported, "read index: it is no regular file, or too large")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read index")
	}
	return parseIndex(b, format.Size())
}

func parseIndex(b []byte, width int) (*index, error) {
	corrupt := fault.Wrap(fault.Corrupt, errIndex, "read index")
	if len(b) < 12+width || string(b[:4]) != "DIRC" {
		return nil, corrupt
	}
	version, n := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	if version < 2 || version > 4 {
		return nil, fault.New(fault.Unsupported, "read index: version "+strconv.Itoa(int(version))+" is not known")
	}
	fixed := 40 + width + 2
	body := b[12 : len(b)-width] // the checksum at the end may be left out by git and is not looked at
	if int64(n)*int64(fixed) > int64(len(body)) {
		return nil, corrupt
	}
	x := &index{entries: make([]entry, 0, n)}
	previous := ""
	for range n {
		if len(body) < fixed {
			return nil, corrupt
		}
		e := entry{mode: gitobj.Mode(binary.BigEndian.Uint32(body[24:])), oid: gitobj.MakeOID(body[40 : 40+width])}
		flags := binary.BigEndian.Uint16(body[40+width:])
		at := fixed
		if version >= 3 && flags&0x4000 != 0 {
			at += 2
		}
		if at > len(body) {
			return nil, corrupt
		}
		kept := 0
		if version == 4 {
			drop, size := offset(body[at:])
			if size == 0 || drop > len(previous) {
				return nil, corrupt
			}
			at += size
			kept = len(previous) - drop
		}
		end := bytes.IndexByte(body[at:], 0)
		if end < 0 {
			return nil, corrupt
		}
		e.path = previous[:kept] + string(body[at:at+end])
		at += end + 1
		if version < 4 {
			at = (at - 1 + 8) &^ 7
		}
		if at > len(body) {
			return nil, corrupt
		}
		previous, body = e.path, body[at:]
		x.entries = append(x.entries, e)
	}
	if err := x.extensions(body, width); err != nil {
		return nil, err
	}
	for _, e := range x.entries {
		if e.path == "" { // those of a split index may be
			return nil, corrupt
		}
	}
	return x, nil
}

// offset reads a number as packs write those of offset deltas, and gives its size in bytes, 0 when it is malformed.
func offset(b []byte) (n, size int) {
	for i, c := range b {
		if i > 4 {
			return 0, 0
		}
		n = n<<7 | int(c&0x7f)
		if c&0x80 == 0 {
			return n, i + 1
		}
		n++
	}
	return 0, 0
}

func (x *index) extensions(b []byte, width int) error {
	for len(b) >= 8 {
		name, size := string(b[:4]), int64(binary.BigEndian.Uint32(b[4:]))
		if size > int64(len(b)-8) {
			return fault.Wrap(fault.Corrupt, errIndex, "read index")
		}
		data := b[8 : 8+size]
		b = b[8+size:]
		switch {
		case name == "TREE":
			// Only a saving: what is wrong with it is as good as none.
			if c, _, ok := cacheTree(data, width, 0); ok {
				x.trees = c
			}
		case name == "sdir":
			// Entries may be directories; staged handles them.
		case name[0] >= 'a' && name[0] <= 'z':
			return fault.New(fault.Unsupported, "read index: it is split over several files", fault.Hint("git update-index --no-split-index"))
		}
	}
	return nil
}

// cacheTree reads one node and those below it.
func cacheTree(b []byte, width, depth int) (c *cached, rest []byte, ok bool) {
	end := bytes.IndexByte(b, 0)
	line := bytes.IndexByte(b, '\n')
	if end < 0 || line < end || depth > 1000 {
		return nil, nil, false
	}
	counts := bytes.Fields(b[end+1 : line])
	if len(counts) != 2 {
		return nil, nil, false
	}
	entries, err1 := strconv.Atoi(string(counts[0]))
	children, err2 := strconv.Atoi(string(counts[1]))
	if err1 != nil || err2 != nil || children < 0 {
		return nil, nil, false
	}
	b = b[line+1:]
	c = &cached{}
	if entries >= 0 {
		if len(b) < width {
			return nil, nil, false
		}
		c.oid, b = gitobj.MakeOID(b[:width]), b[width:]
	}
	for range children {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return nil, nil, false
		}
		name := string(b[:i])
		var below *cached
		if below, b, ok = cacheTree(b, width, depth+1); !ok {
			return nil, nil, false
		}
		if c.children == nil {
			c.children = map[string]*cached{}
		}
		c.children[name] = below
	}
	return c, b, true
}
