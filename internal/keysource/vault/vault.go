// Package vault reads a value from the key-value store of HashiCorp Vault or OpenBao, version 1 or 2, which it finds out itself. It asks again
// and again, since Vault tells nobody of a change, with a token that it is given or logs in for. It writes no secret, keeps a token of a login in
// memory alone, follows no redirect, and shows no text of a reply. The gateway and package keyring/vault read with it.
package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret"
)

// DefaultEvery is the pause between two looks.
const DefaultEvery = 30 * time.Second

// maxReply bounds a reply, in bytes: Vault keeps entries of at most 1 MiB.
const maxReply = 2 << 20

// Config names a secret and a field of it.
type Config struct {
	// Path is the mount and the path in it, such as secret/anthropic, without the data/ of version 2. Field is the name in the secret.
	Path, Field string
	// Address is https://HOST:PORT, or http on this host; without it that of VAULT_ADDR. Namespace likewise, and VAULT_NAMESPACE.
	Address, Namespace string
	// Token says where Vault's own token is read, before each call, so that one that an agent renews is taken up: file:PATH or env:NAME. Without
	// it VAULT_TOKEN, else the file .vault-token in the home directory.
	Token secret.Ref
	// Login gets and renews a token instead.
	Login Login
	// CA is a PEM file of authorities for the server's certificate; without it VAULT_CACERT, else the system's.
	CA string
	// Every is the pause between two looks; zero means DefaultEvery.
	Every time.Duration
}

// Reader reads one field. It is safe for concurrent use.
type Reader struct {
	c    Config
	base *url.URL
	http *http.Client

	mu    sync.Mutex
	mount string // of the path, with a slash at its end; empty until it is known
	two   bool   // version 2

	turn  chan struct{} // has room for one: who is in it may use grant
	grant *grant        // nil before the first login
	now   func() time.Time
}

var _ keysource.Reader = (*Reader)(nil)

// New checks the configuration. It asks nothing yet. Kinds: Invalid, NotFound (the file of authorities).
func New(c Config) (*Reader, error) {
	if c.Address == "" {
		c.Address = os.Getenv("VAULT_ADDR")
	}
	if c.Namespace == "" {
		c.Namespace = os.Getenv("VAULT_NAMESPACE")
	}
	if c.CA == "" {
		c.CA = os.Getenv("VAULT_CACERT")
	}
	if c.Every <= 0 {
		c.Every = DefaultEvery
	}
	if c.Address == "" {
		return nil, fault.New(fault.Invalid, "open Vault: no address is given", fault.Hint("vault:MOUNT/PATH?address=https://HOST:8200#FIELD, or VAULT_ADDR"))
	}
	base, err := httpx.ParseBase(c.Address)
	if err != nil {
		return nil, fault.New(fault.Invalid, "open Vault: its address is neither https://HOST:PORT nor http on this host")
	}
	if err := c.Login.check(c.Token); err != nil {
		return nil, err
	}
	c.Path = strings.Trim(c.Path, "/")
	if c.Field == "" || !strings.Contains(c.Path, "/") || strings.Contains("/"+c.Path+"/", "/../") || strings.Contains("/"+c.Path+"/", "/./") {
		return nil, fault.New(fault.Invalid, "open Vault: want MOUNT/PATH and a field")
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second, Control: httpx.DialControl(base.Scheme == "http")}).DialContext, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		MaxIdleConns: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fault.New(fault.NotFound, fmt.Sprintf("open Vault: the file of authorities %q cannot be read", c.CA))
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("open Vault: %q holds no certificate in PEM", c.CA))
		}
	}
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Reader{c: c, base: base, http: client, turn: make(chan struct{}, 1), now: time.Now}, nil
}

// Wait implements keysource.Reader: it looks every now and then.
func (r *Reader) Wait(ctx context.Context, _ string) error { return keysource.Poll(ctx, r.c.Every) }

// Read implements keysource.Reader. Of version 2 the generation is the time at which Vault made the version that it gives.
func (r *Reader) Read(ctx context.Context) (keysource.Reading, error) {
	mount, two, err := r.find(ctx)
	if err != nil {
		return keysource.Reading{}, err
	}
	if !two {
		var reply struct {
			Data map[string]json.RawMessage `json:"data"`
		}
		if err := r.get(ctx, r.c.Path, &reply); err != nil {
			return keysource.Reading{}, err
		}
		v, err := r.field(reply.Data)
		return keysource.Reading{Value: v, Mark: "poll"}, err
	}
	var reply struct {
		Data struct {
			Data     map[string]json.RawMessage `json:"data"`
			Metadata struct {
				Created time.Time `json:"created_time"`
			} `json:"metadata"`
		} `json:"data"`
	}
	if err := r.get(ctx, mount+"data/"+strings.TrimPrefix(r.c.Path, mount), &reply); err != nil {
		return keysource.Reading{}, err
	}
	v, err := r.field(reply.Data.Data)
	got := keysource.Reading{Value: v, Mark: "poll"}
	if at := reply.Data.Metadata.Created; err == nil && at.After(time.Unix(0, 0)) {
		got.Generation = uint64(at.UnixNano())
	}
	return got, err
}

// field takes the value out and overwrites its neighbours.
func (r *Reader) field(data map[string]json.RawMessage) (secret.Value, error) {
	defer func() {
		for _, raw := range data {
			clear(raw)
		}
	}()
	raw, ok := data[r.c.Field]
	if !ok {
		return secret.Value{}, fault.New(fault.NotFound, fmt.Sprintf("%s: it has no field %q", r.verb(), r.c.Field), fault.Hint("vault kv get %s", r.c.Path))
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return secret.Value{}, fault.New(fault.Invalid, fmt.Sprintf("%s: its field %q is no text", r.verb(), r.c.Field))
	}
	v, err := keysource.Whole([]byte(text))
	return v, fault.In(err, r.verb())
}

