package runner_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/store"
)

// cpu gives the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// toDeploy is a plan that ends soon: no soak, no watch, a person's signature for the evidence.
func (w *world) toDeploy(names []string, batch int) rotation.Plan {
	p := w.plan(rotation.Manual)
	p.Places, p.Tests, p.Usage, p.Tell = nil, nil, false, false
	p.Soak, p.Watch, p.HealthWait, p.Parallel = 0, 0, 0, 64
	var batches [][]string
	for i, name := range names {
		p.Places = append(p.Places, rotation.Place{Name: name, Kind: "memory", Address: "memory:" + name, Can: rotation.Can{Read: true}})
		if i%batch == 0 {
			batches = append(batches, nil)
		}
		batches[len(batches)-1] = append(batches[len(batches)-1], name)
	}
	p.Waves = []rotation.Wave{{Name: "production", Production: true, Batches: batches}}
	return p
}

// quick drives a rotation without waiting for what is not there: each advance begins as soon as the last one ended.
func (w *world) quick(b *testing.B, id string, until func(rotation.Row) bool) {
	b.Helper()
	r := w.runner()
	for !until(w.row(id)) {
		if _, err := r.Advance(context.Background(), id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEffect measures what the engine itself costs for one effect on SQLite with a disk beneath: the processor time of a rotation whose
// places answer at once, divided by its effects. Target: at most 5 ms.
func BenchmarkEffect(b *testing.B) {
	w := newWorld(b, "a", "b", "c", "d", "e", "f", "g", "h")
	for b.Loop() {
		w.rotations++
		w.add(key, apikey.Spare)
		p := w.plan(rotation.Manual)
		p.ID, p.Soak, p.HealthWait, p.Watch, p.Usage = fmt.Sprintf("r-%d", w.rotations), 0, 0, 0, false
		p.Waves[1].Watch = 0
		effects := 0
		w.fault = func(point string, _ rotation.Effect) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if point == "before" {
				effects++
			}
			return nil
		}
		id := w.begin(p).ID
		before := cpu(b)
		w.quick(b, id, func(r rotation.Row) bool { return r.Status != rotation.Running })
		b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(effects), "cpu-ms/effect")
		b.ReportMetric(float64(effects), "effects")
		w.fault = nil
		w.signal(id, rotation.SignalSign, rotation.SignalData{Subject: "evidence"})
		w.quick(b, id, func(r rotation.Row) bool { return r.Status.Ended() })
	}
}

// BenchmarkWave500 measures a wave of 500 places of 50 ms for each call at parallelism 64. Each put is three calls, one after the other, so that the
// ideal is ⌈500/64⌉ × 3 × 50 ms. Target: at most 1.5 times that.
func BenchmarkWave500(b *testing.B) {
	const places, parallel, delay = 500, 64, 50 * time.Millisecond
	var names []string
	for i := range places {
		names = append(names, fmt.Sprintf("place-%03d", i))
	}
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, names...)
		p := w.toDeploy(names, places)
		id := w.begin(p).ID
		var first, last time.Time
		w.fault = func(point string, e rotation.Effect) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if e.Verb == rotation.Put {
				if first.IsZero() {
					first = time.Now()
				}
				last = time.Now()
			}
			return nil
		}
		for _, name := range names {
			w.places.Place(name).Delay("", delay)
		}
		b.StartTimer()
		w.quick(b, id, func(r rotation.Row) bool { return r.Status != rotation.Running })
		b.StopTimer()
		ideal := time.Duration((places+parallel-1)/parallel) * 3 * delay
		b.ReportMetric(last.Sub(first).Seconds(), "wave-s")
		b.ReportMetric(float64(last.Sub(first))/float64(ideal), "x-ideal")
		b.StartTimer()
	}
}

// resident gives the memory of this process that is in use, in MiB.
func resident(b *testing.B) float64 {
	b.Helper()
	runtime.GC()
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc")
	}
	pages, err := strconv.Atoi(strings.Fields(string(raw))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / (1 << 20)
}

// BenchmarkSoak1000 measures a poller over 1,000 rotations in soak, for ten seconds in which one of 360 looks at its places as it does in a real
// day. Target: below 100 MiB and 1 % of a core.
func BenchmarkSoak1000(b *testing.B) {
	const rotations, span = 1000, 10 * time.Second
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, "a")
		w.soaking(b, rotations)
		ctx, cancel := context.WithTimeout(context.Background(), span)
		before := cpu(b)
		b.StartTimer()
		if err := (&runner.Poller{Runner: w.runner()}).Run(ctx); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		cancel()
		looked := 0
		for i := range 10 {
			if row := w.row(fmt.Sprintf("r-key-%04d", i)); row.Fence > 0 {
				looked++
			}
		}
		if looked < 2 {
			b.Fatalf("%d rotations looked at their places", looked)
		}
		b.ReportMetric(float64(looked), "looks")
		b.ReportMetric(100*float64(cpu(b)-before)/float64(span), "%-core")
		b.ReportMetric(resident(b), "RSS-MiB")
		b.StartTimer()
	}
}

// soaking makes rotations that flipped long ago and look at their places once an hour, spread over the hour.
func (w *world) soaking(b *testing.B, n int) {
	b.Helper()
	for i := range n {
		k := apikey.Name(fmt.Sprintf("key-%04d", i))
		old, fresh := w.add(k, apikey.Previous), w.add(k, apikey.Current)
		name := "place-" + string(k)
		w.elsewhere.Place(name).Overwrite(w.vault.values[fresh.ID])
		p := w.plan(rotation.Manual)
		p.ID, p.Key, p.Backup, p.Pairs, p.Old, p.Tests, p.Soak = "r-"+string(k), k, "", nil, old.ID, nil, 24*time.Hour
		p.Tell = false
		p.Places = []rotation.Place{{Name: name, Kind: "memory", Address: "memory:" + name, Can: rotation.Can{Read: true}}}
		p.Waves = []rotation.Wave{{Name: "production", Production: true, Batches: [][]string{{name}}}}
		// Looks fall due one after the other within an hour, as those of rotations that began at different times do.
		due := time.Now().Add(time.Hour * time.Duration(i) / time.Duration(n))
		flipped := due.Add(-time.Hour)
		w.update(func(tx *store.Tx) error {
			row := rotation.Row{ID: p.ID, Key: k, Kind: p.Kind, Status: rotation.Running, Plan: p, Created: flipped, Updated: flipped, WakeAt: due}
			if err := tx.CreateRotation(row); err != nil {
				return err
			}
			var past []rotation.Entry
			for range 60 {
				move := rotation.Next(p, past, flipped)
				for _, e := range move.Do {
					data := "{}"
					if e.Verb == rotation.Acquire {
						data = fmt.Sprintf(`{"version":%q}`, fresh.ID)
					}
					past = append(past, rotation.Entry{Type: rotation.Intended, Effect: e.ID, At: flipped}, rotation.Entry{Type: rotation.Made, Effect: e.ID, At: flipped, Data: []byte(data)})
				}
				if len(move.Do) == 0 {
					break
				}
			}
			return tx.Append(p.ID, 0, past...)
		})
	}
}
