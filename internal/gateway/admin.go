package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// mostValue bounds a value that comes over the status socket.
const mostValue = 4 << 10

// adminPlaces adds to the status socket what a rotation needs: how a key stands, changes of it, the record of what was used, and events. Client speaks
// it.
func (g *Gateway) adminPlaces(mux *http.ServeMux) {
	mux.HandleFunc("GET /record", func(w http.ResponseWriter, _ *http.Request) { reply(w, g.Record(), nil) })
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { reply(w, g.told.after(r.URL.Query().Get("after")), nil) })
	mux.HandleFunc("POST /deny", func(w http.ResponseWriter, r *http.Request) {
		var digests []apikey.Digest
		for _, text := range r.URL.Query()["digest"] {
			d, err := digestOf(text)
			if err != nil {
				reply(w, nil, err)
				return
			}
			digests = append(digests, d)
		}
		reply(w, struct{}{}, g.Deny(digests...))
	})
	mux.HandleFunc("GET /keys/{key}", func(w http.ResponseWriter, r *http.Request) {
		s, err := g.Place(apikey.Name(r.PathValue("key")))
		reply(w, s, err)
	})
	mux.HandleFunc("PUT /keys/{key}", func(w http.ResponseWriter, r *http.Request) { g.takeValue(w, r, g.PutKey) })
	mux.HandleFunc("PUT /keys/{key}/staged", func(w http.ResponseWriter, r *http.Request) { g.takeValue(w, r, g.StageKey) })
	mux.HandleFunc("DELETE /keys/{key}/staged", func(w http.ResponseWriter, r *http.Request) {
		d, err := digestOf(r.URL.Query().Get("digest"))
		var s PlaceState
		if err == nil {
			s, err = g.UnstageKey(apikey.Name(r.PathValue("key")), d)
		}
		reply(w, s, err)
	})
	mux.HandleFunc("POST /keys/{key}/promote", func(w http.ResponseWriter, r *http.Request) {
		d, err := digestOf(r.URL.Query().Get("digest"))
		var s PlaceState
		if err == nil {
			s, err = g.PromoteKey(r.Context(), apikey.Name(r.PathValue("key")), d, r.URL.Query().Get("base"))
		}
		reply(w, s, err)
	})
	mux.HandleFunc("POST /keys/{key}/canary", func(w http.ResponseWriter, r *http.Request) {
		d, err := digestOf(r.URL.Query().Get("digest"))
		share, notNumber := strconv.Atoi(r.URL.Query().Get("share"))
		var s PlaceState
		if err = errors.Join(err, notNumber); err != nil {
			err = fault.New(fault.Invalid, "try key: the share is no number")
		} else {
			s, err = g.TryKey(apikey.Name(r.PathValue("key")), d, share)
		}
		reply(w, s, err)
	})
}

func digestOf(text string) (d apikey.Digest, err error) {
	if err := d.UnmarshalText([]byte(text)); err != nil || !d.Known() {
		return d, fault.New(fault.Invalid, "read digest: it is none")
	}
	return d, nil
}

// takeValue hands the value of a request to one of the methods that change a key.
func (g *Gateway) takeValue(w http.ResponseWriter, r *http.Request, change valueChange) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostValue))
	v := secret.New(raw)
	defer v.Destroy()
	q := r.URL.Query()
	e := PlaceExpect{Checked: q.Get("checked") == "true", Absent: q.Get("absent") == "true", Revision: q.Get("revision")}
	if text := q.Get("digest"); text != "" && err == nil {
		e.Digest, err = digestOf(text)
	}
	if err != nil {
		reply(w, nil, fault.New(fault.Invalid, "read value: the request cannot be understood"))
		return
	}
	s, err := change(r.Context(), apikey.Name(r.PathValue("key")), v, e)
	reply(w, s, err)
}

// reply answers with JSON, or with the status that belongs to the kind of an error. The text of an error stays here.
func reply(w http.ResponseWriter, answer any, err error) {
	w.Header().Set(ownHeader, "1")
	if err == nil {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // a caller that has gone does not read it
		return
	}
	statuses := map[fault.Kind]int{
		fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404, fault.Conflict: 409, fault.Invalid: 422, fault.RateLimited: 429, fault.Unsupported: 501, fault.Corrupt: 507,
	}
	status, known := statuses[fault.KindOf(err)]
	if !known {
		status = http.StatusServiceUnavailable
	}
	http.Error(w, "not done", status)
}
