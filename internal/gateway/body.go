package gateway

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/inspect"
)

// body is a request body that can be sent again: in memory, in a file, or, when there is no room for either, once.
type body struct {
	mem   []byte
	file  *spilled
	once  io.ReadCloser // what could not be kept, behind mem
	size  int64         // -1: not known
	users atomic.Int64  // readers that the transport may still use, and the request itself
}

func (b *body) replayable() bool { return b.once == nil }

// reader gives the body from its start. The transport closes it.
func (b *body) reader() io.ReadCloser {
	if b.file == nil && b.once == nil {
		// net/http knows this form, and sends it together with the head in one write.
		return io.NopCloser(bytes.NewReader(b.mem))
	}
	b.users.Add(1)
	r := &bodyReader{body: b}
	if b.file != nil {
		r.Reader = io.MultiReader(bytes.NewReader(b.mem), b.file.reader())
	} else {
		r.Reader = io.MultiReader(bytes.NewReader(b.mem), b.once)
	}
	return r
}

// done gives the file back, when the last reader has ended: the transport may still read after it has answered.
func (b *body) done() {
	if b.users.Add(-1) != 0 {
		return
	}
	if b.file != nil {
		b.file.close()
	}
}

type bodyReader struct {
	io.Reader
	body *body
	once sync.Once
}

// Close may be called twice.
func (r *bodyReader) Close() error {
	r.once.Do(r.body.done)
	return nil
}

// firstRead is how much memory a body gets before any of it has come.
const firstRead = 64 << 10

// errTooLarge: the body is larger than its route takes.
var errTooLarge = errors.New("the body is too large")

// readBody takes the whole body of a request, and shows it to l, which may be nil.
func (g *Gateway) readBody(r *http.Request, limit int64, l *inspect.Body) (*body, error) {
	b := &body{}
	b.users.Store(1)
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return b, nil
	}
	if r.ContentLength > limit {
		b.done()
		return nil, errTooLarge
	}
	first := r.ContentLength
	if first < 0 {
		first = 4 << 10
	}
	mem := make([]byte, 0, min(first, firstRead))
	for {
		if len(mem) == cap(mem) {
			mem = append(mem, 0)[:len(mem)]
		}
		n, err := r.Body.Read(mem[len(mem):cap(mem)])
		if l != nil {
			_, _ = l.Write(mem[len(mem) : len(mem)+n])
		}
		mem = mem[:len(mem)+n]
		if int64(len(mem)) > limit {
			return nil, errTooLarge
		}
		if errors.Is(err, io.EOF) {
			b.mem, b.size = mem, int64(len(mem))
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if int64(len(mem)) >= g.o.MemoryBody {
			break
		}
	}
	b.mem = mem
	return b, g.readLarge(r, b, limit, l)
}

// readLarge puts what is behind the memory into a file.
func (g *Gateway) readLarge(r *http.Request, b *body, limit int64, l *inspect.Body) error {
	f, err := g.spill.open(min(max(r.ContentLength, 0), limit))
	if err != nil {
		// No room: it goes through as it comes, and cannot be repeated. The guards refuse it where they need to see all of it.
		b.once, b.size = http.MaxBytesReader(nil, r.Body, limit-int64(len(b.mem))), r.ContentLength
		return nil //nolint:nilerr // The request can still be served.
	}
	b.file = f
	src := io.LimitReader(r.Body, limit-int64(len(b.mem))+1)
	if l != nil {
		src = io.TeeReader(src, l)
	}
	n, err := io.Copy(f, src)
	b.size = int64(len(b.mem)) + n
	switch {
	case errors.Is(err, errNoRoom):
		b.done()
		return fault.New(fault.Unavailable, "keep body: there is no room", fault.RetryAfter(retrial))
	case err != nil:
		b.done()
		return err
	case b.size > limit:
		b.done()
		return errTooLarge
	}
	return nil
}

// spill bounds the files that hold large bodies. Each is unlinked at once, mode 0600, and encrypted under a key that only this process has.
type spill struct {
	dir   string
	most  int64
	used  atomic.Int64
	block cipher.Block
}

func newSpill(dir string, most int64) (*spill, error) {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	clear(key)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "make key for large bodies")
	}
	return &spill{dir: dir, most: most, block: block}, nil
}

var errNoRoom = errors.New("no room for large bodies")

// spilled is one file.
type spilled struct {
	s    *spill
	f    *os.File
	iv   [aes.BlockSize]byte
	enc  cipher.Stream
	size int64
	buf  []byte
}

// open makes a file, if so many bytes fit.
func (s *spill) open(expect int64) (*spilled, error) {
	if s.used.Load()+expect > s.most {
		return nil, errNoRoom
	}
	f, err := os.CreateTemp(s.dir, "keywright-body-*")
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "make file for a large body")
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fault.Wrap(fault.Unavailable, err, "unlink file for a large body")
	}
	x := &spilled{s: s, f: f, buf: make([]byte, 32<<10)}
	rand.Read(x.iv[:])
	x.enc = cipher.NewCTR(s.block, x.iv[:])
	return x, nil
}

// Write encrypts and appends.
func (x *spilled) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		n := min(len(p), len(x.buf))
		if x.s.used.Add(int64(n)) > x.s.most {
			x.s.used.Add(int64(-n))
			return done, errNoRoom
		}
		x.size += int64(n)
		x.enc.XORKeyStream(x.buf[:n], p[:n])
		if _, err := x.f.Write(x.buf[:n]); err != nil {
			return done, fault.Wrap(fault.Unavailable, err, "write large body")
		}
		done += n
		p = p[n:]
	}
	return done, nil
}

// reader gives the content from its start; several may be used at a time.
func (x *spilled) reader() io.Reader {
	return cipher.StreamReader{S: cipher.NewCTR(x.s.block, x.iv[:]), R: io.NewSectionReader(x.f, 0, x.size)}
}

func (x *spilled) close() {
	x.f.Close()
	x.s.used.Add(-x.size)
}
