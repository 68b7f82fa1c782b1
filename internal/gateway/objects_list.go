package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/object"
)

// The bounds of one list: how many pages of the provider are read for one of the caller's, and how long they and the caller's may be.
const (
	maxPages   = 20
	maxPage    = 1000
	usualPage  = 20
	leastFetch = 100
	maxList    = 32 << 20
	maxIDs     = 100 // that a list of files takes
)

// list answers with the application's own objects alone, in pages as the caller asks for them. The provider's pages hold the objects of
// others too, so that one page of the caller's may need several of them. Batches and skills are those of one workspace, that of the key which is
// used; files are asked for by their ids, in every workspace that a key of the set reaches.
func (g *Gateway) list(out *http.Request, x *exchange) (*http.Response, error) {
	q, err := url.ParseQuery(out.URL.RawQuery)
	if err != nil {
		return nil, badList("the query cannot be read")
	}
	for name, values := range q {
		if len(values) > 1 && !strings.HasSuffix(name, "[]") {
			return nil, badList("a parameter stands twice that must stand once")
		}
	}
	limit := usualPage
	if v := q.Get("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > maxPage {
			return nil, badList("limit must be between 1 and 1000")
		}
	}
	l := &listing{g: g, x: x, out: out, q: q, limit: limit}
	switch x.route.kind {
	case object.Batch:
		return l.batches()
	case object.File:
		return l.files()
	default:
		return l.skills()
	}
}

func badList(what string) *refusal {
	return &refusal{status: http.StatusBadRequest, message: "the list cannot be given: " + what, row: "list"}
}

// listing is one list on its way.
type listing struct {
	g     *Gateway
	x     *exchange
	out   *http.Request
	q     url.Values
	limit int
	calls int
	last  *http.Response // whose head the caller gets
}

func (l *listing) ctx() context.Context { return l.out.Context() }

// page is one page of the provider.
type page struct {
	Data     []json.RawMessage `json:"data"`
	HasMore  *bool             `json:"has_more"`
	FirstID  string            `json:"first_id"`
	LastID   string            `json:"last_id"`
	NextPage string            `json:"next_page"`
}

// item is what the gateway reads of an entry.
type item struct {
	ID     string `json:"id"`
	Source struct {
		Type string `json:"type"`
	} `json:"source"`
}

func read(raw json.RawMessage) item {
	var i item
	_ = json.Unmarshal(raw, &i) // an entry without an id is nobody's
	return i
}

// fetch reads a page with other parameters than the caller's. An answer that is no page is given to the caller as it is.
func (l *listing) fetch(path string, q url.Values) (*page, *http.Response, error) {
	if l.calls++; l.calls > maxPages {
		return nil, nil, &refusal{status: http.StatusServiceUnavailable, message: "the workspace holds too many objects of others to make this list", row: "list"}
	}
	res, err := l.g.sub(l.out, path, q)
	if err != nil || !fine(res.StatusCode) {
		return nil, res, err
	}
	b, err := whole(res, maxList)
	if err != nil {
		return nil, nil, err
	}
	p := &page{}
	if json.Unmarshal(b, p) != nil {
		return nil, nil, &refusal{status: http.StatusBadGateway, message: "the provider's list cannot be read", row: "list"}
	}
	l.last = res
	if l.x.bound == nil {
		at := l.x.at
		l.x.bound, l.x.sticky = &at, true // the other pages are of the same workspace
	}
	return p, nil, nil
}

// sub makes another call to the provider within an exchange.
func (g *Gateway) sub(out *http.Request, path string, q url.Values) (*http.Response, error) {
	req := out.WithContext(out.Context())
	u := *g.upstream
	u.Path += path
	u.RawQuery = q.Encode()
	req.URL = &u
	return (*engine)(g).RoundTrip(req)
}

// with gives the caller's parameters without those that page a list; limit, when it is not zero, is the provider's.
func (l *listing) with(limit int) url.Values {
	q := maps.Clone(l.q)
	for _, name := range []string{"limit", "page", "after_id", "before_id", "ids[]"} {
		delete(q, name)
	}
	if limit != 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return q
}

