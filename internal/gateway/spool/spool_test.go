package spool

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// TestFilesAreEncrypted: what lies on the disk is not the body, and nothing is left of it behind.
func TestFilesAreEncrypted(t *testing.T) {
	dir := t.TempDir()
	s, err := New(dir, 4096, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("a large body ", 300_000)
	f, err := s.open(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	onDisk := make([]byte, len(body))
	if _, err := f.f.ReadAt(onDisk, 0); err != nil || bytes.Contains(onDisk, []byte("large body")) {
		t.Errorf("the file holds the body as it is (%v)", err)
	}
	back, _ := io.ReadAll(f.reader())
	if string(back) != body {
		t.Error("the body does not come back")
	}
	f.close()
	if s.Used() != 0 {
		t.Errorf("%d bytes are counted as kept", s.Used())
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v (%v)", names, err)
	}
}

// TestRead: a body comes back as often as it is read, from memory or from a file, once where there is no room, and is shown whole where it is kept.
func TestRead(t *testing.T) {
	for _, c := range []struct {
		name           string
		size           int
		most           int64
		spilled, again bool
	}{
		{"empty", 0, 1 << 20, false, true}, {"small", 100, 1 << 20, false, true}, {"large", 100_000, 1 << 20, true, true}, {"no room", 100_000, 10, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := New(t.TempDir(), 1024, c.most)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Repeat("x", c.size)
			var shown bytes.Buffer
			b, err := s.Read(httptest.NewRequest("POST", "/", strings.NewReader(text)), 1<<20, &shown)
			if err != nil {
				t.Fatal(err)
			}
			if b.Spilled() != c.spilled || b.Replayable() != c.again || b.Size() != int64(c.size) || c.again && shown.String() != text {
				t.Errorf("spilled %v, replayable %v, %d bytes, %d shown", b.Spilled(), b.Replayable(), b.Size(), shown.Len())
			}
			readers := 2
			if !c.again {
				readers = 1
			}
			for range readers {
				r := b.Reader()
				got, err := io.ReadAll(r)
				r.Close()
				if err != nil || string(got) != text {
					t.Errorf("%d bytes came back (%v)", len(got), err)
				}
			}
			late := b.Reader()
			b.Done()
			if c.spilled && s.Used() == 0 {
				t.Error("the file went while it was read")
			}
			late.Close()
			if s.Used() != 0 {
				t.Errorf("%d bytes are still kept", s.Used())
			}
		})
	}
}

// TestReadIsBounded: a body larger than its route takes is refused, with its length said or not.
func TestReadIsBounded(t *testing.T) {
	s, err := New(t.TempDir(), 1024, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{10, 5000} {
		for _, said := range []int64{6000, -1} {
			r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 6000)))
			r.ContentLength = said
			if _, err := s.Read(r, limit, nil); !errors.Is(err, ErrTooLarge) {
				t.Errorf("limit %d, said %d: %v", limit, said, err)
			}
		}
	}
	if s.Used() != 0 {
		t.Errorf("%d bytes are still kept", s.Used())
	}
}
