package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/simulator"
)

// TestFilesOfSeveralWorkspaces: a list of files shows those of every workspace that a key reaches, in one order and in pages of every size.
func TestFilesOfSeveralWorkspaces(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	here, _ := w.key("a", simulator.CreateKey{})
	there, thereID := w.key("b", simulator.CreateKey{Workspace: w.sim.AddWorkspace("other").ID})
	var files []string // newest first
	for i := range 8 {
		order := []Key{here, there}
		if i%3 == 1 {
			order = []Key{there, here}
		}
		w.swap(Set{Keys: order})
		w.probed()
		files = slices.Insert(files, 0, w.file("a"))
		w.file("b")
	}
	for _, limit := range []int{1, 3, 1000} {
		var got []string
		for next := ""; ; {
			p := w.page("a", fmt.Sprintf("/v1/files?limit=%d%s", limit, next))
			got = append(got, p.IDs...)
			if next = "&page=" + p.Next; p.Next == "" {
				break
			}
		}
		if !slices.Equal(got, files) {
			t.Errorf("in pages of %d: %v, want %v", limit, got, files)
		}
	}
	if p := w.page("a", "/v1/files?ids[]="+strings.Join(files, "&ids[]=")); !slices.Equal(p.IDs, files) {
		t.Errorf("by their ids: %v", p.IDs)
	}
	// One workspace that refuses for a moment refuses the list: it is never shown as if it had ended.
	w.sim.Fail(simulator.Fault{Path: "/v1/files", KeyID: thereID, Status: 403, Times: 1})
	w.as("a", 403, "GET", "/v1/files", "")
	// Without its key the list has what is left.
	w.swap(Set{Keys: []Key{here}})
	left := slices.DeleteFunc(slices.Clone(files), func(id string) bool {
		all, err := w.g.owners.Objects(t.Context(), []string{id})
		return err != nil || len(all) != 1 || all[0].Workspace != w.g.set.Load().entries[0].where().workspace
	})
	if p := w.page("a", "/v1/files"); !slices.Equal(p.IDs, left) || len(left) == 0 || len(left) == len(files) {
		t.Errorf("without the key: %v, want %v", p.IDs, left)
	}
	// So it has when the key is dead.
	w.swap(Set{Keys: []Key{here, there}})
	w.probed()
	if err := w.sim.SetStatus(thereID, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	w.do("GET", "/v1/files/"+files[len(files)-2], "", "x-api-key", "a")
	w.until("the key is dead", func() bool {
		return slices.ContainsFunc(w.g.set.Load().entries, func(e *entry) bool { return e.is(Revoked) })
	})
	if p := w.page("a", "/v1/files"); !slices.Equal(p.IDs, left) {
		t.Errorf("with a dead key: %v, want %v", p.IDs, left)
	}
}

// TestFilesThatHaveEnded: however many files have ended at the provider, a page costs a bounded number of calls and the next one leaves none out.
func TestFilesThatHaveEnded(t *testing.T) {
	const all, each = 3000, 80 // one file of 80 is still there
	calls := 0
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/files" {
			return
		}
		calls++
		var there []string
		for _, id := range r.URL.Query()["ids[]"] {
			n := 0
			if _, _ = fmt.Sscanf(id, "file_%d", &n); n%each == 0 {
				there = append(there, `{"id":"`+id+`"}`)
			}
		}
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"data":[%s]}`, strings.Join(there, ","))
	}, func(o *Options) { o.Default = everything(t) })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	var objects []ledger.Object
	var want []string
	for i := range all {
		id := fmt.Sprintf("file_%d", i)
		objects = append(objects, ledger.Object{ID: id, Kind: object.File, App: OpenApp, Created: time.Unix(int64(i), 0)})
		if i%each == 0 {
			want = slices.Insert(want, 0, id)
		}
	}
	if err := w.g.owners.Own(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	var got []string
	for next := ""; ; {
		calls = 0
		p := w.page(OpenApp, "/v1/files?limit=1000"+next)
		if got = append(got, p.IDs...); calls > maxPages {
			t.Fatalf("%d calls", calls)
		}
		if next = "&page=" + p.Next; p.Next == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}
