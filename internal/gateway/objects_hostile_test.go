package gateway

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keywright/keywright/internal/simulator"
)

// TestWrongContentType: a body is read by the gateway as the provider reads it, or refused.
func TestWrongContentType(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	form, kind := multi(t, "file=a", "x")
	for _, c := range []struct {
		path, body, kind string
		status           int
	}{
		{"/v1/files", form, kind, 200},
		{"/v1/files", form, "", 400},
		{"/v1/files", form, "application/json", 400},
		{"/v1/files", form, "multipart/form-data", 400},
		{"/v1/files", form, "multipart/mixed; boundary=x", 400},
		{"/v1/files", form, kind + "; boundary=other", 400},
		{"/v1/files", form, "nonsense", 400},
		{"/v1/skills", `{"file_id":"x"}`, "application/json", 400},
		{"/v1/messages/batches", batchOf(hello), "", 200},
		{"/v1/messages/batches", batchOf(hello), "Application/JSON; charset=UTF-8", 200},
		{"/v1/messages/batches", batchOf(hello), "application/json; charset=utf-16", 400},
		{"/v1/messages/batches", batchOf(hello), "application/json; charset=utf-7", 400},
		{"/v1/messages/batches", form, kind, 400},
		{"/v1/messages/batches", form, "application/json", 400},
		{"/v1/messages", hello, "application/x-www-form-urlencoded", 400},
		{"/v1/messages", hello, "application/json;charset=utf-8", 200},
	} {
		var headers []string
		if c.kind != "" {
			headers = []string{"content-type", c.kind}
		}
		seen := len(w.sim.Requests())
		if a := w.as("a", c.status, "POST", c.path, c.body, headers...); c.status == 400 && (a.errorType() != "invalid_request_error" || len(w.sim.Requests()) != seen) {
			t.Errorf("%s as %q: %s", c.path, c.kind, a.body)
		}
	}
}

// zeros is a body of so many bytes that nobody keeps.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

