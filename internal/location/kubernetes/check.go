package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/keywright/keywright/internal/fault"
)

// right is one permission that a method of the driver needs.
type right struct {
	verb string
	gvr  schema.GroupVersionResource
	name string // of one object, or empty for all of the namespace
}

func (r right) String() string {
	s := r.verb + " " + r.gvr.Resource
	if r.name != "" {
		s += "/" + r.name
	}
	return s
}

// rule gives the rule of a Role that grants the right.
func (r right) rule() string {
	names := ""
	if r.name != "" {
		names = fmt.Sprintf(", resourceNames: [%q]", r.name)
	}
	return fmt.Sprintf("{apiGroups: [%q], resources: [%q], verbs: [%q]%s}", r.gvr.Group, r.gvr.Resource, r.verb, names)
}

// workloadRights gives the rights on workloads and pods that both styles need.
func (p *place) workloadRights() []right {
	rights := []right{{"list", podsGVR, ""}}
	for _, k := range workloadKinds() {
		if len(p.cfg.Workloads) == 0 {
			rights = append(rights, right{"list", k.gvr, ""}, right{"get", k.gvr, ""}, right{"patch", k.gvr, ""})
		}
	}
	for _, w := range p.cfg.Workloads {
		word, name, _ := strings.Cut(w, "/")
		k, _ := kindOf(word)
		rights = append(rights, right{"get", k.gvr, name}, right{"patch", k.gvr, name})
	}
	return rights
}

// Check implements location.Checker.
func (d *inPlace) Check(ctx context.Context) []error {
	rights := []right{{"get", secretsGVR, d.cfg.Secret}, {"patch", secretsGVR, d.cfg.Secret}}
	if d.cfg.Create {
		rights = append(rights, right{"create", secretsGVR, ""})
	}
	problems, ok := d.missing(ctx, append(rights, d.workloadRights()...))
	if !ok {
		return problems
	}
	o, h, err := d.look(ctx)
	if err != nil {
		return append(problems, err)
	}
	switch {
	case o.raw == nil && !d.cfg.Create:
		problems = append(problems, fault.New(fault.NotFound, fmt.Sprintf("check secret %q: there is none in namespace %q", d.cfg.Secret, d.cfg.Namespace),
			fault.Hint("correct the name, make the Secret, or set create: true")))
	case o.raw != nil && o.immutable():
		problems = append(problems, fault.New(fault.Unsupported, fmt.Sprintf("check secret %q: it is marked as immutable", d.cfg.Secret),
			fault.Hint("set style: versioned, which makes a new Secret for each value")))
	}
	if o.raw != nil {
		problems = append(problems, d.managed("secret", o.raw)...)
		if h.Present {
			problems = append(problems, d.copied(o.raw)...)
		}
	}
	ws, err := d.workloads(ctx, d.named)
	if err != nil {
		return append(problems, err)
	}
	return append(problems, paused(ws)...)
}

// Check implements location.Checker.
func (d *versioned) Check(ctx context.Context) []error {
	rights := []right{{"get", secretsGVR, d.cfg.Secret}}
	for _, verb := range []string{"list", "create", "patch", "delete"} {
		rights = append(rights, right{verb, secretsGVR, ""})
	}
	rights = append(rights, d.workloadRights()...)
	for _, k := range workloadKinds() { // removing asks every workload whether it still refers to the Secret
		if r := (right{"list", k.gvr, ""}); !slices.Contains(rights, r) {
			rights = append(rights, r)
		}
	}
	problems, ok := d.missing(ctx, rights)
	if !ok {
		return problems
	}
	v, err := d.look(ctx)
	if err != nil {
		return append(problems, err)
	}
	if err := d.switchable(v); err != nil {
		problems = append(problems, err)
	}
	for _, w := range v.workloads {
		problems = append(problems, d.managed(w.kind.word, w.raw)...)
	}
	return append(problems, paused(v.workloads)...)
}

// missing asks for each right and gives an error for each one that is not granted. ok is false when the place cannot be looked at:
// nobody answers, or the right to read is among the missing.
func (p *place) missing(ctx context.Context, rights []right) (problems []error, ok bool) {
	ok = true
	for _, r := range rights {
		yes, err := p.api.allowed(ctx, r.verb, r.gvr, r.name)
		if err != nil {
			return append(problems, err), false
		}
		if yes {
			continue
		}
		if r.verb == "get" || r.verb == "list" {
			ok = false
		}
		problems = append(problems, fault.New(fault.Forbidden, fmt.Sprintf("check right to %s in namespace %q: it is missing", r, p.cfg.Namespace),
			fault.Hint("add to a Role of this login: %s", r.rule())))
	}
	return problems, ok
}

