package anthropic_test

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/verdict"
)

// TestDeadAgreesWithTheGateway: what the provider calls dead at intake is what the gateway's table calls dead, for every status of interest with every
// type, code and telling message, in the provider's form and out of it.
func TestDeadAgreesWithTheGateway(t *testing.T) {
	type answer struct {
		status int
		body   []byte
	}
	var now atomic.Pointer[answer]
	p := admin(t, func(w http.ResponseWriter, _ *http.Request) {
		a := now.Load()
		write(w, a.status, string(a.body))
	})
	value := secrettest.Fake(t)
	dead := 0
	check := func(a answer) {
		now.Store(&a)
		got, err := p.Inspect(t.Context(), value)
		if err != nil {
			t.Fatalf("%d %s: %v", a.status, a.body, err)
		}
		want := verdict.Judge(verdict.Parse(a.status, http.Header{}.Get, a.body, time.Time{}), time.Time{})
		if (got.Answer == provider.Dead) != want.Dead {
			t.Errorf("%d %s: at intake %s, at the gateway %s", a.status, a.body, got.Answer, want.Name)
		}
		if want.Dead {
			dead++
		}
	}
	for _, status := range []int{400, 401, 402, 403, 404, 408, 409, 413, 418, 429, 500, 502, 503, 504, 529} {
		for _, kind := range append(verdict.Types(), "a_type_of_tomorrow") {
			for _, code := range append(verdict.Codes(), "", "a_code_of_tomorrow") {
				for _, message := range []string{"x", "CORS requests are not allowed", "invalid x-api-key"} {
					if message != "x" && status != http.StatusUnauthorized {
						continue // no other row looks at these words
					}
					body, err := json.Marshal(map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": message, "details": map[string]string{"error_code": code}}})
					if err != nil {
						t.Fatal(err)
					}
					check(answer{status, body})
				}
			}
		}
		for _, body := range []string{"", "<html>sign in</html>", "{}", `{"error":"unauthorized"}`, `{"type":"error","error":{}}`} {
			check(answer{status, []byte(body)})
		}
	}
	// A 401 with any type and code, but for one about CORS; a 400 with the code that the creator left.
	if types, codes := len(verdict.Types())+1, len(verdict.Codes())+2; dead != types*codes*2+types {
		t.Errorf("%d answers mean dead", dead)
	}
}
