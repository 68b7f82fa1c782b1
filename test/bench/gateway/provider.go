package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret"
)

// epoch is what all times in headers count from.
var epoch = time.Now()

func since() int64 { return int64(time.Since(epoch)) }

// beganHeader tells the imitation when the caller sent a request. The gateway passes it on like any header that it does not know.
const beganHeader = "X-Bench-Began"

// account is one key at the imitation.
type account struct {
	text        string
	fingerprint apikey.Fingerprint
	live        atomic.Bool
	closed      atomic.Int64 // from then on no request that begins may use it; zero: open
	calls       atomic.Int64 // messages
	probes      atomic.Int64 // models
	late        atomic.Int64 // messages that began after closed
}

// provider imitates the provider's messages and models on loopback.
type provider struct {
	url      string
	srv      *http.Server
	accounts sync.Map // value -> *account
	// answer makes the answer to a message of a live key. The body was read.
	answer func(w http.ResponseWriter, r *http.Request, body []byte)
	// arrived is told of every request with a known key before anything else happens to it, and refused after its 401 was written. Nil is not told.
	arrived, refused func(a *account, r *http.Request)

	conns sync.Map // open connections
}

func startProvider(ctx context.Context, answer func(w http.ResponseWriter, r *http.Request, body []byte)) (*provider, error) {
	p := &provider{answer: answer}
	return p, p.start(ctx)
}

// start serves on loopback. The functions of p are set before.
func (p *provider) start(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.url = "http://" + l.Addr().String()
	p.srv = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute, ConnState: func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			p.conns.Store(c, true)
		case http.StateClosed, http.StateHijacked:
			p.conns.Delete(c)
		case http.StateActive, http.StateIdle:
		}
	}}
	go func() { _ = p.srv.Serve(l) }() // it ends with stop
	return nil
}

func (p *provider) stop() { _ = p.srv.Close() }

// newAccount makes a live one. The keys of this program are its own: they open nothing.
func newAccount(text string) *account {
	a := &account{text: text, fingerprint: secret.New([]byte(text)).Fingerprint()}
	a.live.Store(true)
	return a
}

// value gives the account's value as the gateway's own packages take it.
func (a *account) value() secret.Value { return secret.New([]byte(a.text)) }

// key makes a new live key.
func (p *provider) key() *account {
	random := rand.Text() + rand.Text() + rand.Text() + rand.Text()
	text := strings.Join([]string{"sk", "ant", "api03", ("fake-bench-" + random)[:93] + "AA"}, "-")
	a := newAccount(text)
	p.accounts.Store(text, a)
	return a
}

// of gives the account that a request names, or nil.
func (p *provider) of(r *http.Request) *account {
	got, ok := p.accounts.Load(r.Header.Get("X-Api-Key"))
	if !ok {
		return nil
	}
	return got.(*account)
}

// open counts the connections to the imitation.
func (p *provider) open() (n int) {
	p.conns.Range(func(any, any) bool {
		n++
		return true
	})
	return n
}

// late counts messages on keys that had been replaced before they began.
func (p *provider) late() (n int64) {
	p.accounts.Range(func(_, a any) bool {
		n += a.(*account).late.Load()
		return true
	})
	return n
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("Request-Id", "req_"+rand.Text())
	a := p.of(r)
	if a == nil {
		fail(w, http.StatusUnauthorized, "authentication_error", "invalid x-api-key")
		return
	}
	if p.arrived != nil {
		p.arrived(a, r)
	}
	message := r.Method == http.MethodPost
	if message {
		a.calls.Add(1)
		began, _ := strconv.ParseInt(r.Header.Get(beganHeader), 10, 64)
		if closed := a.closed.Load(); closed != 0 && began > closed {
			a.late.Add(1)
		}
	} else {
		a.probes.Add(1)
	}
	if !a.live.Load() {
		fail(w, http.StatusUnauthorized, "authentication_error", "invalid x-api-key")
		if p.refused != nil {
			_ = http.NewResponseController(w).Flush()
			p.refused(a, r)
		}
		return
	}
	h.Set("Anthropic-Organization-Id", "org_bench")
	h.Set("Anthropic-Workspace-Id", "wrkspc_bench")
	if message {
		p.answer(w, r, body)
		return
	}
	h.Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"data":[],"has_more":false,"first_id":null,"last_id":null}`)
}

func fail(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"error","error":{"type":%q,"message":%q}}`, kind, message)
}

func streams(body []byte) bool { return strings.Contains(string(body), `"stream":true`) }

// script is the stream of one message: each event of it names the message, so that a splice of two shows.
func script(id string, deltas int) []string {
	events := []string{
		fmt.Sprintf("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":%q,\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"claude-haiku-5-5\",\"usage\":{\"input_tokens\":500,\"output_tokens\":1}}}\n\n", id),
		"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
		"event: ping\ndata: {\"type\":\"ping\"}\n\n",
	}
	for i := range deltas {
		events = append(events, fmt.Sprintf("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"id\":%q,\"delta\":{\"type\":\"text_delta\",\"text\":\"word %d \"}}\n\n", id, i))
	}
	return append(events,
		"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
		fmt.Sprintf("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":%d}}\n\n", deltas),
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
}

// message is an answer of about one kilobyte.
func message(id string) string {
	return fmt.Sprintf(`{"id":%q,"type":"message","role":"assistant","content":[{"type":"text","text":%q}],"model":"claude-haiku-5-5","stop_reason":"end_turn","usage":{"input_tokens":500,"output_tokens":200}}`,
		id, strings.Repeat("x", 800))
}

var errShort = errors.New("the stream ended without its end")

// whole checks a stream that must be complete and of one message.
func whole(text string, deltas int) error {
	id, err := single(text)
	switch {
	case err != nil:
		return err
	case !strings.HasSuffix(text, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"):
		return errShort
	case strings.Count(text, "event: content_block_delta\n") != deltas || strings.Count(text, "event: message_start\n") != 1 || id == "":
		return errors.New("the stream lacks events, or has more than it should")
	}
	return nil
}

// single gives the id of the one message that the whole lines of a stream are of.
func single(text string) (id string, err error) {
	for line := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(line, `"id":"`); ok && strings.HasSuffix(line, "\n") {
			got, _, _ := strings.Cut(rest, `"`)
			if id == "" {
				id = got
			}
			if got != id {
				return id, errors.New("two messages in one stream")
			}
		}
	}
	return id, nil
}

// wait pauses, unless the request ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
