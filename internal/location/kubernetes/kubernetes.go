// Package kubernetes keeps a key in a field of a Kubernetes Secret and brings it to the pods of Deployments, StatefulSets and
// DaemonSets. With style in-place the Secret is overwritten and the workloads are restarted; with style versioned each value
// gets a Secret of its own that cannot be changed, and the workloads' references are switched to it. It never changes
// another field, never deletes or rewrites an object that it did not make, never lists what it need not, and never opens
// a shell in a pod. Location calls it.
package kubernetes

import (
	"context"
	_ "embed" // for meta.toml
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// Config is the configuration of one location.
type Config struct {
	Context      string   `yaml:"context" help:"Context of the kubeconfig; without it the current one, or the pod's own service account when Keywright runs in the cluster."`
	Kubeconfig   string   `yaml:"kubeconfig" help:"Path of the kubeconfig; without it the places where kubectl looks."`
	Namespace    string   `yaml:"namespace" help:"Namespace of the Secret and its workloads." required:"true"`
	Secret       string   `yaml:"secret" help:"Name of the Secret; with style versioned the first part of the names." required:"true"`
	Field        string   `yaml:"field" help:"Member of the Secret's data that holds the value." default:"ANTHROPIC_API_KEY"`
	Style        string   `yaml:"style" help:"in-place overwrites the field and restarts the workloads; versioned makes a new Secret for each value and switches the references to it." default:"in-place" enum:"in-place|versioned"`
	Workloads    []string `yaml:"workloads" help:"Workloads that use the Secret, as deployment/NAME, statefulset/NAME or daemonset/NAME; without it those of the namespace whose pod template refers to the Secret."`
	Create       bool     `yaml:"create" help:"Make the Secret when it does not exist (style in-place)." default:"false"`
	AllowManaged bool     `yaml:"allow_managed" help:"Write although another program, such as a GitOps controller, seems to manage the Secret or the workloads and may write it back." default:"false"`
}

//go:embed meta.toml
var meta []byte

// Kind describes the connector.
func Kind() location.Kind { return location.NewKind("kubernetes", meta, Open) }

// Marks that Keywright puts on objects. None of them is a value.
const (
	markPrefix      = "keywright.dev/"
	labelManaged    = markPrefix + "managed"     // "true" on every Secret that Keywright made
	labelLocation   = markPrefix + "location"    // the location that made it
	labelSecret     = markPrefix + "secret"      // the configured name that it is a version of, cut to the length of a label
	markSecret      = markPrefix + "secret"      // the same, whole, as an annotation
	markFingerprint = markPrefix + "fingerprint" // of the value: on Secrets, pod templates and therefore pods
	markRestarted   = markPrefix + "restarted"   // the id of the last reload, on pod templates
)

var (
	objectRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`) })
	spaceRE  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) })
	fieldRE  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`) })
)

// Open makes the driver and no connection. With style versioned it stages, promotes, restores and removes; with style in-place
// it reloads. Errors are Invalid.
func Open(cfg Config, env location.Env) (location.Driver, error) {
	bad := func(what, hint string) error {
		return fault.New(fault.Invalid, "open secret: "+what, fault.Hint("%s", hint))
	}
	if cfg.Field == "" {
		cfg.Field = "ANTHROPIC_API_KEY"
	}
	switch {
	case !spaceRE().MatchString(cfg.Namespace):
		return nil, bad(fmt.Sprintf("%q is no name of a namespace", cfg.Namespace), "lower-case letters, digits and dashes, at most 63")
	case !objectRE().MatchString(cfg.Secret):
		return nil, bad(fmt.Sprintf("%q is no name of a Secret", cfg.Secret), "lower-case letters, digits, dashes and dots")
	case cfg.Style == "versioned" && len(cfg.Secret) > 253-suffixLength:
		return nil, bad(fmt.Sprintf("%q leaves no room for a suffix of %d characters", cfg.Secret, suffixLength), "use a shorter name or style in-place")
	case !fieldRE().MatchString(cfg.Field):
		return nil, bad(fmt.Sprintf("%q is no name of a field", cfg.Field), "letters, digits, dots, dashes and underscores")
	}
	for i, w := range cfg.Workloads {
		kind, name, _ := strings.Cut(w, "/")
		if _, ok := kindOf(kind); !ok || !objectRE().MatchString(name) {
			return nil, bad(fmt.Sprintf("%q is no workload", w), "write deployment/NAME, statefulset/NAME or daemonset/NAME")
		}
		if slices.Contains(cfg.Workloads[:i], w) {
			return nil, bad(fmt.Sprintf("%q is named twice", w), "name each workload once")
		}
	}
	if cfg.Kubeconfig != "" && !filepath.IsAbs(cfg.Kubeconfig) {
		cfg.Kubeconfig = filepath.Join(env.Dir, cfg.Kubeconfig)
	}
	p := &place{cfg: cfg, name: env.Name, api: newClient(cfg.Kubeconfig, cfg.Context, cfg.Namespace)}
	switch cfg.Style {
	case "", "in-place":
		return &inPlace{p}, nil
	case "versioned":
		if cfg.Create {
			return nil, bad("create has no meaning with style versioned", "it makes a Secret for each value; leave out create")
		}
		return &versioned{p}, nil
	}
	return nil, bad(fmt.Sprintf("unknown style %q", cfg.Style), "in-place or versioned")
}

