// Package canary compares the answers of two versions of a key while both are in use, and finds when the new one does worse than the old one.
//
// The comparison looks at what came last, so that a version that turns bad late is found about as soon as one that was bad from the start. Answers
// are gathered in slots; a slot ends when each version has slotAnswers in it, so both versions of a slot were asked over the same span of time,
// and a span with little traffic is longer. The versions are compared within each slot, and the differences of several slots are added up
// (as Cochran, Mantel and Haenszel do). Trouble of the provider itself, which meets both, therefore makes no difference, neither when it begins
// nor when it ends, nor when the share of the new version changes meanwhile.
//
// At the end of a slot it looks back over the last 10, 20, 40, 80 and 160 slots and over the whole canary, as far as there are minAnswers of each
// version in them. The new one does worse when over one of these spans
//
//   - its failures are more than margin above those of the old one, and by more than chance makes of as many answers of equal versions in a case of a
//     million (chanceOnce). That is reckoned with the inequalities of Chernoff and Bennett, which hold for few failures too; so a canary of 30,000
//     requests, with six looks for each of at most 750 slots, stops by chance in less than one case of 200; or
//   - the middle latency of its good answers is more than factor times that of the old one beyond latencyDeviations standard deviations, and more
//     than slower longer. The middle is the mean of logarithms, in which one slow answer does not weigh more than many fast ones. Requests of one
//     session are alike, so that chance is reckoned by sessions where there are fewer sessions than answers.
//
// It never acts, keeps no time and has no lock. Called by gateway.
package canary

import (
	"math"
	"math/bits"
	"time"
)

// The rules; see the package comment.
const (
	slotAnswers       = 20
	minAnswers        = 200
	margin            = 0.02
	chanceOnce        = 1e-6
	factor            = 1.5
	latencyDeviations = 3
	slower            = 50 * time.Millisecond
)

// spans are the numbers of slots that are looked back over, besides the whole canary.
var spans = [...]int{10, 20, 40, 80, keptSlots}

const keptSlots = 160

// Version is one of the two that are compared.
type Version int

// The versions.
const (
	Old Version = iota
	New
)

// Answer is what a version answered to a request. Only what came of the first attempt of a request may be counted: repeated attempts share their fate.
type Answer struct {
	// Bad is a failure that a version can be blamed for; Good is an answer whose latency counts. An answer may be neither.
	Bad, Good bool
	// Took is how long the answer took.
	Took time.Duration
	// Session is a hash of the session that the request belongs to.
	Session uint64
}

// Finding is that the new version does worse, and what was seen over the span in which it does.
type Finding struct {
	// Slower is whether it does worse by latency, else by failures.
	Slower bool
	// Answers, Bad and Middle are of the span, for the old and the new version: how many answers, how many of them bad, and the middle latency of
	// the good ones, zero without any.
	Answers, Bad [2]int
	Middle       [2]time.Duration
}

// Comparison is one canary from its beginning. Its zero value is ready for use. It is used by one goroutine at a time, holds a bounded amount of memory, and
// allocates nothing.
type Comparison struct {
	open  [2]tally
	all   sums
	ring  [keptSlots]sums
	next  int // in the ring
	slots int // in the ring
}

// tally counts the answers of one version in the open slot. Latency is in logarithms of seconds, of good answers.
type tally struct {
	n, bad, good  int
	logs, squares float64
	sessions      uint64
}

// sums are what a closed slot says. They can be added up.
type sums struct {
	n, bad, good [2]int
	logs         [2]float64
	sessions     [2]uint64 // a bit for each, so that their number can be estimated

	// Of failures: how many more the new version has than its part of all failures of the slot, the weight that makes a difference of rates of that, and
	// the variance that it has by chance.
	excess, weight, chance float64
	// Of latency: the difference times its weight, the weight, and the squares and the degrees of freedom within the versions.
	later, laterWeight, within float64
	free                       int
}

// Count takes in an answer. It gives what was found, when a slot has ended with it and the new version does worse.
func (c *Comparison) Count(v Version, a Answer) (Finding, bool) {
	t := &c.open[v]
	t.n++
	switch {
	case a.Bad:
		t.bad++
	case a.Good:
		l := math.Log(max(a.Took.Seconds(), 1e-6))
		t.good, t.logs, t.squares = t.good+1, t.logs+l, t.squares+l*l
		t.sessions |= 1 << (a.Session % 64)
	}
	if min(c.open[Old].n, c.open[New].n) < slotAnswers {
		return Finding{}, false
	}
	c.Split()
	return c.look()
}

