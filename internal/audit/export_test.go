package audit_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
)

func export(t testing.TB, s *audit.Signer, entries []audit.Entry, checkpoints ...audit.Checkpoint) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := audit.Export(&out, audit.Verifier{Store: store, Checkpoints: checkpoints}, each(entries), s, noon); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestExport(t *testing.T) {
	s := signer(t)
	entries := record(t, 7)
	at3 := must(s.Sign(entries[2], noon))
	file := export(t, s, entries, at3)
	if lines := bytes.Count(file, []byte("\n")); lines != 1+7+2+1 {
		t.Errorf("%d lines", lines)
	}
	r, err := audit.VerifyExport(bytes.NewReader(file), audit.Verifier{Keys: []ed25519.PublicKey{s.Public()}})
	if err != nil || r.Entries != 7 || r.Store != store || r.Inside == nil || r.Inside.Seq != 7 || r.Outside != nil || r.KeysFromFile {
		t.Errorf("%v, %+v", err, r)
	}
	r, err = audit.VerifyExport(bytes.NewReader(file), audit.Verifier{})
	if err != nil || !r.KeysFromFile || !strings.Contains(strings.Join(r.Statement(), "\n"), "from the file itself") {
		t.Errorf("without keys: %v, %v", err, r.Statement())
	}
	r, err = audit.VerifyExport(bytes.NewReader(file), verifier(s, nil, []audit.Checkpoint{at3}))
	if err != nil || r.Outside == nil || r.Outside.Seq != 3 {
		t.Errorf("with a witness: %v, %+v", err, r)
	}
	if _, err = audit.VerifyExport(bytes.NewReader(file), verifier(signer(t), nil, nil)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("with another key: %v", err)
	}
	other := verifier(s, nil, nil)
	other.Store = "s_other"
	if _, err = audit.VerifyExport(bytes.NewReader(file), other); !fault.Is(err, fault.Corrupt) {
		t.Errorf("as another store: %v", err)
	}
	moved := slices.Collect(bytes.Lines(file))
	moved[4], moved[5] = moved[5], moved[4]
	r, err = audit.VerifyExport(bytes.NewReader(bytes.Join(moved, nil)), verifier(s, nil, nil))
	if err == nil || !strings.Contains(r.Problems[0].Text, "does not stand behind its entry") {
		t.Errorf("a checkpoint behind another entry: %v", err)
	}
	if r, err := audit.VerifyExport(bytes.NewReader(export(t, s, nil)), verifier(s, nil, nil)); err != nil || r.Entries != 0 {
		t.Errorf("an empty record: %v", err)
	}
	// An older export witnesses a record that was cut since.
	marks, err := audit.ReadCheckpoints(bytes.NewReader(file))
	if err != nil || len(marks) != 2 {
		t.Fatalf("ReadCheckpoints: %v, %v", marks, err)
	}
	if _, err := verifier(s, nil, marks).Verify(each(entries[:5])); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a cut record against an older export: %v", err)
	}
}

