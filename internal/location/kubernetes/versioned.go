package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// versioned is a location of style versioned: a Secret for each value, and the references of the workloads to one of them. What the
// place holds is what the references lead to.
type versioned struct{ *place }

var (
	_ location.Driver    = (*versioned)(nil)
	_ location.Reader    = (*versioned)(nil)
	_ location.Stager    = (*versioned)(nil)
	_ location.Promoter  = (*versioned)(nil)
	_ location.Unstager  = (*versioned)(nil)
	_ location.Confirmer = (*versioned)(nil)
	_ location.Prober    = (*versioned)(nil)
	_ location.Restorer  = (*versioned)(nil)
	_ location.Remover   = (*versioned)(nil)
	_ location.Checker   = (*versioned)(nil)
	_ location.Addresser = (*versioned)(nil)
)

// suffixLength is the length of the dash and the eight digits of the fingerprint behind the configured name.
const suffixLength = 9

// labelState tells a Secret that was only staged from one that was in force, or that Put made to be so at once. It is
// changed when the last reference was switched.
const (
	labelState  = markPrefix + "state"
	stateStaged = "staged"
	stateUsed   = "used"
)

// Facts of receipts and holdings.
const (
	factSecret = "secret"  // the Secret that the receipt is about
	factFrom   = "from"    // WORKLOAD=SECRET of before, with commas
	factHeld   = "held"    // the fingerprint of before
	factReused = "existed" // the Secret was there before Stage
)

// versionName gives the name of the Secret for a value.
func (d *versioned) versionName(digest apikey.Digest) string {
	return d.cfg.Secret + "-" + hex.EncodeToString(digest[:4])
}

var labelRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`) })

// label gives s in the form of a label's value: as it is, or cut to it and told apart by a hash.
func label(s string) string {
	if s == "" || labelRE().MatchString(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	clean := strings.Map(func(r rune) rune {
		if r < 0x80 && labelRE().MatchString(string(r)) || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, s)
	return "x" + clean[:min(len(clean), 50)] + "-" + hex.EncodeToString(sum[:4])
}

// view is the place as it was read.
type view struct {
	secrets   map[string]stored // those that Keywright made, and the configured one when it exists
	workloads []workload
	refs      map[string][]string // by workload: the Secrets that carry the field into it
	held      []string            // the distinct Secrets of refs; the configured name when there are none
}

func (d *versioned) look(ctx context.Context) (view, error) {
	v := view{secrets: map[string]stored{}, refs: map[string][]string{}}
	// The workloads first: the Secrets that they refer to were made before.
	candidates, err := d.candidates(ctx)
	if err != nil {
		return v, err
	}
	list, err := d.api.list(ctx, secretsGVR, labelManaged+"=true,"+labelSecret+"="+label(d.cfg.Secret))
	if err != nil {
		return v, err
	}
	for i := range list {
		if !d.ours(&list[i]) {
			continue
		}
		o, err := d.read(&list[i])
		if err != nil {
			return v, err
		}
		v.secrets[list[i].GetName()] = o
	}
	switch o, err := d.secret(ctx, d.cfg.Secret); {
	case err == nil:
		v.secrets[d.cfg.Secret] = o
	case !fault.Is(err, fault.NotFound):
		return v, err
	}
	wanted := d.wanted(v)
	v.workloads = d.chosen(candidates, wanted)
	for _, w := range v.workloads {
		v.refs[w.String()] = names(w.spec(), d.cfg.Field, wanted)
		v.held = append(v.held, v.refs[w.String()]...)
	}
	slices.Sort(v.held)
	if v.held = slices.Compact(v.held); len(v.held) == 0 {
		v.held = []string{d.cfg.Secret}
	}
	return v, nil
}

// wanted reports whether a name is the configured one or that of a Secret that Keywright made of it.
func (d *versioned) wanted(v view) func(string) bool {
	return func(name string) bool {
		_, known := v.secrets[name]
		return known || name == d.cfg.Secret
	}
}

// shaped reports whether a name is wanted, or looks like that of a Secret which Keywright made of the configured one.
func (d *versioned) shaped(v view) func(string) bool {
	wanted := d.wanted(v)
	return func(name string) bool {
		return wanted(name) || len(name) == len(d.cfg.Secret)+suffixLength && strings.HasPrefix(name, d.cfg.Secret+"-")
	}
}

// in gives the Secret that is in force; false when the references lead to several with different values, or to none that exists.
func (v view) in() (stored, bool) {
	first, ok := v.secrets[v.held[0]]
	for _, name := range v.held[1:] {
		o, exists := v.secrets[name]
		if !ok || !exists || !o.digest.Same(first.digest) {
			return stored{}, false
		}
	}
	return first, ok
}

// revision changes with the Secrets in force and with the references to them.
func (v view) revision() string {
	h := sha256.New()
	for _, name := range v.held {
		if o, ok := v.secrets[name]; ok {
			fmt.Fprintf(h, "%s=%s\n", name, revision(o.raw))
		}
	}
	for _, w := range v.workloads {
		fmt.Fprintf(h, "%s %s %s\n", w, w.raw.GetUID(), strings.Join(v.refs[w.String()], " "))
	}
	return strings.Join(v.held, "+") + "#" + hex.EncodeToString(h.Sum(nil)[:8])
}

func (v view) holding() location.Holding {
	h := location.Holding{How: location.ReadBack, Revision: v.revision(), Facts: map[string]string{factSecret: strings.Join(v.held, ", "), "workloads": joined(v.workloads)}}
	o, one := v.in()
	switch {
	case one:
		h.Present, h.Digest, h.Fingerprint, h.ChangedAt = o.present, o.digest, o.digest.Fingerprint(), o.raw.GetCreationTimestamp().UTC()
	case len(v.held) > 1:
		h.Present, h.How = true, location.Nothing
		h.Facts["mixed"] = v.where()
	}
	if len(v.workloads) == 0 && v.used() {
		// The references were switched once and now lead elsewhere: what is in force is not known here.
		h = location.Holding{Present: true, How: location.Nothing, Revision: v.revision(), Facts: map[string]string{"workloads": "none refers to the Secret"}}
	}
	var newest stored
	for name, o := range v.secrets {
		if o.raw.GetLabels()[labelState] != stateStaged || slices.Contains(v.held, name) || !o.present {
			continue
		}
		if newest.raw == nil || o.raw.GetCreationTimestamp().After(newest.raw.GetCreationTimestamp().Time) {
			newest = o
		}
	}
	if newest.raw != nil {
		h.Pending = &location.Pending{Digest: newest.digest, Revision: revision(newest.raw), Ours: true}
	}
	if !h.Present {
		h.Revision = ""
	}
	return h
}

// used reports whether Keywright made a Secret that was in force once.
func (v view) used() bool {
	for _, o := range v.secrets {
		if o.raw.GetLabels()[labelState] == stateUsed {
			return true
		}
	}
	return false
}

// where gives "WORKLOAD=SECRET,…".
func (v view) where() string {
	var out []string
	for _, w := range v.workloads {
		out = append(out, w.String()+"="+strings.Join(v.refs[w.String()], "+"))
	}
	return strings.Join(out, ",")
}

// Inspect implements location.Driver. The value is read back from the Secret that the workloads refer to. While they refer to
// several with different values, no digest is known and the fact "mixed" says where each leads.
func (d *versioned) Inspect(ctx context.Context) (location.Holding, error) {
	v, err := d.look(ctx)
	if err != nil {
		return location.Holding{}, err
	}
	return v.holding(), nil
}

// Put implements location.Driver: Stage and Promote in one. A switch that was begun and not finished is finished.
func (d *versioned) Put(ctx context.Context, value secret.Value, expect location.Expect) (location.Receipt, error) {
	v, staged, err := d.stage(ctx, value, expect, stateUsed)
	if err != nil {
		return location.Receipt{}, err
	}
	r, err := d.promote(ctx, v, staged)
	if fault.Is(err, fault.Conflict) && staged.Facts[factReused] == "" {
		// Another was faster. What was made for nothing and is not in use goes; what is left after an error is found by Remove.
		_ = d.removeUnused(ctx, v.secrets[staged.Facts[factSecret]].raw)
	}
	return r, err
}

// Stage implements location.Stager: it makes the Secret for the value, with the other fields of the one in force.
func (d *versioned) Stage(ctx context.Context, value secret.Value, expect location.Expect) (location.Receipt, error) {
	_, staged, err := d.stage(ctx, value, expect, stateStaged)
	return staged, err
}

// stage makes the Secret for the value, in the given state, unless it is there.
func (d *versioned) stage(ctx context.Context, value secret.Value, expect location.Expect, state string) (view, location.Receipt, error) {
	v, err := d.look(ctx)
	if err != nil {
		return v, location.Receipt{}, err
	}
	h := v.holding()
	if !expect.Matches(h) {
		return v, location.Receipt{}, conflict(fmt.Sprintf("put into secret %q: it is not in the expected state", d.cfg.Secret))
	}
	if err := d.switchable(v); err != nil {
		return v, location.Receipt{}, err
	}
	r := location.Receipt{Revision: v.revision(), Replaced: v.revision(), Facts: map[string]string{factFrom: v.where(), factHeld: string(h.Fingerprint)}}
	if h.Holds(value.Digest()) && len(v.held) == 1 {
		r.Facts[factSecret] = v.held[0]
		r.Facts[factReused] = "true"
		return v, r, nil
	}
	name := d.versionName(value.Digest())
	source := v.source(name)
	r.Facts[factSecret] = name
	if made, ok := v.secrets[name]; ok {
		switch {
		case !made.digest.Same(value.Digest()):
			return v, location.Receipt{}, conflict(fmt.Sprintf("stage secret %q: it holds another value", name))
		case slices.Contains(v.held, name), source.raw == nil, d.sameNeighbours(made.raw, source.raw):
			if made.raw.GetLabels()[labelState] != stateStaged {
				r.Facts[factReused] = "true"
			}
			return v, r, nil
		}
		// Its other fields are out of date. It cannot be changed, only be made anew.
		if err := d.removeUnused(ctx, made.raw); err != nil {
			return v, location.Receipt{}, err
		}
	}
	fresh := d.fresh(name, value, source.raw)
	fresh.Object["immutable"] = true
	labels := fresh.GetLabels()
	labels[labelState] = state
	fresh.SetLabels(labels)
	made, err := d.api.create(ctx, secretsGVR, fresh)
	if err != nil {
		return v, location.Receipt{}, err
	}
	r.At = made.GetCreationTimestamp().UTC()
	if v.secrets[name], err = d.read(made); err != nil {
		return v, location.Receipt{}, err
	}
	return v, r, nil
}

// source gives the Secret whose other fields a new one gets: the one in force, or, while several are, the newest that is not name.
func (v view) source(name string) stored {
	var newest stored
	for _, held := range v.held {
		o, ok := v.secrets[held]
		if !ok || held == name && len(v.held) > 1 {
			continue
		}
		if newest.raw == nil || o.raw.GetCreationTimestamp().After(newest.raw.GetCreationTimestamp().Time) {
			newest = o
		}
	}
	return newest
}

func (d *versioned) sameNeighbours(a, b *unstructured.Unstructured) bool {
	x, y := texts(a.Object["data"]), texts(b.Object["data"])
	delete(x, d.cfg.Field)
	delete(y, d.cfg.Field)
	return maps.Equal(x, y)
}

// switchable gives an error when there is no reference that could be switched.
func (d *versioned) switchable(v view) error {
	if len(v.workloads) == 0 {
		return fault.New(fault.NotFound, fmt.Sprintf("find workloads of secret %q: none in namespace %q refers to its field %q", d.cfg.Secret, d.cfg.Namespace, d.cfg.Field),
			fault.Hint("correct secret and field, or set style: in-place"))
	}
	for _, w := range v.workloads {
		if len(v.refs[w.String()]) == 0 {
			return fault.New(fault.Invalid, fmt.Sprintf("find reference of %s: its pod template does not refer to field %q of secret %q", w, d.cfg.Field, d.cfg.Secret),
				fault.Hint("take it out of workloads, or set style: in-place"))
		}
	}
	return nil
}

// Promote implements location.Promoter: it switches the references of each workload, which rolls it out. Begun and not finished, it is
// finished by calling it again.
func (d *versioned) Promote(ctx context.Context, staged location.Receipt) (location.Receipt, error) {
	v, err := d.look(ctx)
	if err != nil {
		return location.Receipt{}, err
	}
	return d.promote(ctx, v, staged)
}

func (d *versioned) promote(ctx context.Context, v view, staged location.Receipt) (location.Receipt, error) {
	name := staged.Facts[factSecret]
	o, ok := v.secrets[name]
	if !ok {
		return location.Receipt{}, conflict(fmt.Sprintf("promote secret %q: it is gone", name))
	}
	if err := d.switchable(v); err != nil {
		return location.Receipt{}, err
	}
	from := parseWhere(staged.Facts[factFrom])
	if !slices.Contains(v.held, name) && v.revision() != staged.Replaced && staged.Replaced != "" {
		return location.Receipt{}, conflict(fmt.Sprintf("promote secret %q: the workloads, or the Secret they refer to, were changed since it was staged", name))
	}
	known := append(slices.Concat(slices.Collect(maps.Values(from))...), name)
	if err := d.switchAll(ctx, v, func(string) (string, []string) { return name, known }, o.digest); err != nil {
		return location.Receipt{}, err
	}
	if o.raw.GetLabels()[labelState] == stateStaged {
		merge, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": o.raw.GetUID(), "labels": map[string]any{labelState: stateUsed}}})
		if err != nil {
			return location.Receipt{}, fault.Wrap(fault.Unknown, err, "encode mark")
		}
		u, err := d.api.patch(ctx, secretsGVR, name, merge)
		if err != nil {
			return location.Receipt{}, fault.Wrap(fault.Indeterminate, err, "the references were switched")
		}
		o.raw = u
		v.secrets[name] = o
	}
	return location.Receipt{Revision: v.after(func(string) string { return name }), Replaced: staged.Replaced, Facts: maps.Clone(staged.Facts)}, nil
}

// after gives the revision of v once every workload refers to what to says.
func (v view) after(to func(workload string) string) string {
	v.refs, v.held = maps.Clone(v.refs), nil
	for w := range v.refs {
		v.refs[w] = []string{to(w)}
		v.held = append(v.held, to(w))
	}
	slices.Sort(v.held)
	v.held = slices.Compact(v.held)
	return v.revision()
}

// switchAll switches the references of each workload to the Secret that to names; to also names the Secrets that the workload may refer
// to before. All are looked at before the first is changed, and each again in the state that is changed.
func (d *versioned) switchAll(ctx context.Context, v view, to func(workload string) (name string, known []string), digest apikey.Digest) error {
	wanted := d.shaped(v)
	foreign := func(w workload) error {
		_, known := to(w.String())
		refs := names(w.spec(), d.cfg.Field, wanted)
		if len(refs) == 0 {
			return conflict(fmt.Sprintf("switch %s: it does not refer to the Secret any more", w))
		}
		for _, ref := range refs {
			if !slices.Contains(known, ref) {
				return conflict(fmt.Sprintf("switch %s: it refers to secret %q, which was not so before", w, ref))
			}
		}
		return nil
	}
	for _, w := range v.workloads {
		if err := foreign(w); err != nil {
			return err
		}
	}
	for _, w := range v.workloads {
		name, _ := to(w.String())
		err := d.again(ctx, w, foreign, func(w workload) error {
			if slices.Equal(names(w.spec(), d.cfg.Field, wanted), []string{name}) {
				return nil
			}
			changed := workload{kind: w.kind, raw: w.raw.DeepCopy()}
			point(changed.spec(), d.cfg.Field, wanted, name)
			merge := map[string]any{}
			for _, list := range []string{"initContainers", "containers", "volumes"} {
				if l, ok := changed.spec()[list]; ok {
					merge[list] = l
				}
			}
			return d.template(ctx, w, map[string]any{
				"metadata": map[string]any{"annotations": map[string]any{markFingerprint: digest.Fingerprint()}},
				"spec":     merge,
			})
		})
		if err != nil {
			return fault.In(err, fmt.Sprintf("switch %s", w))
		}
	}
	return nil
}

// parseWhere is the inverse of view.where.
func parseWhere(s string) map[string][]string {
	out := map[string][]string{}
	for _, part := range strings.Split(s, ",") {
		if w, refs, ok := strings.Cut(part, "="); ok && refs != "" {
			out[w] = strings.Split(refs, "+")
		}
	}
	return out
}
