package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/simulator"
)

// listed is a page of a list.
type listed struct {
	IDs         []string
	More        bool
	First, Last string
	Next        string
}

func (w *world) page(app, path string) listed {
	w.t.Helper()
	var p struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
		HasMore  bool   `json:"has_more"`
		FirstID  string `json:"first_id"`
		LastID   string `json:"last_id"`
		NextPage string `json:"next_page"`
	}
	if err := json.Unmarshal([]byte(w.as(app, 200, "GET", path, "").body), &p); err != nil {
		w.t.Fatal(err)
	}
	l := listed{More: p.HasMore, First: p.FirstID, Last: p.LastID, Next: p.NextPage}
	for _, d := range p.Data {
		l.IDs = append(l.IDs, d.ID)
	}
	return l
}

// TestListsAcrossForeignObjects: each application pages through its own objects, once each and in order, however many of others lie between,
// forwards and backwards, and in pages of every size.
func TestListsAcrossForeignObjects(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	mine := map[string][]string{} // newest first
	for i := range 24 {
		app := []string{"a", "b", "b", "c"}[i%4]
		if i >= 12 && i < 20 {
			app = "b" // a long stretch of one
		}
		mine[app] = slices.Insert(mine[app], 0, w.batch(app))
	}
	for _, app := range []string{"a", "b", "c"} {
		for _, limit := range []int{1, 3, 1000} {
			var got []string
			path := fmt.Sprintf("/v1/messages/batches?limit=%d", limit)
			cursor := ""
			for {
				p := w.page(app, path+cursor)
				got = append(got, p.IDs...)
				if p.More != (len(got) < len(mine[app])) || len(p.IDs) == 0 || len(p.IDs) > limit || p.First != p.IDs[0] || p.Last != p.IDs[len(p.IDs)-1] {
					t.Fatalf("%s in pages of %d, after %d: %+v", app, limit, len(got), p)
				}
				if !p.More {
					break
				}
				cursor = "&after_id=" + p.Last
			}
			if !slices.Equal(got, mine[app]) {
				t.Errorf("%s in pages of %d: %v, want %v", app, limit, got, mine[app])
			}

			// Backwards from the oldest one: its predecessors, nearest first.
			oldest := mine[app][len(mine[app])-1]
			got, cursor = nil, "&before_id="+oldest
			for {
				p := w.page(app, path+cursor)
				got = append(slices.Clone(p.IDs), got...)
				if p.More != (len(got) < len(mine[app])-1) || len(p.IDs) > limit {
					t.Fatalf("%s backwards in pages of %d, after %d: %+v", app, limit, len(got), p)
				}
				if !p.More {
					break
				}
				cursor = "&before_id=" + p.First
			}
			if !slices.Equal(got, mine[app][:len(mine[app])-1]) {
				t.Errorf("%s backwards in pages of %d: %v", app, limit, got)
			}
		}
	}
	if p := w.page("d", "/v1/messages/batches"); len(p.IDs) != 0 || p.More || p.First != "" || p.Last != "" {
		t.Errorf("the list of an application without batches: %+v", p)
	}
	if a := w.as("d", 200, "GET", "/v1/messages/batches", ""); a.body != `{"data":[],"has_more":false,"first_id":null,"last_id":null}` {
		t.Errorf("%s", a.body)
	}
	for query, status := range map[string]int{
		"after_id=" + mine["b"][0]: 404, "before_id=" + mine["b"][0]: 404, "after_id=unknown": 404, "limit=0": 400, "limit=1001": 400, "limit=x": 400,
		"limit=1&limit=2": 400, "after_id=" + mine["a"][0] + "&before_id=" + mine["a"][1]: 400, "after_id=%zz": 400, "after_id=" + mine["a"][0] + "&after_id=" + mine["b"][0]: 400,
	} {
		w.as("a", status, "GET", "/v1/messages/batches?"+query, "")
	}
}

