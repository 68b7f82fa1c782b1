package location

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// looks are the pauses before each further look at a place that still shows the state before a change; some places answer reads
// from a copy that lags.
var looks = [...]time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}

// Put makes the place hold v, and looks afterwards. Where the place has no revision it also looks before, since such a
// place cannot compare by itself. The Holding is what was seen last; its How says how far the change is verified. The Receipt
// is the driver's, also with an error after the write.
//
// Kinds: Conflict when the place is not in the expected state (nothing was written), or when it holds a third value
// afterwards; Indeterminate when it is not known whether the place holds v; Unavailable when nothing was applied. A reply that was
// lost or not understood is settled by looking, when the place can be read and ctx still runs.
func (l *Location) Put(ctx context.Context, v secret.Value, expect Expect) (Receipt, Holding, error) {
	o := change("put")
	if v.IsZero() {
		return Receipt{}, Holding{}, fault.Newf(fault.Invalid, "put %s: the value is empty", l.name)
	}
	t, err := l.takeTurn(ctx, o)
	if err != nil {
		return Receipt{}, Holding{}, err
	}
	defer t.release()
	o.turn = t
	if h, err := l.lookBefore(ctx, v, expect); err != nil {
		return Receipt{}, h, err
	}
	r, err := call(ctx, l, o, v, lend(v, func(ctx context.Context, own secret.Value) (Receipt, error) { return l.driver.Put(ctx, own, expect) }))
	if unsure(err) {
		return l.settle(ctx, o, v, v.Digest(), expect, err)
	}
	if err == nil {
		r, err = l.cleanReceipt(o.verb, r, v)
	}
	if err != nil {
		return r, Holding{}, err
	}
	h, err := l.verify(ctx, o, v, v.Digest(), expect, r)
	return r, h, err
}

// lookBefore refuses a change of a place that is not in the expected state and has no revision to compare with.
func (l *Location) lookBefore(ctx context.Context, v secret.Value, expect Expect) (Holding, error) {
	if !expect.Checked || expect.Revision != "" {
		return Holding{}, nil
	}
	h, err := l.inspect(ctx, v)
	if err != nil {
		return h, err
	}
	if h.How != Nothing && !expect.Matches(h) {
		return h, fault.New(fault.Conflict, fmt.Sprintf("put %s: it is not in the state that was seen before", l.name),
			fault.Hint("somebody changed it; look at it, then plan again"))
	}
	return h, nil
}

// verify looks until the place shows want. A place that cannot tell is believed.
func (l *Location) verify(ctx context.Context, o op, v secret.Value, want apikey.Digest, before Expect, r Receipt) (Holding, error) {
	for i := 0; ; i++ {
		h, err := l.inspect(ctx, v)
		if err != nil {
			return Holding{}, fault.Wrap(fault.Indeterminate, err, o.verb+" "+l.name+": it was accepted and could not be looked at")
		}
		if h.Holds(want) || h.How == Nothing || h.Present && !h.Known() {
			return h, nil
		}
		if !unchanged(h, before, r) {
			return h, fault.New(fault.Conflict, fmt.Sprintf("%s %s: it was accepted, and now the place holds another value", o.verb, l.name),
				fault.Hint("somebody else writes to this place at the same time"))
		}
		if i == len(looks) || !pause(ctx, looks[i]) {
			return h, fault.New(fault.Indeterminate, fmt.Sprintf("%s %s: it was accepted, and the place still shows its state from before", o.verb, l.name),
				fault.Hint("look again in a minute: the place may answer reads from an older copy"))
		}
	}
}

// unchanged reports whether h may be the state from before the change that r is the receipt of.
func unchanged(h Holding, before Expect, r Receipt) bool {
	switch {
	case h.Revision != "" && (h.Revision == r.Replaced || before.Checked && h.Revision == before.Revision):
		return true
	case !h.Present:
		return !before.Checked || before.Absent
	case h.Revision != "" && before.Revision != "":
		return false
	}
	return before.Checked && before.Digest.Known() && h.Holds(before.Digest)
}

