package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
)

// Record is what a gateway says about the use of values: of those that it may use now, and of those that left its set. It is what a rotation takes
// for evidence: a value that left cannot be used again without coming back into the set, which is recorded before it is in force.
type Record struct {
	// Since is when the record begins. Of uses before it nothing is known.
	Since time.Time `json:"since"`
	Now   time.Time `json:"now"`
	// InUse are the values of the set in force, Left those that were in one.
	InUse []ValueInUse `json:"in_use"`
	Left  []LeftValue  `json:"left"`
}

// ValueInUse is a value that requests may use. Requests and LastUse count from the start of the process.
type ValueInUse struct {
	Key      apikey.Name   `json:"key"`
	Digest   apikey.Digest `json:"digest"`
	InFlight int64         `json:"in_flight"`
	Requests int64         `json:"requests"`
	LastUse  time.Time     `json:"last_use,omitzero"`
}

// LeftValue is a value that no request uses that begins later than Left. The last one that used it began at LastUse and ended at Drained, which is
// zero while it runs.
type LeftValue struct {
	Key      apikey.Name   `json:"key"`
	Digest   apikey.Digest `json:"digest"`
	Requests int64         `json:"requests"`
	LastUse  time.Time     `json:"last_use,omitzero"`
	Left     time.Time     `json:"left"`
	Drained  time.Time     `json:"drained,omitzero"`
}

// mostLeft bounds how many values are remembered that left, the newest.
const mostLeft = 256

// leftValues is the record of values that left, which the state file keeps.
type leftValues struct {
	mu    sync.Mutex
	since time.Time
	list  []LeftValue
}

// load takes over what the state file of a former process says, whose requests have all ended.
func (l *leftValues) load(since time.Time, list []LeftValue) {
	now := time.Now().UTC()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since = since; since.IsZero() {
		l.since = now
	}
	l.list = slices.Clone(list)
	for i := range l.list {
		if l.list[i].Drained.IsZero() {
			l.list[i].Drained = now
		}
	}
}

func (l *leftValues) kept() (since time.Time, list []LeftValue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since, slices.Clone(l.list)
}

// leave notes that a value leaves the set.
func (l *leftValues) leave(name apikey.Name, st *keyState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(st.digest)
	l.list = append(l.list, LeftValue{Key: name, Digest: st.digest, Requests: st.used.Load(), LastUse: st.last(), Left: time.Now().UTC()})
	if len(l.list) > mostLeft {
		l.list = slices.Delete(l.list, 0, len(l.list)-mostLeft)
	}
}

// back notes that a value is in the set again.
func (l *leftValues) back(d apikey.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(d)
}

func (l *leftValues) remove(d apikey.Digest) {
	l.list = slices.DeleteFunc(l.list, func(v LeftValue) bool { return v.Digest == d })
}

// drained notes that the last request on a value has ended.
func (l *leftValues) drained(st *keyState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		if l.list[i].Digest == st.digest {
			l.list[i].Requests, l.list[i].LastUse, l.list[i].Drained = st.used.Load(), st.last(), time.Now().UTC()
		}
	}
}

// last gives the begin of the last request on a value, or zero.
func (s *keyState) last() time.Time {
	at := s.lastUse.Load()
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at).UTC()
}

// Record gives the record of now.
func (g *Gateway) Record() Record {
	r := Record{Now: time.Now().UTC(), InUse: []ValueInUse{}, Left: []LeftValue{}}
	// The record is read before the set: what comes back between the two is seen in both.
	since, left := g.left.kept()
	r.Since, r.Left = since, append(r.Left, left...)
	for _, e := range g.set.Load().entries {
		r.InUse = append(r.InUse, ValueInUse{Key: e.Name, Digest: e.digest, InFlight: e.inFlight.Load(), Requests: e.used.Load(), LastUse: e.last()})
	}
	return r
}
