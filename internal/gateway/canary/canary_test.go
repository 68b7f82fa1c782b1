package canary

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// traffic is what a simulated canary meets. Rates are of failures, at the i-th request.
type traffic struct {
	share    float64
	was, is  func(i int) float64
	took     func(r *rand.Rand, v Version, i int) time.Duration // nil leaves latency aside
	sessions int                                                // of each version; zero makes each request one of its own
}

func steady(rate float64) func(int) float64 { return func(int) float64 { return rate } }

// from changes the rate at a request.
func from(at int, before, after float64) func(int) float64 {
	return func(i int) float64 {
		if i < at {
			return before
		}
		return after
	}
}

// run gives the request at which a canary stopped, and what was found; most, when it did not.
func (t traffic) run(r *rand.Rand, most int) (int, Finding) {
	var c Comparison
	for i := range most {
		v, rate := Old, t.was
		if r.Float64() < t.share {
			v, rate = New, t.is
		}
		a := Answer{Bad: r.Float64() < rate(i), Session: r.Uint64()}
		if t.sessions > 0 {
			a.Session %= uint64(t.sessions)
		}
		if t.took != nil && !a.Bad {
			a.Good, a.Took = true, t.took(r, v, int(a.Session))
		}
		if f, worse := c.Count(v, a); worse {
			return i + 1, f
		}
	}
	return most, Finding{}
}

// TestEqualVersions: canaries of versions that are equal go on for 30,000 requests each, whatever the share and the provider's own trouble.
func TestEqualVersions(t *testing.T) {
	trouble := func(i int) float64 { // a third of the time, in stretches
		if i%3000 < 1000 {
			return 0.4
		}
		return 0.01
	}
	for seed, c := range []traffic{
		{share: 0.1, was: steady(0.01), is: steady(0.01)},
		{share: 0.5, was: steady(0.002), is: steady(0.002)},
		{share: 0.5, was: steady(0.2), is: steady(0.2)},
		{share: 0.5, was: trouble, is: trouble},
		{share: 0.99, was: trouble, is: trouble},
	} {
		r := rand.New(rand.NewPCG(1, uint64(seed)))
		for range 4 {
			if at, f := c.run(r, 30_000); at < 30_000 {
				t.Errorf("case %d stopped after %d requests: %+v", seed, at, f)
			}
		}
	}
}

// TestTurnsBadLate: what turns bad after 20,000 requests is found within as many requests as what is bad from the start.
func TestTurnsBadLate(t *testing.T) {
	const good = 20_000
	slow := func(after int) func(*rand.Rand, Version, int) time.Duration {
		n := 0
		return func(r *rand.Rand, v Version, _ int) time.Duration {
			took := time.Duration(float64(500*time.Millisecond) * math.Exp(r.NormFloat64()/2))
			if n++; v == New && n > after {
				took *= 3
			}
			return took
		}
	}
	for seed, c := range []struct {
		name        string
		early, late func() traffic
		bound       int // of both, in requests
	}{
		{"each tenth fails, at 50",
			func() traffic { return traffic{share: 0.5, was: steady(0.005), is: steady(0.1)} },
			func() traffic { return traffic{share: 0.5, was: steady(0.005), is: from(good, 0.005, 0.1)} }, 1500},
		{"each tenth fails, at 10",
			func() traffic { return traffic{share: 0.1, was: steady(0.005), is: steady(0.1)} },
			func() traffic { return traffic{share: 0.1, was: steady(0.005), is: from(good, 0.005, 0.1)} }, 3500},
		{"three times as slow",
			func() traffic { return traffic{share: 0.5, was: steady(0), is: steady(0), took: slow(0)} },
			func() traffic { return traffic{share: 0.5, was: steady(0), is: steady(0), took: slow(good)} }, 1500},
	} {
		r := rand.New(rand.NewPCG(2, uint64(seed)))
		early, late := 0, 0
		for range 4 {
			at, _ := c.early().run(r, c.bound)
			early = max(early, at)
			at, f := c.late().run(r, good+c.bound)
			late = max(late, at-good)
			if at < good {
				t.Errorf("%s: stopped while it was good: %+v", c.name, f)
			}
		}
		if early >= c.bound || late >= c.bound || float64(late) > 1.5*float64(early) {
			t.Errorf("%s: %d requests from the start, %d when it turned so", c.name, early, late)
		}
		t.Logf("%s: at most %d requests from the start, %d when it turned so", c.name, early, late)
	}
}

