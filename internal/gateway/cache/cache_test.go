package cache

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

func TestCache(t *testing.T) {
	now := time.Unix(1000, 0)
	c := New(80<<10, 10*time.Minute)
	body := bytes.Repeat([]byte("x"), 9<<10)
	put := func(k byte, at time.Time) { c.Put(Key{k}, Answer{Body: body, At: at}) }
	has := func(k byte, at time.Time) bool { _, ok := c.Get(Key{k}, at); return ok }
	for k := range byte(8) {
		put(k, now.Add(time.Duration(k)*time.Minute))
	}
	// Eight do not fit: the oldest made room.
	if n, b := c.Size(); n != 8 || b != 8*(9<<10+overhead) {
		t.Fatalf("%d, %d", n, b)
	}
	put(8, now.Add(8*time.Minute))
	if n, b := c.Size(); n != 8 || b > 80<<10 || has(0, now.Add(8*time.Minute)) || !has(1, now.Add(8*time.Minute)) {
		t.Fatalf("%d, %d", n, b)
	}
	// A new answer takes the place of the old one.
	put(1, now.Add(9*time.Minute))
	if n, _ := c.Size(); n != 8 || !has(1, now.Add(18*time.Minute)) {
		t.Error("it was not replaced")
	}
	if has(8, now.Add(18*time.Minute)) || has(2, now.Add(12*time.Minute)) {
		t.Error("given after its time")
	}
	put(9, now.Add(30*time.Minute))
	if n, _ := c.Size(); n != 1 {
		t.Errorf("%d are kept, though too old", n)
	}
	c.Put(Key{10}, Answer{Body: make([]byte, 11<<10), At: now.Add(30 * time.Minute)})
	if has(10, now.Add(30*time.Minute)) {
		t.Error("too large, and kept")
	}
}

// TestLimit: smaller bounds drop what is beyond them, the oldest first, and larger ones keep more.
func TestLimit(t *testing.T) {
	now := time.Unix(1000, 0)
	c := New(0, 0)
	put := func(k byte, size int) {
		c.Put(Key{k}, Answer{Body: make([]byte, size), At: now.Add(time.Duration(k) * time.Minute)})
	}
	has := func(k byte, at time.Duration) bool { _, ok := c.Get(Key{k}, now.Add(at)); return ok }
	put(0, 1)
	if n, _ := c.Size(); n != 0 || c.Largest() != 0 {
		t.Error("a cache without room kept something")
	}
	c.Limit(80<<10, 10*time.Minute)
	for k := range byte(4) {
		put(k, 9<<10)
	}
	c.Limit(20<<10, 10*time.Minute)
	if n, b := c.Size(); n != 2 || b > 20<<10 || has(1, 0) || !has(2, 0) || !has(3, 0) || c.Largest() != 20<<10/8 {
		t.Errorf("%d, %d", n, b)
	}
	c.Limit(80<<10, time.Minute)
	if has(2, 3*time.Minute+30*time.Second) || !has(3, 3*time.Minute+30*time.Second) {
		t.Error("the shorter time does not hold for what was there")
	}
	c.Limit(16<<20, time.Hour)
	if put(5, 1<<20); !has(5, 6*time.Minute) {
		t.Error("a larger answer has no room")
	}
}

func TestCacheFromManyGoroutines(t *testing.T) {
	c := New(64<<10, time.Minute)
	now := time.Now()
	var wg sync.WaitGroup
	for g := range byte(8) {
		wg.Go(func() {
			for i := range byte(200) {
				c.Put(Key{g, i}, Answer{Body: []byte{g, i}, At: now})
				if a, ok := c.Get(Key{g, i}, now); ok && !bytes.Equal(a.Body, []byte{g, i}) {
					t.Error("another's answer")
				}
			}
		})
	}
	wg.Wait()
	if _, b := c.Size(); b > 64<<10 {
		t.Errorf("%d bytes", b)
	}
}
