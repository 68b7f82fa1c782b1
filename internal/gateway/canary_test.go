package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// lone gives a gateway without keys.
func lone(t *testing.T) *Gateway {
	t.Helper()
	g, err := New(Options{Upstream: "http://127.0.0.1:1", Open: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// TestCanaryObserves: all attempts are shown, first attempts of the two versions are compared, and what is told names the answers that decided.
func TestCanaryObserves(t *testing.T) {
	g := lone(t)
	keys := []Key{{Value: secrettest.Fake(t)}, {Value: secrettest.Fake(t)}}
	was, is := keys[0].Value.Digest(), keys[1].Value.Digest()
	c, err := newCanary(Canary{ID: "c", Old: was, New: is, Share: 50}, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	const ok, forbidden = 200, 403
	for range 2000 { // good at first
		c.observe(g, was, ok, time.Second, true, "a")
		c.observe(g, is, ok, time.Second, true, "b")
		c.observe(g, apikey.Digest{1}, forbidden, time.Second, true, "b") // another key of the set
	}
	for range 1000 { // the attempts of one request share their fate
		c.observe(g, is, forbidden, time.Second, false, "b")
	}
	if c.stopped.Load() {
		t.Fatalf("stopped: %s", c.Stopped)
	}
	if n := testing.AllocsPerRun(100, func() { c.observe(g, was, ok, time.Second, true, "a") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	n := 0
	for ; n < 2000 && !c.stopped.Load(); n++ {
		c.observe(g, was, ok, time.Second, true, "a")
		c.observe(g, is, forbidden, time.Second, true, "b")
	}
	s := c.status()
	if !s.Stopped || s.Share != 0 || n > 300 || s.NewArm.Requests != int64(3000+n) || s.NewArm.Bad != int64(1000+n) || s.OldArm.Bad != 0 || s.OldArm.Requests < 2100 {
		t.Errorf("after %d: %+v", n, s)
	}
	if !strings.HasPrefix(s.Why, stoppedByErrors+": ") || !strings.Contains(s.Why, "0 of its last 200 requests, and 0 of 301 ") {
		t.Errorf("it says %q", s.Why)
	}
	if c.setShare(50); c.share.Load() != 0 {
		t.Error("a stopped canary got a share")
	}
	again, err := newCanary(Canary{ID: "c", Old: was, New: is, Share: 50}, keys, c)
	if err != nil || again != c || c.share.Load() != 0 {
		t.Errorf("%v, share %d", err, c.share.Load())
	}
}

// TestCanaryStopsBySlowness: a version that becomes slow is found, and the middle of both is told.
func TestCanaryStopsBySlowness(t *testing.T) {
	g := lone(t)
	keys := []Key{{Value: secrettest.Fake(t)}, {Value: secrettest.Fake(t)}}
	was, is := keys[0].Value.Digest(), keys[1].Value.Digest()
	c, err := newCanary(Canary{ID: "c", Old: was, New: is, Share: 50}, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 6000 && !c.stopped.Load(); i++ {
		took := time.Second
		if i >= 5000 {
			took = 4 * time.Second
		}
		c.observe(g, was, 200, time.Second, true, "a")
		c.observe(g, is, 200, took, true, "b")
	}
	if !strings.HasPrefix(c.Stopped, stoppedByLatency+": its last ") || !strings.HasSuffix(c.Stopped, ", at the same time, 1000 ms") {
		t.Errorf("it says %q", c.Stopped)
	}
}

// TestCanaryShareChanges: answers from before and behind a change of the share are not compared with each other.
func TestCanaryShareChanges(t *testing.T) {
	g := lone(t)
	keys := []Key{{Value: secrettest.Fake(t)}, {Value: secrettest.Fake(t)}}
	was, is := keys[0].Value.Digest(), keys[1].Value.Digest()
	c, err := newCanary(Canary{ID: "c", Old: was, New: is, Share: 10}, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	many := func(d apikey.Digest, n, failing int) {
		for i := range n {
			status := 200
			if i%2 < failing {
				status = 500
			}
			c.observe(g, d, status, time.Second, true, "a")
		}
	}
	for range 10 { // the provider is in trouble whenever the share is large
		many(was, 500, 0)
		many(is, 19, 0)
		c.setShare(90)
		many(was, 19, 1)
		many(is, 500, 1)
		c.setShare(10)
	}
	if c.stopped.Load() {
		t.Error(c.Stopped)
	}
}
