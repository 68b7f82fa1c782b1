package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// role is what a container is by its name. NAME is the configured name, ID the first twelve digits of the container's own id:
//
//	NAME                      named     holds the name
//	NAME-keywright-before-ID  leaving   ran when a switch away from it began, which is not finished
//	NAME-keywright-ID         kept      was replaced; stopped, and not started by the engine
//	NAME-keywright-next-HASH  waiting   was made and never had the name
//
// A switch renames (named to leaving, then the next to named), stops the leaving one, starts the named one, and renames (leaving to kept).
// The gap between stop and start is the restart that a change of an environment takes. The engine lets one process alone take
// the name. After a crash at any call the names and states tell what was under way:
//
//	leaving runs              the switch had not begun to stop it; it is in force
//	leaving stopped, named not running   between stop and start; what is left of it is in force until the next call
//	named runs, leaving stopped          the switch is over but for the names
type role int

const (
	named role = iota
	leaving
	kept
	waiting
)

// Labels of the containers that Keywright makes.
const (
	labelPrefix      = "dev.keywright."
	labelManaged     = labelPrefix + "managed"     // "true"
	labelContainer   = labelPrefix + "container"   // the configured name
	labelReplaces    = labelPrefix + "replaces"    // the id of the container that it was made from
	labelStaged      = labelPrefix + "staged"      // "true" when Stage made it
	labelRestart     = labelPrefix + "restart"     // the restart policy that it has when it is in force
	labelFingerprint = labelPrefix + "fingerprint" // of the value
)

func (d *driver) beforeName(b box) string { return d.cfg.Container + "-keywright-before-" + b.short() }
func (d *driver) keptName(b box) string   { return d.cfg.Container + "-keywright-" + b.short() }

func (d *driver) nextName(v apikey.Digest, from box) string {
	sum := sha256.Sum256(append([]byte(from.ID), v[:]...))
	return d.cfg.Container + "-keywright-next-" + hex.EncodeToString(sum[:4])
}

// member is a container that has, had or is to have the configured name.
type member struct {
	box
	role   role
	ours   bool // Keywright made it
	digest apikey.Digest
	times  int // how often the variable is set
}

// family is every member, and which of them is in force.
type family struct {
	members []*member
	current *member // nil when there is none
	policy  policy  // of the one in force
}