// TestWorseByLittle: within the margin it goes on, however many answers show it; beyond it stops, over the whole canary too.
func TestWorseByLittle(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 0))
	if at, f := (traffic{share: 0.5, was: steady(0.05), is: steady(0.06)}).run(r, 100_000); at < 100_000 {
		t.Errorf("one point more stopped it after %d: %+v", at, f)
	}
	if at, _ := (traffic{share: 0.5, was: steady(0.2), is: steady(0.235)}).run(r, 100_000); at == 100_000 {
		t.Error("three and a half points more went on")
	}
	if at, _ := (traffic{share: 0.5, was: steady(0.2), is: steady(0.228)}).run(r, 150_000); at == 150_000 || at < 2*keptSlots*slotAnswers {
		t.Errorf("little more than two points more: %d", at)
	}
	if at, f := (traffic{share: 0.5, was: steady(0.3), is: steady(0)}).run(r, 30_000); at < 30_000 {
		t.Errorf("a version that does better stopped after %d: %+v", at, f)
	}
}

// TestShareChange: trouble of the provider that begins with a larger share is not the new version's.
func TestShareChange(t *testing.T) {
	var c Comparison
	count := func(v Version, n int, bad func(i int) bool) {
		for i := range n {
			if f, worse := c.Count(v, Answer{Bad: bad(i)}); worse {
				t.Fatalf("%+v", f)
			}
		}
	}
	none, half := func(int) bool { return false }, func(i int) bool { return i%2 == 0 }
	for range 30 {
		count(Old, 1000, none)
		count(New, slotAnswers-1, none) // the slot stays open
		c.Split()
		count(Old, slotAnswers-1, half)
		count(New, 1000, half)
		c.Split()
	}
}

// TestSlower: the middle latency is compared beyond chance, and small differences are none.
func TestSlower(t *testing.T) {
	flat := func(d time.Duration) func(int) time.Duration {
		return func(i int) time.Duration { return d + time.Duration(i%10)*d/20 }
	}
	wide := func(i int) time.Duration {
		return time.Duration(float64(time.Second) * math.Pow(1000, float64(i%2)-0.4))
	}
	each := func(i int) uint64 { return uint64(i) }
	four := func(i int) uint64 { return uint64(i % 4) }
	for _, c := range []struct {
		name    string
		was, is func(i int) time.Duration
		n       int
		session func(i int) uint64
		want    bool
	}{
		{"twice as slow", flat(time.Second), flat(2 * time.Second), minAnswers, each, true},
		{"a third slower", flat(time.Second), flat(1300 * time.Millisecond), 400, each, false},
		{"too few answers", flat(time.Second), flat(5 * time.Second), minAnswers - 1, each, false},
		{"one answer in a hundred takes a minute", flat(time.Second), func(i int) time.Duration {
			if i%100 == 0 {
				return time.Minute
			}
			return flat(time.Second)(i)
		}, 400, each, false},
		{"so spread that chance may do it", flat(time.Second), wide, minAnswers, each, false},
		{"three milliseconds", flat(time.Millisecond), flat(4 * time.Millisecond), 400, each, false},
		{"so spread, from many sessions", wide, func(i int) time.Duration { return 5 * wide(i) }, 800, each, true},
		{"the same from four sessions", wide, func(i int) time.Duration { return 5 * wide(i) }, 800, four, false},
	} {
		var comparison Comparison
		found := false
		for i := range c.n {
			for v, took := range []func(int) time.Duration{c.was, c.is} {
				f, worse := comparison.Count(Version(v), Answer{Good: true, Took: took(i), Session: c.session(i)})
				found = found || worse
				if worse && !f.Slower {
					t.Errorf("%s: %+v", c.name, f)
				}
			}
		}
		if found != c.want {
			t.Errorf("%s: %v", c.name, found)
		}
	}
}

