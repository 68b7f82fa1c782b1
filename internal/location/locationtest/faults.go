package locationtest

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// allowed gives the kinds that an error of the bare driver may have. none is true where success is an answer too.
func allowed(f Fault, put bool) (kinds []fault.Kind, none bool) {
	switch f.Status {
	case 401:
		return []fault.Kind{fault.Unauthenticated}, false
	case 403:
		return []fault.Kind{fault.Forbidden}, false
	case 404:
		// Inspect may take it for an empty place.
		return []fault.Kind{fault.NotFound, fault.Conflict}, !put
	case 409:
		if !put || !f.OnWrite {
			return []fault.Kind{fault.Conflict, fault.Unavailable, fault.Unknown}, false
		}
		return []fault.Kind{fault.Conflict}, false
	case 429:
		return []fault.Kind{fault.RateLimited}, false
	case 500:
		if put {
			return []fault.Kind{fault.Unavailable, fault.Indeterminate}, false
		}
		return []fault.Kind{fault.Unavailable}, false
	}
	switch {
	case f.Cut:
		return []fault.Kind{fault.Indeterminate}, false
	case f.Garbage && put:
		// The status said success; a driver that needs nothing from the body may believe it.
		return []fault.Kind{fault.Indeterminate, fault.Unknown, fault.Corrupt, fault.Unavailable, fault.Invalid}, true
	case f.Garbage:
		return []fault.Kind{fault.Unknown, fault.Corrupt, fault.Unavailable, fault.Invalid}, false
	}
	return nil, false
}

func faultKinds(x *run) {
	x.need(x.place.Break != nil && len(x.h.Faults) > 0, "faults")
	for _, f := range x.h.Faults {
		if !f.OnWrite {
			x.faultOnInspect(f)
		}
		x.faultOnPut(f)
	}
}

// fresh starts over with a new place, so that a fault that was not used up cannot hit the next one.
func (x *run) fresh() {
	x.place = x.h.New(x.TB)
	if x.place.Again == nil {
		d := x.place.Driver
		x.place.Again = func() location.Driver { return d }
	}
}

func (x *run) faultOnInspect(f Fault) {
	x.Helper()
	x.fresh()
	x.hold()
	x.place.Break(x.TB, f)
	if f.Hang {
		ctx, cancel := context.WithTimeout(x.ctx, x.h.Patience)
		defer cancel()
		_, err := x.location().Inspect(ctx)
		x.wantKind("inspect: "+f.String(), err, fault.Unavailable)
		return
	}
	h, err := x.place.Driver.Inspect(x.ctx)
	x.record(h, err)
	x.judge("inspect", f, err, false)
}

func (x *run) judge(what string, f Fault, err error, put bool) {
	x.Helper()
	kinds, none := allowed(f, put)
	if err == nil && none {
		return
	}
	x.wantKind(what+": "+f.String(), err, kinds...)
	if f.Status == 429 && x.h.RetryAfter && fault.RetryAfterOf(err) != RetryAfterSeconds*time.Second {
		x.Errorf("%s: %s: retry after %v, want %d s", what, f, fault.RetryAfterOf(err), RetryAfterSeconds)
	}
}

func (x *run) faultOnPut(f Fault) {
	x.Helper()
	x.fresh()
	old, _, h := x.hold()
	same := x.neighbours()
	v := x.value()
	x.place.Break(x.TB, f)
	var err error
	if f.Hang {
		ctx, cancel := context.WithTimeout(x.ctx, x.h.Patience)
		defer cancel()
		_, _, err = x.location().Put(ctx, v, location.ExpectHolding(h))
		x.wantKind("put: "+f.String(), err, fault.Unavailable, fault.Indeterminate)
	} else {
		var r location.Receipt
		r, err = x.place.Driver.Put(x.ctx, v, location.ExpectHolding(h))
		x.record(r, err)
		x.judge("put", f, err, true)
	}
	same("after a put: " + f.String())
	if x.place.Held == nil {
		return
	}
	x.truthful("put: "+f.String(), err, old, v)
}