// unsure reports whether looking may tell more than the error of a change does: its reply was lost, or was not understood.
func unsure(err error) bool {
	switch fault.KindOf(err) {
	case fault.Indeterminate, fault.Corrupt, fault.Unknown:
		return err != nil && !errors.Is(err, errPanicked)
	}
	return false
}

// settle finds out by looking what became of a change whose reply was lost or not understood.
func (l *Location) settle(ctx context.Context, o op, v secret.Value, want apikey.Digest, before Expect, lost error) (Receipt, Holding, error) {
	if ctx.Err() != nil {
		return Receipt{}, Holding{}, lost
	}
	h, err := l.inspect(ctx, v)
	switch {
	case err != nil:
		return Receipt{}, Holding{}, lost
	case h.Holds(want):
		return found(h, before), h, nil
	case !fault.Is(lost, fault.Indeterminate):
		return Receipt{}, h, lost
	case before.Checked && before.Revision != "" && h.Revision == before.Revision:
		return Receipt{}, h, fault.Wrap(fault.Unavailable, lost, o.verb+" "+l.name+": looked, and nothing was applied")
	case h.Known() && !unchanged(h, before, Receipt{}):
		return Receipt{}, h, fault.Wrap(fault.Conflict, lost, o.verb+" "+l.name+": looked, and the place holds another value")
	}
	return Receipt{}, h, lost
}

// found is the receipt of a change that was seen and never answered.
func found(h Holding, before Expect) Receipt {
	r := Receipt{Revision: h.Revision, Replaced: before.Revision, At: h.ChangedAt, Facts: map[string]string{"reply": "lost, seen by looking"}}
	maps.Copy(r.Facts, h.Facts)
	return r
}

func (l *Location) cleanReceipt(verb string, r Receipt, v secret.Value) (Receipt, error) {
	if carries(r.Revision, v) || carries(r.Replaced, v) {
		return Receipt{}, l.leaky(verb, "receipt")
	}
	r.Facts = withoutValues(r.Facts, v)
	return r, nil
}

// lend gives the driver a value of its own for as long as the call takes: a driver that is left behind when its time is over still has it, and
// cannot write nothing into a place after the caller destroyed the original.
func lend(v secret.Value, write func(ctx context.Context, own secret.Value) (Receipt, error)) func(context.Context) (Receipt, error) {
	own := v.Clone()
	return func(ctx context.Context) (Receipt, error) {
		defer own.Destroy()
		return write(ctx, own)
	}
}

// pause waits for d, or reports false when ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Stage writes v beside the held value without putting it in force. The Holding shows it as Pending where the place can tell. Kinds
// are those of Put. A lost reply is settled by staging the same again, which the contract makes harmless.
func (l *Location) Stage(ctx context.Context, v secret.Value, expect Expect) (Receipt, Holding, error) {
	o := change("stage")
	s, ok := l.driver.(Stager)
	if _, promotes := l.driver.(Promoter); !ok || !promotes {
		return Receipt{}, Holding{}, l.unsupported(o.verb)
	}
	if v.IsZero() {
		return Receipt{}, Holding{}, fault.Newf(fault.Invalid, "stage %s: the value is empty", l.name)
	}
	t, err := l.takeTurn(ctx, o)
	if err != nil {
		return Receipt{}, Holding{}, err
	}
	defer t.release()
	o.turn = t
	if h, err := l.lookBefore(ctx, v, expect); err != nil {
		return Receipt{}, h, err
	}
	stage := func(expect Expect) (Receipt, error) {
		r, err := call(ctx, l, o, v, lend(v, func(ctx context.Context, own secret.Value) (Receipt, error) { return s.Stage(ctx, own, expect) }))
		if err != nil {
			return r, err
		}
		return l.cleanReceipt(o.verb, r, v)
	}
	r, err := stage(expect)
	if fault.Is(err, fault.Indeterminate) && ctx.Err() == nil {
		h, look := l.inspect(ctx, v)
		if look != nil || h.Pending == nil || !h.Pending.Digest.Same(v.Digest()) {
			return Receipt{}, h, err
		}
		r, err = stage(ExpectHolding(h))
	}
	if err != nil {
		return r, Holding{}, err
	}
	h, err := l.inspect(ctx, v)
	switch {
	case err != nil:
		return r, Holding{}, fault.Wrap(fault.Indeterminate, err, "stage "+l.name+": it was accepted and could not be looked at")
	case h.Pending != nil && h.Pending.Digest.Known() && !h.Pending.Digest.Same(v.Digest()):
		return r, h, fault.New(fault.Conflict, fmt.Sprintf("stage %s: it was accepted, and now another value is staged", l.name),
			fault.Hint("somebody else stages values in this place at the same time"))
	}
	return r, h, nil
}