// own tells which of entries are the application's.
func (l *listing) own(data []json.RawMessage) (map[string]bool, error) {
	ids := make([]string, 0, len(data))
	for _, raw := range data {
		if id := read(raw).ID; object.PlainID(id) {
			ids = append(ids, id)
		}
	}
	found, err := l.g.owners.Objects(l.ctx(), ids)
	if err != nil {
		l.g.log.Error("the ledger was not read", "error", err)
		return nil, noRecords()
	}
	own := map[string]bool{}
	for _, o := range found {
		if o.App == l.x.app.name && o.Kind == l.x.route.kind {
			own[o.ID] = true
		}
	}
	return own, nil
}

// answer makes the caller's page of entries and what stands beside them.
func (l *listing) answer(data [][]byte, body any) (*http.Response, error) {
	rest, err := json.Marshal(body)
	if err != nil {
		return nil, &refusal{status: http.StatusBadGateway, message: "the provider's list cannot be read", row: "list"}
	}
	// The entries are put in as they came, which Marshal does not do.
	text := append(append([]byte(`{"data":[`), bytes.Join(data, []byte(","))...), "],"...)
	text = append(text, rest[1:]...)
	if l.last == nil {
		l.x.status, l.x.row = http.StatusOK, "own list"
		return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
			ContentLength: int64(len(text)), Body: io.NopCloser(bytes.NewReader(text))}, nil
	}
	return replaced(l.last, text), nil
}

// idPage is what a list has beside its entries that is paged by their ids, and tokenPage one that is paged by a token.
type (
	idPage struct {
		HasMore bool    `json:"has_more"`
		FirstID *string `json:"first_id"`
		LastID  *string `json:"last_id"`
	}
	tokenPage struct {
		HasMore  *bool   `json:"has_more,omitempty"`
		NextPage *string `json:"next_page"`
	}
)

// batches reads the provider's pages from the caller's place on, in the caller's direction, until it has one more than was asked for.
func (l *listing) batches() (*http.Response, error) {
	after, before := l.q.Get("after_id"), l.q.Get("before_id")
	if after != "" && before != "" {
		return nil, badList("after_id and before_id cannot be combined")
	}
	way, cursor := "after_id", after
	if before != "" {
		way, cursor = "before_id", before
	}
	if refused := l.from(cursor); refused != nil {
		return nil, refused
	}
	if cursor == "" {
		mine, err := l.g.owners.ObjectsOf(l.ctx(), l.x.app.name, object.Batch, ledger.Object{}, 1)
		if err != nil {
			return nil, noRecords()
		}
		if len(mine) == 0 {
			return l.answer(nil, idPage{})
		}
	}
	var got []json.RawMessage // in the caller's direction
	for len(got) <= l.limit {
		q := l.with(min(max(l.limit+1, leastFetch), maxPage))
		if cursor != "" {
			q.Set(way, cursor)
		}
		if len(got) > 0 && l.calls == maxPages {
			return l.idAnswer(got, before != "", true) // the caller goes on from its last one
		}
		p, other, err := l.fetch(l.x.route.path, q)
		if p == nil {
			return other, err
		}
		own, err := l.own(p.Data)
		if err != nil {
			return nil, err
		}
		if before != "" {
			slices.Reverse(p.Data)
		}
		for _, raw := range p.Data {
			if own[read(raw).ID] {
				got = append(got, raw)
			}
		}
		next := p.LastID
		if before != "" {
			next = p.FirstID
		}
		if len(p.Data) == 0 || p.HasMore == nil || !*p.HasMore || next == "" || next == cursor {
			break
		}
		cursor = next
	}
	return l.idAnswer(got, before != "", len(got) > l.limit)
}

