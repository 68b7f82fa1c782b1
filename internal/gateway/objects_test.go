package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/simulator"
)

// byName believes what a caller says of itself.
type byName struct{}

func (byName) Identify(r *http.Request) (identity.Caller, error) {
	name, routes, _ := strings.Cut(identity.Presented(r.Header), "/")
	if name == "" {
		return identity.Caller{}, identity.ErrNoOpinion
	}
	c := identity.Caller{App: name}
	if routes != "" {
		c.Routes = strings.Split(routes, ",")
	}
	return c, nil
}

// everything is an App that may call all that is served.
func everything(t *testing.T) App {
	t.Helper()
	a, err := Granting([]string{"batches", "files", "skills"})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// onDisk gives a gateway a state directory.
func onDisk(t *testing.T) func(o *Options) { return func(o *Options) { o.StateDir = t.TempDir() } }

// owned is a world with applications that may keep objects, and one key.
func owned(t *testing.T, so simulator.Options, change func(o *Options)) *world {
	t.Helper()
	w := start(t, so, func(o *Options) {
		o.Identify, o.Open, o.Default = []identity.Identifier{byName{}}, false, everything(t)
		if change != nil {
			change(o)
		}
	})
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	w.probed()
	return w
}

// as makes a call for an application.
func (w *world) as(app string, status int, method, path, body string, headers ...string) answer {
	w.t.Helper()
	return w.want(status, method, path, body, append([]string{"x-api-key", app}, headers...)...)
}

// made makes a call that makes something, and gives its id.
func (w *world) made(app, path, body string, headers ...string) string {
	w.t.Helper()
	return w.as(app, 200, "POST", path, body, headers...).id(w.t)
}

func (a answer) id(t *testing.T) string {
	t.Helper()
	var o struct{ ID string }
	if err := json.Unmarshal([]byte(a.body), &o); err != nil || o.ID == "" {
		t.Fatalf("no id: %s", a.body)
	}
	return o.ID
}

// multi makes a multipart body of pairs: a name and a value; a name with "=" is that of a file.
func multi(t *testing.T, pairs ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		name, file, isFile := strings.Cut(pairs[i], "=")
		d := fmt.Sprintf("form-data; name=%q", name)
		if isFile {
			d += fmt.Sprintf("; filename=%q", file)
		}
		p, err := m.CreatePart(textproto.MIMEHeader{"Content-Disposition": {d}})
		if err == nil {
			_, err = p.Write([]byte(pairs[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), m.FormDataContentType()
}

func (w *world) file(app string) string {
	w.t.Helper()
	body, kind := multi(w.t, "file=a.txt", "content")
	return w.made(app, "/v1/files", body, "content-type", kind)
}

func (w *world) skill(app, name string) string {
	w.t.Helper()
	body, kind := multi(w.t, "files[]="+name+"/SKILL.md", "text")
	return w.made(app, "/v1/skills", body, "content-type", kind)
}

func (w *world) batch(app string) string {
	w.t.Helper()
	return w.made(app, "/v1/messages/batches", batchOf(hello))
}

func batchOf(params ...string) string {
	items := make([]string, len(params))
	for i, p := range params {
		items[i] = fmt.Sprintf(`{"custom_id":"c%d","params":%s}`, i, p)
	}
	return `{"requests":[` + strings.Join(items, ",") + `]}`
}

// with puts members in front of a message.
func with(members string) string { return strings.Replace(hello, "{", "{"+members+",", 1) }

// saying gives a message with content.
func saying(blocks string) string {
	return strings.Replace(hello, `"content":"hello"`, `"content":[`+blocks+`]`, 1)
}

const codeTool = `"tools":[{"type":"code_execution_20250825","name":"code_execution"}]`

// TestObjectsBelongToTheirApplication: what an application made, it can use; for others it does not exist, as what nobody made does not.
func TestObjectsBelongToTheirApplication(t *testing.T) {
	w := owned(t, simulator.Options{}, onDisk(t))
	batch, file, skill := w.batch("a"), w.file("a"), w.skill("a", "brief")
	body, kind := multi(t, "files[]=brief/SKILL.md", "two")
	version := w.made("a", "/v1/skills/"+skill+"/versions", body, "content-type", kind)
	calls := []struct{ method, path string }{
		{"GET", "/v1/messages/batches/ID"}, {"GET", "/v1/messages/batches/ID/results"}, {"POST", "/v1/messages/batches/ID/cancel"},
		{"GET", "/v1/files/ID"}, {"GET", "/v1/skills/ID"}, {"GET", "/v1/skills/ID/versions"}, {"GET", "/v1/skills/ID/versions/" + version},
		{"GET", "/v1/skills/ID/versions/" + version + "/content"}, {"DELETE", "/v1/skills/ID/versions/" + version},
		{"DELETE", "/v1/messages/batches/ID"}, {"DELETE", "/v1/files/ID"}, {"DELETE", "/v1/skills/ID"},
	}
	of := map[string]string{"messages": batch, "files": file, "skills": skill}
	for _, c := range calls {
		id := of[strings.Split(c.path, "/")[2]]
		path := strings.Replace(c.path, "ID", id, 1)
		seen := len(w.sim.Requests())
		foreign := w.as("b", 404, c.method, path, "")
		if len(w.sim.Requests()) != seen {
			t.Errorf("%s %s of another application went to the provider", c.method, path)
		}
		unknown := w.as("b", 404, c.method, strings.Replace(c.path, "ID", "unknown_1", 1), "")
		if foreign.errorType() != "not_found_error" || foreign.body != unknown.body {
			t.Errorf("%s %s: foreign %q, unknown %q", c.method, path, foreign.body, unknown.body)
		}
		w.as("a", 200, c.method, path, "")
		if c.method == "DELETE" && !strings.Contains(path, "/versions/") {
			seen := len(w.sim.Requests())
			w.as("a", 404, "GET", path, "")
			if len(w.sim.Requests()) != seen && !strings.Contains(path, "skills") {
				t.Errorf("%s was not forgotten", path)
			}
		}
	}
	// A kind is not taken for another one.
	w.as("a", 404, "GET", "/v1/files/"+w.batch("a"), "")
	w.as("a", 404, "POST", "/v1/messages", with(`"container":"`+w.file("a")+`"`))
}

// TestGrants: batches, files and skills are served to whom they are given by name, and a token can only narrow that.
func TestGrants(t *testing.T) {
	w := owned(t, simulator.Options{}, func(o *Options) {
		o.Apps = map[string]App{"plain": {}, "batches": {Routes: []string{"batches"}}}
	})
	for path, name := range map[string]string{"/v1/messages/batches": "batches", "/v1/files": "files", "/v1/skills": "skills"} {
		w.as("plain", 403, "GET", path, "")
		w.as("all/messages", 403, "GET", path, "")
		w.as("all/"+name, 200, "GET", path, "")
		w.as("plain/"+name, 403, "GET", path, "")
	}
	w.as("batches", 200, "GET", "/v1/messages/batches", "")
	w.as("batches", 403, "GET", "/v1/files", "")
	w.as("batches", 403, "POST", "/v1/messages", hello)
	w.as("plain", 200, "POST", "/v1/messages", hello)
	w.as("plain", 405, "PUT", "/v1/files/file_1", "")
	if _, err := Granting([]string{"messages"}); err == nil {
		t.Error("what everybody may do was granted")
	}
}

// TestObjectIDTricks: no writing of a path reaches another one than it says, and no text that is no id reaches the provider as one.
func TestObjectIDTricks(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	file, foreign := w.file("a"), w.file("b")
	seen := len(w.sim.Requests())
	for _, path := range []string{
		"/v1/files/" + file + "/../" + foreign, "/v1/files/" + file + "%2f..%2f" + foreign, "/v1/files//" + foreign, "/v1/files/" + foreign + "/",
		"/v1/files/" + foreign + "//content", "/v1/files/" + foreign + "%00", "/v1/files/" + foreign + ";a", "/v1/files/" + foreign + "/content/more",
		"/v1/files/" + strings.ToUpper(file), "/v1/files/" + file + ",", "/v1/files/" + file + "%20", `/v1/files/..\` + foreign, "/v1/files/" + strings.Repeat("a", 129),
		"/v1/skills/" + file + "/versions/../../files/" + foreign, "/v1/skills//versions", "/v1/messages/batches/" + foreign + "/results/..", "/v1/messages/batches/cancel",
		"/v1/files/" + foreign + "?file_id=" + file, "/v1/./files/" + foreign, "/v1/Files/" + foreign, "/V1/files/" + foreign,
	} {
		a := w.do("GET", path, "", "x-api-key", "a")
		if a.err == nil && a.status != 400 && a.status != 404 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if got := len(w.sim.Requests()); got != seen {
		t.Errorf("%d requests went to the provider: %+v", got-seen, w.sim.Requests()[seen:])
	}
}

// TestForeignIDsInMessages: however deep and however written, an id of another application's object is found, and what only looks like one in
// a caller's own data is let alone.
func TestForeignIDsInMessages(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	mine, yours := w.file("a"), w.file("b")
	skill, skillOfB := w.skill("a", "brief"), w.skill("b", "brief")
	box := func(app string) string {
		var m struct{ Container struct{ ID string } }
		if err := json.Unmarshal([]byte(w.as(app, 200, "POST", "/v1/messages", with(codeTool)).body), &m); err != nil || m.Container.ID == "" {
			t.Fatal("the answer has no container")
		}
		return m.Container.ID
	}
	boxA, boxB := box("a"), box("b")
	document := func(name, id string) string {
		return `{"type":"document","source":{"type":"file",` + name + `:"` + id + `"}}`
	}
	text := `{"type":"text","text":"hi"}`
	result := func(inner string) string { return `{"type":"tool_result","tool_use_id":"t","content":[` + inner + `]}` }
	skills := func(kind, id string) string {
		return `"container":{"skills":[{"type":"` + kind + `","skill_id":"` + id + `","version":"latest"}]}`
	}
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"own file":                              {200, saying(document(`"file_id"`, mine) + "," + text)},
		"foreign file":                          {404, saying(document(`"file_id"`, yours) + "," + text)},
		"unknown file":                          {404, saying(document(`"file_id"`, "file_unknown") + "," + text)},
		"no id":                                 {404, saying(document(`"file_id"`, "../"+mine) + "," + text)},
		"empty id":                              {404, saying(document(`"file_id"`, "") + "," + text)},
		"own file in a tool result":             {200, saying(result(document(`"file_id"`, mine)) + "," + text)},
		"foreign file in a tool result":         {404, saying(result(result(document(`"file_id"`, yours))) + "," + text)},
		"foreign file, escaped name":            {404, saying(document(`"file\u005fid"`, yours) + "," + text)},
		"foreign file, escaped id":              {404, saying(document(`"file_id"`, strings.Replace(yours, "f", `\u0066`, 1)) + "," + text)},
		"own file, escaped id":                  {200, saying(document(`"file_id"`, strings.Replace(mine, "f", `\u0066`, 1)) + "," + text)},
		"foreign file behind an own one":        {404, saying(`{"type":"document","source":{"type":"file","file_id":"` + mine + `","file_id":"` + yours + `"}},` + text)},
		"foreign file before an own one":        {404, saying(`{"type":"document","source":{"type":"file","file_id":"` + yours + `","file_id":"` + mine + `"}},` + text)},
		"foreign file to upload":                {404, saying(`{"type":"container_upload","file_id":"` + yours + `"},` + text)},
		"foreign file in an image":              {404, saying(`{"type":"image","source":{"type":"file","file_id":"` + yours + `"}},` + text)},
		"foreign file in a system prompt":       {404, with(`"system":[{"type":"text","text":"x","citations":[{"file_id":"` + yours + `"}]}]`)},
		"what looks like an id in a tool's use": {200, saying(`{"type":"tool_use","id":"t","name":"n","input":{"file_id":"` + yours + `","a":[{"skill_id":"x y"}]}},` + text)},
		"what looks like an id in a schema":     {200, with(`"tools":[{"name":"n","input_schema":{"type":"object","properties":{"file_id":{"type":"string"}},"default":{"file_id":"x"}},"input_examples":[{"file_id":"7"}]}]`)},
		"what looks like an id in a text":       {200, saying(`{"type":"text","text":"\"file_id\":\"` + yours + `\""}`)},
		"no file at all":                        {200, saying(`{"type":"text","text":"x","citations":[{"file_id":null}]}`)},
		"own container":                         {200, with(`"container":"` + boxA + `"`)},
		"foreign container":                     {404, with(`"container":"` + boxB + `"`)},
		"foreign container, object":             {404, with(`"container":{"id":"` + boxB + `","skills":[]}`)},
		"foreign container behind an own one":   {404, with(`"container":"` + boxA + `","container":{"id":"` + boxB + `"}`)},
		"no container":                          {200, with(`"container":null`)},
		"own skill":                             {200, with(codeTool + "," + skills("custom", skill))},
		"foreign skill":                         {404, with(codeTool + "," + skills("custom", skillOfB))},
		"foreign skill as the provider's":       {404, with(codeTool + "," + skills("anthropic", skillOfB))},
		"foreign skill, both kinds":             {404, with(codeTool + `,"container":{"skills":[{"type":"anthropic","type":"custom","skill_id":"` + skillOfB + `"}]}`)},
		"unknown skill, both kinds":             {404, with(codeTool + `,"container":{"skills":[{"type":"custom","type":"anthropic","skill_id":"pdf"}]}`)},
		"skill of the provider":                 {200, with(codeTool + "," + skills("anthropic", "pdf"))},
		"foreign conversation":                  {404, with(`"thread":{"type":"continue","previous_message_id":"msg_1"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/v1/messages", "/v1/messages/count_tokens"} {
				seen := len(w.sim.Requests())
				a := w.do("POST", path, c.body, "x-api-key", "a")
				if a.status != c.status {
					t.Errorf("%s: %d %s, want %d", path, a.status, a.body, c.status)
				}
				if c.status == 404 && (a.errorType() != "not_found_error" || len(w.sim.Requests()) != seen) {
					t.Errorf("%s: %s; %d requests went to the provider", path, a.body, len(w.sim.Requests())-seen)
				}
			}
			seen := len(w.sim.Requests())
			a := w.do("POST", "/v1/messages/batches", batchOf(hello, c.body, hello), "x-api-key", "a")
			if a.status != c.status || c.status == 404 && len(w.sim.Requests()) != seen {
				t.Errorf("in a batch: %d %s, want %d", a.status, a.body, c.status)
			}
		})
	}
}

// TestMadeFilesAndContainers: what the provider's tools make in an answer belongs to the application that asked, in each form of an answer.
func TestMadeFilesAndContainers(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	find := func(body, name string) string {
		_, rest, ok := strings.Cut(body, `"`+name+`":"`)
		id, _, _ := strings.Cut(rest, `"`)
		if !ok {
			t.Fatalf("no %s in %s", name, body)
		}
		return id
	}
	container := func(body string) string { return find(body[strings.Index(body, `"container":{`):], "id") }
	batch := w.made("a", "/v1/messages/batches", batchOf(with(codeTool), hello))
	for form, body := range map[string]string{
		"json":    w.as("a", 200, "POST", "/v1/messages", with(codeTool)).body,
		"stream":  w.as("a", 200, "POST", "/v1/messages", with(codeTool+`,"stream":true`)).body,
		"results": w.as("a", 200, "GET", "/v1/messages/batches/"+batch+"/results", "").body,
	} {
		file, box := find(body, "file_id"), container(body)
		w.as("a", 200, "GET", "/v1/files/"+file+"/content", "")
		w.as("b", 404, "GET", "/v1/files/"+file+"/content", "")
		w.as("a", 200, "POST", "/v1/messages", with(codeTool+`,"container":"`+box+`"`))
		w.as("b", 404, "POST", "/v1/messages", with(codeTool+`,"container":"`+box+`"`))
		if t.Failed() {
			t.Fatal(form)
		}
	}
}

// TestModelCannotGiveObjectsAway: an id that a model was made to write is nobody's by that.
func TestModelCannotGiveObjectsAway(t *testing.T) {
	says := `{"id":"msg_1","type":"message","content":[{"type":"tool_use","id":"t","name":"n","input":{"container":{"id":"container_x"},"file_id":"file_x",` +
		`"content":[{"type":"bash_code_execution_tool_result","content":{"content":[{"file_id":"file_y"}]}}]}},` +
		`{"type":"text","text":"\"container\":{\"id\":\"container_y\"}"},{"type":"tool_result","content":{"content":[{"file_id":"file_z"}]}}],"container":null}`
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.Header.Get("Accept"), "event-stream") {
			rw.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(rw, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":%s}\n\nevent: message_stop\ndata: {}\n\n", says)
			return
		}
		fmt.Fprint(rw, says)
	}, func(o *Options) { o.StateDir = t.TempDir() })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	if got := w.want(200, "POST", "/v1/messages", with(codeTool)); got.body != says {
		t.Errorf("the answer was changed: %s", got.body)
	}
	w.want(200, "POST", "/v1/messages", with(codeTool+`,"stream":true`), "Accept", "text/event-stream")
	for _, id := range []string{"container_x", "container_y", "file_x", "file_y", "file_z", "msg_1"} {
		if all, err := w.g.owners.Objects(t.Context(), []string{id}); err != nil || len(all) != 0 {
			t.Errorf("%s: %v, %v", id, all, err)
		}
	}
	// A conversation that the provider keeps is known by the messages of its answers.
	w.want(200, "POST", "/v1/messages", with(`"thread":{"type":"create"}`))
	w.want(200, "POST", "/v1/messages", with(`"thread":{"type":"continue","previous_message_id":"msg_1"}`))
}