// Split ends the open slot. It is for a change of the share: requests before and after it are not of the same mixture.
func (c *Comparison) Split() {
	s := compare(c.open[Old], c.open[New])
	c.open = [2]tally{}
	c.all.add(&s)
	c.ring[c.next] = s
	c.next, c.slots = (c.next+1)%keptSlots, min(c.slots+1, keptSlots)
}

// compare compares the versions within a slot.
func compare(was, is tally) (s sums) {
	for v, t := range [2]tally{was, is} {
		s.n[v], s.bad[v], s.good[v], s.logs[v], s.sessions[v] = t.n, t.bad, t.good, t.logs, t.sessions
	}
	if n0, n1 := float64(was.n), float64(is.n); min(n0, n1) > 0 {
		n, bad := n0+n1, float64(was.bad+is.bad)
		s.excess, s.weight = float64(is.bad)-bad*n1/n, n0*n1/n
		s.chance = n0 * n1 * bad * (n - bad) / (n * n * (n - 1))
	}
	if g0, g1 := float64(was.good), float64(is.good); min(g0, g1) > 0 {
		s.laterWeight = g0 * g1 / (g0 + g1)
		s.later = s.laterWeight * (is.logs/g1 - was.logs/g0)
		s.within = max(0, was.squares-was.logs*was.logs/g0) + max(0, is.squares-is.logs*is.logs/g1)
		s.free = was.good + is.good - 2
	}
	return s
}

func (s *sums) add(o *sums) {
	for v := range 2 {
		s.n[v] += o.n[v]
		s.bad[v] += o.bad[v]
		s.good[v] += o.good[v]
		s.logs[v] += o.logs[v]
		s.sessions[v] |= o.sessions[v]
	}
	s.excess += o.excess
	s.weight += o.weight
	s.chance += o.chance
	s.later += o.later
	s.laterWeight += o.laterWeight
	s.within += o.within
	s.free += o.free
}

// look looks back over each span, the shortest first.
func (c *Comparison) look() (Finding, bool) {
	var s sums
	at := 0
	for _, span := range spans {
		if span > c.slots {
			break
		}
		for ; at < span; at++ {
			s.add(&c.ring[(c.next-1-at+keptSlots)%keptSlots])
		}
		if f, worse := s.judge(); worse {
			return f, true
		}
	}
	return c.all.judge()
}

func (s *sums) judge() (Finding, bool) {
	fails := s.failsMore()
	if !fails && !s.isSlower() {
		return Finding{}, false
	}
	f := Finding{Slower: !fails, Answers: s.n, Bad: s.bad}
	for v := range 2 {
		if s.good[v] > 0 {
			f.Middle[v] = seconds(math.Exp(s.logs[v] / float64(s.good[v])))
		}
	}
	return f, true
}

func (s *sums) failsMore() bool {
	if min(s.n[Old], s.n[New]) < minAnswers || s.chance == 0 || s.excess <= margin*s.weight {
		return false
	}
	return s.unlikely() > -math.Log(chanceOnce)
}

// unlikely gives how unlikely such an excess, or a larger one, is for equal versions: at most exp(-unlikely). Both inequalities hold, so the stronger one
// counts: Chernoff's for few failures, Bennett's where most requests fail. The excess and its variance are above zero.
func (s *sums) unlikely() float64 {
	bad, is := float64(s.bad[Old]+s.bad[New]), float64(s.bad[New])
	was, expected := bad-is, is-s.excess
	chernoff := is * math.Log(is/expected)
	if was > 0 {
		chernoff += was * math.Log(was/(bad-expected))
	}
	u := s.excess / s.chance
	return max(chernoff, s.chance*((1+u)*math.Log1p(u)-u))
}

func (s *sums) isSlower() bool {
	if min(s.good[Old], s.good[New]) < minAnswers || s.free <= 0 {
		return false
	}
	was, later := s.logs[Old]/float64(s.good[Old]), s.later/s.laterWeight
	if seconds(math.Exp(was+later)-math.Exp(was)) < slower {
		return false
	}
	chance, alike := s.within/float64(s.free)/s.laterWeight, 1.0
	for v := range 2 {
		alike = max(alike, float64(s.good[v])/sessions(s.sessions[v]))
	}
	return later-latencyDeviations*math.Sqrt(chance*alike) > math.Log(factor)
}

// sessions estimates how many different sessions set the bits (linear counting). From 200 or so on every bit is set, and they count as any number.
func sessions(set uint64) float64 {
	if set == math.MaxUint64 {
		return math.Inf(1)
	}
	return max(1, 64*math.Log(64/float64(64-bits.OnesCount64(set))))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
