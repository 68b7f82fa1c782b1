package locationtest

import (
	"bytes"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

func reading(x *run) {
	rd, ok := x.place.Driver.(location.Reader)
	x.need(ok, "reading")
	_, err := rd.Read(x.ctx)
	x.wantKind("read of an empty place", err, fault.NotFound)
	v, _, _ := x.hold()
	got, err := rd.Read(x.ctx)
	x.record(err)
	if err != nil {
		x.Fatalf("read: %v", err)
	}
	if !got.Equal(v) {
		x.Error("read gave another value than was put")
	}
	if x.place.Overwrite != nil {
		foreign := x.value()
		x.place.Overwrite(x.TB, foreign)
		if got, err := rd.Read(x.ctx); err != nil || !got.Equal(foreign) {
			x.Errorf("read after a foreign change gave something else (%v)", err)
		}
	}
}

// pending gives what is staged with this value, or nil.
func pending(h location.Holding, v secret.Value) *location.Pending {
	if h.Pending != nil && h.Pending.Digest.Same(v.Digest()) {
		return h.Pending
	}
	return nil
}

func stageIsInvisible(x *run) {
	s := x.stager()
	v, _, h := x.hold()
	w := x.value()
	r := x.stage(w, location.ExpectHolding(h))
	x.holds("after staging another value", v)
	h = x.inspect()
	if p := pending(h, w); h.How != location.Nothing && (p == nil || !p.Ours) {
		x.Errorf("Inspect does not show what was staged as ours: %+v", h.Pending)
	}
	p, err := s.Promote(x.ctx, r)
	x.record(p, err)
	if err != nil {
		x.Fatalf("promote: %v", err)
	}
	x.holds("after promoting", w)
	if h := x.inspect(); h.Pending != nil {
		x.Errorf("something is still staged after promoting: %+v", h.Pending)
	}
}

func stageTwice(x *run) {
	s := x.stager()
	v, _, h := x.hold()
	w := x.value()
	x.stage(w, location.ExpectHolding(h))
	again := x.stage(w, location.ExpectHolding(x.inspect()))
	x.holds("after staging twice", v)
	if _, err := s.Promote(x.ctx, again); err != nil {
		x.Fatalf("promote by the second receipt: %v", err)
	}
	x.holds("after promoting", w)
}

func promoteTwice(x *run) {
	s := x.stager()
	_, _, h := x.hold()
	w := x.value()
	r := x.stage(w, location.ExpectHolding(h))
	for range 2 {
		p, err := s.Promote(x.ctx, r)
		x.record(p, err)
		if err != nil {
			x.Fatalf("promote: %v", err)
		}
		x.holds("after promoting", w)
	}
	// A restarted process promotes with the receipt from the journal.
	d, ok := x.place.Again().(location.Promoter)
	if !ok {
		x.Fatal("a new driver cannot promote")
	}
	if _, err := d.Promote(x.ctx, r); err != nil {
		x.Errorf("promote by a new driver: %v", err)
	}
	x.holds("after promoting again", w)
}

func promoteConflict(x *run) {
	s := x.stager()
	x.need(x.place.Overwrite != nil, "foreign changes")
	_, _, h := x.hold()
	r := x.stage(x.value(), location.ExpectHolding(h))
	foreign := x.value()
	x.place.Overwrite(x.TB, foreign)
	same := x.neighbours()
	_, err := s.Promote(x.ctx, r)
	x.wantKind("promote after a foreign change", err, fault.Conflict)
	x.really("after the conflict", foreign)
	same("after the conflict")
}

func stageConflict(x *run) {
	s := x.stager()
	x.need(x.place.Overwrite != nil, "foreign changes")
	_, _, h := x.hold()
	x.need(comparable(h), "telling one state from another")
	foreign := x.value()
	x.place.Overwrite(x.TB, foreign)
	v := x.value()
	_, err := s.Stage(x.ctx, v, location.ExpectHolding(h))
	x.wantKind("stage after a foreign change", err, fault.Conflict)
	x.really("after the conflict", foreign)
	if pending(x.inspect(), v) != nil {
		x.Error("the refused value is staged")
	}
}

func unstageOwn(x *run) {
	x.stager()
	u, ok := x.place.Driver.(location.Unstager)
	x.need(ok, "unstaging")
	v, _, h := x.hold()
	w := x.value()
	r := x.stage(w, location.ExpectHolding(h))
	for range 2 {
		if err := u.Unstage(x.ctx, r); err != nil {
			x.Fatalf("unstage: %v", err)
		}
		x.holds("after unstaging", v)
		if h := x.inspect(); h.Pending != nil {
			x.Errorf("something is still staged: %+v", h.Pending)
		}
	}
	if x.place.StageForeign == nil || x.h.How == location.Nothing {
		return
	}
	foreign := x.value()
	x.place.StageForeign(x.TB, foreign)
	if p := pending(x.inspect(), foreign); p == nil || p.Ours {
		x.Errorf("a foreign staged value is not shown as foreign: %+v", p)
	}
	if err := u.Unstage(x.ctx, r); err != nil {
		x.Errorf("unstage beside a foreign staged value: %v", err)
	}
	if pending(x.inspect(), foreign) == nil {
		x.Error("unstaging took away a foreign staged value")
	}
}

func restoring(x *run) {
	rs, ok := x.place.Driver.(location.Restorer)
	x.need(ok, "restoring")
	v, _, h := x.hold()
	w := x.value()
	r, _ := x.put(w, location.ExpectHolding(h))
	same := x.neighbours()
	back, err := rs.Restore(x.ctx, r)
	x.record(back, err)
	if err != nil {
		x.Fatalf("restore: %v", err)
	}
	x.holds("after restoring", v)
	same("after restoring")
}

func restoreConflict(x *run) {
	rs, ok := x.place.Driver.(location.Restorer)
	x.need(ok, "restoring")
	x.need(x.place.Overwrite != nil, "foreign changes")
	_, _, h := x.hold()
	r, _ := x.put(x.value(), location.ExpectHolding(h))
	foreign := x.value()
	x.place.Overwrite(x.TB, foreign)
	_, err := rs.Restore(x.ctx, r)
	x.wantKind("restore after a foreign change", err, fault.Conflict)
	x.really("after the conflict", foreign)
}

// kept reports whether the place keeps a copy of v.
func (x *run) kept(v secret.Value) bool {
	found := false
	v.Reveal(func(want []byte) {
		for _, c := range x.place.Copies(x.TB) {
			found = found || bytes.Contains(c, want)
		}
	})
	return found
}

func removeOwn(x *run) {
	rm, ok := x.place.Driver.(location.Remover)
	x.need(ok, "removing")
	old, _, _ := x.hold()
	held, _, _ := x.hold()
	same := x.neighbours()
	for range 2 {
		if err := rm.Remove(x.ctx, old.Digest()); err != nil {
			x.Fatalf("remove: %v", err)
		}
		x.holds("after removing the old value", held)
		if x.place.Copies != nil && x.kept(old) {
			x.Error("a copy of the old value is still there")
		}
	}
	never := x.value()
	if err := rm.Remove(x.ctx, never.Digest()); err != nil {
		x.Errorf("remove of what never was there: %v", err)
	}
	x.holds("after removing what never was there", held)
	same("after removing")
}

func removeForeign(x *run) {
	rm, ok := x.place.Driver.(location.Remover)
	x.need(ok, "removing")
	x.need(x.place.Overwrite != nil && x.place.Copies != nil, "foreign copies")
	x.hold()
	foreign := x.value()
	x.place.Overwrite(x.TB, foreign)
	x.hold()
	x.need(x.kept(foreign), "copies of foreign values")
	if err := rm.Remove(x.ctx, foreign.Digest()); err != nil {
		x.record(err)
	}
	if !x.kept(foreign) {
		x.Error("removing erased a value that Keywright did not write")
	}
}

func reloadOnce(x *run) {
	rl, ok := x.place.Driver.(location.Reloader)
	x.need(ok, "reloading")
	x.hold()
	reload := func(id string) int {
		before := 0
		if x.place.Reloads != nil {
			before = x.place.Reloads(x.TB)
		}
		if err := rl.Reload(x.ctx, id); err != nil {
			x.record(err)
			x.Fatalf("reload: %v", err)
		}
		if x.place.Settle != nil {
			x.place.Settle(x.TB)
		}
		if x.place.Reloads == nil {
			return 0
		}
		return x.place.Reloads(x.TB) - before
	}
	first, again, other := reload("r1"), reload("r1"), reload("r2")
	if x.place.Reloads == nil {
		return
	}
	if first == 0 || other == 0 {
		x.Errorf("a reload with a new id restarted %d and %d consumers", first, other)
	}
	if x.h.ReloadsOnce && again != 0 {
		x.Errorf("a repeated reload restarted %d consumers", again)
	}
}

func confirming(x *run) {
	c, ok := x.place.Driver.(location.Confirmer)
	x.need(ok, "confirming")
	v, _, _ := x.hold()
	if rl, ok := x.place.Driver.(location.Reloader); ok {
		if err := rl.Reload(x.ctx, "confirming"); err != nil {
			x.Fatalf("reload: %v", err)
		}
	}
	if x.place.Settle != nil {
		x.place.Settle(x.TB)
	}
	got, err := c.Confirm(x.ctx, v.Digest())
	x.record(got, err)
	if err != nil {
		x.Fatalf("confirm: %v", err)
	}
	sum := func(got location.Confirmation) {
		x.Helper()
		if got.Taken+got.Old+got.Unknown != got.Running || min(got.Taken, got.Old, got.Unknown) < 0 {
			x.Errorf("the counts do not add up: %+v", got)
		}
	}
	sum(got)
	if got.How == location.ReadBack && !got.Complete() {
		x.Errorf("the reloaded consumers have another value: %+v", got)
	}
	never := x.value()
	got, err = c.Confirm(x.ctx, never.Digest())
	x.record(got, err)
	if err != nil {
		x.Fatalf("confirm: %v", err)
	}
	sum(got)
	if got.Taken != 0 {
		x.Errorf("%d consumers are said to have a value that is nowhere", got.Taken)
	}
}

func checking(x *run) {
	c, ok := x.place.Driver.(location.Checker)
	x.need(ok, "checking")
	for range 2 {
		before := x.inspect()
		same := x.neighbours()
		for _, err := range c.Check(x.ctx) {
			x.record(err)
			x.Errorf("check of a healthy place: %v", err)
		}
		if now := x.inspect(); now.Present != before.Present || now.Revision != before.Revision {
			x.Error("checking changed the place")
		}
		same("after checking")
		x.hold()
	}
}

func addressing(x *run) {
	a, ok := x.place.Driver.(location.Addresser)
	x.need(ok, "an address")
	first := a.Address()
	x.record(first)
	if first == "" {
		x.Error("the address is empty")
	}
	x.hold()
	again, ok := x.place.Again().(location.Addresser)
	if !ok || again.Address() != first || a.Address() != first {
		x.Error("the address is not the same for the same place")
	}
	if other, ok := x.h.New(x.TB).Driver.(location.Addresser); !ok || other.Address() == first {
		x.Error("two places have the same address")
	}
}