func TestExportSignsNoDamage(t *testing.T) {
	s := signer(t)
	entries := record(t, 5)
	entries[2].Event.Text = "else"
	var out bytes.Buffer
	_, err := audit.Export(&out, audit.Verifier{Store: store}, each(entries), s, noon)
	if !fault.Is(err, fault.Corrupt) || bytes.Contains(out.Bytes(), []byte("signature")) || bytes.Count(out.Bytes(), []byte("\n")) != 6 {
		t.Errorf("%v\n%s", err, out.Bytes())
	}
	if _, err := audit.VerifyExport(&out, verifier(s, nil, nil)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("VerifyExport: %v", err)
	}
	if _, err := audit.Export(&out, audit.Verifier{}, each(nil), s, noon); !fault.Is(err, fault.Invalid) {
		t.Errorf("no store: %v", err)
	}
	down := fault.New(fault.Unavailable, "read row")
	if _, err := audit.Export(&out, audit.Verifier{Store: store}, func(yield func(audit.Entry, error) bool) { yield(audit.Entry{}, down) }, s, noon); !errors.Is(err, down) {
		t.Errorf("the store goes away: %v", err)
	}
	if _, err := audit.Export(full{}, audit.Verifier{Store: store}, each(record(t, 1)), s, noon); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the disk is full: %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// Any single change of an export is found.
func TestEveryChangeOfAnExportIsFound(t *testing.T) {
	s := signer(t)
	entries := record(t, 2)
	file := export(t, s, entries, must(s.Sign(entries[0], noon)))
	found := func(t interface {
		Helper()
		Fatalf(string, ...any)
	}, changed []byte) {
		t.Helper()
		if bytes.Equal(changed, file) {
			return
		}
		if _, err := audit.VerifyExport(bytes.NewReader(changed), verifier(s, nil, nil)); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("not found (%v):\n%s", err, changed)
		}
	}
	for i := range file {
		b := slices.Clone(file)
		switch i % 4 { // each costs several signatures
		case 0, 1, 2:
			b[i] ^= []byte{1, 0x20, 0x80}[i%4]
			found(t, b)
		case 3:
			found(t, slices.Delete(b, i, i+1))
			found(t, file[:i])
		}
	}
	lines := slices.Collect(bytes.Lines(file))
	rapid.Check(t, func(t *rapid.T) {
		l := slices.Clone(lines)
		i, j := rapid.IntRange(0, len(l)-1).Draw(t, "i"), rapid.IntRange(0, len(l)-1).Draw(t, "j")
		switch rapid.IntRange(0, 5).Draw(t, "how") {
		case 0:
			l[i], l[j] = l[j], l[i]
		case 1:
			l = slices.Delete(l, i, i+1)
		case 2:
			l = slices.Insert(l, j, l[i])
		case 3:
			l = l[:i]
		case 4:
			l = slices.Insert(l, i, rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		case 5:
			l = slices.Insert(l, i, []byte("\n"))
		}
		found(t, bytes.Join(l, nil))
	})
}

func FuzzVerifyExport(f *testing.F) {
	s := signer(f)
	entries := record(f, 2)
	file := export(f, s, entries, must(s.Sign(entries[0], noon)))
	f.Add(file)
	f.Add([]byte{})
	f.Add([]byte("{\"export\":{}}\n"))
	for i := range 4 {
		f.Add(bytes.Join(bytes.SplitAfter(file, []byte("\n"))[i:], nil))
	}
	f.Add(append(bytes.Repeat([]byte("x"), 1<<20), file...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := audit.VerifyExport(bytes.NewReader(data), verifier(s, nil, nil))
		if err == nil && !bytes.Equal(data, file) {
			t.Errorf("another file verifies:\n%s", data)
		}
		_ = r.Statement()
		// Without keys of our own a forger may sign; it must still end in an answer.
		_, _ = audit.VerifyExport(bytes.NewReader(data), audit.Verifier{})
		_, _ = audit.ReadCheckpoints(bytes.NewReader(data))
		_, _ = audit.ParsePublicKeys(data)
		if e, err := audit.ParseEntry(data); err == nil && !bytes.Equal(e.Line(), data) {
			t.Errorf("ParseEntry took %q", data)
		}
	})
}

func TestFileWitness(t *testing.T) {
	s := signer(t)
	entries := record(t, 20)
	path := filepath.Join(t.TempDir(), "witness.jsonl")
	w := audit.NewFileWitness(path)
	if got, err := w.Read(t.Context()); err != nil || got != nil {
		t.Errorf("before the first: %v, %v", got, err)
	}
	var wg sync.WaitGroup
	for _, e := range entries {
		wg.Go(func() {
			if err := audit.NewFileWitness(path).Append(t.Context(), must(s.Sign(e, noon))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := w.Read(t.Context())
	if err != nil || len(got) != 20 {
		t.Fatalf("%d checkpoints, %v", len(got), err)
	}
	if r, err := verifier(s, nil, got).Verify(each(entries)); err != nil || r.Outside.Seq != 20 {
		t.Errorf("%v, %+v", err, r)
	}
	if info := must(os.Stat(path)); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}

	// A crash in the middle of an append.
	whole := must(os.ReadFile(path))
	for _, cut := range []int{len(whole) - 1, len(whole) - 40} {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := w.Read(t.Context())
		if err != nil || len(before) != 19 {
			t.Errorf("after a crash: %d, %v", len(before), err)
		}
		if err := w.Append(t.Context(), must(s.Sign(entries[0], noon))); err != nil {
			t.Error(err)
		}
		if after, err := w.Read(t.Context()); err != nil || len(after) < 20 || after[len(after)-1].Seq != 1 {
			t.Errorf("after the next append: %d, %v", len(after), err)
		}
	}
	if err := os.WriteFile(path, []byte(`{"seq":1}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Read(t.Context()); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a foreign line: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Append(ctx, got[0]); !fault.Is(err, fault.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := w.Read(ctx); !fault.Is(err, fault.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	dir := t.TempDir()
	if err := audit.NewFileWitness(dir).Append(t.Context(), got[0]); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a directory: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := audit.NewFileWitness(fifo).Append(t.Context(), got[0]); !fault.Is(err, fault.Invalid) {
		t.Errorf("a fifo: %v", err)
	}
	if err := audit.NewFileWitness("/dev/full").Append(t.Context(), got[0]); err == nil {
		t.Error("a full disk took a checkpoint")
	}
}

func BenchmarkVerify(b *testing.B) {
	s := signer(b)
	entries := record(b, 1000)
	for b.Loop() {
		if _, err := verifier(s, nil, nil).Verify(each(entries)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
}
