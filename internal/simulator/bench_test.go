package simulator_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/simulator"
)

// BenchmarkMessages shows what the simulator costs a test or a demonstration,
// without sockets.
func BenchmarkMessages(b *testing.B) {
	s := simulator.New(simulator.Options{})
	_, value, err := s.CreateKey(simulator.CreateKey{Name: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	h := s.Handler()
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(hello))
		r.Header.Set("x-api-key", value)
		r.Header.Set("anthropic-version", simulator.Version20261021)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
