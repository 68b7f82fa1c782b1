package queue

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/ledger"
)

// master wraps under a key of 32 bytes.
type master []byte

var _ Master = master(nil)

func (m master) Wrap(_ context.Context, key, aad []byte) ([]byte, error) {
	box, err := chacha20poly1305.NewX(m)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce)
	return box.Seal(nonce, nonce, key, aad), nil
}

func (m master) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	box, err := chacha20poly1305.NewX(m)
	if err != nil {
		return nil, err
	}
	out, err := box.Open(nil, wrapped[:chacha20poly1305.NonceSizeX], wrapped[chacha20poly1305.NonceSizeX:], aad)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "unwrap data key")
	}
	return out, nil
}

var theMaster = master(bytes.Repeat([]byte{7}, 32))

// world is a queue that can be closed and opened again, with a clock of its own.
type world struct {
	*Queue
	t   testing.TB
	dir string
	l   *ledger.Ledger
	o   Options

	mu  sync.Mutex
	now time.Time
}

func start(t testing.TB, o Options) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), o: o, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	w.o.Master, w.o.Now = theMaster, func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}
	w.open()
	t.Cleanup(func() { w.l.Close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.l, err = ledger.Open(w.t.Context(), w.dir); err != nil {
		w.t.Fatal(err)
	}
	if w.Queue, err = Open(w.t.Context(), w.l, w.o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) restart() {
	w.t.Helper()
	if err := w.l.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func request(app, body string) Request {
	return Request{Caller: Caller{App: app, Proof: "token:x"}, Path: "/v1/messages", Header: http.Header{"Anthropic-Version": {"2023-06-01"}}, Body: []byte(body)}
}

func (w *world) add(app, body string) string {
	w.t.Helper()
	t, again, err := w.Add(w.t.Context(), "", request(app, body))
	if err != nil || again || t.State != Waiting || len(t.ID) != 26 {
		w.t.Fatalf("%+v, %v, %v", t, again, err)
	}
	return t.ID
}

// take expects the next entry to have this content.
func (w *world) take(body string) string {
	w.t.Helper()
	t, ok, next := w.Take()
	if !ok {
		w.t.Fatalf("nothing to take, next %v", next)
	}
	r, err := w.Request(w.t.Context(), t.ID)
	if err != nil || string(r.Body) != body || r.Caller.App != t.App || r.Path != "/v1/messages" || r.Header.Get("Anthropic-Version") == "" {
		w.t.Fatalf("%+v, %s, %v; want %s", r, r.Body, err, body)
	}
	return t.ID
}

func (w *world) none() time.Time {
	w.t.Helper()
	t, ok, next := w.Take()
	if ok {
		w.t.Fatalf("taken: %+v", t)
	}
	return next
}

func TestLife(t *testing.T) {
	w := start(t, Options{})
	id := w.add("a", "one")
	if _, err := w.Answer(t.Context(), id); !fault.Is(err, fault.NotFound) {
		t.Errorf("an answer before there is one: %v", err)
	}
	w.restart()
	if got := w.take("one"); got != id {
		t.Fatalf("%s, want %s", got, id)
	}
	w.none()
	w.restart() // a crash while it was under way: again
	w.take("one")
	if err := w.Again(t.Context(), id, w.now.Add(time.Minute), true); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if next := w.none(); !next.Equal(w.now.Add(time.Minute)) {
		t.Errorf("next at %v", next)
	}
	w.pass(time.Minute)
	w.take("one")
	if err := w.Finish(t.Context(), id, Answer{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(t.Context(), id, Answer{Status: 500}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a second answer: %v", err)
	}
	w.restart()
	w.none()
	a, err := w.Answer(t.Context(), id)
	if err != nil || a.Status != 200 || string(a.Body) != `{"a":1}` || a.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := w.Request(t.Context(), id); !fault.Is(err, fault.NotFound) {
		t.Errorf("the request was not erased: %v", err)
	}
	ticket, _ := w.Get(id)
	if ticket.State != Done || ticket.Attempts != 1 || ticket.Status != 200 || !ticket.Expires.Equal(w.now.Add(DefaultKeep)) {
		t.Errorf("%+v", ticket)
	}
	w.pass(DefaultKeep - time.Second)
	if n, err := w.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	w.pass(time.Second)
	if n, err := w.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, ok := w.Get(id); ok || w.Depth() != (Depth{}) {
		t.Errorf("not erased: %+v", w.Depth())
	}
	w.restart()
	if len(w.List()) != 0 {
		t.Error("it came back")
	}
}

// TestOrder: an application's requests go in their order, one that waits for its next attempt holds the others, and applications take turns.
func TestOrder(t *testing.T) {
	w := start(t, Options{})
	for i := range 3 {
		w.add("a", fmt.Sprint("a", i))
	}
	w.add("b", "b0")
	w.restart()
	first := w.take("a0")
	w.take("b0")
	if err := w.Again(t.Context(), first, w.now.Add(time.Second), false); err != nil {
		t.Fatal(err)
	}
	w.none() // a1 waits behind a0
	w.pass(time.Second)
	w.take("a0")
	w.take("a1")
	w.take("a2")
	w.none()
}

func TestIdempotency(t *testing.T) {
	w := start(t, Options{})
	add := func(key string, r Request) (string, bool) {
		t.Helper()
		ticket, again, err := w.Add(t.Context(), key, r)
		if err != nil {
			t.Fatal(err)
		}
		return ticket.ID, again
	}
	one, _ := add("k", request("a", "x"))
	if id, again := add("k", request("a", "x")); id != one || !again {
		t.Error("kept twice")
	}
	for name, r := range map[string]Request{"another content": request("a", "y"), "another application": request("b", "x")} {
		if id, again := add("k", r); id == one || again {
			t.Errorf("%s gave the same entry", name)
		}
	}
	w.restart()
	if id, again := add("k", request("a", "x")); id != one || !again {
		t.Error("kept twice after a restart")
	}
	if err := w.Drop(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if id, again := add("k", request("a", "x")); id == one || again {
		t.Error("what was dropped was given")
	}
	// Many at a time: one is kept.
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			ticket, _, err := w.Add(context.Background(), "many", request("a", "z"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[ticket.ID]++
		})
	}
	wg.Wait()
	if len(ids) != 1 {
		t.Errorf("%d entries for one key", len(ids))
	}
}

func TestBounds(t *testing.T) {
	w := start(t, Options{Entries: 3, PerApp: 2, Bytes: 2000})
	refused := func(app, body string, kind fault.Kind) {
		t.Helper()
		_, _, err := w.Add(t.Context(), "", request(app, body))
		if !fault.Is(err, kind) || fault.RetryAfterOf(err) <= 0 {
			t.Errorf("%v", err)
		}
	}
	refused("a", string(bytes.Repeat([]byte("x"), 2000)), fault.Unavailable)
	one := w.add("a", "1")
	w.add("a", "2")
	refused("a", "3", fault.RateLimited)
	w.add("b", "1")
	refused("b", "2", fault.Unavailable)
	w.take("1")
	refused("a", "3", fault.RateLimited) // what runs has its place
	if err := w.Finish(t.Context(), one, Answer{Status: 200}); err != nil {
		t.Fatal(err)
	}
	w.add("a", "3")
	w.restart()
	refused("a", "4", fault.RateLimited)
	if d := w.Depth(); d.Waiting != 3 || d.Done != 1 || d.Bytes <= 0 {
		t.Errorf("%+v", d)
	}
	for _, e := range w.List() {
		if err := w.Drop(t.Context(), e.ID); err != nil {
			t.Error(err)
		}
	}
	if w.Depth() != (Depth{}) || w.total != 0 || len(w.held) != 0 {
		t.Errorf("%+v, %d, %v", w.Depth(), w.total, w.held)
	}
}

func TestOverdue(t *testing.T) {
	w := start(t, Options{Wait: time.Hour})
	id := w.add("a", "1")
	w.pass(time.Minute)
	w.add("a", "2")
	if ids := w.Overdue(); len(ids) != 0 {
		t.Error(ids)
	}
	w.pass(59 * time.Minute)
	if ids := w.Overdue(); !slices.Equal(ids, []string{id}) {
		t.Error(ids)
	}
	if err := w.Finish(t.Context(), id, Answer{Status: 504}); err != nil {
		t.Fatal(err)
	}
	w.take("2")
}

// TestDropUnderWay: the answer of a request that was dropped meanwhile is not kept.
func TestDropUnderWay(t *testing.T) {
	w := start(t, Options{})
	id := w.add("a", "1")
	w.take("1")
	if err := w.Drop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(t.Context(), id, Answer{Status: 200}); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	if err := w.Again(t.Context(), id, w.now, true); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	if w.Depth() != (Depth{}) {
		t.Errorf("%+v", w.Depth())
	}
}

// TestAtRest: nothing of a request or an answer can be read in the files, rows cannot be swapped, and another master opens nothing.
func TestAtRest(t *testing.T) {
	w := start(t, Options{})
	mark := "a text that stands nowhere else"
	one, two := w.add("a", mark), w.add("a", "other "+mark)
	if _, _, err := w.Add(t.Context(), mark, request("a", mark)); err != nil {
		t.Fatal(err)
	}
	w.take(mark)
	if err := w.Finish(t.Context(), one, Answer{Status: 200, Body: []byte(mark)}); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(filepath.Join(w.dir, ledger.File+suffix))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(mark)) || bytes.Contains(b, []byte("/v1/messages")) || bytes.Contains(b, []byte("token:x")) {
			t.Errorf("%s holds it in plain", suffix)
		}
	}
	three := w.add("a", "three")
	err := w.l.Update(t.Context(), "swap", func(tx *ledger.Tx) error {
		_, err := tx.Exec(`UPDATE queue SET sealed = (SELECT sealed FROM queue WHERE id = ?) WHERE id = ?`, two, three)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Request(t.Context(), three); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a swapped row opened: %v", err)
	}
	if _, err := Open(t.Context(), w.l, Options{Master: master(bytes.Repeat([]byte{8}, 32))}); !fault.Is(err, fault.Corrupt) || fault.HintOf(err) == "" {
		t.Errorf("another master: %v", err)
	}
	if made, err := Made(t.Context(), w.l); !made || err != nil {
		t.Errorf("%v, %v", made, err)
	}
}

// TestDiskFailureKeepsNothing: a request that could not be kept has no place and no idempotency key.
func TestDiskFailureKeepsNothing(t *testing.T) {
	w := start(t, Options{})
	if err := w.l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Add(t.Context(), "k", request("a", "x")); err == nil {
		t.Fatal("it was acknowledged")
	}
	if w.Depth() != (Depth{}) || w.total != 0 || len(w.once) != 0 || w.bytes != 0 {
		t.Errorf("%+v %d %v", w.Depth(), w.total, w.once)
	}
	w.open()
	if len(w.List()) != 0 {
		t.Error("it is there")
	}
	if err := errors.Join(w.l.Checkpoint(t.Context())); err != nil {
		t.Error(err)
	}
}