// TestFinding: it tells of the span in which the new version did worse, and of no other answers.
func TestFinding(t *testing.T) {
	var c Comparison
	for i := range 200_000 {
		bad := i >= 100_000 && i%2 == 1 && i%5 == 0
		if f, worse := c.Count(Version(i%2), Answer{Bad: bad, Good: !bad, Took: 100 * time.Millisecond}); worse {
			if f.Slower || f.Answers[Old] > 2*minAnswers || f.Answers[New] != f.Answers[Old] || f.Bad[Old] != 0 || f.Bad[New] < 20 || f.Bad[New] > 45 ||
				f.Middle[New].Round(time.Millisecond) != 100*time.Millisecond {
				t.Errorf("%+v", f)
			}
			return
		}
	}
	t.Error("nothing was found")
}

// TestUnlikely holds the bound against the exact chance (hypergeometric) of one slot: never less, and where it decides not much more.
func TestUnlikely(t *testing.T) {
	choose := func(n, k int) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return a - b - c
	}
	for _, c := range []struct{ n0, n1, bad int }{{200, 200, 20}, {1800, 200, 29}, {200, 200, 200}, {20, 200, 15}, {2000, 200, 8}} {
		exact := 0.0
		for x := min(c.bad, c.n1); x*(c.n0+c.n1) > c.bad*c.n1; x-- {
			exact += math.Exp(choose(c.n1, x) + choose(c.n0, c.bad-x) - choose(c.n0+c.n1, c.bad))
			s := compare(tally{n: c.n0, bad: c.bad - x}, tally{n: c.n1, bad: x})
			if bound := s.unlikely(); bound > -math.Log(exact)+1e-9 || exact < 1e-6 && exact > 1e-9 && bound < -0.6*math.Log(exact) {
				t.Errorf("%+v, %d with the new version: %.3f, exactly %.3f", c, x, bound, -math.Log(exact))
			}
		}
	}
}

// TestTooFew: slots that end early have too few answers to say anything, by failures or by latency.
func TestTooFew(t *testing.T) {
	for _, bad := range []bool{true, false} {
		var c Comparison
		for n := 2; n <= 2*minAnswers; n += 2 {
			for range 2 {
				c.Count(Old, Answer{Good: true, Took: time.Second})
				c.Count(New, Answer{Bad: bad, Good: !bad, Took: time.Hour})
			}
			c.Split()
			if _, worse := c.look(); worse != (n >= minAnswers) {
				t.Fatalf("bad %v: after %d answers: %v", bad, n, worse)
			}
		}
	}
}

// TestNothing: a version without answers cannot be compared, and counting costs no memory.
func TestNothing(t *testing.T) {
	var c Comparison
	c.Split()
	if n := testing.AllocsPerRun(10_000, func() {
		if f, worse := c.Count(New, Answer{Bad: true}); worse {
			t.Errorf("%+v", f)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	c.Split()
	if _, worse := c.look(); worse {
		t.Error("compared with nothing")
	}
	i := 0
	if n := testing.AllocsPerRun(10_000, func() {
		i++
		c.Count(Version(i%2), Answer{Good: true, Took: time.Second, Session: uint64(i)})
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	var c Comparison
	for i := range b.N {
		c.Count(Version(i%2), Answer{Good: true, Took: time.Second, Session: uint64(i)})
	}
}
