package consumer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
)

// Bounds of one look at a log, in bytes.
const (
	maxLook = 64 << 20 // of what was added since the last look, the newest
	maxLine = 64 << 10 // of a line, the beginning
)

// logProbe reads what was added to a log file since its last look. The place of the last look is kept in the state directory, so
// that a restarted process goes on from there; without a state directory it is kept in memory. It follows a log that was renamed to
// FILE.1 or emptied. It is safe for concurrent use.
type logProbe struct {
	path   string
	fail   *regexp.Regexp
	within time.Duration
	note   string // path of the note, or empty
	now    func() time.Time

	mu   sync.Mutex
	last *look
}

// look says where the last look ended. It holds nothing of the log.
type look struct {
	At     time.Time `json:"at"`
	Device uint64    `json:"device"`
	Inode  uint64    `json:"inode"`
	Offset int64     `json:"offset"` // of the first line that was not complete
	// Failed is when a matching line was last seen; zero if never.
	Failed time.Time `json:"failed,omitzero"`
}

var _ location.Prober = (*logProbe)(nil)

func newLogProbe(cfg LogConfig, env location.Env) (*logProbe, error) {
	bad := func(what, hint string) error {
		return fault.New(fault.Invalid, "open log: "+what, fault.Hint("%s", hint))
	}
	fail, err := regexp.Compile(cfg.Fail)
	switch {
	case cfg.File == "":
		return nil, bad("no file given", "file: /var/log/app.log")
	case cfg.Fail == "" || err != nil:
		return nil, bad("`fail` is no regular expression", "see https://golang.org/s/re2syntax")
	case cfg.Within < 0:
		return nil, bad("`within` is negative", "leave it out for 10m")
	case cfg.Within == 0:
		cfg.Within = 10 * time.Minute
	}
	p := &logProbe{path: cfg.File, fail: fail, within: cfg.Within, now: env.Now}
	if !filepath.IsAbs(p.path) {
		p.path = filepath.Join(env.Dir, p.path)
	}
	if p.now == nil {
		p.now = time.Now
	}
	if env.StateDir != "" {
		sum := sha256.Sum256([]byte(env.Name + "\x00" + p.path + "\x00" + cfg.Fail))
		p.note = filepath.Join(env.StateDir, "log-probe", hex.EncodeToString(sum[:12])+".json")
	}
	return p, nil
}

// Probe looks at the lines that were added since the last look. The first look, and one after a pause longer than `within`, only
// remembers the end of the file. Unavailable means that a matching line was added within `within`.
func (p *logProbe) Probe(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return fault.In(context.Cause(ctx), "probe log")
	}
	now := p.now()
	before, err := p.recall()
	if err != nil {
		return err
	}
	if before != nil && (now.Sub(before.At) > p.within || now.Before(before.At)) {
		before = nil
	}
	after, err := p.read(ctx, before, now)
	if err != nil {
		return err
	}
	if err := p.remember(after); err != nil {
		return err
	}
	if !after.Failed.IsZero() && now.Sub(after.Failed) <= p.within {
		return fault.New(fault.Unavailable, fmt.Sprintf("probe log: %q has a matching line, seen at %s", p.path, after.Failed.UTC().Format(time.RFC3339)), fault.Hint("look at the file; its lines are not shown because they may hold a value"))
	}
	return nil
}

// read looks at the log and gives where the look ended. A nil before starts at the end.
func (p *logProbe) read(ctx context.Context, before *look, now time.Time) (*look, error) {
	f, id, err := openLog(p.path)
	if errors.Is(err, os.ErrNotExist) {
		if before == nil {
			return nil, fault.New(fault.NotFound, fmt.Sprintf("probe log: there is no file %q", p.path), fault.Hint("name the file that the consumer writes"))
		}
		// Between a rename and the first new line; what the old file got since is read as soon as the new one is there.
		after := *before
		after.At = now
		return &after, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	after := &look{At: now, Device: id.Device, Inode: id.Inode}
	if before == nil {
		after.Offset = id.Offset
		return after, nil
	}
	after.Failed = before.Failed
	from := int64(0)
	matched := false
	switch {
	case id.Device == before.Device && id.Inode == before.Inode:
		if id.Offset >= before.Offset {
			from = before.Offset
		}
	default:
		// Renamed: the rest of the old file counts too, where it can be found.
		if old, oldID, err := openLog(p.path + ".1"); err == nil {
			if oldID.Device == before.Device && oldID.Inode == before.Inode && oldID.Offset >= before.Offset {
				if _, matched, err = p.search(ctx, old, before.Offset, oldID.Offset); err != nil {
					_ = old.Close()
					return nil, err
				}
			}
			_ = old.Close()
		}
	}
	offset, also, err := p.search(ctx, f, from, id.Offset)
	if err != nil {
		return nil, err
	}
	if after.Offset = offset; matched || also {
		after.Failed = now
	}
	return after, nil
}

// openLog opens a regular file and gives its identity, with its size as Offset.
func openLog(path string) (*os.File, look, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, look{}, os.ErrNotExist
	case err != nil:
		return nil, look{}, fault.New(fault.Forbidden, fmt.Sprintf("probe log: %q cannot be opened", path), fault.Hint("look at its owner and mode"))
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, look{}, fault.Newf(fault.Invalid, "probe log: %q is no regular file", path)
	}
	id := look{Offset: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Device, id.Inode = uint64(st.Dev), st.Ino //nolint:unconvert // Dev is narrower on other systems.
	}
	return f, id, nil
}

// search reads the lines between two offsets. next is the offset of the last line when it is not complete yet, otherwise to.
func (p *logProbe) search(ctx context.Context, f io.ReaderAt, from, to int64) (next int64, matched bool, err error) {
	skipped := to-from > maxLook
	if skipped {
		from = to - maxLook
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, from, to-from), maxLine)
	next = from
	inside := skipped // within a line whose beginning was not seen, or was looked at already
	for {
		line, err := r.ReadSlice('\n')
		if !inside {
			matched = matched || p.fail.Match(trimEnd(line))
		}
		switch {
		case err == nil:
			next += int64(len(line))
			inside = false
		case errors.Is(err, bufio.ErrBufferFull):
			next += int64(len(line))
			inside = true
		case errors.Is(err, io.EOF):
			return next, matched, nil
		default:
			return next, matched, fault.New(fault.Unavailable, fmt.Sprintf("probe log: %q cannot be read", p.path))
		}
		if ctx.Err() != nil {
			return next, matched, fault.In(context.Cause(ctx), "probe log")
		}
	}
}

// trimEnd cuts the line end off, so that $ means the end of the text.
func trimEnd(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line
}

// recall gives the last look, or nil. A note that cannot be understood counts as none.
func (p *logProbe) recall() (*look, error) {
	if p.note == "" {
		return p.last, nil
	}
	b, err := os.ReadFile(p.note)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fault.Wrap(fault.Forbidden, err, "probe log: read note")
	}
	var l look
	if err := json.Unmarshal(b, &l); err == nil && l.Offset >= 0 {
		return &l, nil
	}
	return nil, nil
}

func (p *logProbe) remember(l *look) error {
	if p.note == "" {
		p.last = l
		return nil
	}
	b, err := json.Marshal(l)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(p.note), 0o700)
	}
	if err == nil {
		err = os.WriteFile(p.note+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(p.note+".new", p.note)
	}
	return fault.Wrap(fault.Unavailable, err, "probe log: write note")
}
