// Package daemon reads the value of a key from keywright serve: over its Unix socket, where the system vouches for the asking user, or over
// mutual TLS as an enrolled reader. A new version is there as soon as the daemon has it. It keeps the last value in memory, writes nothing, and
// shows no text of a reply. The gateway and package keyring/daemon read with it.
package daemon

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/handover"
	"github.com/keywright/keywright/internal/keysource"
)

// Config names a daemon and a key of it.
type Config struct {
	// Address is the path of the daemon's socket, or https://HOST:PORT.
	Address string
	// Identity is the path of the file that keywright reader made; it is needed with https alone.
	Identity string
	// Key is the name of the key.
	Key string
}

// Reader reads one key. It is safe for concurrent use.
type Reader struct {
	key    apikey.Name
	url    string
	reader string
	where  string // for errors
	own    *ecdh.PrivateKey
	send   bool // whether the request names the key to seal to
	http   *http.Client

	mu   sync.Mutex
	last keysource.Reading
}

var _ keysource.Reader = (*Reader)(nil)

// New checks the configuration and reads the identity. It asks nothing yet. Kinds: Invalid, and those of handover.ReadIdentity.
func New(c Config) (*Reader, error) {
	r := &Reader{key: apikey.Name(c.Key), where: c.Address}
	if !r.key.Valid() {
		return nil, fault.New(fault.Invalid, "open daemon: that is no name of a key")
	}
	// The time that an answer may take is the caller's to bound, but an answer that waits is never longer than this.
	transport := &http.Transport{MaxIdleConns: 2, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: handover.MaxWait + 15*time.Second, MaxResponseHeaderBytes: 32 << 10}
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	if u, err := url.Parse(c.Address); err == nil && strings.Contains(c.Address, "://") {
		if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
			return nil, fault.New(fault.Invalid, "open daemon: its address is no https://HOST:PORT")
		}
		if c.Identity == "" {
			return nil, fault.New(fault.Invalid, "open daemon: no identity is named", fault.Hint("daemon:https://HOST:PORT?identity=FILE#KEY; keywright reader new makes the file"))
		}
		identity, err := handover.ReadIdentity(c.Identity)
		if err != nil {
			return nil, err
		}
		if transport.TLSClientConfig, err = identity.ClientTLS(); err != nil {
			return nil, err
		}
		transport.DialContext = dialer.DialContext
		transport.ForceAttemptHTTP2 = true
		r.url, r.reader, r.own = "https://"+u.Host, identity.Name, identity.Key()
	} else {
		if !filepath.IsAbs(c.Address) {
			return nil, fault.New(fault.Invalid, "open daemon: the path of its socket is not absolute")
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", c.Address)
		}
		if r.own, err = handover.NewKey(); err != nil {
			return nil, err
		}
		r.url, r.reader, r.send = "http://keywright", handover.Local, true
	}
	r.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return r, nil
}

// Read implements keysource.Reader. What Wait has brought already is not asked for again.
func (r *Reader) Read(ctx context.Context) (keysource.Reading, error) {
	if err := r.ask(ctx, r.generation(), 0); err != nil {
		return keysource.Reading{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.Value.IsZero() {
		return keysource.Reading{}, fault.New(fault.Unavailable, r.verb()+": it has no value to give")
	}
	got := r.last
	got.Value = got.Value.Clone()
	return got, nil
}

// Wait implements keysource.Reader: the daemon answers when there is something new.
func (r *Reader) Wait(ctx context.Context, mark string) error {
	have, _ := strconv.ParseUint(mark, 10, 64) // what is no mark of ours is zero
	if have == 0 {
		return nil
	}
	for {
		if r.generation() > have {
			return nil
		}
		if err := r.ask(ctx, have, handover.MaxWait); err != nil {
			return err
		}
	}
}

func (r *Reader) generation() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last.Generation
}

func (r *Reader) verb() string { return fmt.Sprintf("ask daemon at %q for %s", r.where, r.key) }

// ask makes one request and keeps what it brings.
func (r *Reader) ask(ctx context.Context, have uint64, wait time.Duration) error {
	in := handover.Request{Key: r.key, Have: have, Wait: int(wait / time.Second)}
	if r.send {
		in.To = r.own.PublicKey().Bytes()
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, r.verb())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+handover.Path, bytes.NewReader(body))
	if err != nil {
		return fault.New(fault.Invalid, r.verb()+": its address cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := r.http.Do(req)
	if err != nil {
		return r.lost(ctx, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, handover.MaxBody))
	if err != nil {
		return r.lost(ctx, err)
	}
	if res.StatusCode != http.StatusOK {
		return r.refused(res.StatusCode, raw)
	}
	var reply handover.Reply
	if json.Unmarshal(raw, &reply) != nil || reply.Key != r.key {
		return fault.New(fault.Unavailable, r.verb()+": the answer is not understood")
	}
	return r.keep(reply)
}

// keep opens a reply. An older generation than the one that is held is refused: a daemon goes forward.
func (r *Reader) keep(reply handover.Reply) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case reply.Generation < r.last.Generation:
		return fault.New(fault.Conflict, fmt.Sprintf("%s: it gave generation %d after %d", r.verb(), reply.Generation, r.last.Generation), fault.Hint("its store may have been restored from a backup; restart the reader when that is meant"))
	case len(reply.Sealed) == 0 || reply.Generation == r.last.Generation:
		return nil
	}
	v, err := handover.Open(r.own, handover.Binding{Reader: r.reader, Key: r.key, Generation: reply.Generation}, reply.Sealed)
	if err != nil {
		return fault.In(err, r.verb())
	}
	if v.Fingerprint() != reply.Fingerprint {
		v.Destroy()
		return fault.New(fault.Corrupt, r.verb()+": the value is not the one that it names")
	}
	r.last.Value.Destroy()
	r.last = keysource.Reading{Value: v, Generation: reply.Generation, Mark: strconv.FormatUint(reply.Generation, 10), Denied: reply.Denied}
	return nil
}

func (r *Reader) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fault.In(context.Cause(ctx), r.verb())
	}
	if f, ok := errors.AsType[*fault.Error](err); ok { // of our own check of the certificate
		return fault.In(f, r.verb())
	}
	return fault.New(fault.Unavailable, r.verb()+": nobody answers", fault.Hint("is keywright serve running there, and may this user open its socket?"))
}

// refused takes the kind from a refusal, and never its text.
func (r *Reader) refused(status int, raw []byte) error {
	var p struct {
		Kind string `json:"kind"`
	}
	kind := fault.Unavailable
	if json.Unmarshal(raw, &p) == nil {
		if k := fault.ParseKind(p.Kind); k != fault.Unknown {
			kind = k
		}
	}
	switch kind {
	case fault.Forbidden:
		return fault.New(kind, r.verb()+": it does not release it to this reader", fault.Hint("list the reader under readers of the key, see that it is enrolled (keywright reader list), and that the key's version is not compromised"))
	case fault.NotFound:
		return fault.New(kind, r.verb()+": it has no version in use", fault.Hint("keywright key show %s, on the daemon's host", r.key))
	}
	return fault.New(kind, fmt.Sprintf("%s: it answers with status %d", r.verb(), status))
}

// Close gives the connections back and overwrites the value that is held.
func (r *Reader) Close() {
	r.http.CloseIdleConnections()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last.Value.Destroy()
	r.last = keysource.Reading{}
}
