package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// inPlace is a location of style in-place: the field of one Secret.
type inPlace struct{ *place }

var (
	_ location.Driver    = (*inPlace)(nil)
	_ location.Reader    = (*inPlace)(nil)
	_ location.Reloader  = (*inPlace)(nil)
	_ location.Confirmer = (*inPlace)(nil)
	_ location.Prober    = (*inPlace)(nil)
	_ location.Checker   = (*inPlace)(nil)
	_ location.Addresser = (*inPlace)(nil)
)

// Inspect implements location.Driver. The value is read back.
func (d *inPlace) Inspect(ctx context.Context) (location.Holding, error) {
	_, h, err := d.look(ctx)
	return h, err
}

// look gives the Secret, or one without an object where there is none.
func (d *inPlace) look(ctx context.Context) (stored, location.Holding, error) {
	o, err := d.secret(ctx, d.cfg.Secret)
	if fault.Is(err, fault.NotFound) {
		return stored{}, location.Holding{How: location.ReadBack}, nil
	}
	if err != nil {
		return stored{}, location.Holding{}, err
	}
	h := location.Holding{
		Present: o.present, How: location.ReadBack, Digest: o.digest, Fingerprint: o.digest.Fingerprint(), Revision: revision(o.raw),
		Facts: map[string]string{"secret": d.cfg.Secret},
	}
	if h.Present {
		h.ChangedAt, _ = d.changed(o.raw)
	}
	return o, h, nil
}

// Put implements location.Driver. It is one write that the API server refuses when the Secret is no longer the one that was read.
func (d *inPlace) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	o, h, err := d.look(ctx)
	switch {
	case err != nil:
		return location.Receipt{}, err
	case !expect.Matches(h):
		return location.Receipt{}, conflict(fmt.Sprintf("put into secret %q: it is not in the expected state", d.cfg.Secret))
	case h.Holds(v.Digest()):
		return location.Receipt{Revision: h.Revision, Replaced: h.Revision}, nil
	case o.raw == nil:
		return d.make(ctx, v)
	case o.immutable():
		return location.Receipt{}, fault.New(fault.Unsupported, fmt.Sprintf("put into secret %q: it is marked as immutable", d.cfg.Secret),
			fault.Hint("set style: versioned, which makes a new Secret for each value"))
	}
	merge, err := d.merge(o.raw, v)
	if err != nil {
		return location.Receipt{}, err
	}
	written, err := d.api.patch(ctx, secretsGVR, d.cfg.Secret, merge)
	clear(merge)
	if err != nil {
		return location.Receipt{}, err
	}
	at, _ := d.changed(written)
	return location.Receipt{Revision: revision(written), Replaced: h.Revision, At: at}, nil
}

// merge gives the patch that sets the field and the fingerprint beside it, for exactly the state u.
func (d *inPlace) merge(u *unstructured.Unstructured, v secret.Value) ([]byte, error) {
	var encoded []byte
	v.Reveal(func(b []byte) { encoded = base64.StdEncoding.AppendEncode(nil, b) })
	defer clear(encoded)
	var quoted []byte // base64 needs no escaping
	quoted = append(append(append(quoted, '"'), encoded...), '"')
	defer clear(quoted)
	merge, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid": u.GetUID(), "resourceVersion": u.GetResourceVersion(),
			"annotations": map[string]any{markFingerprint: v.Fingerprint()},
		},
		"data": map[string]any{d.cfg.Field: json.RawMessage(quoted)},
	})
	return merge, fault.Wrap(fault.Unknown, err, "encode change of secret")
}

// make creates the Secret, when that is allowed.
func (d *inPlace) make(ctx context.Context, v secret.Value) (location.Receipt, error) {
	if !d.cfg.Create {
		return location.Receipt{}, fault.New(fault.NotFound, fmt.Sprintf("put into secret %q: there is none in namespace %q", d.cfg.Secret, d.cfg.Namespace),
			fault.Hint("correct the name, make the Secret, or set create: true"))
	}
	made, err := d.api.create(ctx, secretsGVR, d.fresh(d.cfg.Secret, v, nil))
	if err != nil {
		return location.Receipt{}, err
	}
	at, _ := d.changed(made)
	return location.Receipt{Revision: revision(made), At: at}, nil
}