// Promote puts a staged value in force and looks afterwards whether the place holds want, the digest of the staged value. Conflict
// when the place changed since Stage; otherwise as Put.
func (l *Location) Promote(ctx context.Context, staged Receipt, want apikey.Digest) (Receipt, Holding, error) {
	p, ok := l.driver.(Promoter)
	if !ok {
		return Receipt{}, Holding{}, l.unsupported("promote")
	}
	return l.move(ctx, change("promote"), staged, want, p.Promote)
}

// Restore goes back to the state before promoted, the receipt of a Put or Promote, and looks afterwards whether the place
// holds want, the digest from before. Conflict when the place changed since; the caller then puts.
func (l *Location) Restore(ctx context.Context, promoted Receipt, want apikey.Digest) (Receipt, Holding, error) {
	p, ok := l.driver.(Restorer)
	if !ok {
		return Receipt{}, Holding{}, l.unsupported("restore")
	}
	return l.move(ctx, change("restore"), promoted, want, p.Restore)
}

// move makes a change that carries no value and verifies it.
func (l *Location) move(ctx context.Context, o op, from Receipt, want apikey.Digest, f func(context.Context, Receipt) (Receipt, error)) (Receipt, Holding, error) {
	t, err := l.takeTurn(ctx, o)
	if err != nil {
		return Receipt{}, Holding{}, err
	}
	defer t.release()
	o.turn = t
	before := Expect{Checked: from.Revision != "", Revision: from.Revision}
	r, err := call(ctx, l, o, secret.Value{}, func(ctx context.Context) (Receipt, error) { return f(ctx, from) })
	if unsure(err) {
		return l.settle(ctx, o, secret.Value{}, want, before, err)
	}
	if err == nil {
		r, err = l.cleanReceipt(o.verb, r, secret.Value{})
	}
	if err != nil {
		return r, Holding{}, err
	}
	h, err := l.verify(ctx, o, secret.Value{}, want, before, r)
	return r, h, err
}

// Unstage takes back what Stage wrote and was never promoted. Only what Keywright staged is removed; nothing to remove is
// success.
func (l *Location) Unstage(ctx context.Context, staged Receipt) error {
	u, ok := l.driver.(Unstager)
	if !ok {
		return l.unsupported("unstage")
	}
	return l.alone(ctx, change("unstage"), func(ctx context.Context) error { return u.Unstage(ctx, staged) })
}

// Remove erases the copies of the value with this digest that the place keeps beside the held one. Nothing to remove is success.
// Conflict when the place holds that value now.
func (l *Location) Remove(ctx context.Context, old apikey.Digest) error {
	r, ok := l.driver.(Remover)
	if !ok {
		return l.unsupported("remove")
	}
	h, err := l.Inspect(ctx)
	if err != nil {
		return err
	}
	if h.Holds(old) {
		return fault.Newf(fault.Conflict, "remove %s from %s: the place holds this value now", old.Fingerprint(), l.name)
	}
	return l.alone(ctx, change("remove"), func(ctx context.Context) error { return r.Remove(ctx, old) })
}

// alone makes a change without a receipt, while no other change of this place runs.
func (l *Location) alone(ctx context.Context, o op, f func(context.Context) error) error {
	t, err := l.takeTurn(ctx, o)
	if err != nil {
		return err
	}
	defer t.release()
	o.turn = t
	_, err = call(ctx, l, o, secret.Value{}, nothing(f))
	return err
}