// truthful fails when the error and the place disagree on whether the change was applied.
func (x *run) truthful(what string, err error, old, v secret.Value) {
	x.Helper()
	switch d := x.heldDigest(); {
	case d.Same(v.Digest()):
		if err != nil && !fault.Is(err, fault.Indeterminate) && !fault.Is(err, fault.Unknown) && !fault.Is(err, fault.Corrupt) {
			x.Errorf("%s: the change was applied, and the error says that it was not: %v", what, err)
		}
	case d.Same(old.Digest()):
		if err == nil {
			x.Errorf("%s: success, and nothing was applied", what)
		}
	default:
		x.Errorf("%s: the place holds neither the old value nor the new one", what)
	}
}

func lostReply(x *run) {
	cut := Fault{Cut: true, OnWrite: true}
	can := false
	for _, f := range x.h.Faults {
		can = can || f == cut
	}
	x.need(can && x.place.Break != nil, "a cut reply")
	x.need(x.h.How == location.ReadBack || x.h.How == location.Label, "looking")
	_, _, h := x.hold()
	v := x.value()
	x.place.Break(x.TB, cut)
	r, h, err := x.location().Put(x.ctx, v, location.ExpectHolding(h))
	x.record(r, h, err)
	if err != nil || !h.Holds(v.Digest()) {
		x.Errorf("a put that was applied and not answered: %v", err)
	}
	x.holds("after a lost reply", v)
	if _, ok := x.place.Driver.(location.Stager); !ok {
		return
	}
	w := x.value()
	x.place.Break(x.TB, cut)
	staged, h, err := x.location().Stage(x.ctx, w, location.ExpectHolding(h))
	x.record(staged, h, err)
	if err != nil {
		x.Fatalf("a stage that was applied and not answered: %v", err)
	}
	x.place.Break(x.TB, cut)
	r, h, err = x.location().Promote(x.ctx, staged, w.Digest())
	x.record(r, h, err)
	if err != nil {
		x.Errorf("a promote that was applied and not answered: %v", err)
	}
	x.holds("after a lost reply to a promote", w)
}

// leaks provokes every error it can; the search follows at the end of the rule, as of every rule.
func leaks(x *run) {
	held, r, h := x.hold()
	wrong := location.Expect{Checked: true, Digest: x.value().Digest(), Revision: "no such revision"}
	x.record(x.tryPut(x.value(), wrong))
	x.record(x.tryPut(x.value(), location.Expect{Checked: true, Absent: true}))
	x.record(x.tryPut(x.register(secret.New([]byte(held.RevealString()+"\n\x00"))), location.ExpectHolding(h)))
	bogus := location.Receipt{Revision: "no such revision", Replaced: "nor this one"}
	if s, ok := x.place.Driver.(location.Stager); ok {
		got, err := s.Stage(x.ctx, x.value(), wrong)
		x.record(got, err)
	}
	if p, ok := x.place.Driver.(location.Promoter); ok {
		got, err := p.Promote(x.ctx, bogus)
		x.record(got, err)
	}
	if p, ok := x.place.Driver.(location.Restorer); ok {
		got, err := p.Restore(x.ctx, bogus)
		x.record(got, err)
	}
	if a, ok := x.place.Driver.(location.Addresser); ok {
		x.record(a.Address())
	}
	if a, ok := x.place.Driver.(location.Instructor); ok {
		x.record(a.Instructions(held.Fingerprint()))
	}
	x.record(r, x.inspect())
	if x.place.Break == nil {
		return
	}
	for _, f := range x.h.Faults {
		if f.Hang {
			continue
		}
		x.fresh()
		x.hold()
		x.place.Break(x.TB, f)
		x.record(x.tryPut(x.value(), location.Expect{}))
		if rd, ok := x.place.Driver.(location.Reader); ok && !f.OnWrite {
			x.place.Break(x.TB, f)
			_, err := rd.Read(x.ctx)
			x.record(err)
		}
	}
}