// fresh gives a new Secret that holds v, with the marks of Keywright and the other data of like, which may be nil.
func (p *place) fresh(name string, v secret.Value, like *unstructured.Unstructured) *unstructured.Unstructured {
	data, kind := map[string]any{}, "Opaque"
	if like != nil {
		for field, b := range object(like.Object["data"]) {
			data[field] = b
		}
		if t := text(like.Object, "type"); t != "" {
			kind = t
		}
	}
	v.Reveal(func(b []byte) { data[p.cfg.Field] = base64.StdEncoding.EncodeToString(b) })
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "type": kind, "data": data}}
	u.SetName(name)
	u.SetNamespace(p.cfg.Namespace)
	u.SetLabels(map[string]string{labelManaged: "true", labelLocation: label(p.name), labelSecret: label(p.cfg.Secret)})
	u.SetAnnotations(map[string]string{markFingerprint: string(v.Fingerprint()), markSecret: p.cfg.Secret})
	return u
}

// Read implements location.Reader.
func (d *inPlace) Read(ctx context.Context) (secret.Value, error) {
	u, err := d.api.get(ctx, secretsGVR, d.cfg.Secret)
	if err != nil {
		return secret.Value{}, err
	}
	return d.give(u)
}

func (p *place) give(u *unstructured.Unstructured) (secret.Value, error) {
	v, err := p.value(u)
	if err == nil && v.IsZero() {
		err = fault.Newf(fault.NotFound, "read secret %q: it has no field %q", u.GetName(), p.cfg.Field)
	}
	return v, err
}

// Reload implements location.Reloader: it marks the pod templates with id and with the fingerprint that the Secret holds, which starts
// a rollout. A template that is marked with id already is left alone.
func (d *inPlace) Reload(ctx context.Context, id string) error {
	o, err := d.secret(ctx, d.cfg.Secret)
	if err != nil {
		return err
	}
	ws, err := d.workloads(ctx, d.named)
	if err != nil {
		return err
	}
	for _, w := range ws {
		err := d.again(ctx, w, func(workload) error { return nil }, func(w workload) error {
			if w.marks()[markRestarted] == id {
				return nil
			}
			return d.mark(ctx, w, map[string]string{markRestarted: id, markFingerprint: string(o.digest.Fingerprint())})
		})
		if err != nil {
			return fault.In(err, fmt.Sprintf("restart %s", w))
		}
	}
	return nil
}

func (d *inPlace) named(name string) bool { return name == d.cfg.Secret }

// Confirm implements location.Confirmer. A pod has taken the value when its template was marked with the value's fingerprint, or when
// all its containers started after the field was last written; and it is ready.
func (d *inPlace) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	o, _, err := d.look(ctx)
	if err != nil {
		return location.Confirmation{}, err
	}
	ws, err := d.workloads(ctx, d.named)
	if err != nil {
		return location.Confirmation{}, err
	}
	return d.confirm(ctx, ws, d.named, func(p pod) verdict {
		marked := p.raw.GetAnnotations()[markFingerprint]
		switch {
		case o.digest.Same(want) && marked == string(want.Fingerprint()):
			return verdict{state: taken, how: location.Label}
		case o.digest.Same(want):
			return d.byTime(o.raw, p)
		case marked == string(want.Fingerprint()):
			return verdict{state: undecided, how: location.Label} // the Secret was changed since
		}
		return verdict{state: old, how: location.Label}
	})
}

// Probe implements location.Prober.
func (d *inPlace) Probe(ctx context.Context) error {
	ws, err := d.workloads(ctx, d.named)
	if err != nil {
		return err
	}
	return d.available(ctx, ws)
}
