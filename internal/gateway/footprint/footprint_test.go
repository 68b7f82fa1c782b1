package footprint

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		live, roots uint64
		want        int
	}{
		{0, 0, 350}, {mb, mb, 350}, {7 * mb, 0, 200}, {6 * mb, mb, 200}, {8 * mb, 2 * mb, 140}, {10 * mb, 0, 140}, {12 * mb, 4 * mb, 75}, {20 * mb, 0, 40},
		{28 * mb, 8 * mb, 25}, {1 << 30, 0, least}, {1 << 40, 1 << 30, least},
	} {
		if got := percent(c.live, c.roots); got != c.want {
			t.Errorf("%d and %d bytes: %d %%, want %d", c.live, c.roots, got, c.want)
		}
	}
}

// kept keeps what a test allocates alive.
var kept [][]byte

// TestTune: with little alive the goal lies the headroom above it, and with much alive nearer than twice of it. Stop brings the former rule back.
func TestTune(t *testing.T) {
	none := func(string) string { return "" }
	if Tune(func(name string) string { return map[string]string{"GOGC": "100"}[name] }) != nil {
		t.Error("it is in force although a person has set GOGC")
	}
	(*Collector)(nil).Stop()
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	c := Tune(none)
	defer c.Stop()
	until := func(what string, ok func(live, goal uint64) bool) {
		t.Helper()
		deadline := time.NewTimer(time.Minute)
		defer deadline.Stop()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			runtime.GC()
			s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/goal:bytes"}}
			metrics.Read(s)
			if ok(s[0].Value.Uint64(), s[1].Value.Uint64()) {
				return
			}
			select {
			case <-tick.C:
			case <-deadline.C:
				t.Fatalf("%s: live %d, goal %d", what, s[0].Value.Uint64(), s[1].Value.Uint64())
			}
		}
	}
	until("little alive", func(live, goal uint64) bool { return goal > Headroom*3/4 && goal < live+2*Headroom })
	for range 100 {
		kept = append(kept, make([]byte, 1<<20))
	}
	until("much alive", func(live, goal uint64) bool { return live > 100<<20 && goal < live*3/2 })
	kept = nil
	until("little again", func(live, goal uint64) bool { return live < 50<<20 && goal > Headroom*3/4 && goal < live+2*Headroom })
	c.Stop()
	c.Stop()
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("the former rule is %d %%", got)
	}
}

// TestRelease: the program goes on as before, and no page of a file that could be written to is touched.
func TestRelease(t *testing.T) {
	if runtime.GOOS != "linux" {
		if Release() != 0 {
			t.Error("something was given back")
		}
		return
	}
	if _, err := os.Stat("/proc/self/smaps"); err != nil {
		t.Skip("there is no /proc/self/smaps")
	}
	words := strings.Fields(strings.Repeat("some words ", 1000))
	if freed := Release(); freed < 1<<20 {
		t.Errorf("%d bytes were given back", freed)
	}
	if len(words) != 2000 || words[1999] != "words" {
		t.Error("memory has changed")
	}
	runtime.GC()
}
