// Package footprint fits the memory of a process to a gateway's work: many small requests, little that lives long. It makes the collector
// run by a fixed headroom instead of a share of what is live, and gives back the pages of the program file that only the start needed.
//
// It never bounds memory, never changes what a program computes, and has effect on the whole process. app calls it for a process that is
// a gateway and nothing else.
package footprint

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// Headroom is how much may be allocated between two collections, in bytes. With Go's own rule a process of 4 MiB collects each 4 MiB. What
// is alive beyond Roomy takes from it, down to Tight, so that a process with much alive does not also have much garbage.
const (
	Headroom = 14 << 20
	Roomy    = 10 << 20
	Tight    = 8 << 20
)

// least is the share of the live heap, in percent, that may be allocated however large it is.
const least = 25

// Collector is the rule in force. Its zero value is not usable.
type Collector struct {
	former  int
	now     atomic.Int64
	stopped atomic.Bool
}

// mark is freed by every collection, which is how that is noticed.
type mark struct{ _ [16]byte }

// Tune puts the rule in force until Stop. Where GOGC is set, a person has decided: then it gives nil, whose Stop does nothing.
func Tune(getenv func(string) string) *Collector {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return nil
	}
	c := &Collector{}
	first := percent(held())
	c.now.Store(int64(first))
	c.former = debug.SetGCPercent(first)
	c.arm()
	return c
}

// Stop brings Go's own rule back.
func (c *Collector) Stop() {
	if c != nil && !c.stopped.Swap(true) {
		debug.SetGCPercent(c.former)
	}
}

func (c *Collector) arm() {
	runtime.AddCleanup(new(mark), func(c *Collector) {
		if c.stopped.Load() {
			return
		}
		// Setting it stops the world for a moment, so only a real change does.
		if next := int64(percent(held())); next > c.now.Load()*9/8 || next < c.now.Load()*8/9 {
			c.now.Store(next)
			debug.SetGCPercent(int(next))
		}
		c.arm()
	}, c)
}

// held gives what the last collection found alive, and what it looked through besides: stacks and global variables. Both are in bytes.
func held() (live, roots uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(s)
	for i := range s {
		if s[i].Value.Kind() != metrics.KindUint64 {
			return 0, 0
		}
	}
	return s[0].Value.Uint64(), s[1].Value.Uint64() + s[2].Value.Uint64()
}

// percent gives the share that stands for the headroom: Go takes it of the live heap and the roots together. Go's own least goal, 4 MiB,
// grows with it, so less than that counts as that.
func percent(live, roots uint64) int {
	room := uint64(Headroom)
	if live > Roomy {
		room = max(Tight, room-min(room, live-Roomy))
	}
	return int(max(room*100/max(live+roots, 4<<20), least)) //nolint:gosec // It is 350 at most.
}