// TestHugeMultipart: a file goes up and its content comes down without being held in memory, and one beyond the provider's limit goes nowhere.
func TestHugeMultipart(t *testing.T) {
	const size = 16 << 20
	var sum hash.Hash
	calls := 0
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/files":
			calls++
			sum = sha256.New()
			if _, err := io.Copy(sum, r.Body); err != nil {
				return
			}
			if calls == 1 {
				rw.WriteHeader(http.StatusUnauthorized)
				fmt.Fprint(rw, `{"type":"error","error":{"type":"authentication_error","message":"x"}}`)
				return
			}
			fmt.Fprint(rw, `{"id":"file_1"}`)
		case "/v1/files/file_1/content":
			rw.Header().Set("Content-Type", "application/octet-stream")
			_, _ = io.Copy(rw, &zeros{size})
		}
	}, func(o *Options) { o.Default, o.MemoryBody = everything(t), 64<<10 })
	a, _ := w.key("primary", simulator.CreateKey{})
	b, _ := w.key("backup", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a, b}})
	head, tail := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n", "\r\n--x--\r\n"
	want := sha256.New()
	form := io.TeeReader(io.MultiReader(strings.NewReader(head), &zeros{size}, strings.NewReader(tail)), want)
	do := func(method, path string, body io.Reader, length int64) *http.Response {
		t.Helper()
		r, err := http.NewRequest(method, w.url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = length
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		res, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if res := do("POST", "/v1/files", form, size+int64(len(head)+len(tail))); res.StatusCode != 200 || calls != 2 {
		t.Fatalf("%d after %d calls", res.StatusCode, calls)
	}
	if !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		t.Error("the file was changed on its way to the second key")
	}
	n, err := io.Copy(io.Discard, do("GET", "/v1/files/file_1/content", nil, 0).Body)
	if err != nil || n != size {
		t.Errorf("%d bytes came down, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > size/2 {
		t.Errorf("%d bytes of memory were taken for %d bytes of a file", grew, size)
	}
	// Too large by what it says, and too large by what comes.
	head = fmt.Sprintf("POST /v1/files HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
		strings.TrimPrefix(w.url, "http://"), fileLimit+formMargin+1)
	if got := w.raw(head); !slices.Equal(got, []int{http.StatusRequestEntityTooLarge}) {
		t.Errorf("%v", got)
	}
	calls = 0
	if res := do("POST", "/v1/skills", &zeros{messageLimit + 1}, -1); res.StatusCode != http.StatusRequestEntityTooLarge || calls != 0 {
		t.Errorf("%d after %d calls", res.StatusCode, calls)
	}
}

// TestMakingIsRepeatedOnlyWhenSafe: what makes something is sent again only when the provider cannot have made it.
func TestMakingIsRepeatedOnlyWhenSafe(t *testing.T) {
	form, kind := multi(t, "file=a", "x")
	skill, skillKind := multi(t, "files[]=n/SKILL.md", "x")
	makes := []struct{ path, body, kind string }{
		{"/v1/messages/batches", batchOf(hello), "application/json"}, {"/v1/files", form, kind}, {"/v1/skills", skill, skillKind},
	}
	for name, c := range map[string]struct {
		fault  simulator.Fault
		status int
		calls  int
	}{
		"401":                       {simulator.Fault{Status: 401}, 200, 2},
		"429":                       {simulator.Fault{Status: 429}, 200, 2},
		"403":                       {simulator.Fault{Status: 403}, 403, 1},
		"500":                       {simulator.Fault{Status: 500}, 500, 1},
		"529":                       {simulator.Fault{Status: 529}, 529, 1},
		"500 after it was made":     {simulator.Fault{Kind: simulator.FaultReplyAfter, Status: 500}, 500, 1},
		"no answer":                 {simulator.Fault{Kind: simulator.FaultDropBefore}, 503, 1},
		"no answer, after it ended": {simulator.Fault{Kind: simulator.FaultDropAfter}, 503, 1},
		"a limit of the customer":   {simulator.Fault{Status: 402, Type: "billing_error"}, 402, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := owned(t, simulator.Options{}, nil)
			a, idA := w.key("one", simulator.CreateKey{})
			b, idB := w.key("two", simulator.CreateKey{Workspace: w.sim.AddWorkspace("other").ID})
			a.Group, b.Group = "g", "g"
			w.swap(Set{Keys: []Key{a, b}, Groups: map[string]Group{"g": {On401: true, OnLimits: true, On403: true}}})
			w.probed()
			for _, m := range makes {
				w.sim.ClearFaults()
				f := c.fault
				f.Path, f.KeyID, f.Method = m.path, idA, "POST"
				w.sim.Fail(f)
				w.as("x", c.status, "POST", m.path, m.body, "content-type", m.kind, "Idempotency-Key", "k")
				if got := w.calls(idA, m.path) + w.calls(idB, m.path); got != c.calls && (c.calls == 1 || got != 1) {
					t.Errorf("%s: %d calls", m.path, got)
				}
				if c.status != 200 {
					break // a breaker or a limit is in force now
				}
			}
		})
	}

	// A connection that never was has carried nothing.
	w := owned(t, simulator.Options{}, func(o *Options) { o.Rand = func() float64 { return 0 } })
	inner, dialled := w.g.transport, 0
	w.g.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == "POST" && dialled < 2 {
			dialled++
			return nil, errors.New("no route")
		}
		return inner.RoundTrip(r)
	})
	w.batch("x")
	if dialled != 2 {
		t.Errorf("%d attempts without a connection", dialled)
	}
}

// TestUnreadableMade: something of which no id came is nobody's, and the caller is told.
func TestUnreadableMade(t *testing.T) {
	says := ""
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			fmt.Fprint(rw, says)
		}
	}, func(o *Options) { o.Default = everything(t) })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	form, kind := multi(t, "file=a", "x")
	for _, says = range []string{`{}`, `{"id":""}`, `{"id":7}`, `{"id":"a/b"}`, `x`, `{"id":"file_1","x":"` + strings.Repeat("a", maxObject) + `"}`} {
		w.want(502, "POST", "/v1/files", form, "content-type", kind)
	}
	if n := w.g.Status().Keys[0].InFlight; n != 0 {
		t.Errorf("%d requests hold the key", n)
	}
}

