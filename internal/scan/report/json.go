package report

import (
	"encoding/json"
	"io"
	"sync"
)

// JSON writes the whole report as one indented JSON document.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// Stream writes JSON Lines while a scan runs: objects of type "place", "gap" and "unopened" as they are found, and at the end one "key" for each key and one
// "summary". A nil Stream writes nothing. It is safe for concurrent use.
type Stream struct {
	mu  sync.Mutex
	enc *json.Encoder
	err error
}

// NewStream makes a Stream to w.
func NewStream(w io.Writer) *Stream {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &Stream{enc: enc}
}

func (s *Stream) write(v any) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = s.enc.Encode(v)
	}
}

func (s *Stream) place(k *Key, p Place) {
	if s == nil {
		return
	}
	s.write(struct {
		Type        string `json:"type"`
		Fingerprint string `json:"fingerprint"`
		Family      string `json:"family"`
		Kind        string `json:"kind"`
		Grade       string `json:"grade"`
		Place       Place  `json:"place"`
	}{"place", string(k.Fingerprint), k.Family, string(k.Kind), k.Grade.String(), p})
}

func (s *Stream) gap(g Gap) {
	s.write(struct {
		Type string `json:"type"`
		Gap  Gap    `json:"gap"`
	}{"gap", g})
}

func (s *Stream) unopened(g Gap) {
	s.write(struct {
		Type     string `json:"type"`
		Unopened Gap    `json:"unopened"`
	}{"unopened", g})
}

// End writes the keys and the summary, and gives the first error of any write.
func (s *Stream) End(r *Report) error {
	for i := range r.Keys {
		k := r.Keys[i]
		k.Places = []Place{} // they were written as they came
		k.MorePlaces += len(r.Keys[i].Places)
		s.write(struct {
			Type string `json:"type"`
			Key  struct {
				Key
				Places     any `json:"places,omitempty"`
				MorePlaces any `json:"more_places,omitempty"`
				Count      int `json:"place_count"`
			} `json:"key"`
		}{Type: "key", Key: struct {
			Key
			Places     any `json:"places,omitempty"`
			MorePlaces any `json:"more_places,omitempty"`
			Count      int `json:"place_count"`
		}{Key: k, Count: k.MorePlaces}})
	}
	s.write(struct {
		Type     string   `json:"type"`
		Format   string   `json:"format"`
		Version  string   `json:"version"`
		Seconds  float64  `json:"seconds"`
		Complete bool     `json:"complete"`
		Scanned  Scanned  `json:"scanned"`
		Counts   Counts   `json:"counts"`
		MoreGaps int      `json:"more_gaps,omitempty"`
		More     int      `json:"more_unopened,omitempty"`
		Notes    []string `json:"notes,omitempty"`
	}{"summary", r.Format, r.Version, r.Seconds, r.Complete, r.Scanned, r.Counts, r.MoreGaps, r.MoreUnopened, r.Notes})
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
