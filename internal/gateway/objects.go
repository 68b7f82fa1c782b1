package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/keywright/keywright/internal/gateway/inspect"
	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/object"
)

// owners is where it is kept whose an object is: the ledger, or memory for a gateway without a state directory.
type owners interface {
	Own(ctx context.Context, objects ...ledger.Object) error
	Objects(ctx context.Context, ids []string) ([]ledger.Object, error)
	ObjectsOf(ctx context.Context, app, kind string, after ledger.Object, n int) ([]ledger.Object, error)
	Forget(ctx context.Context, ids ...string) error
	Prune(ctx context.Context, before time.Time) error
}

var (
	_ owners = (*ledger.Ledger)(nil)
	_ owners = (*ledger.Memory)(nil)
)

// owning is what an exchange has to do with objects.
type owning struct {
	object string  // the id in the path
	origin string  // of the gateway, as the caller knows it
	bound  *domain // where the objects are that the request names
	at     domain  // where the answer came from
	ask    bool    // the skill in the path may be one that the provider publishes
	claims bool    // the answer may name objects that are the application's from now on
	thread bool    // and the provider keeps the conversation

	carried bool // a connection was had for the last attempt
}

// missing is the answer for an object that is another application's, and for one that nobody has: the same.
func missing(kind string) *refusal {
	return &refusal{status: http.StatusNotFound, message: "this application has no such " + kind, row: "object"}
}

func noRecords() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, message: "the gateway cannot read whose an object is", retryAfter: retrial, row: "ledger"}
}

// touch checks the object in the path.
func (g *Gateway) touch(ctx context.Context, x *exchange) *refusal {
	if x.object == "" {
		return nil
	}
	found, err := g.owners.Objects(ctx, []string{x.object})
	switch {
	case err != nil:
		g.log.Error("the ledger was not read", "error", err)
		return noRecords()
	case len(found) == 1 && found[0].App == x.app.name && found[0].Kind == x.route.kind:
		return x.bind(found[0])
	case len(found) == 0 && x.route.kind == object.Skill && (x.route.does == doesShow || x.route.does == doesRead):
		x.ask = true
		return nil
	}
	return missing(x.route.kind)
}

// belongs checks the objects that a body names.
func (g *Gateway) belongs(ctx context.Context, x *exchange, l *inspect.Body) *refusal {
	if l.Odd {
		return missing("file, skill, container or conversation")
	}
	if len(l.Named) == 0 {
		return nil
	}
	ids := make([]string, 0, len(l.Named))
	for n := range l.Named {
		ids = append(ids, n.ID)
	}
	found, err := g.owners.Objects(ctx, ids)
	if err != nil {
		g.log.Error("the ledger was not read", "error", err)
		return noRecords()
	}
	by := make(map[string]ledger.Object, len(found))
	for _, o := range found {
		by[o.ID] = o
	}
	for n := range l.Named {
		o, known := by[n.ID]
		kind := n.Kind
		if kind == object.Published {
			if !known {
				continue // the provider knows its own, and takes no other for one
			}
			kind = object.Skill
		}
		if !known || o.App != x.app.name || o.Kind != kind {
			return missing(kind)
		}
		if refused := x.bind(o); refused != nil {
			return refused
		}
	}
	return nil
}

// bind keeps a request with the keys of an object's organization and workspace.
func (x *exchange) bind(o ledger.Object) *refusal {
	d := domain{o.Organization, o.Workspace}
	switch {
	case x.bound == nil:
		x.bound, x.sticky = &d, true
	case *x.bound != d:
		return &refusal{status: http.StatusBadRequest, message: "the request names objects of different workspaces", row: "workspaces"}
	}
	return nil
}

// homeFirst puts the keys of a domain before those of which it is not known, and the others last.
func homeFirst(entries []*entry, d domain) []*entry {
	sorted := make([]*entry, 0, len(entries))
	for _, rank := range []int{0, 1, 2} {
		for _, e := range entries {
			if e.rank(d) == rank {
				sorted = append(sorted, e)
			}
		}
	}
	return sorted
}

// rank is 0 for a key of the domain, 1 where it is not known, and 2 for a key of another one.
func (e *entry) rank(d domain) int {
	at := e.where()
	if at.workspace == "" {
		at.workspace = e.Workspace
	}
	switch {
	case at == d:
		return 0
	case at.same(d):
		return 1
	}
	return 2
}

// domainOf gives where an answer came from.
func domainOf(h http.Header, e *entry) domain {
	d := domain{h.Get("Anthropic-Organization-Id"), h.Get("Anthropic-Workspace-Id")}
	if known := e.where(); !object.PlainID(d.organization) || !object.PlainID(d.workspace) {
		d = known
		if d.workspace == "" {
			d.workspace = e.Workspace
		}
	}
	return d
}

// pruneAfter is how long an object is remembered after it has expired.
const pruneAfter = 48 * time.Hour

// prune forgets what has expired, now and each hour.
func (g *Gateway) prune() {
	for {
		if err := g.owners.Prune(g.ctx, time.Now().Add(-pruneAfter)); err != nil && g.ctx.Err() == nil {
			g.log.Warn("expired objects were not removed from the ledger", "error", err)
		}
		if !pause(g.ctx, time.Hour) {
			return
		}
	}
}

// origin is the address that a caller used.
func origin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