func (d *driver) look(ctx context.Context) (family, error) {
	var f family
	list, err := d.api.list(ctx, d.cfg.Container)
	if err != nil {
		return f, err
	}
	for _, s := range list {
		if !slices.ContainsFunc(s.Names, func(n string) bool {
			n = strings.TrimPrefix(n, "/")
			return n == d.cfg.Container || strings.HasPrefix(n, d.cfg.Container+"-keywright-")
		}) {
			continue
		}
		b, err := d.api.inspect(ctx, s.ID)
		if fault.Is(err, fault.NotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return f, err
		}
		if m, ok := d.recognise(b); ok {
			f.members = append(f.members, m)
		}
	}
	slices.SortFunc(f.members, func(a, b *member) int {
		if c := int(a.role) - int(b.role); c != 0 {
			return c
		}
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	f.decide()
	return f, nil
}

func (d *driver) recognise(b box) (*member, bool) {
	labels := b.labels()
	m := &member{box: b, ours: labels[labelManaged] == "true" && labels[labelContainer] == d.cfg.Container}
	switch name := b.name(); {
	case name == d.cfg.Container:
		m.role = named
	case name == d.beforeName(b):
		m.role = leaving
	case name == d.keptName(b):
		m.role = kept
	case m.ours && strings.HasPrefix(name, d.cfg.Container+"-keywright-next-"):
		m.role = waiting
	default:
		return nil, false
	}
	value, times := lookup(b.environment(), d.cfg.Variable)
	v := secret.New([]byte(value))
	m.digest, m.times = v.Digest(), times
	v.Destroy()
	return m, true
}

// decide finds the member in force: what runs, and the one with the name before others.
func (f *family) decide() {
	for _, m := range f.members { // ordered by role
		if m.role != waiting && m.running() {
			f.current = m
			break
		}
	}
	if f.current == nil {
		f.current = f.first(leaving)
	}
	if f.current == nil {
		f.current = f.first(named)
	}
	if f.current == nil {
		// The name is free and nothing runs: a stopped container was moved aside for one that waits.
		if next := f.first(waiting); next != nil {
			f.current = f.member(next.labels()[labelReplaces])
		}
	}
	if f.current != nil {
		f.policy = f.policyOf(f.current)
	}
}

// policyOf gives the restart policy that a member has when it is in force.
func (f *family) policyOf(m *member) policy {
	if p := get[policy](m.HostConfig, "RestartPolicy"); !p.none() {
		return p
	}
	labels := m.labels()
	if _, ok := labels[labelRestart]; !ok {
		for _, o := range f.members {
			if o.ours && o.labels()[labelReplaces] == m.ID {
				labels = o.labels()
			}
		}
	}
	name, count, _ := strings.Cut(labels[labelRestart], ":")
	p := policy{Name: "no"}
	if name != "" {
		p.Name = name
	}
	_, _ = fmt.Sscanf(count, "%d", &p.MaximumRetryCount)
	return p
}

func (f *family) first(r role) *member {
	for _, m := range f.members {
		if m.role == r {
			return m
		}
	}
	return nil
}

func (f *family) member(id string) *member {
	for _, m := range f.members {
		if id != "" && m.ID == id {
			return m
		}
	}
	return nil
}

// runs reports whether the place is to run once the switch is over.
func (f *family) runs() bool { return f.current.running() || f.first(leaving) != nil }

// unfinished reports whether a switch was begun and not finished.
func (f *family) unfinished() bool {
	return f.first(leaving) != nil || f.current != nil && f.current.role != named ||
		slices.ContainsFunc(f.members, func(m *member) bool { return m.running() && m != f.current })
}

// revision is made of the id, since everything that could change in a container's configuration makes a new one; a switch in the
// middle, where nothing runs, is marked.
func (f *family) revision() string {
	if f.current == nil {
		return ""
	}
	r := f.plain()
	if f.current.role == leaving && !f.current.running() {
		r += "!"
	}
	return r
}

func (f *family) plain() string {
	h := sha256.New()
	for _, e := range f.current.environment() {
		name, _, _ := strings.Cut(e, "=")
		fmt.Fprintf(h, "%q\n", name)
	}
	return f.current.short() + "/" + hex.EncodeToString(h.Sum(nil)[:4])
}

func (f *family) holding() location.Holding {
	h := location.Holding{How: location.ReadBack}
	if f.current == nil {
		return h
	}
	h.Revision = f.revision()
	h.Facts = map[string]string{factContainer: f.current.short()}
	if h.Present = f.current.digest.Known(); h.Present {
		h.Digest, h.Fingerprint, h.ChangedAt = f.current.digest, f.current.digest.Fingerprint(), f.current.Created.UTC()
	}
	if f.unfinished() {
		h.Facts[factState] = "a switch is unfinished"
	}
	for _, m := range f.members {
		if m.role == waiting && m.labels()[labelStaged] == "true" && m.labels()[labelReplaces] == f.current.ID {
			h.Pending = &location.Pending{Digest: m.digest, Revision: m.short(), Ours: true}
			break
		}
	}
	return h
}

// matches reports whether the family is in the expected state. A switch in the middle is still the state from before.
func (f *family) matches(expect location.Expect) bool {
	h := f.holding()
	if expect.Matches(h) {
		return true
	}
	if f.current != nil {
		h.Revision = f.plain()
	}
	return expect.Matches(h)
}

// receipt names m as both what is in force and what was before.
func (f *family) receipt(m *member) location.Receipt {
	return location.Receipt{Revision: f.revision(), Replaced: f.revision(), Facts: map[string]string{factContainer: m.ID, factBefore: m.ID}}
}

// replaceable gives an error when the container cannot be made anew without harm.
func (d *driver) replaceable(ctx context.Context, m *member) error {
	no := func(what, hint string) error {
		return fault.New(fault.Unsupported, fmt.Sprintf("replace container %q: %s", d.cfg.Container, what), fault.Hint("%s", hint))
	}
	switch {
	case get[bool](m.HostConfig, "AutoRemove"):
		return no("the engine removes it as soon as it stops, so that there is no way back", "make it without --rm")
	case m.labels()["com.docker.swarm.service.id"] != "":
		return no("it is a task of a Swarm service, which would start another", "change the service: docker service update --env-add, or a Docker secret")
	case m.times > 1:
		return no(fmt.Sprintf("its environment sets %s %d times", d.cfg.Variable, m.times), "make it with the variable set once")
	}
	others, err := d.api.list(ctx, "")
	if err != nil {
		return err
	}
	for _, o := range others {
		if mode, ok := strings.CutPrefix(o.HostConfig.NetworkMode, "container:"); ok && (mode == m.ID || mode == d.cfg.Container) && len(o.Names) > 0 {
			return no(fmt.Sprintf("container %q lives in its network and would lose it", strings.TrimPrefix(o.Names[0], "/")), "give that one a network of its own")
		}
	}
	return nil
}