// managed gives a Conflict when another program seems to write the object, which would then undo what is written here.
func (p *place) managed(sort string, u *unstructured.Unstructured) []error {
	if p.cfg.AllowManaged {
		return nil
	}
	who, hint := manager(u)
	if who == "" {
		return nil
	}
	return []error{fault.New(fault.Conflict, fmt.Sprintf("check %s %q: it is managed by %s, which may write its own state back", sort, u.GetName(), who),
		fault.Hint("%s, or set allow_managed: true", hint))}
}

// manager names the program that manages an object, by its owner references, labels, annotations and managed fields.
func manager(u *unstructured.Unstructured) (who, hint string) {
	for _, o := range u.GetOwnerReferences() {
		switch o.Kind {
		case "ExternalSecret":
			return "External Secrets", "configure the store that the ExternalSecret reads as the location"
		case "SealedSecret":
			return "Sealed Secrets", "seal the new value in its own repository"
		default:
			if reasonRE().MatchString(o.Kind) {
				return "its owner, of kind " + o.Kind, "change the value where the owner takes it from"
			}
			return "its owner", "change the value where the owner takes it from"
		}
	}
	labels, notes := u.GetLabels(), u.GetAnnotations()
	has := func(m map[string]string, keys ...string) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return m[k] != "" })
	}
	field := func(names ...string) bool {
		for _, f := range u.GetManagedFields() {
			for _, n := range names {
				if strings.HasPrefix(strings.ToLower(f.Manager), n) && f.Subresource == "" {
					return true
				}
			}
		}
		return false
	}
	switch {
	case has(notes, "reconcile.external-secrets.io/data-hash") || has(labels, "reconcile.external-secrets.io/created-by", "reconcile.external-secrets.io/managed") || field("externalsecrets", "external-secrets"):
		return "External Secrets", "configure the store that the ExternalSecret reads as the location"
	case has(notes, "sealedsecrets.bitnami.com/managed") || field("sealed-secrets", "sealedsecrets"):
		return "Sealed Secrets", "seal the new value in its own repository"
	case has(notes, "argocd.argoproj.io/tracking-id") || has(labels, "argocd.argoproj.io/instance") || field("argocd"):
		return "Argo CD", "take the field out of its repository, for example with ignoreDifferences"
	case has(labels, "kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name") || field("kustomize-controller", "helm-controller"):
		return "Flux", "take the field out of its repository"
	case has(notes, "meta.helm.sh/release-name") || labels["app.kubernetes.io/managed-by"] == "Helm" || field("helm"):
		return "Helm", "take the value out of the chart, so that an upgrade does not write it back"
	}
	return "", ""
}

// lastApplied is where "kubectl apply" keeps what was applied, values included.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// copied gives a Conflict when kubectl keeps a copy of the value in an annotation of the Secret: it stays behind when the value is
// replaced, and the next apply may put it back.
func (p *place) copied(u *unstructured.Unstructured) []error {
	if p.cfg.AllowManaged || !strings.Contains(u.GetAnnotations()[lastApplied], `"`+p.cfg.Field+`"`) {
		return nil
	}
	return []error{fault.New(fault.Conflict, fmt.Sprintf("check secret %q: an annotation of kubectl apply keeps a copy of the value", u.GetName()),
		fault.Hint("kubectl --namespace %s annotate secret %s %s- and take the value out of the applied file, or set allow_managed: true", p.cfg.Namespace, u.GetName(), lastApplied))}
}

// paused gives a Conflict for each workload that would not roll out.
func paused(ws []workload) []error {
	var problems []error
	for _, w := range ws {
		held, _ := at(w.raw.Object, "spec", "paused").(bool)
		switch {
		case held:
			problems = append(problems, fault.New(fault.Conflict, fmt.Sprintf("check %s: its rollout is paused", w),
				fault.Hint("kubectl --namespace %s rollout resume %s", w.raw.GetNamespace(), w)))
		case text(w.raw.Object, "spec", "updateStrategy", "type") == "OnDelete":
			problems = append(problems, fault.New(fault.Conflict, fmt.Sprintf("check %s: its pods are only replaced when a person deletes them", w),
				fault.Hint("set its updateStrategy to RollingUpdate")))
		}
	}
	return problems
}