// TestMadeIsOnTheDiskBeforeTheAnswer: the files that the ledger left behind at the moment of the answer know the object.
func TestMadeIsOnTheDiskBeforeTheAnswer(t *testing.T) {
	dir := ""
	w := owned(t, simulator.Options{}, func(o *Options) { onDisk(t)(o); dir = o.StateDir })
	ids := []string{w.batch("a"), w.file("a"), w.skill("a", "brief")}
	copied := t.TempDir()
	for _, name := range []string{ledger.File, ledger.File + "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(copied, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := ledger.Open(t.Context(), copied)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all, err := l.Objects(t.Context(), ids)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	at := w.g.set.Load().entries[0].where()
	for _, o := range all {
		if o.App != "a" || o.Organization != at.organization || o.Workspace != at.workspace || time.Since(o.Created) > time.Hour {
			t.Errorf("%+v", o)
		}
	}
}

// TestObjectStaysInItsWorkspace: a request that names an object goes to a key that can see it, whichever is the first.
func TestObjectStaysInItsWorkspace(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	k, id := w.key("a", simulator.CreateKey{})
	other, otherID := w.key("b", simulator.CreateKey{Workspace: w.sim.AddWorkspace("other").ID})
	second, _ := w.key("c", simulator.CreateKey{})
	k.Group, other.Group, second.Group = "g", "g", "g"
	w.swap(Set{Keys: []Key{k}})
	w.probed()
	file, batch := w.file("a"), w.batch("a")
	groups := map[string]Group{"g": {On401: true}}
	w.swap(Set{Keys: []Key{other, k}, Groups: groups})
	w.probed()
	w.as("a", 200, "GET", "/v1/files/"+file, "")
	w.as("a", 200, "GET", "/v1/messages/batches/"+batch, "")
	w.as("a", 200, "POST", "/v1/messages", saying(`{"type":"document","source":{"type":"file","file_id":"`+file+`"}},{"type":"text","text":"x"}`))
	w.as("a", 200, "POST", "/v1/messages", hello)
	if there := w.file("a"); there != "" {
		w.as("a", 400, "POST", "/v1/messages", saying(`{"type":"document","source":{"file_id":"`+file+`"}},{"type":"document","source":{"file_id":"`+there+`"}}`))
	}
	if n := w.calls(otherID, "/v1/messages"); n != 1 {
		t.Errorf("%d messages went to the other workspace, want 1", n)
	}

	// The key dies: another one of the workspace is used, and none of another workspace.
	if err := w.sim.SetStatus(id, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	w.as("a", 503, "GET", "/v1/files/"+file, "")
	w.swap(Set{Keys: []Key{other, k, second}, Groups: groups})
	w.probed()
	w.as("a", 200, "GET", "/v1/files/"+file, "")
	// Where the group says so, a dead key lets the request go; the provider then says what it does not know.
	w.swap(Set{Keys: []Key{other, k}, Groups: map[string]Group{"g": {On401: true, AllowBreak: true}}})
	w.as("a", 404, "GET", "/v1/files/"+file, "")
	if all, err := w.g.owners.Objects(t.Context(), []string{file}); err != nil || len(all) != 1 {
		t.Error("it was forgotten")
	}
	// Without any key of the workspace it waits.
	w.swap(Set{Keys: []Key{other}, Groups: groups})
	if a := w.as("a", 503, "DELETE", "/v1/files/"+file, ""); a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "workspace") {
		t.Errorf("%v %s", a.header, a.body)
	}
}

// TestResultsURL: the address of the results is the gateway's, and nothing else is changed.
func TestResultsURL(t *testing.T) {
	batch := `{ "id" : "msgbatch_1",  "processing_status":"ended", "results_url"  :  "https://api.example/v1/messages/batches/msgbatch_1/results" ,"inner":{"results_url":"https://keep.example"},"more":[1.50, "\u00e9"] }`
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == "GET" && r.URL.Path == "/v1/messages/batches":
			fmt.Fprintf(rw, `{"data":[%s],"has_more":false}`, batch)
		default:
			fmt.Fprint(rw, batch)
		}
	}, func(o *Options) { o.Default = everything(t) })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	want := strings.Replace(batch, "https://api.example", w.url, 1)
	for _, got := range []string{
		w.want(200, "POST", "/v1/messages/batches", batchOf(hello)).body,
		w.want(200, "GET", "/v1/messages/batches/msgbatch_1", "").body,
		w.want(200, "POST", "/v1/messages/batches/msgbatch_1/cancel", "").body,
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got, want := w.want(200, "GET", "/v1/messages/batches", "").body, `{"data":[`+want+`],"has_more":false,"first_id":"msgbatch_1","last_id":"msgbatch_1"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestSkillsOfTheProvider: everybody may look at what the provider publishes, and nobody at a custom one that was made elsewhere.
func TestSkillsOfTheProvider(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	own := w.skill("a", "mine")
	for _, path := range []string{"", "/versions", "/versions/skver_simulated_pdf", "/versions/skver_simulated_pdf/content"} {
		w.as("b", 200, "GET", "/v1/skills/pdf"+path, "")
	}
	seen := len(w.sim.Requests())
	w.as("b", 404, "DELETE", "/v1/skills/pdf", "")
	if len(w.sim.Requests()) != seen {
		t.Error("a skill of the provider would have been deleted")
	}
	if err := w.g.owners.Forget(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{own, own + "/versions", "unknown"} {
		w.as("a", 404, "GET", "/v1/skills/"+path, "")
	}
}

// TestOpenOwnsEverything: without identities there is one application.
func TestOpenOwnsEverything(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.Default = everything(t) })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	body, kind := multi(t, "file=a", "x")
	id := w.want(200, "POST", "/v1/files", body, "content-type", kind).id(t)
	w.want(200, "GET", "/v1/files/"+id, "")
	w.want(404, "GET", "/v1/files/file_elsewhere", "")
	all, err := w.g.owners.ObjectsOf(t.Context(), OpenApp, object.File, ledger.Object{}, 9)
	if err != nil || len(all) != 1 || all[0].ID != id {
		t.Errorf("%v, %v", all, err)
	}
}
