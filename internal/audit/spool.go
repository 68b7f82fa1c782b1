package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"syscall"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

// Spooled is one signed event that was written while the store was down. A spool has an id of its own and numbers its
// entries from 1; each names the SHA-256 of the line before it.
type Spooled struct {
	Event     event.Event `json:"event"`
	KeyID     string      `json:"key"`
	N         int64       `json:"n"`
	Prev      Hash        `json:"prev"` // all zeroes in the first
	Signature []byte      `json:"signature"`
	Spool     string      `json:"spool"` // "sp_" and 16 hex digits
	Store     string      `json:"store"`
}

const domainSpool = "keywright-audit-spool-1\n"

// Names in Event.Fields that mark an event as merged from a spool.
const (
	FieldSpooled   = "spooled"    // SPOOL/NUMBER: merging it twice can be told by this
	FieldSpooledBy = "spooled_by" // id of the key that signed it
)

func (s Spooled) append(b []byte, signed bool) []byte {
	b = appendEvent(append(b, `{"event":`...), s.Event)
	b = appendMember(b, "key", s.KeyID)
	b = fmt.Appendf(b, `,"n":%d`, s.N)
	b = appendMember(b, "prev", s.Prev.String())
	if signed {
		b = appendMember(b, "signature", base64.StdEncoding.EncodeToString(s.Signature))
	}
	b = appendMember(b, "spool", s.Spool)
	b = appendMember(b, "store", s.Store)
	return append(b, '}')
}

// Line gives the canonical JSON of s, without a line end.
func (s Spooled) Line() []byte { return s.append(nil, true) }

// Merged gives the event to Link into the record: the one that was spooled, marked in Fields.
func (s Spooled) Merged() event.Event {
	e := s.Event
	e.Fields = maps.Clone(e.Fields)
	if e.Fields == nil {
		e.Fields = map[string]string{}
	}
	e.Fields[FieldSpooled] = fmt.Sprintf("%s/%d", s.Spool, s.N)
	e.Fields[FieldSpooledBy] = s.KeyID
	return e
}

// Spool is the file that an emergency writes to while the store is down. Delete it after its entries were merged and that
// was committed. It is safe for concurrent use and holds a lock on its file until Close.
type Spool struct {
	mu     sync.Mutex
	f      *os.File
	store  string
	signer *Signer
	last   Spooled
	prev   Hash
}

// OpenSpool opens the spool of the store at path, or makes it with mode 0600. One that holds entries is gone on with, once they
// all verified under the signer's key; what a crash left of a last line is cut off. Kinds: Conflict (another process has
// it open), Corrupt, Forbidden and Unavailable.
func OpenSpool(path, storeID string, signer *Signer) (*Spool, error) {
	if storeID == "" {
		return nil, fault.New(fault.Invalid, "open spool: no store id")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Forbidden, err, "open spool")
	}
	s, err := resume(f, storeID, signer)
	if err != nil {
		return nil, errors.Join(err, closed(f.Close()))
	}
	return s, nil
}

func closed(err error) error { return fault.Wrap(fault.Unavailable, err, "close spool") }

func resume(f *os.File, storeID string, signer *Signer) (*Spool, error) {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fault.New(fault.Conflict, "open spool: another process writes to it", fault.Hint("wait until it is done"))
		}
		return nil, fault.Wrap(fault.Unavailable, err, "open spool")
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "open spool")
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("open spool: %q must be a regular file of mode 0600", f.Name()), fault.Hint("chmod 600 %s", f.Name()))
	}
	entries, whole, err := readSpool(f, storeID, []ed25519.PublicKey{signer.public})
	if err != nil {
		return nil, err
	}
	if whole < info.Size() {
		if err := f.Truncate(whole); err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "open spool")
		}
	}
	s := &Spool{f: f, store: storeID, signer: signer}
	if n := len(entries); n > 0 {
		s.last = entries[n-1]
		s.prev = sha256.Sum256(s.last.Line())
		return s, nil
	}
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read random bytes")
	}
	s.last.Spool = "sp_" + hex.EncodeToString(id)
	return s, nil
}

// Append signs e, writes it and syncs it. Its texts are cleaned as by Link. After an error nothing more can be appended: the
// file may end in a part of a line.
func (s *Spool) Append(e event.Event) (Spooled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return Spooled{}, fault.New(fault.Invalid, "spool audit entry: the spool is closed, or an earlier write did not succeed")
	}
	e, err := normal(e)
	if err != nil {
		return Spooled{}, fault.In(err, "spool audit entry")
	}
	next := Spooled{Event: e, KeyID: s.signer.KeyID(), N: s.last.N + 1, Prev: s.prev, Spool: s.last.Spool, Store: s.store}
	next.Signature = s.signer.sign(next.append([]byte(domainSpool), false))
	line := next.Line()
	if _, err = s.f.Write(append(bytes.Clone(line), '\n')); err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		_ = s.f.Close()
		s.f = nil
		return Spooled{}, fault.Wrap(fault.Unavailable, err, "spool audit entry")
	}
	s.last, s.prev = next, sha256.Sum256(line)
	return next, nil
}

// Close ends the spool and gives its lock up. It may be called twice.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return closed(err)
}

// ReadSpool verifies a spool of the store and gives its entries. What a crash left of a last line is passed over. With an
// error of kind Corrupt, which names the first line that was changed, moved or left out, it gives the entries before that
// line. That entries were cut off at the end cannot be seen.
func ReadSpool(r io.Reader, storeID string, keys []ed25519.PublicKey) ([]Spooled, error) {
	entries, _, err := readSpool(r, storeID, keys)
	return entries, err
}

// readSpool also gives the length of the lines that are whole.
func readSpool(r io.Reader, storeID string, keys []ed25519.PublicKey) (out []Spooled, whole int64, err error) {
	byID := map[string]ed25519.PublicKey{}
	for _, k := range keys {
		byID[KeyID(k)] = k
	}
	in := bufio.NewReaderSize(r, 64<<10)
	var prev Hash
	for n := int64(1); ; n++ {
		line, err := readLine(in)
		if err != nil {
			if _, more := in.Peek(1); errors.Is(err, io.EOF) || fault.Is(err, fault.Corrupt) && more == io.EOF {
				return out, whole, nil
			}
			return out, whole, fault.In(err, fmt.Sprintf("read spool: line %d", n))
		}
		s, what := checkSpooled(line, byID)
		switch {
		case what != "":
		case s.Store != storeID:
			what = "it is of another store"
		case s.N != n || s.Prev != prev || n > 1 && s.Spool != out[0].Spool:
			what = "it does not follow from the one before"
		}
		if what != "" {
			return out, whole, fault.New(fault.Corrupt, fmt.Sprintf("read spool: line %d: %s", n, what), fault.Hint("merge the lines before it and keep the file as evidence"))
		}
		prev = sha256.Sum256(line)
		whole += int64(len(line)) + 1
		out = append(out, s)
	}
}

func checkSpooled(line []byte, keys map[string]ed25519.PublicKey) (s Spooled, what string) {
	if err := decode(line, &s); err != nil || !bytes.Equal(s.Line(), line) {
		return s, "not in canonical form"
	}
	k, ok := keys[s.KeyID]
	if !ok {
		return s, "it was signed by an unknown key"
	}
	if !ed25519.Verify(k, s.append([]byte(domainSpool), false), s.Signature) {
		return s, "it has a wrong signature"
	}
	return s, ""
}
