package simulator_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"net/http"

	"github.com/keywright/keywright/internal/simulator"
)

func TestDocumentedErrors(t *testing.T) {
	w := start(t, simulator.Options{})
	id, value := w.key(simulator.CreateKey{})
	statuses := map[int]bool{}
	for _, n := range simulator.DocumentedErrors() {
		t.Run(n.Name, func(t *testing.T) {
			f := w.Fail(n.Fault)
			defer f.Remove()
			for _, path := range []string{"/v1/messages", "/v1/messages/count_tokens"} {
				a := w.want(n.Fault.Status, "POST", path, value, hello)
				kind, code := a.errorOf(t)
				if code != n.Fault.ErrorCode || kind == "" || kind == "api_error" && n.Fault.Status < 500 {
					t.Errorf("type %q, code %q", kind, code)
				}
				want := ""
				if n.Fault.RetryAfter > 0 {
					want = strconv.Itoa(int(n.Fault.RetryAfter.Seconds()))
				}
				if got := a.header.Get("retry-after"); got != want {
					t.Errorf("retry-after %q, want %q", got, want)
				}
				if ws := a.header.Get("anthropic-workspace-id"); (ws == "") != (n.Fault.Status == 401) {
					t.Errorf("anthropic-workspace-id %q with status %d", ws, n.Fault.Status)
				}
			}
			statuses[n.Fault.Status] = true
		})
	}
	for _, s := range []int{400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 503, 504, 529} {
		if !statuses[s] {
			t.Errorf("no documented error with status %d", s)
		}
	}
	w.want(200, "POST", "/v1/messages", value, hello)
	if got := w.RequestsOf(id); got != 1 {
		t.Errorf("%d billed requests, want 1: errors must leave no usage", got)
	}
}

func TestFaultMatching(t *testing.T) {
	w := start(t, simulator.Options{})
	ws := w.AddWorkspace("other").ID
	a, va := w.key(simulator.CreateKey{})
	_, vb := w.key(simulator.CreateKey{Workspace: ws})
	get := func(v, path string) int { return w.do("GET", path, v, "").status }
	tests := []struct {
		name  string
		fault simulator.Fault
		want  [4]int // va models, vb models, va model, va message
	}{
		{"everything", simulator.Fault{Status: 500}, [4]int{500, 500, 500, 500}},
		{"key", simulator.Fault{Status: 500, KeyID: a}, [4]int{500, 200, 500, 500}},
		{"workspace", simulator.Fault{Status: 500, Workspace: ws}, [4]int{200, 500, 200, 200}},
		{"path", simulator.Fault{Status: 500, Path: "/v1/models"}, [4]int{500, 500, 200, 200}},
		{"prefix", simulator.Fault{Status: 500, Path: "/v1/models*"}, [4]int{500, 500, 500, 200}},
		{"method", simulator.Fault{Status: 500, Method: "POST"}, [4]int{200, 200, 200, 500}},
		{"once", simulator.Fault{Status: 500, Times: 1}, [4]int{500, 200, 200, 200}},
		{"skip", simulator.Fault{Status: 500, Skip: 2, Times: 1}, [4]int{200, 200, 500, 200}},
		{"default status", simulator.Fault{Skip: 3}, [4]int{200, 200, 200, 500}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := w.Fail(tt.fault)
			got := [4]int{get(va, "/v1/models"), get(vb, "/v1/models"), get(va, "/v1/models/claude-haiku-5-5"), w.do("POST", "/v1/messages", va, hello).status}
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			f.Remove()
			f.Remove()
			if s := get(va, "/v1/models"); s != 200 {
				t.Errorf("after Remove: %d", s)
			}
		})
	}
	w.Fail(simulator.Fault{Status: 500})
	w.Fail(simulator.Fault{Status: 503, Times: 1})
	if got := [2]int{get(va, "/v1/models"), get(va, "/v1/models")}; got != [2]int{503, 500} {
		t.Errorf("the fault armed last must win: %v", got)
	}
	w.ClearFaults()
	w.Fail(simulator.Fault{Status: 500, Headers: map[string]string{"x-should-retry": "false"}, Times: 1})
	if a := w.want(500, "GET", "/v1/models", va, ""); a.header.Get("x-should-retry") != "false" {
		t.Error("the fault's header is missing")
	}
	w.Fail(simulator.Fault{Status: 503, Times: 1})
	w.want(503, "GET", "/v1/models", "unknown", "")
	if s := get(va, "/v1/models"); s != 200 {
		t.Errorf("after ClearFaults: %d", s)
	}
}