// from checks the id that a list is to go on from.
func (l *listing) from(cursor string) *refusal {
	if cursor == "" {
		return nil
	}
	found, err := l.g.owners.Objects(l.ctx(), []string{cursor})
	switch {
	case err != nil:
		return noRecords()
	case len(found) != 1 || found[0].App != l.x.app.name || found[0].Kind != l.x.route.kind:
		return missing(l.x.route.kind)
	}
	return l.x.bind(found[0])
}

// idAnswer makes a page of entries that are in the caller's direction.
func (l *listing) idAnswer(got []json.RawMessage, back, more bool) (*http.Response, error) {
	got = got[:min(len(got), l.limit)]
	if back {
		slices.Reverse(got)
	}
	p, data := idPage{HasMore: more}, make([][]byte, len(got))
	for i, raw := range got {
		data[i] = object.Readdress(raw, l.x.origin)
	}
	if len(got) > 0 {
		first, last := read(got[0]).ID, read(got[len(got)-1]).ID
		p.FirstID, p.LastID = &first, &last
	}
	return l.answer(data, p)
}

// The tokens of pages name a place in the application's own list, so that a caller learns nothing of others, and they outlive a restart.
func token(format string, args ...any) *string {
	t := "page_" + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, format, args...))
	return &t
}

func parseToken(t, format string, into ...any) bool {
	code, ok := strings.CutPrefix(t, "page_")
	raw, err := base64.RawURLEncoding.DecodeString(code)
	if !ok || err != nil {
		return false
	}
	n, err := fmt.Sscanf(string(raw), format, into...)
	return err == nil && n == len(into)
}

const filePlace = "f.%d.%d"

// files asks for the application's own by their ids.
func (l *listing) files() (*http.Response, error) {
	wanted, some := l.q["ids[]"]
	if some {
		if l.q.Has("page") || l.q.Has("limit") {
			return nil, badList("ids cannot be combined with page or limit")
		}
		return l.filesOf(wanted)
	}
	var place ledger.Object
	if t := l.q.Get("page"); t != "" {
		var at int64
		if !parseToken(t, filePlace, &at, &place.Seq) || place.Seq <= 0 {
			return nil, badList("page is not a page of this list")
		}
		place.Created = time.UnixMicro(at)
	}
	var got [][]byte
	var next *string
	for len(got) < l.limit {
		// Files that have ended at the provider leave a gap, which the next ones fill.
		n := min(l.limit-len(got), maxIDs)
		all, err := l.g.owners.ObjectsOf(l.ctx(), l.x.app.name, object.File, place, n+1)
		if err != nil {
			return nil, noRecords()
		}
		more := len(all) > n
		all = all[:min(len(all), n)]
		if homes, _ := l.homes(all); l.calls > 0 && l.calls+len(homes) > maxPages {
			break // the caller goes on from here
		}
		page, other, err := l.byID(all)
		if other != nil || err != nil {
			return other, err
		}
		got, next = append(got, page...), nil
		if !more {
			break
		}
		place = all[n-1]
		next = token(filePlace, place.Created.UnixMicro(), place.Seq)
	}
	return l.answer(got, tokenPage{NextPage: next})
}

func (l *listing) filesOf(wanted []string) (*http.Response, error) {
	slices.Sort(wanted)
	if wanted = slices.Compact(wanted); len(wanted) > maxIDs {
		return nil, badList("at most 100 ids")
	}
	found, err := l.g.owners.Objects(l.ctx(), wanted)
	if err != nil {
		return nil, noRecords()
	}
	found = slices.DeleteFunc(found, func(o ledger.Object) bool { return o.App != l.x.app.name || o.Kind != object.File })
	slices.SortFunc(found, ledger.Newer)
	got, other, err := l.byID(found)
	if other != nil || err != nil {
		return other, err
	}
	return l.answer(got, tokenPage{})
}

