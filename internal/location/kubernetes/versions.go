package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// Read implements location.Reader. Conflict while the workloads refer to several Secrets with different values.
func (d *versioned) Read(ctx context.Context) (secret.Value, error) {
	v, err := d.look(ctx)
	if err != nil {
		return secret.Value{}, err
	}
	o, one := v.in()
	switch {
	case one:
		return d.give(o.raw)
	case len(v.held) > 1:
		return secret.Value{}, conflict("read secret: the workloads refer to several: " + v.where())
	}
	return secret.Value{}, fault.Newf(fault.NotFound, "read secret %q: there is none", v.held[0])
}

// Unstage implements location.Unstager: it deletes the Secret that Stage made, unless that was there before.
func (d *versioned) Unstage(ctx context.Context, staged location.Receipt) error {
	if staged.Facts[factReused] != "" {
		return nil
	}
	v, err := d.look(ctx)
	if err != nil {
		return err
	}
	o, ok := v.secrets[staged.Facts[factSecret]]
	if !ok || !d.ours(o.raw) || o.raw.GetLabels()[labelState] != stateStaged {
		return nil
	}
	return d.removeUnused(ctx, o.raw)
}

// Restore implements location.Restorer: it switches each workload back to the Secret that it referred to before.
func (d *versioned) Restore(ctx context.Context, promoted location.Receipt) (location.Receipt, error) {
	v, err := d.look(ctx)
	if err != nil {
		return location.Receipt{}, err
	}
	if err := d.switchable(v); err != nil {
		return location.Receipt{}, err
	}
	from, name := parseWhere(promoted.Facts[factFrom]), promoted.Facts[factSecret]
	for _, w := range v.workloads {
		before := from[w.String()]
		if len(before) != 1 {
			return location.Receipt{}, conflict(fmt.Sprintf("restore %s: it is not known to which one secret it referred before", w))
		}
		o, ok := v.secrets[before[0]]
		switch {
		case !ok:
			return location.Receipt{}, conflict(fmt.Sprintf("restore %s: secret %q is gone", w, before[0]))
		case string(o.digest.Fingerprint()) != promoted.Facts[factHeld]:
			return location.Receipt{}, conflict(fmt.Sprintf("restore %s: secret %q holds another value than before", w, before[0]))
		}
	}
	to := func(w string) string { return from[w][0] }
	digest := v.secrets[to(v.workloads[0].String())].digest
	err = d.switchAll(ctx, v, func(w string) (string, []string) { return to(w), []string{name, to(w)} }, digest)
	if err != nil {
		return location.Receipt{}, err
	}
	back := maps.Clone(promoted.Facts)
	back[factFrom] = v.where()
	return location.Receipt{Revision: v.after(to), Replaced: v.revision(), Facts: back}, nil
}

// Remove implements location.Remover: it deletes the Secrets with this digest that Keywright made. Conflict, deleting none, while a pod
// template or a pod of the namespace refers to one of them. The configured Secret itself is never deleted.
func (d *versioned) Remove(ctx context.Context, digest apikey.Digest) error {
	v, err := d.look(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(v.secrets)) {
		o := v.secrets[name]
		if !o.digest.Same(digest) || !d.ours(o.raw) {
			continue
		}
		if err := d.removeUnused(ctx, o.raw); err != nil {
			return err
		}
	}
	return nil
}

// removeUnused deletes a Secret that Keywright made and that nothing in the namespace refers to, by whatever field.
func (d *versioned) removeUnused(ctx context.Context, u *unstructured.Unstructured) error {
	var users []string
	mentions := func(user string, spec map[string]any) {
		if slices.ContainsFunc(references(spec, d.cfg.Field), func(r reference) bool { return r.name == u.GetName() }) {
			users = append(users, user)
		}
	}
	every, err := d.everyWorkload(ctx)
	if err != nil {
		return err
	}
	for _, w := range every {
		mentions(w.String(), w.spec())
	}
	pods, err := d.api.list(ctx, podsGVR, "")
	if err != nil {
		return err
	}
	for i := range pods {
		if consumer := (pod{raw: &pods[i]}); !consumer.over() {
			mentions("pod/"+pods[i].GetName(), consumer.spec())
		}
	}
	if len(users) > 0 {
		return fault.New(fault.Conflict, fmt.Sprintf("delete secret %q: it is still in use by %s", u.GetName(), strings.Join(users[:min(len(users), 5)], ", ")),
			fault.Hint("wait until the rollout is over, or change what still refers to it"))
	}
	if err := d.api.remove(ctx, secretsGVR, u); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// Confirm implements location.Confirmer. A pod has taken the value when its specification refers to a Secret that cannot be changed and
// holds it, and the pod is ready.
func (d *versioned) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	v, err := d.look(ctx)
	if err != nil {
		return location.Confirmation{}, err
	}
	wanted := d.shaped(v)
	return d.confirm(ctx, v.workloads, wanted, func(p pod) verdict {
		all := verdict{state: undecided, how: location.Label}
		for i, name := range names(p.spec(), d.cfg.Field, wanted) {
			o, known := v.secrets[name]
			this := verdict{state: taken, how: location.Label}
			switch {
			case !known || !o.present:
				this.state = undecided
			case !o.digest.Same(want):
				return verdict{state: old, how: location.Label}
			case !o.immutable():
				this = d.byTime(o.raw, p)
			}
			if i == 0 || this.state != taken {
				all = this
			}
		}
		return all
	})
}

// Probe implements location.Prober.
func (d *versioned) Probe(ctx context.Context) error {
	v, err := d.look(ctx)
	if err != nil {
		return err
	}
	return d.available(ctx, v.workloads)
}