// find asks which mount the path is in, and of which version that is. The answer is kept.
func (r *Reader) find(ctx context.Context) (mount string, two bool, err error) {
	r.mu.Lock()
	mount, two = r.mount, r.two
	r.mu.Unlock()
	if mount != "" {
		return mount, two, nil
	}
	var reply struct {
		Data struct {
			Path    string         `json:"path"`
			Type    string         `json:"type"`
			Options map[string]any `json:"options"`
		} `json:"data"`
	}
	if err := r.get(ctx, "sys/internal/ui/mounts/"+r.c.Path, &reply); err != nil {
		return "", false, err
	}
	mount = reply.Data.Path
	if mount == "" || !strings.HasSuffix(mount, "/") || !strings.HasPrefix(r.c.Path+"/", mount) || reply.Data.Type != "kv" && reply.Data.Type != "generic" {
		return "", false, fault.New(fault.Invalid, r.verb()+": it is in no key-value store", fault.Hint("vault secrets list"))
	}
	two = reply.Data.Options["version"] == "2"
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mount, r.two = mount, two
	return mount, two, nil
}

func (r *Reader) verb() string { return fmt.Sprintf("read %q of Vault", r.c.Path) }

// token gives Vault's own token.
func (r *Reader) token(ctx context.Context) (secret.Value, error) {
	if r.c.Login.Method != Given {
		return r.held(ctx)
	}
	ref := r.c.Token
	if ref == "" {
		ref = "env:VAULT_TOKEN"
		if os.Getenv("VAULT_TOKEN") == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return secret.Value{}, fault.New(fault.Invalid, r.verb()+": no token is named", fault.Hint("vault:MOUNT/PATH?token=file:PATH#FIELD"))
			}
			ref = secret.Ref("file:" + filepath.Join(home, ".vault-token"))
		}
	}
	v, err := ref.Resolve(ctx, "")
	return v, fault.In(err, r.verb()+": its token", fault.Hint("vault:MOUNT/PATH?token=file:PATH#FIELD, a file of mode 0600 that an agent may renew"))
}

// get reads a resource. With a login, a token that Vault does not accept any more is replaced once.
func (r *Reader) get(ctx context.Context, resource string, into any) error {
	again, err := r.try(ctx, resource, into)
	if again {
		_, err = r.try(ctx, resource, into)
	}
	return err
}

// try reads a resource with the token that there is; again says that the next call has another one.
func (r *Reader) try(ctx context.Context, resource string, into any) (again bool, err error) {
	token, err := r.token(ctx)
	if err != nil {
		return false, err
	}
	defer token.Destroy()
	err = r.call(ctx, r.verb(), http.MethodGet, resource, token, nil, into)
	refused := fault.Is(err, fault.Forbidden)
	if r.c.Login.Method == Given || err != nil && !refused && !fault.Is(err, fault.NotFound) {
		return false, err
	}
	return r.answered(ctx, token, refused), err
}

// call makes one call. A zero token is left out. verb stands in front of the error.
func (r *Reader) call(ctx context.Context, verb, method, resource string, token secret.Value, body []byte, into any) error {
	u := *r.base
	u.Path += "/v1/" + resource
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return fault.New(fault.Invalid, verb+": the path cannot be used")
	}
	req.Header.Set("X-Vault-Request", "true")
	if !token.IsZero() {
		req.Header.Set("X-Vault-Token", token.RevealString())
	}
	if r.c.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", r.c.Namespace)
	}
	res, err := r.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return fault.In(context.Cause(ctx), verb)
		}
		return fault.New(fault.Unavailable, verb+": it does not answer", fault.Hint("see whether this host reaches %s: vault status", r.base.Host))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return r.refused(verb, res.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	defer clear(raw)
	if err != nil {
		return fault.New(fault.Unavailable, verb+": its answer broke off")
	}
	if json.NewDecoder(bytes.NewReader(raw)).Decode(into) != nil {
		return fault.New(fault.Unavailable, verb+": its answer is not understood")
	}
	return nil
}

// refused says what a status means; Vault's own text is not shown.
func (r *Reader) refused(verb string, status int) error {
	switch {
	case status == http.StatusForbidden:
		return fault.New(fault.Forbidden, verb+": its token is not accepted, or may not read it", fault.Hint("vault token lookup; the policy wants read on the path, for version 2 with data/ behind the mount"))
	case status == http.StatusNotFound:
		return fault.New(fault.NotFound, verb+": there is nothing, or its latest version was deleted", fault.Hint("vault kv get %s", r.c.Path))
	case status == http.StatusTooManyRequests:
		return fault.New(fault.RateLimited, verb+": it asks to wait")
	case status >= 500 || status == 472 || status == 473:
		return fault.New(fault.Unavailable, fmt.Sprintf("%s: it answers with status %d", verb, status), fault.Hint("it may be sealed: vault status"))
	case status >= 300 && status < 400:
		return fault.New(fault.Unavailable, verb+": it sends callers elsewhere", fault.Hint("name the address of the active server"))
	}
	return fault.New(fault.Invalid, fmt.Sprintf("%s: it answers with status %d", verb, status))
}

// Close gives the connections back and forgets the token of a login. The Reader stays usable.
func (r *Reader) Close() {
	r.http.CloseIdleConnections()
	select {
	case r.turn <- struct{}{}:
		r.keep(nil)
		<-r.turn
	default: // it is in use
	}
}
