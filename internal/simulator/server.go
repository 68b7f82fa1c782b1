package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// access says which keys open a route.
type access int

const (
	byKey   access = iota // workspace, personal and service-account keys
	byAdmin               // admin keys, and unbound keys of an admin
)

const (
	messageLimit = 32 << 20
	batchLimit   = 256 << 20
	adminLimit   = 1 << 20
)

// call is one API request after its body was read.
type call struct {
	r         *http.Request
	body      []byte
	now       time.Time
	requestID string
	version   string
	access    access
	who       identity
}

// reply is what a handler answers. Exactly one of the fields is set.
type reply struct {
	json   any
	raw    []byte
	kind   string // content type of raw
	stream func(*streamWriter) error
}

type handler func(*call) (reply, *apiError)

type route struct {
	pattern string
	access  access
	limit   int64
	serve   handler
}

// Handler serves the API under /v1 and the Console under /console.
func (s *Simulator) Handler() http.Handler { return s.routes }

func (s *Simulator) routing() http.Handler {
	api := http.NewServeMux()
	for _, r := range []route{
		{"POST /v1/messages", byKey, messageLimit, s.createMessage},
		{"POST /v1/messages/count_tokens", byKey, messageLimit, s.countTokens},
		{"GET /v1/models", byKey, 0, s.listModels},
		{"GET /v1/models/{id}", byKey, 0, s.getModel},
		{"POST /v1/messages/batches", byKey, batchLimit, s.createBatch},
		{"GET /v1/messages/batches", byKey, 0, s.listBatches},
		{"GET /v1/messages/batches/{id}", byKey, 0, s.getBatch},
		{"POST /v1/messages/batches/{id}/cancel", byKey, adminLimit, s.cancelBatch},
		{"GET /v1/messages/batches/{id}/results", byKey, 0, s.batchResults},
		{"DELETE /v1/messages/batches/{id}", byKey, 0, s.deleteBatch},
		{"POST /v1/files", byKey, fileLimit, s.uploadFile},
		{"GET /v1/files", byKey, 0, s.listFiles},
		{"GET /v1/files/{id}", byKey, 0, s.getFile},
		{"GET /v1/files/{id}/content", byKey, 0, s.fileContent},
		{"DELETE /v1/files/{id}", byKey, 0, s.deleteFile},
		{"POST /v1/skills", byKey, skillLimit, s.createSkill},
		{"GET /v1/skills", byKey, 0, s.listSkills},
		{"GET /v1/skills/{id}", byKey, 0, s.getSkill},
		{"DELETE /v1/skills/{id}", byKey, 0, s.deleteSkill},
		{"POST /v1/skills/{id}/versions", byKey, skillLimit, s.createSkillVersion},
		{"GET /v1/skills/{id}/versions", byKey, 0, s.listSkillVersions},
		{"GET /v1/skills/{id}/versions/{version}", byKey, 0, s.getSkillVersion},
		{"GET /v1/skills/{id}/versions/{version}/content", byKey, 0, s.skillVersionContent},
		{"DELETE /v1/skills/{id}/versions/{version}", byKey, 0, s.deleteSkillVersion},

		{"GET /v1/organizations/me", byAdmin, 0, s.getOrganization},
		{"GET /v1/organizations/api_keys", byAdmin, 0, s.listKeys},
		{"GET /v1/organizations/api_keys/{id}", byAdmin, 0, s.getKey},
		{"POST /v1/organizations/api_keys/{id}", byAdmin, adminLimit, s.postKey},
		{"GET /v1/organizations/workspaces", byAdmin, 0, s.listWorkspaces},
		{"POST /v1/organizations/workspaces", byAdmin, adminLimit, s.createWorkspace},
		{"GET /v1/organizations/workspaces/{id}", byAdmin, 0, s.getWorkspace},
		{"POST /v1/organizations/workspaces/{id}", byAdmin, adminLimit, s.postWorkspace},
		{"POST /v1/organizations/workspaces/{id}/archive", byAdmin, adminLimit, s.archiveWorkspace},
		{"GET /v1/organizations/users", byAdmin, 0, s.listUsers},
		{"GET /v1/organizations/users/{id}", byAdmin, 0, s.getUser},
		{"DELETE /v1/organizations/users/{id}", byAdmin, 0, s.removeUser},
		{"GET /v1/organizations/analytics/usage", byAdmin, 0, s.analyticsUsage},
		{"GET /v1/organizations/analytics/cost", byAdmin, 0, s.analyticsCost},
		{"GET /v1/organizations/usage_report/messages", byAdmin, 0, s.legacyUsage},
		{"GET /v1/organizations/cost_report", byAdmin, 0, s.legacyCost},
		{"GET /v1/compliance/activities", byAdmin, 0, s.listActivities},
	} {
		api.Handle(r.pattern, s.endpoint(r))
	}
	api.Handle("/", s.endpoint(route{access: byKey, limit: adminLimit, serve: nil}))

	pages := http.NewServeMux()
	pages.Handle("/v1/", api)
	pages.Handle("/api/", api)
	pages.Handle("/", s.console())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(Header, "true")
		w.Header().Set("Date", s.Now().Format(http.TimeFormat))
		pages.ServeHTTP(w, r)
	})
}