// TestBatchGuards: each message of a batch is checked and counted as one that came alone.
func TestBatchGuards(t *testing.T) {
	sonnet := strings.Replace(hello, "haiku-5-5", "sonnet-5-5", 1)
	w := owned(t, simulator.Options{}, func(o *Options) {
		base := everything(t).Routes
		prices := map[string]Price{"haiku": {Output: 1e6 / 64}} // one message costs at most 1
		o.Apps = map[string]App{
			"models":   {Routes: base, Models: []string{"claude-haiku-*"}},
			"requests": {Routes: base, RequestsPerMinute: 3},
			"tokens":   {Routes: base, TokensPerMinute: 1000},
			"cost":     {Routes: base, CostPerDay: 3.5, Prices: prices},
		}
	})
	path := "/v1/messages/batches"
	w.as("models", 200, "POST", path, batchOf(hello, hello))
	for name, body := range map[string]string{
		"one of three": batchOf(hello, sonnet, hello), "the second params": `{"requests":[{"custom_id":"a","params":` + hello + `,"params":` + sonnet + `}]}`,
		"the second list":   `{"requests":[{"custom_id":"a","params":` + hello + `}],"requests":[{"custom_id":"a","params":` + sonnet + `}]}`,
		"an escaped name":   batchOf(strings.Replace(sonnet, `"model"`, `"mod\u0065l"`, 1)),
		"without a model":   batchOf(hello, `{"max_tokens":1,"messages":[]}`),
		"behind other text": `{"requests":[{"params":` + sonnet + `,"custom_id":"a"}],"x":{"requests":[]}}`,
	} {
		seen := len(w.sim.Requests())
		if a := w.as("models", 403, "POST", path, body); !strings.Contains(a.body, "model") || len(w.sim.Requests()) != seen {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	for _, body := range []string{
		batchOf(strings.Replace(hello, "{", `{"model":"claude-sonnet-5-5",`, 1)), batchOf(hello, strings.Replace(hello, "{", `{"max_tokens":1,`, 1)),
		`[` + batchOf(hello) + `]`, `{"requests":[{"params":{"model":"x"]}`, batchOf(hello) + `{}`,
	} {
		w.as("models", 400, "POST", path, body)
	}
	many := make([]string, 65) // one more than a batch may name
	for i := range many {
		many[i] = fmt.Sprintf(`{"model":"claude-%d"}`, i)
	}
	w.as("b", 400, "POST", path, batchOf(many...))

	w.as("requests", 200, "POST", path, batchOf(hello, hello))
	w.as("requests", 429, "POST", path, batchOf(hello, hello))
	w.as("requests", 200, "POST", path, batchOf(hello))
	w.as("requests", 429, "POST", "/v1/messages", hello)

	w.as("tokens", 200, "POST", path, batchOf(hello, hello, hello, hello, hello)) // each 64 out and about 30 in
	if a := w.as("tokens", 429, "POST", path, batchOf(hello, hello, hello, hello, hello, hello)); a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}

	w.as("cost", 200, "POST", path, batchOf(hello, hello))
	w.as("cost", 429, "POST", path, batchOf(hello, hello))
	w.as("cost", 403, "POST", path, batchOf(hello, sonnet)) // it has no price
	w.as("cost", 200, "POST", path, batchOf(hello))
	w.as("cost", 429, "POST", "/v1/messages", hello)
}

// TestBodyThatIsNotSeenNamesNothing: where there is no room to look at a whole body before it is sent, one that names an object further on does not
// reach the provider whole.
func TestBodyThatIsNotSeenNamesNothing(t *testing.T) {
	var whole atomic.Int64
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" {
			return
		}
		b, err := io.ReadAll(r.Body)
		if err == nil && bytes.HasSuffix(b, []byte("}")) {
			whole.Add(1)
		}
		fmt.Fprint(rw, `{"type":"message","content":[]}`)
	}, func(o *Options) {
		o.Default, o.MemoryBody, o.Spill, o.KeyRetries = everything(t), 4<<10, 8<<10, -1
	})
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	long := `{"type":"text","text":"` + strings.Repeat("a", 64<<10) + `"}`
	w.want(200, "POST", "/v1/messages", saying(long))
	if whole.Load() != 1 {
		t.Fatal("a body that names nothing did not reach the provider")
	}
	for name, body := range map[string]string{
		"file": saying(long + `,{"type":"document","source":{"type":"file","file_id":"file_1"}}`), "container": strings.TrimSuffix(saying(long), "}") + `,"container":"c"}`,
		"broken": saying(long) + "}", "server tool": strings.TrimSuffix(saying(long), "}") + `,` + codeTool + `}`,
	} {
		w.want(503, "POST", "/v1/messages", body)
		if whole.Load() != 1 {
			t.Errorf("%s: the provider has the whole body", name)
		}
	}
	w.want(503, "POST", "/v1/messages/batches", batchOf(saying(long)))
	if w.g.Status().Breakers == nil || len(w.g.Status().Breakers) != 0 || w.phase("primary") != "healthy" {
		t.Error("a caller's body counts against the provider or the key")
	}
}
