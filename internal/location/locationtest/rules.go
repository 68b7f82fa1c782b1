package locationtest

import (
	"context"
	"sync"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

func rules() []rule {
	return []rule{
		{"an empty place is no error", emptyPlace},
		{"what was put is inspected", putThenInspect},
		{"knowledge is honest", honestKnowledge},
		{"the revision marks the state", revisions},
		{"putting twice succeeds", putTwice},
		{"a foreign value is never overwritten unseen", conflictOnForeignValue},
		{"a foreign neighbour is never lost", foreignNeighbour},
		{"a digest that is not held is a conflict", conflictOnDigest},
		{"an expected absence is checked", absentExpectation},
		{"an expected presence is checked", presentExpectation},
		{"no expectation overwrites", noExpectation},
		{"neighbours stay byte-identical", neighboursStay},
		{"values of every length are kept exactly", everyLength},
		{"odd bytes are kept exactly or refused", oddBytes},
		{"two puts at once leave one winner", concurrentPuts},
		{"methods may run at once", concurrentCalls},
		{"a cancelled context writes nothing", cancelled},
		{"a new driver sees the same place", restart},
		{"reading gives the held value", reading},
		{"a staged value is invisible until promoted", stageIsInvisible},
		{"staging twice succeeds", stageTwice},
		{"promoting twice succeeds", promoteTwice},
		{"promoting after a foreign change is a conflict", promoteConflict},
		{"staging checks the expectation", stageConflict},
		{"unstaging takes back only our own", unstageOwn},
		{"restoring goes back", restoring},
		{"restoring after a foreign change is a conflict", restoreConflict},
		{"removing erases our old copies", removeOwn},
		{"removing leaves foreign copies", removeForeign},
		{"one reload per id", reloadOnce},
		{"confirming counts the consumers", confirming},
		{"checking writes nothing", checking},
		{"the address names the place", addressing},
		{"faults have the right kind", faultKinds},
		{"a lost reply is settled by looking", lostReply},
		{"nothing leaks", leaks},
	}
}

func emptyPlace(x *run) {
	h := x.inspect()
	if h.Present || h.Known() || h.Pending != nil {
		x.Errorf("a fresh place is said to hold something: %+v", h)
	}
	if x.place.Held != nil {
		if _, ok := x.place.Held(x.TB); ok {
			x.Error("Inspect made the place hold something")
		}
	}
	if again := x.inspect(); again.Revision != h.Revision {
		x.Errorf("the revision of an untouched place changed from %q to %q", h.Revision, again.Revision)
	}
}

func putThenInspect(x *run) {
	before := x.inspect()
	v := x.value()
	r, err := x.place.Driver.Put(x.ctx, v, location.ExpectHolding(before))
	x.record(r, err)
	if err != nil {
		x.Fatalf("put: %v", err)
	}
	x.holds("after a put into an empty place", v)
	h := x.inspect()
	if r.Revision != "" && h.Revision != "" && r.Revision != h.Revision {
		x.Errorf("the receipt's revision is %q, the place's is %q", r.Revision, h.Revision)
	}
	w := x.value()
	r, err = x.place.Driver.Put(x.ctx, w, location.ExpectHolding(h))
	x.record(r, err)
	if err != nil {
		x.Fatalf("put over a value: %v", err)
	}
	x.holds("after a put over a value", w)
	if r.Replaced != "" && h.Revision != "" && r.Replaced != h.Revision {
		x.Errorf("the receipt replaced %q, the place was %q", r.Replaced, h.Revision)
	}
}

func honestKnowledge(x *run) {
	_, _, h := x.hold()
	if h.How != x.h.How {
		x.Errorf("after our own put, How is %q; possible here is %q", h.How, x.h.How)
	}
	sane := func(when string, h location.Holding) {
		x.Helper()
		switch h.How {
		case location.ReadBack:
			if h.Present && !h.Digest.Known() {
				x.Errorf("%s: read back without a digest", when)
			}
		case location.Label, location.Signed:
			if h.Present && !h.Known() {
				x.Errorf("%s: %s without a fingerprint", when, h.How)
			}
		case location.ChangedAt:
			if h.Known() || h.Present && h.ChangedAt.IsZero() {
				x.Errorf("%s: changed-at with more or less than a time: %+v", when, h)
			}
		case location.Nothing:
			if h.Known() || !h.ChangedAt.IsZero() {
				x.Errorf("%s: unverifiable, and yet: %+v", when, h)
			}
		default:
			x.Errorf("%s: How is %q, which is no sort of knowledge", when, h.How)
		}
		if h.Digest.Known() && h.Fingerprint != "" && h.Fingerprint != h.Digest.Fingerprint() {
			x.Errorf("%s: digest and fingerprint disagree", when)
		}
	}
	sane("after a put", h)
	if x.place.Overwrite == nil {
		return
	}
	foreign := x.value()
	x.place.Overwrite(x.TB, foreign)
	h = x.inspect()
	sane("after a foreign change", h)
	if h.How == location.ReadBack && !h.Holds(foreign.Digest()) {
		x.Error("after a foreign change: read back, and not what is there")
	}
}

func revisions(x *run) {
	empty := x.inspect()
	v, _, first := x.hold()
	x.need(first.Revision != "", "a revision")
	if again := x.inspect(); again.Revision != first.Revision {
		x.Error("the revision changed without a change")
	}
	w, _, second := x.hold()
	if second.Revision == first.Revision || first.Revision == empty.Revision {
		x.Error("a put left the revision as it was")
	}
	if x.place.Overwrite != nil {
		x.place.Overwrite(x.TB, x.value())
		if h := x.inspect(); h.Revision == second.Revision {
			x.Error("a foreign change left the revision as it was")
		}
	}
	_, _ = v, w
}

func putTwice(x *run) {
	v, _, h := x.hold()
	same := x.neighbours()
	for range 2 {
		if err := x.tryPut(v, location.ExpectHolding(h)); err != nil {
			x.Fatalf("put of what is held: %v", err)
		}
		x.holds("after a repeated put", v)
		h = x.inspect()
	}
	if err := x.tryPut(v, location.Expect{}); err != nil {
		x.Errorf("put of what is held, without an expectation: %v", err)
	}
	same("after repeated puts")
}

func conflictOnForeignValue(x *run) {
	x.need(x.place.Overwrite != nil, "foreign changes")
	_, _, h := x.hold()
	x.need(comparable(h), "telling one state from another")
	foreign := x.value()
	x.place.Overwrite(x.TB, foreign)
	same := x.neighbours()
	if now := x.inspect(); now.Revision == h.Revision && now.Holds(h.Digest) {
		x.need(false, "seeing a foreign change")
	}
	x.wantKind("put after a foreign change", x.tryPut(x.value(), location.ExpectHolding(h)), fault.Conflict)
	x.really("after the conflict", foreign)
	same("after the conflict")
}

func foreignNeighbour(x *run) {
	x.need(x.place.Disturb != nil && x.place.Neighbours != nil, "foreign changes of neighbours")
	v, _, h := x.hold()
	x.place.Disturb(x.TB)
	same := x.neighbours()
	w := x.value()
	if err := x.tryPut(w, location.ExpectHolding(h)); err != nil {
		x.wantKind("put after a change of a neighbour", err, fault.Conflict)
		x.really("after the conflict", v)
	} else {
		x.really("after the put", w)
	}
	same("after a put that met a change of a neighbour")
	if err := x.tryPut(w, location.ExpectHolding(x.inspect())); err != nil {
		x.Errorf("put after looking again: %v", err)
	}
	same("after looking again")
}

func conflictOnDigest(x *run) {
	v, _, h := x.hold()
	x.need(h.Known(), "knowing what is held")
	other := x.value()
	e := location.Expect{Checked: true, Digest: other.Digest()}
	x.wantKind("put expecting another digest", x.tryPut(x.value(), e), fault.Conflict)
	x.really("after the conflict", v)
}

func absentExpectation(x *run) {
	v := x.value()
	if err := x.tryPut(v, location.Expect{Checked: true, Absent: true}); err != nil {
		x.Fatalf("put into an empty place that was expected empty: %v", err)
	}
	x.holds("after the put", v)
	x.need(x.h.How != location.Nothing, "knowing whether anything is held")
	x.wantKind("put expecting nothing where something is", x.tryPut(x.value(), location.Expect{Checked: true, Absent: true}), fault.Conflict)
	x.really("after the conflict", v)
}

func presentExpectation(x *run) {
	x.need(x.h.How != location.Nothing, "knowing whether anything is held")
	other := x.value()
	x.wantKind("put expecting a value where nothing is", x.tryPut(x.value(), location.Expect{Checked: true, Digest: other.Digest()}), fault.Conflict, fault.NotFound)
	if x.place.Held != nil {
		if _, ok := x.place.Held(x.TB); ok {
			x.Error("the refused put wrote")
		}
	}
}

func noExpectation(x *run) {
	if x.place.Overwrite != nil {
		x.place.Overwrite(x.TB, x.value())
	}
	v := x.value()
	if err := x.tryPut(v, location.Expect{}); err != nil {
		x.Fatalf("put without an expectation: %v", err)
	}
	x.holds("after the put", v)
}

func neighboursStay(x *run) {
	x.need(x.place.Neighbours != nil, "neighbours")
	same := x.neighbours()
	if len(x.place.Neighbours(x.TB)) == 0 {
		x.Fatal("the harness makes places without neighbours; leave Neighbours nil if there are none")
	}
	x.inspect()
	same("after an inspect")
	x.hold()
	same("after a first put")
	old, _, h := x.hold()
	same("after a second put")
	if _, ok := x.place.Driver.(location.Stager); ok {
		v := x.value()
		r := x.stage(v, location.ExpectHolding(h))
		same("after staging")
		if u, ok := x.place.Driver.(location.Unstager); ok {
			if err := u.Unstage(x.ctx, r); err != nil {
				x.Errorf("unstage: %v", err)
			}
			same("after unstaging")
			r = x.stage(v, location.ExpectHolding(x.inspect()))
		}
		if _, err := x.stager().Promote(x.ctx, r); err != nil {
			x.Errorf("promote: %v", err)
		}
		same("after promoting")
	} else {
		x.hold()
	}
	if m, ok := x.place.Driver.(location.Remover); ok {
		if err := m.Remove(x.ctx, old.Digest()); err != nil {
			x.Errorf("remove: %v", err)
		}
		same("after removing")
	}
}

func everyLength(x *run) {
	h := x.inspect()
	for _, n := range []int{1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 64, 107, 108, 109, 127, 128, 129, 255, 256, 511, 512} {
		if n > x.h.Longest {
			break
		}
		v := x.valueOf(n)
		if err := x.tryPut(v, location.ExpectHolding(h)); err != nil {
			x.Fatalf("put of %d bytes: %v", n, err)
		}
		x.holds("after a put", v)
		h = x.inspect()
	}
}

func oddBytes(x *run) {
	x.need(x.place.Held != nil, "an independent look")
	for _, s := range []string{"a b", " a", "a ", `"a"`, "'", `a"b`, "$HOME", "${A}", "$(id)", "`id`", "a#b", "a # b", "=", "a=b", `\`, `a\n`, `a\`, "a\nb", "\n", "a\r", "a\tb", "a\x00b", "\xff\xfe", "é", "%s%n", "null", "0", "{}", "{{.}}", "!a", "~"} {
		held, _, h := x.hold()
		same := x.neighbours()
		v := x.register(secret.New([]byte(s)))
		if err := x.tryPut(v, location.ExpectHolding(h)); err != nil {
			x.wantKind("put of odd bytes", err, fault.Invalid)
			x.really("after refusing odd bytes", held)
		} else {
			x.holds("after a put of odd bytes", v)
		}
		same("after a put of odd bytes")
		if x.Failed() {
			x.Fatalf("the odd bytes were %q", s)
		}
	}
}

func concurrentPuts(x *run) {
	for _, fresh := range []bool{true, false} {
		if !fresh {
			x.hold()
		}
		e := location.ExpectHolding(x.inspect())
		same := x.neighbours()
		const n = 4
		var values [n]secret.Value
		var errs [n]error
		var wg sync.WaitGroup
		for i := range n {
			values[i] = x.value()
			d := x.place.Again()
			wg.Go(func() { _, errs[i] = d.Put(x.ctx, values[i], e) })
		}
		wg.Wait()
		wins := 0
		var won, held secret.Value
		digest := x.heldDigest()
		for i, err := range errs {
			x.record(err)
			if err == nil {
				wins++
				won = values[i]
			} else {
				x.wantKind("the put that lost", err, fault.Conflict)
			}
			if values[i].Digest().Same(digest) {
				held = values[i]
				if err != nil {
					x.Error("the place holds a value whose put was refused")
				}
			}
		}
		if wins == 0 || x.h.CAS && wins != 1 {
			x.Errorf("of %d puts with the same expectation %d won", n, wins)
		}
		switch {
		case digest.Known() && held.IsZero():
			x.Error("after puts at once the place holds none of the values")
		case digest.Known():
			x.holds("after puts at once", held)
		case wins == 1:
			x.holds("after puts at once", won)
		}
		same("after puts at once")
	}
}

func concurrentCalls(x *run) {
	v, _, h := x.hold()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if i%3 == 0 {
				err := x.tryPut(v, location.ExpectHolding(h))
				if err != nil && !fault.Is(err, fault.Conflict) {
					x.Errorf("put of what is held, at once with others: %v", err)
				}
				return
			}
			got, err := x.place.Driver.Inspect(x.ctx)
			x.record(got, err)
			if err != nil || !got.Present && got.How != location.Nothing || got.Known() && !got.Holds(v.Digest()) {
				x.Errorf("inspect at once with puts of the same value: %+v, %v", got, err)
			}
		})
	}
	wg.Wait()
	x.holds("after calls at once", v)
}

func cancelled(x *run) {
	v, _, h := x.hold()
	same := x.neighbours()
	ctx, cancel := context.WithCancel(x.ctx)
	cancel()
	_, err := x.place.Driver.Put(ctx, x.value(), location.ExpectHolding(h))
	x.wantKind("put with a cancelled context", err, fault.Canceled)
	x.really("after it", v)
	if s, ok := x.place.Driver.(location.Stager); ok {
		_, err := s.Stage(ctx, x.value(), location.ExpectHolding(h))
		x.wantKind("stage with a cancelled context", err, fault.Canceled)
		x.really("after it", v)
	}
	if now := x.inspect(); now.Revision != h.Revision {
		x.Errorf("a cancelled call moved the revision from %q to %q", h.Revision, now.Revision)
	}
	same("after cancelled calls")
}

func restart(x *run) {
	v, _, h := x.hold()
	d := x.place.Again()
	again := x.inspectBy(d)
	if again.Revision != h.Revision || again.How != h.How || again.Known() != h.Known() || h.Known() && !again.Holds(v.Digest()) {
		x.Errorf("a new driver sees %+v, the old one saw %+v", again, h)
	}
	w := x.value()
	r, err := d.Put(x.ctx, w, location.ExpectHolding(h))
	x.record(r, err)
	if err != nil {
		x.Fatalf("put by a new driver: %v", err)
	}
	x.holds("after a put by a new driver", w)
}