// place is what both styles share. It is safe for concurrent use.
type place struct {
	cfg  Config
	name string
	api  *client
}

// Address implements location.Addresser.
func (p *place) Address() string {
	cluster := p.api.server()
	if cluster == "" {
		cluster = p.cfg.Kubeconfig + "#" + p.cfg.Context
	}
	return strings.Join([]string{cluster, p.cfg.Namespace, "secrets", p.cfg.Secret}, "|")
}

// stored is a Secret as it was read, without its values.
type stored struct {
	raw     *unstructured.Unstructured
	present bool // the field is there and not empty
	digest  apikey.Digest
}

func (p *place) secret(ctx context.Context, name string) (stored, error) {
	u, err := p.api.get(ctx, secretsGVR, name)
	if err != nil {
		return stored{}, err
	}
	return p.read(u)
}

func (p *place) read(u *unstructured.Unstructured) (stored, error) {
	o := stored{raw: u}
	v, err := p.value(u)
	if err != nil {
		return o, err
	}
	o.present, o.digest = !v.IsZero(), v.Digest()
	v.Destroy()
	return o, nil
}

// value gives the field's value, or the empty one.
func (p *place) value(u *unstructured.Unstructured) (secret.Value, error) {
	b, ok := decode(text(u.Object, "data", p.cfg.Field))
	if !ok {
		return secret.Value{}, fault.Newf(fault.Corrupt, "read secret %q: field %q is not in base64", u.GetName(), p.cfg.Field)
	}
	return secret.New(b), nil
}

func (o stored) immutable() bool {
	yes, _ := o.raw.Object["immutable"].(bool)
	return yes
}

// ours reports whether Keywright made the Secret as a version of the configured one.
func (p *place) ours(u *unstructured.Unstructured) bool {
	return u.GetLabels()[labelManaged] == "true" && u.GetAnnotations()[markSecret] == p.cfg.Secret && u.GetName() != p.cfg.Secret
}

// changed gives the API server's time of the last write of the field, and whether this driver made it. Zero where it is not told.
func (p *place) changed(u *unstructured.Unstructured) (at time.Time, byUs bool) {
	for _, entry := range u.GetManagedFields() {
		if entry.Time == nil || entry.FieldsV1 == nil || !strings.Contains(string(entry.FieldsV1.GetRawBytes()), `"f:`+p.cfg.Field+`"`) {
			continue
		}
		if entry.Time.After(at) {
			at, byUs = entry.Time.UTC(), entry.Manager == fieldManager
		}
	}
	return at, byUs
}

// revision gives the mark of this exact state of a Secret.
func revision(u *unstructured.Unstructured) string {
	return string(u.GetUID()) + "/" + u.GetResourceVersion()
}

func conflict(what string) error {
	return fault.New(fault.Conflict, what, fault.Hint("look at it, then plan again"))
}