// endpoint wraps a handler with everything that all API calls share. A nil
// handler answers 404 before any other check.
func (s *Simulator) endpoint(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		c := &call{r: r, requestID: s.id("req_"), version: r.Header.Get("anthropic-version"), access: rt.access}
		s.mu.Unlock()
		body, fail := readBody(w, r, rt.limit)
		c.body = body
		if !pause(r, s.opts.Latency) {
			return
		}
		s.mu.Lock()
		c.now = s.now()
		who, denied := s.authenticate(r, rt.access, c.now)
		c.who = who
		hit := s.match(r, who.keyID)
		s.mu.Unlock()

		switch {
		case rt.serve == nil:
			fail = notFound("Not Found")
		case denied != nil:
			fail = denied
		case fail != nil:
		default:
			fail = checkVersion(c.version)
		}
		if hit != nil && hit.Kind == FaultDelay {
			if !pause(r, hit.Delay) {
				return
			}
			hit = nil
		}
		s.answer(w, c, rt, fail, hit)
	})
}

// answer runs the handler, records the request, and writes the reply or what
// the fault makes of it.
func (s *Simulator) answer(w http.ResponseWriter, c *call, rt route, fail *apiError, hit *Fault) {
	if hit != nil {
		switch hit.Kind {
		case FaultDropBefore:
			s.record(c, 0, hit)
			panic(http.ErrAbortHandler)
		case FaultReply:
			fail = hit.apiError()
		case FaultPlain:
			s.record(c, hit.Status, hit)
			hit.addHeaders(w.Header())
			writePlain(w, hit)
			return
		}
	}
	var out reply
	if fail == nil {
		fail = s.takeRate(c)
	}
	if fail == nil {
		out, fail = rt.serve(c)
	}
	if fail == nil && out.stream != nil {
		s.headers(w.Header(), c, nil)
		hit.addHeaders(w.Header())
		s.record(c, http.StatusOK, hit)
		s.runStream(w, c, out.stream, hit)
		return
	}
	status, contentType := http.StatusOK, "application/json"
	body := out.raw
	switch {
	case fail != nil:
		status, body = fail.status, fail.body(c.requestID)
	case out.kind != "":
		contentType = out.kind
	default:
		var err error
		if body, err = json.Marshal(out.json); err != nil {
			s.log.Error("marshal reply", "path", c.r.URL.Path, "error", err)
			fail = &apiError{status: 500, kind: "api_error", message: "Internal server error"}
			status, body = fail.status, fail.body(c.requestID)
		}
	}
	if hit != nil && hit.Kind == FaultReplyAfter {
		fail = hit.apiError()
		status, body = fail.status, fail.body(c.requestID)
	}
	s.record(c, status, hit)
	s.headers(w.Header(), c, fail)
	hit.addHeaders(w.Header())
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if hit != nil {
		switch hit.Kind {
		case FaultDropAfter:
			panic(http.ErrAbortHandler)
		case FaultGarbageBody:
			body = garbage()
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		case FaultCutBody:
			w.WriteHeader(status)
			_, _ = w.Write(body[:len(body)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// headers sets the provider's reply headers.
func (s *Simulator) headers(h http.Header, c *call, fail *apiError) {
	h.Set("request-id", c.requestID)
	if fail != nil && fail.retryAfter > 0 {
		h.Set("retry-after", strconv.Itoa(int(math.Ceil(fail.retryAfter.Seconds()))))
	}
	if c.who.keyID == "" || fail != nil && fail.status == http.StatusUnauthorized {
		return
	}
	h.Set("anthropic-organization-id", s.Organization())
	if c.access == byAdmin {
		return
	}
	h.Set("anthropic-workspace-id", c.who.workspace)
	s.rateHeaders(h, c)
}

func writePlain(w http.ResponseWriter, f *Fault) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, "<html><head><title>Simulated edge error</title></head><body><h1>"+
		strconv.Itoa(f.Status)+"</h1><p>This is a simulation.</p></body></html>\n")
}

func garbage() []byte { return []byte("{\"type\":\"\x00\xff\xfe not json [[[") }

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *apiError) {
	if limit == 0 {
		return nil, nil
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return nil, invalid("the request body encoding is not supported").code("request_body_encoding_unsupported")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, &apiError{status: 413, kind: "request_too_large", message: "Request exceeds the maximum size"}
		}
		return nil, invalid("the request body could not be read")
	}
	return body, nil
}

// decode reads a JSON object strictly: unknown fields are refused.
func decode(body []byte, into any) *apiError {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return invalid(strings.Trim(name, `"`) + ": Extra inputs are not permitted")
		}
		return invalid("The request body is not valid JSON")
	}
	if d.More() {
		return invalid("The request body is not valid JSON")
	}
	return nil
}

// pause waits for d or until the client is gone, and reports whether to go on.
func pause(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// stamp is a time as the provider writes it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// stampOrNil is nil for the zero time.
func stampOrNil(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	v := stamp(t)
	return &v
}

func textOrNil(v string) *string {
	if v == "" {
		return nil
	}
	return &v
}
