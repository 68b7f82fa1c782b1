package identity

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// issuedFile records every token that was issued, a line of JSON each, mode 0600.
const issuedFile = "gateway-issued.jsonl"

// Issuance is the record of a token. It does not hold the token.
type Issuance struct {
	ID      string    `json:"id"`
	App     string    `json:"app"`
	Routes  []string  `json:"routes,omitempty"`
	Models  []string  `json:"models,omitempty"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	UID     int       `json:"uid"` // the user who issued it
	// Revoked is derived from the list of revoked tokens, not part of the record.
	Revoked bool `json:"revoked,omitempty"`
}

// Live reports whether gateways accept the token at t.
func (i Issuance) Live(t time.Time) bool { return !i.Revoked && t.Before(i.Expires) }

// record keeps an issuance before the token is given out.
func (s *Signer) record(c Claims) error {
	line, err := json.Marshal(Issuance{ID: c.ID, App: c.App, Routes: c.Routes, Models: c.Models,
		Issued: time.Unix(c.Issued, 0).UTC(), Expires: time.Unix(c.Expires, 0).UTC(), UID: os.Getuid()})
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "record token")
	}
	return appendLine(filepath.Join(s.dir, issuedFile), string(line))
}

// Issued gives the record of all tokens in the order of their making. damaged counts lines that a crash or an edit made unreadable.
func (s *Signer) Issued() (list []Issuance, damaged int, err error) {
	f, err := os.Open(filepath.Join(s.dir, issuedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fault.Wrap(fault.Forbidden, err, "read record of tokens")
	}
	defer f.Close()
	revoked, err := readRevoked(filepath.Join(s.dir, revokedFile), time.Now())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fault.Wrap(fault.Forbidden, err, "read revoked tokens")
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var i Issuance
		if json.Unmarshal(lines.Bytes(), &i) != nil || i.ID == "" {
			damaged++
			continue
		}
		i.Revoked = revoked[i.ID]
		list = append(list, i)
	}
	return list, damaged, fault.Wrap(fault.Corrupt, lines.Err(), "read record of tokens")
}

// Revoke ends a token by its id: running gateways drop it within a second. Revoking twice does no harm. Kinds: NotFound (no token with this id
// was issued here), Forbidden, Unavailable.
func (s *Signer) Revoke(id string) error {
	list, _, err := s.Issued()
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.ID == id {
			return appendLine(filepath.Join(s.dir, revokedFile), id+" "+strconv.FormatInt(i.Expires.Unix(), 10))
		}
	}
	return fault.New(fault.NotFound, "revoke token: none with this id was issued here", fault.Hint("keywright token list"))
}

// readRevoked gives the ids on the list of revoked tokens that have not expired by themselves at a time; at the zero time, all of them.
func readRevoked(path string, now time.Time) (map[string]bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		id, exp, ok := strings.Cut(lines.Text(), " ")
		if at, err := strconv.ParseInt(exp, 10, 64); ok && err == nil && (now.IsZero() || at > now.Unix()) {
			list[id] = true
		}
	}
	return list, lines.Err()
}

// appendLine adds a line to a private file that several processes append to, and waits for the disk. A line that a crash left without its
// end is ended first.
func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "write "+filepath.Base(path))
	}
	if info, statErr := f.Stat(); statErr == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if n, readErr := f.ReadAt(last, info.Size()-1); n == 1 && (readErr == nil || errors.Is(readErr, io.EOF)) && last[0] != '\n' {
			line = "\n" + line
		}
	}
	// One write of less than a page: lines of two processes do not mix.
	_, err = f.WriteString(line + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fault.Wrap(fault.Unavailable, err, "write "+filepath.Base(path))
	}
	return nil
}
