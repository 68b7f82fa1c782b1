package queue

import (
	"bytes"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/ledger"
)

// TestRewrap: under another master the queue goes on as it was, and the former one opens it no more.
func TestRewrap(t *testing.T) {
	w, ctx := start(t, Options{}), t.Context()
	next := master(bytes.Repeat([]byte{9}, 32))
	id := w.add("a", "one")
	if err := Rewrap(ctx, w.l, next, next); !fault.Is(err, fault.Corrupt) {
		t.Fatalf("from a master that does not open it: %v", err)
	}
	for range 2 {
		if err := Rewrap(ctx, w.l, theMaster, next); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(ctx, w.l, Options{Master: theMaster}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("the former master: %v", err)
	}
	w.o.Master = next
	w.restart()
	if r, err := w.Request(ctx, id); err != nil || !bytes.Contains(r.Body, []byte("one")) {
		t.Errorf("%s %v", r.Body, err)
	}
	l, err := ledger.Open(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Rewrap(ctx, l, theMaster, next); !fault.Is(err, fault.NotFound) {
		t.Errorf("without a queue: %v", err)
	}
}

// TestErase: without its master the queue begins anew, and nothing else of the ledger is touched.
func TestErase(t *testing.T) {
	w, ctx := start(t, Options{}), t.Context()
	w.add("a", "one")
	w.add("b", "two")
	object := ledger.Object{ID: "file_1", Kind: "file", App: "a", Created: w.now}
	if err := w.l.Own(ctx, object); err != nil {
		t.Fatal(err)
	}
	if n, err := Erase(ctx, w.l); n != 2 || err != nil {
		t.Fatalf("%d %v", n, err)
	}
	if made, err := Made(ctx, w.l); made || err != nil {
		t.Errorf("%v %v", made, err)
	}
	w.o.Master = master(bytes.Repeat([]byte{9}, 32))
	w.restart()
	if len(w.List()) != 0 {
		t.Error("something is left")
	}
	w.add("a", "three")
	if all, err := w.l.Objects(ctx, []string{object.ID}); err != nil || len(all) != 1 {
		t.Errorf("whose an object is was lost: %v %v", all, err)
	}
}