// byID reads files by their ids, in their order, with a call for each workspace that they are in. Those that have ended, and those of a workspace that no
// key reaches, are left out.
func (l *listing) byID(all []ledger.Object) ([][]byte, *http.Response, error) {
	var got [][]byte
	homes, ids := l.homes(all)
	by := map[string]json.RawMessage{}
	for _, d := range homes {
		q := l.with(0)
		q["ids[]"] = ids[d]
		l.x.bound, l.x.sticky = &d, true
		p, other, err := l.fetch(l.x.route.path, q)
		if p == nil {
			return nil, other, err
		}
		for _, raw := range p.Data {
			by[read(raw).ID] = raw
		}
	}
	for _, o := range all {
		if raw, ok := by[o.ID]; ok {
			got = append(got, raw)
		}
	}
	return got, nil, nil
}

// homes gives the workspaces that objects are in and a key reaches, in the order of the first object of each, and the ids in each.
func (l *listing) homes(all []ledger.Object) (homes []domain, ids map[domain][]string) {
	ids = map[domain][]string{}
	for _, o := range all {
		d := domain{o.Organization, o.Workspace}
		if !l.reaches(d) {
			continue
		}
		if ids[d] == nil {
			homes = append(homes, d)
		}
		ids[d] = append(ids[d], o.ID)
	}
	return homes, ids
}

// reaches reports whether a key that lives is of a workspace, or may be: of the workspace of a key that was not asked yet nothing is known.
func (l *listing) reaches(d domain) bool {
	return slices.ContainsFunc(l.g.set.Load().entries, func(e *entry) bool {
		return e.rank(d) < 2 && !e.is(Revoked) && !e.is(Denied)
	})
}

const skillPlace = "s.%d"

// skills reads the whole list of the workspace, which is short, and shows what is the application's own or the provider's.
func (l *listing) skills() (*http.Response, error) {
	skip := 0
	if t := l.q.Get("page"); t != "" && (!parseToken(t, skillPlace, &skip) || skip < 0) {
		return nil, badList("page is not a page of this list")
	}
	var got [][]byte
	seen, at, answer := 0, "", tokenPage{}
	for {
		q := l.with(maxPage)
		if at != "" {
			q.Set("page", at)
		}
		p, other, err := l.fetch(l.x.route.path, q)
		if p == nil {
			return other, err
		}
		own, err := l.own(p.Data)
		if err != nil {
			return nil, err
		}
		for _, raw := range p.Data {
			if i := read(raw); !own[i.ID] && !isPublished(i) {
				continue
			}
			if seen++; seen > skip && len(got) <= l.limit {
				got = append(got, raw)
			}
		}
		if p.HasMore != nil {
			answer.HasMore = new(bool)
		}
		if len(got) > l.limit || p.NextPage == "" || p.NextPage == at {
			break
		}
		at = p.NextPage
	}
	if len(got) > l.limit {
		got = got[:l.limit]
		answer.NextPage = token(skillPlace, skip+l.limit)
		if answer.HasMore != nil {
			*answer.HasMore = true
		}
	}
	return l.answer(got, answer)
}

// isPublished reports whether a skill is the provider's own.
func isPublished(i item) bool {
	return i.Source.Type == "anthropic" || i.Source.Type == "anthropic_example"
}

// askPublished asks the provider whether the skill in the path is one that it publishes. It gives nothing when it is; what the caller asked for is
// then to be asked.
func (g *Gateway) askPublished(out *http.Request, x *exchange) (*http.Response, error) {
	q := url.Values{}
	if strings.Contains(out.URL.RawQuery, "beta=true") {
		q.Set("beta", "true")
	}
	res, err := g.sub(out, "/v1/skills/"+x.object, q)
	if err != nil {
		return nil, err
	}
	if !fine(res.StatusCode) {
		if res.StatusCode == http.StatusNotFound {
			res.Body.Close()
			return nil, missing(object.Skill)
		}
		return res, nil
	}
	b, err := whole(res, maxObject)
	if err != nil {
		return nil, err
	}
	i := item{}
	if json.Unmarshal(b, &i) != nil || i.ID != x.object || !isPublished(i) {
		return nil, missing(object.Skill)
	}
	if x.route.does == doesShow {
		return replaced(res, b), nil
	}
	return nil, nil
}
