package docker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// stage makes the container that is to hold v. It gives the family as it was read and the receipt of the new container; where v is held
// already, that of the one in force.
func (d *driver) stage(ctx context.Context, v secret.Value, expect location.Expect, staged bool) (family, location.Receipt, error) {
	f, err := d.look(ctx)
	switch {
	case err != nil:
		return f, location.Receipt{}, err
	case !f.matches(expect):
		return f, location.Receipt{}, conflict(fmt.Sprintf("put into container %q: it is not in the expected state", d.cfg.Container))
	case f.current == nil:
		return f, location.Receipt{}, d.missing()
	case f.current.digest.Same(v.Digest()) && f.current.times == 1:
		return f, f.receipt(f.current), nil
	case !carriable(v):
		return f, location.Receipt{}, fault.Newf(fault.Invalid, "put into container %q: the value has bytes that no environment can hold", d.cfg.Container)
	}
	if err := d.replaceable(ctx, f.current); err != nil {
		return f, location.Receipt{}, err
	}
	r := location.Receipt{Revision: f.revision(), Replaced: f.revision(), Facts: map[string]string{factBefore: f.current.ID}}
	name := d.nextName(v.Digest(), f.current.box)
	for _, m := range f.members {
		if !m.ours || !m.digest.Same(v.Digest()) || m.labels()[labelReplaces] != f.current.ID || m.running() {
			continue
		}
		switch {
		case m.role == named: // a switch to it was begun
			r.Facts[factContainer] = m.ID
			return f, r, nil
		case m.role == waiting && m.name() == name:
			// It was made of the configuration at that time, perhaps not whole. A fresh one costs nothing.
			if err := d.discard(ctx, m); err != nil {
				return f, location.Receipt{}, err
			}
		}
	}
	made, err := d.make(ctx, f, name, v, staged)
	if err != nil {
		return f, location.Receipt{}, err
	}
	f.members = append(slices.DeleteFunc(f.members, func(m *member) bool { return m.role == waiting && m.name() == name }), made)
	r.Facts[factContainer] = made.ID
	return f, r, nil
}

// make creates the container under a name of its own, with the same image and the same networks.
func (d *driver) make(ctx context.Context, f family, name string, v secret.Value, staged bool) (*member, error) {
	from := f.current
	labels := map[string]string{
		labelManaged: "true", labelContainer: d.cfg.Container, labelReplaces: from.ID, labelFingerprint: string(v.Fingerprint()),
		labelRestart: fmt.Sprintf("%s:%d", f.policy.Name, f.policy.MaximumRetryCount), labelStaged: fmt.Sprint(staged),
	}
	body, further := like(from.box, with(from.environment(), d.cfg.Variable, v.RevealString()), labels)
	made, err := d.createAs(ctx, name, body)
	if err != nil {
		return nil, err
	}
	if made.Image != from.Image {
		// The name of the image leads to a newer one by now. The id does not.
		if err := d.discard(ctx, made); err != nil {
			return nil, err
		}
		body["Image"] = raw(from.Image)
		if made, err = d.createAs(ctx, name, body); err != nil {
			return nil, err
		}
	}
	for _, network := range slices.Sorted(maps.Keys(further)) {
		if err := d.api.join(ctx, made.ID, network, further[network]); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func (d *driver) createAs(ctx context.Context, name string, body createBody) (*member, error) {
	id, err := d.api.create(ctx, name, body)
	if err != nil {
		return nil, err
	}
	b, err := d.api.inspect(ctx, id)
	if err != nil {
		return nil, fault.Wrap(fault.Indeterminate, err, fmt.Sprintf("container %q was made", name))
	}
	m, ok := d.recognise(b)
	if !ok {
		return nil, conflict(fmt.Sprintf("make container %q: the engine made something else", name))
	}
	return m, nil
}

// limit bounds the calls from the stop of the old container on, without the time that the container itself asks for.
const limit = 60 * time.Second

// apart gives a context that goes on when ctx ends, for what must not be left half done.
func apart(ctx context.Context, more time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), limit+more)
}

// activate puts the container that r names in force, from whatever state the family is in, and keeps the one that was.
func (d *driver) activate(ctx context.Context, f family, r location.Receipt) (location.Receipt, error) {
	target := f.member(r.Facts[factContainer])
	if target == nil {
		return location.Receipt{}, conflict(fmt.Sprintf("switch container %q: the new one is gone", d.cfg.Container))
	}
	if target == f.current && !f.unfinished() {
		return location.Receipt{Revision: f.revision(), Replaced: r.Replaced, Facts: r.Facts}, nil
	}
	runs := f.runs()
	if err := d.rename(ctx, f, target, runs); err != nil {
		if fault.Is(err, fault.Conflict) && target.role == waiting && target.labels()[labelStaged] != "true" {
			// Another process was faster. What was made for nothing goes; what is left after an error is found by Remove.
			_ = d.discard(ctx, target)
		}
		return location.Receipt{}, err
	}
	// From here on a cancelled caller must not leave a stopped container behind.
	whole, cancel := apart(ctx, time.Duration(get[int](f.current.Config, "StopTimeout"))*time.Second)
	defer cancel()
	lost, err := d.swap(whole, f, target, runs)
	if err != nil {
		return location.Receipt{}, err
	}
	if now, err := d.api.inspect(whole, target.ID); err == nil && now.name() != d.cfg.Container {
		// Another process took the name meanwhile, and its container is in force.
		if err := d.api.stop(whole, target.box); err != nil {
			return location.Receipt{}, fault.Wrap(fault.Indeterminate, err, "another process switched the container too, and both run")
		}
		return location.Receipt{}, conflict(fmt.Sprintf("switch container %q: another process switches it", d.cfg.Container))
	}
	// The new container is in force. What follows is tidying, which the next call repeats when it fails.
	if err := d.tidy(whole, f, target); err != nil {
		return location.Receipt{}, fault.Wrap(fault.Indeterminate, err, "the new container is in force and the old one is not put away")
	}
	if lost != nil {
		return location.Receipt{}, lost
	}
	done := family{current: target}
	return location.Receipt{Revision: done.plain(), Replaced: r.Replaced, Facts: r.Facts}, nil
}