// TestListsOfFilesAndSkills: they are paged by tokens, which tell nothing of others and stay good.
func TestListsOfFilesAndSkills(t *testing.T) {
	w := owned(t, simulator.Options{}, onDisk(t))
	files, skills := map[string][]string{}, map[string][]string{}
	for i := range 15 {
		app := []string{"a", "b", "b"}[i%3]
		files[app] = slices.Insert(files[app], 0, w.file(app))
		skills[app] = slices.Insert(skills[app], 0, w.skill(app, "brief"))
	}
	for _, app := range []string{"a", "b", "c"} {
		for _, limit := range []int{1, 3, 1000} {
			for kind, want := range map[string][]string{"files": files[app], "skills": append(slices.Clone(skills[app]), "xlsx", "pptx", "pdf", "docx")} {
				var got []string
				path, next := fmt.Sprintf("/v1/%s?limit=%d", kind, limit), ""
				for {
					p := w.page(app, path+next)
					got = append(got, p.IDs...)
					if len(p.IDs) > limit || (p.Next == "") != (len(got) >= len(want)) {
						t.Fatalf("%s of %s in pages of %d, after %d: %+v", kind, app, limit, len(got), p)
					}
					if p.Next == "" {
						break
					}
					next = "&page=" + p.Next
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s of %s in pages of %d: %v, want %v", kind, app, limit, got, want)
				}
			}
		}
	}
	if p := w.page("a", "/v1/skills?source=custom"); !slices.Equal(p.IDs, skills["a"]) {
		t.Errorf("custom skills: %v", p.IDs)
	}
	ids := "ids[]=" + files["a"][1] + "&ids[]=" + files["b"][0] + "&ids[]=unknown&ids[]=" + files["a"][0]
	if p := w.page("a", "/v1/files?"+ids); !slices.Equal(p.IDs, files["a"][:2]) {
		t.Errorf("files by id: %v", p.IDs)
	}
	if p := w.page("c", "/v1/files?"+ids); len(p.IDs) != 0 {
		t.Errorf("foreign files by id: %v", p.IDs)
	}
	// A file that has ended elsewhere leaves no gap, and a token whose file has ended is still good.
	first := w.page("a", "/v1/files?limit=2")
	w.as("a", 200, "DELETE", "/v1/files/"+first.IDs[1], "")
	gone := first.IDs[0]
	k := w.g.set.Load().entries[0]
	r, err := http.NewRequest("DELETE", w.g.upstream.String()+"/v1/files/"+gone, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-api-key", k.Value.RevealString())
	r.Header.Set("anthropic-version", "2023-06-01")
	res, err := w.client.Do(r)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(err)
	}
	res.Body.Close()
	if p := w.page("a", "/v1/files?limit=2"); !slices.Equal(p.IDs, files["a"][2:4]) {
		t.Errorf("after two have ended: %v", p.IDs)
	}
	if p := w.page("a", "/v1/files?limit=2&page="+first.Next); !slices.Equal(p.IDs, files["a"][2:4]) {
		t.Errorf("the page behind one that has ended: %v", p.IDs)
	}
	w.as("a", 404, "DELETE", "/v1/files/"+gone, "")
	if all, err := w.g.owners.Objects(t.Context(), []string{gone}); err != nil || len(all) != 0 {
		t.Error("a file that the provider does not know was not forgotten")
	}
	for _, bad := range []string{"files?page=page_", "files?page=x", "files?page=" + *token(filePlace, 1, -1), "files?page=" + *token(skillPlace, 1), "files?ids[]=a&limit=2",
		"skills?page=x", "skills?page=" + *token(skillPlace, -1)} {
		w.as("a", 400, "GET", "/v1/"+bad, "")
	}
}

// TestListIsBounded: a workspace full of others' objects costs a bounded number of calls, and the list is never cut short in silence.
func TestListIsBounded(t *testing.T) {
	calls := 0
	entry := func(i int) string { return fmt.Sprintf(`{"id":"msgbatch_%d"}`, i) }
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/messages/batches" {
			return
		}
		calls++
		from := 0
		_, _ = fmt.Sscanf(r.URL.Query().Get("after_id"), "msgbatch_%d", &from)
		var all []string
		for i := range 100 {
			all = append(all, entry(from+i+1))
		}
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"data":[%s],"has_more":true,"first_id":"msgbatch_%d","last_id":"msgbatch_%d"}`, strings.Join(all, ","), from+1, from+100)
	}, func(o *Options) { o.Default = everything(t) })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	own := func(i int) {
		if err := w.g.owners.Own(t.Context(), ledger.Object{ID: fmt.Sprintf("msgbatch_%d", i), Kind: object.Batch, App: OpenApp}); err != nil {
			t.Fatal(err)
		}
	}
	own(5)
	if a := w.want(200, "GET", "/v1/messages/batches?limit=1", ""); a.body != `{"data":[{"id":"msgbatch_5"}],"has_more":true,"first_id":"msgbatch_5","last_id":"msgbatch_5"}` {
		t.Errorf("%s", a.body)
	}
	if calls != maxPages {
		t.Errorf("%d calls", calls)
	}
	calls = 0
	if a := w.want(503, "GET", "/v1/messages/batches?after_id=msgbatch_5", ""); a.errorType() == "" || calls != maxPages {
		t.Errorf("%s, %d calls", a.body, calls)
	}
	calls = 0
	own(150)
	if a := w.want(200, "GET", "/v1/messages/batches?limit=1", ""); !strings.Contains(a.body, `"has_more":true`) || calls != 2 {
		t.Errorf("%s, %d calls", a.body, calls)
	}
}

// TestListErrors: an error of the provider goes to the caller as it is, and nonsense does not.
func TestListErrors(t *testing.T) {
	w := owned(t, simulator.Options{}, func(o *Options) { o.KeyRetries = -1 })
	w.batch("a")
	w.sim.Fail(simulator.Fault{Path: "/v1/messages/batches", Status: 403, Times: 1, Message: "as it is"})
	if a := w.as("a", 403, "GET", "/v1/messages/batches", ""); !strings.Contains(a.body, "as it is") {
		t.Errorf("%s", a.body)
	}
	w.sim.Fail(simulator.Fault{Path: "/v1/messages/batches", Kind: simulator.FaultGarbageBody, Times: 1})
	w.as("a", 502, "GET", "/v1/messages/batches", "")
	w.sim.Fail(simulator.Fault{Path: "/v1/skills", Kind: simulator.FaultCutBody, Times: 1})
	w.as("a", 502, "GET", "/v1/skills", "")
	w.as("a", 200, "GET", "/v1/messages/batches", "")
	if n := w.g.Status().Keys[0].InFlight; n != 0 {
		t.Errorf("%d requests hold the key", n)
	}
}