func TestFaultsBeforeAndAfterApplying(t *testing.T) {
	tests := []struct {
		name    string
		fault   simulator.Fault
		applied bool
		status  int // of a reply that arrives whole; 0 = none does
		logged  int
	}{
		{"reply", simulator.Fault{Kind: simulator.FaultReply, Status: 500}, false, 500, 500},
		{"reply-after", simulator.Fault{Kind: simulator.FaultReplyAfter, Status: 504}, true, 504, 504},
		{"plain", simulator.Fault{Kind: simulator.FaultPlain, Status: 502}, false, 502, 502},
		{"drop-before", simulator.Fault{Kind: simulator.FaultDropBefore}, false, 0, 0},
		{"drop-after", simulator.Fault{Kind: simulator.FaultDropAfter}, true, 0, 200},
		{"cut-body", simulator.Fault{Kind: simulator.FaultCutBody}, true, 0, 200},
		{"garbage-body", simulator.Fault{Kind: simulator.FaultGarbageBody}, true, 200, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, simulator.Options{})
			id, _ := w.key(simulator.CreateKey{})
			tt.fault.Times = 1
			w.Fail(tt.fault)
			a := w.do("POST", "/v1/organizations/api_keys/"+id, w.admin, `{"status":"inactive"}`)
			if tt.status == 0 && a.err == nil {
				t.Errorf("a whole reply arrived: %d %s", a.status, a.body)
			}
			if tt.status != 0 && (a.err != nil || a.status != tt.status) {
				t.Errorf("got %d %v, want %d", a.status, a.err, tt.status)
			}
			if w.Accepts(id) == tt.applied {
				t.Errorf("applied = %v, want %v", !w.Accepts(id), tt.applied)
			}
			log := w.Requests()
			if last := log[len(log)-1]; last.Status != tt.logged || last.Fault != tt.name || last.Method != "POST" {
				t.Errorf("provider log: %+v", last)
			}
			if tt.name == "plain" && !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
				t.Errorf("content type %q", a.header.Get("Content-Type"))
			}
		})
	}
}

// TestDelaysInABubble also shows that the simulator works inside synctest: the
// time of the bubble moves only by the delays.
func TestDelaysInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulator.New(simulator.Options{Latency: 2 * time.Second, StatusDelay: time.Minute, StreamPause: time.Second})
		transport, stop := s.Pipe()
		defer stop()
		id, value, err := s.CreateKey(simulator.CreateKey{Name: "bubble"})
		if err != nil {
			t.Fatal(err)
		}
		probe := func() (int, time.Duration) {
			t.Helper()
			begin := time.Now()
			r, err := http.NewRequest("GET", simulator.PipeURL+"/v1/models", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("x-api-key", value)
			r.Header.Set("anthropic-version", simulator.Version20261021)
			resp, err := (&http.Client{Transport: transport}).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, time.Since(begin)
		}
		if code, took := probe(); code != 200 || took != 2*time.Second {
			t.Errorf("got %d after %v", code, took)
		}
		s.Fail(simulator.Fault{Kind: simulator.FaultDelay, Delay: 10 * time.Second, Times: 1})
		if code, took := probe(); code != 200 || took != 12*time.Second {
			t.Errorf("with a delay: got %d after %v", code, took)
		}
		if err := s.SetStatus(id, simulator.StatusArchived); err != nil {
			t.Fatal(err)
		}
		if code, _ := probe(); code != 200 {
			t.Errorf("within the propagation delay: %d", code)
		}
		time.Sleep(time.Minute)
		if code, _ := probe(); code != 401 {
			t.Errorf("after the propagation delay: %d", code)
		}
		stop()
	})
}

func TestLogIsBounded(t *testing.T) {
	w := start(t, simulator.Options{LogLimit: 10})
	_, value := w.key(simulator.CreateKey{})
	for range 25 {
		w.want(200, "GET", "/v1/models", value, "")
	}
	if n := len(w.Requests()); n > 10 || n < 5 {
		t.Errorf("%d requests in the log, want at most 10", n)
	}
	w.do("GET", "/v1/models/"+value, value, "", header("User-Agent", value))
	log := w.Requests()
	if last := log[len(log)-1]; last.Path != "(masked)" || last.UserAgent != "(masked)" {
		t.Error("the log holds a value that was sent in the wrong place")
	}
	w.ForgetRequests()
	if n := len(w.Requests()); n != 0 {
		t.Errorf("%d requests after ForgetRequests", n)
	}
}