// rename frees the name and gives it to target. The container that runs goes on running. Of two processes one gets the name.
func (d *driver) rename(ctx context.Context, f family, target *member, runs bool) error {
	for _, m := range f.members {
		aside := d.keptName(m.box)
		if m == f.current && runs {
			aside = d.beforeName(m.box)
		}
		if m == target || m.name() == aside || m.role != named && m != f.current {
			continue
		}
		now, err := d.api.inspect(ctx, m.ID)
		if err != nil {
			return err
		}
		if now.name() != m.name() {
			return conflict(fmt.Sprintf("switch container %q: another process switches it", d.cfg.Container))
		}
		if err := d.api.rename(ctx, m.box, aside); err != nil {
			if fault.Is(err, fault.Invalid) { // it has that name by now
				err = conflict(fmt.Sprintf("switch container %q: another process switches it", d.cfg.Container))
			}
			return err
		}
	}
	if target.role == named {
		return nil
	}
	err := d.api.rename(ctx, target.box, d.cfg.Container)
	if err == nil || !fault.Is(err, fault.Conflict) {
		return err
	}
	// The name was taken by another process between the two calls. Its container is there, so what was moved aside is put away
	// by that process, or by the next call.
	return conflict(fmt.Sprintf("switch container %q: another process switches it", d.cfg.Container))
}

// swap stops what runs and starts target. A lost reply is settled by looking; it is given back as lost when the start has happened. An error
// means that target is not in force: what ran before was started again, or the error says that it was not.
func (d *driver) swap(ctx context.Context, f family, target *member, runs bool) (lost, err error) {
	for _, m := range f.members {
		if m == target || m.role == waiting || !m.running() {
			continue
		}
		if err := d.api.stop(ctx, m.box); err != nil {
			if stopped := d.seen(ctx, m, false); stopped {
				continue
			}
			return nil, d.back(ctx, f, target, err)
		}
	}
	if !runs || target.running() {
		return nil, nil
	}
	err = d.api.start(ctx, target.box)
	if err == nil {
		return nil, nil
	}
	if started := d.seen(ctx, target, true); started {
		return fault.Wrap(fault.Indeterminate, err, "the new container runs"), nil
	}
	return nil, d.back(ctx, f, target, err)
}

// seen looks, after a call without a good reply, whether a container runs or does not.
func (d *driver) seen(ctx context.Context, m *member, running bool) bool {
	ctx, cancel := apart(ctx, 0)
	defer cancel()
	now, err := d.api.inspect(ctx, m.ID)
	return err == nil && now.running() == running
}

// back starts the container that was in force again and gives it its name. cause is why.
func (d *driver) back(ctx context.Context, f family, target *member, cause error) error {
	const help = "see: docker inspect --format '{{.State.Error}}' and docker logs, of the new container"
	stuck := func(err error) error {
		return fault.Wrap(fault.Indeterminate, err, fmt.Sprintf("go back to the old container %q", d.cfg.Container), fault.Hint("look with docker ps --all and start it: docker start %s", f.current.short()))
	}
	ctx, cancel := apart(ctx, 0)
	defer cancel()
	if target == f.current {
		return fault.Wrap(fault.Indeterminate, cause, "the container in force does not start", fault.Hint(help))
	}
	if err := d.api.start(ctx, f.current.box); err != nil {
		return stuck(err)
	}
	aside := d.keptName(target.box)
	if target.role == waiting {
		aside = target.name()
	}
	target.Name = d.cfg.Container
	if err := d.api.rename(ctx, target.box, aside); err != nil {
		return stuck(err)
	}
	f.current.Name = d.beforeName(f.current.box)
	if err := d.api.rename(ctx, f.current.box, d.cfg.Container); err != nil {
		return stuck(err)
	}
	// Whatever the engine said: nothing was applied, and it may work once the reason is gone.
	return fault.Wrap(fault.Unavailable, cause, "the old container runs as before", fault.Hint(help))
}

// tidy puts away what is not in force: not started by the engine any more, and under the name of a kept one.
func (d *driver) tidy(ctx context.Context, f family, target *member) error {
	if err := d.ensurePolicy(ctx, target, f.policy); err != nil {
		return err
	}
	for _, m := range f.members {
		if m == target || m.role == waiting {
			continue
		}
		if err := d.ensurePolicy(ctx, m, policy{Name: "no"}); err != nil {
			return err
		}
		if m.role == kept {
			continue
		}
		if err := d.api.rename(ctx, m.box, d.keptName(m.box)); err != nil && !fault.Is(err, fault.Invalid) {
			return err
		}
	}
	return nil
}

func (d *driver) ensurePolicy(ctx context.Context, m *member, want policy) error {
	now := get[policy](m.HostConfig, "RestartPolicy")
	if now == want || now.none() && want.none() {
		return nil
	}
	return d.api.setPolicy(ctx, m.box, want)
}
