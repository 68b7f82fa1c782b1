// Package spool keeps the bodies of requests so that they can be sent again: in memory, beyond a bound in files without a name, and, when there is no room
// for either, not at all, so that they go through once.
//
// It never writes a body to a disk as it is: each file is encrypted under a key that only this process has. It never looks into a body; whoever wants to
// see it hands in a Writer. The gateway calls it.
package spool

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
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Body is a request body that can be sent again: in memory, in a file, or, when there is no room for either, once. Its methods may be called from
// several goroutines; Done once.
type Body struct {
	mem   []byte
	file  *file
	once  io.ReadCloser // what could not be kept, behind mem
	size  int64         // -1: not known
	users atomic.Int64  // readers that the transport may still use, and the request itself
}

// Held is a body of bytes that are there already.
func Held(b []byte) *Body {
	x := &Body{mem: b, size: int64(len(b))}
	x.users.Store(1)
	return x
}

// Replayable reports whether more than one reader gives the body.
func (b *Body) Replayable() bool { return b.once == nil }

// Spilled reports whether a part of the body lies in a file.
func (b *Body) Spilled() bool { return b.file != nil }

// Head gives what of the body lies in memory: all of it, unless it is spilled or cannot be replayed.
func (b *Body) Head() []byte { return b.mem }

// Size gives the size in bytes, or -1 when it is not known.
func (b *Body) Size() int64 { return b.size }

// Filter puts a reader in front of the rest of a body that cannot be replayed, before its first reader.
func (b *Body) Filter(in func(rest io.ReadCloser) io.ReadCloser) { b.once = in(b.once) }

// Reader gives the body from its start. Whoever reads it closes it.
func (b *Body) Reader() io.ReadCloser {
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

// Done ends the use of the body. Its file is given back when the last reader has ended too: the transport may still read after it has answered.
func (b *Body) Done() {
	if b.users.Add(-1) != 0 {
		return
	}
	if b.file != nil {
		b.file.close()
	}
}

type bodyReader struct {
	io.Reader
	body *Body
	once sync.Once
}

// Close may be called twice.
func (r *bodyReader) Close() error {
	r.once.Do(r.body.Done)
	return nil
}

// firstRead is how much memory a body gets before any of it has come.
const firstRead = 64 << 10

// ErrTooLarge says that the body is larger than its route takes.
var ErrTooLarge = errors.New("the body is too large")

// retryAfter is when there may be room again.
const retryAfter = time.Second

// Read takes the whole body of a request of at most limit bytes. see is shown all that is kept, in pieces; it may be nil. Errors are ErrTooLarge, of
// kind Unavailable when there is no room, and those of reading. The body is to be ended with Done.
func (s *Spool) Read(r *http.Request, limit int64, see io.Writer) (*Body, error) {
	b := &Body{}
	b.users.Store(1)
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return b, nil
	}
	if r.ContentLength > limit {
		b.Done()
		return nil, ErrTooLarge
	}
	first := r.ContentLength
	if first < 0 {
		first = 4 << 10
	}
	mem := make([]byte, 0, min(first, firstRead)+1) // the end may come by itself, and needs room too
	for {
		if len(mem) == cap(mem) {
			mem = append(mem, 0)[:len(mem)]
		}
		n, err := r.Body.Read(mem[len(mem):cap(mem)])
		if see != nil {
			_, _ = see.Write(mem[len(mem) : len(mem)+n])
		}
		mem = mem[:len(mem)+n]
		if int64(len(mem)) > limit {
			return nil, ErrTooLarge
		}
		if errors.Is(err, io.EOF) {
			b.mem, b.size = mem, int64(len(mem))
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if int64(len(mem)) >= s.memory {
			break
		}
	}
	b.mem = mem
	return b, s.readLarge(r, b, limit, see)
}

// readLarge puts what is behind the memory into a file.
func (s *Spool) readLarge(r *http.Request, b *Body, limit int64, see io.Writer) error {
	f, err := s.open(min(max(r.ContentLength, 0), limit))
	if err != nil {
		// No room: it goes through as it comes, and cannot be repeated. The guards refuse it where they need to see all of it.
		b.once, b.size = http.MaxBytesReader(nil, r.Body, limit-int64(len(b.mem))), r.ContentLength
		return nil //nolint:nilerr // The request can still be served.
	}
	b.file = f
	src := io.LimitReader(r.Body, limit-int64(len(b.mem))+1)
	if see != nil {
		src = io.TeeReader(src, see)
	}
	n, err := io.Copy(f, src)
	b.size = int64(len(b.mem)) + n
	switch {
	case errors.Is(err, errNoRoom):
		b.Done()
		return fault.New(fault.Unavailable, "keep body: there is no room", fault.RetryAfter(retryAfter))
	case err != nil:
		b.Done()
		return err
	case b.size > limit:
		b.Done()
		return ErrTooLarge
	}
	return nil
}

// Spool keeps bodies, and bounds the files that hold large ones. Each is unlinked at once, mode 0600, and encrypted. It may be used from several
// goroutines.
type Spool struct {
	dir    string
	memory int64
	most   int64
	bytes  atomic.Int64
	block  cipher.Block
}

// New makes a Spool that keeps the first memory bytes of a body in memory and what is behind them in files in dir, together no more than most bytes;
// an empty dir is the system's folder for temporary files.
func New(dir string, memory, most int64) (*Spool, error) {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	clear(key)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "make key for large bodies")
	}
	return &Spool{dir: dir, memory: memory, most: most, block: block}, nil
}

// Used gives how many bytes lie in files.
func (s *Spool) Used() int64 { return s.bytes.Load() }

var errNoRoom = errors.New("no room for large bodies")

// file is one file.
type file struct {
	s    *Spool
	f    *os.File
	iv   [aes.BlockSize]byte
	enc  cipher.Stream
	size int64
	buf  []byte
}

// open makes a file, if so many bytes fit.
func (s *Spool) open(expect int64) (*file, error) {
	if s.bytes.Load()+expect > s.most {
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
	x := &file{s: s, f: f, buf: make([]byte, 32<<10)}
	rand.Read(x.iv[:])
	x.enc = cipher.NewCTR(s.block, x.iv[:])
	return x, nil
}

// Write encrypts and appends.
func (x *file) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		n := min(len(p), len(x.buf))
		if x.s.bytes.Add(int64(n)) > x.s.most {
			x.s.bytes.Add(int64(-n))
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
func (x *file) reader() io.Reader {
	return cipher.StreamReader{S: cipher.NewCTR(x.s.block, x.iv[:]), R: io.NewSectionReader(x.f, 0, x.size)}
}

func (x *file) close() {
	x.f.Close()
	x.s.bytes.Add(-x.size)
}
