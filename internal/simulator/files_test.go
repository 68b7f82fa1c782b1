package simulator_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/simulator"
)

// multi makes a multipart body of pairs: a field's name and value; a name with "=" is a file's field and path.
func multi(t *testing.T, pairs ...string) (body string, contentType option) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		name, file, isFile := strings.Cut(pairs[i], "=")
		h := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q`, name)}}
		if isFile {
			h = textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q; filename=%q`, name, file)}, "Content-Type": {"text/plain"}}
		}
		p, err := w.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), header("content-type", w.FormDataContentType())
}

func TestFiles(t *testing.T) {
	w := start(t, simulator.Options{})
	_, value := w.key(simulator.CreateKey{})
	_, foreign := w.key(simulator.CreateKey{Workspace: w.AddWorkspace("other").ID})
	upload := func(pairs ...string) map[string]any {
		body, kind := multi(t, pairs...)
		return w.want(200, "POST", "/v1/files", value, body, kind).json(t)
	}
	got := upload("file=a/one.txt", "content")
	one := got["id"].(string)
	if got["type"] != "file" || got["filename"] != "one.txt" || got["mime_type"] != "text/plain" || got["size_bytes"] != 7.0 || got["downloadable"] != false || got["expires_at"] != nil {
		t.Errorf("file: %v", got)
	}
	short := upload("file=", "x", "expires_in_seconds", "3600")
	if short["filename"] != "unnamed" || short["expires_at"] == nil {
		t.Errorf("file: %v", short)
	}
	w.want(200, "GET", "/v1/files/"+one, value, "")
	w.want(404, "GET", "/v1/files/"+one, foreign, "")
	w.want(400, "GET", "/v1/files/"+one+"/content", value, "")
	named := func(id string) string {
		return strings.Replace(hello, `"hello"`, `[{"type":"tool_result","tool_use_id":"t","content":[{"type":"document","source":{"type":"file","file_id":"`+id+`"}}]},{"type":"text","text":"hello"}]`, 1)
	}
	w.want(200, "POST", "/v1/messages", value, named(one))
	w.want(404, "POST", "/v1/messages", foreign, named(one))
	if kind, code := w.want(404, "GET", "/v1/files/none", value, "").errorOf(t); kind != "not_found_error" || code != "" {
		t.Errorf("%s %s", kind, code)
	}
	w.clock.Add(time.Hour)
	if _, code := w.want(404, "GET", "/v1/files/"+short["id"].(string), value, "").errorOf(t); code != "file_expired" {
		t.Errorf("an expired file: %s", code)
	}

	for range 4 {
		upload("file=b", "")
	}
	var all []any
	path := "/v1/files?limit=2"
	for {
		page := w.want(200, "GET", path, value, "").json(t)
		all = append(all, page["data"].([]any)...)
		if page["next_page"] == nil {
			break
		}
		path = "/v1/files?limit=2&page=" + page["next_page"].(string)
	}
	if len(all) != 5 {
		t.Errorf("%d files in all", len(all))
	}
	if some := list(t, w.want(200, "GET", "/v1/files?ids[]="+one+"&ids[]=file_none", value, "")); len(some) != 1 || some[0]["id"] != one {
		t.Errorf("files by id: %v", some)
	}
	if none := list(t, w.want(200, "GET", "/v1/files", foreign, "")); len(none) != 0 {
		t.Errorf("files of another workspace: %v", none)
	}
	w.want(400, "GET", "/v1/files?ids[]="+one+"&limit=2", value, "")
	w.want(400, "GET", "/v1/files?page=2", value, "")
	w.want(404, "DELETE", "/v1/files/"+one, foreign, "")
	if got := w.want(200, "DELETE", "/v1/files/"+one, value, "").json(t); got["type"] != "file_deleted" || got["id"] != one {
		t.Errorf("deleted: %v", got)
	}
	w.want(404, "GET", "/v1/files/"+one, value, "")
	w.want(400, "POST", "/v1/files", value, "{}", header("content-type", "application/json"))
	for _, bad := range [][]string{{"file=a", "", "file=b", ""}, {"other", "x"}, {}, {"file=a", "", "expires_in_seconds", "60"}} {
		body, kind := multi(t, bad...)
		w.want(400, "POST", "/v1/files", value, body, kind)
	}
}

func TestCodeTool(t *testing.T) {
	w := start(t, simulator.Options{})
	_, value := w.key(simulator.CreateKey{})
	_, foreign := w.key(simulator.CreateKey{Workspace: w.AddWorkspace("other").ID})
	ask := strings.Replace(hello, "{", `{"tools":[{"type":"code_execution_20250825","name":"code_execution"}],`, 1)
	got := w.want(200, "POST", "/v1/messages", value, ask).json(t)
	box := got["container"].(map[string]any)["id"].(string)
	blocks := got["content"].([]any)
	made := blocks[1].(map[string]any)["content"].(map[string]any)["content"].([]any)[0].(map[string]any)["file_id"].(string)
	if a := w.want(200, "GET", "/v1/files/"+made+"/content", value, ""); len(a.body) == 0 || a.header.Get("Content-Type") != "text/plain" {
		t.Errorf("content: %q", a.body)
	}
	again := strings.Replace(ask, "{", `{"container":"`+box+`",`, 1)
	if got := w.want(200, "POST", "/v1/messages", value, again).json(t); got["container"].(map[string]any)["id"] != box {
		t.Errorf("container: %v", got["container"])
	}
	w.want(404, "POST", "/v1/messages", foreign, again)
	w.want(400, "POST", "/v1/messages", value, strings.Replace(ask, "{", `{"container":7,`, 1))
	names, data := events(t, w.want(200, "POST", "/v1/messages", value, strings.Replace(again, "{", `{"stream":true,`, 1)).body)
	if names[len(names)-2] != "message_delta" || data[len(names)-2]["delta"].(map[string]any)["container"].(map[string]any)["id"] != box {
		t.Errorf("stream: %v", data)
	}
	w.clock.Add(31 * 24 * time.Hour)
	w.want(404, "POST", "/v1/messages", value, again)
}

func TestSkills(t *testing.T) {
	w := start(t, simulator.Options{})
	_, value := w.key(simulator.CreateKey{})
	_, foreign := w.key(simulator.CreateKey{Workspace: w.AddWorkspace("other").ID})
	body, kind := multi(t, "files[]=brief/SKILL.md", "---\nname: brief\n---\n", "files[]=brief/more/a.md", "a", "display_name", "Brief")
	got := w.want(200, "POST", "/v1/skills", value, body, kind).json(t)
	id, first := got["id"].(string), got["latest_version_id"].(string)
	if got["type"] != "skill" || got["display_name"] != "Brief" || got["source"].(map[string]any)["type"] != "custom" {
		t.Errorf("skill: %v", got)
	}
	path := "/v1/skills/" + id
	w.want(404, "GET", path, foreign, "")
	body, kind = multi(t, "files[]=brief/SKILL.md", "two")
	second := w.want(200, "POST", path+"/versions", value, body, kind).json(t)["id"].(string)
	if got := w.want(200, "GET", path, value, "").json(t); got["latest_version_id"] != second {
		t.Errorf("skill: %v", got)
	}
	if all := list(t, w.want(200, "GET", path+"/versions", value, "")); len(all) != 2 || all[0]["id"] != second {
		t.Errorf("versions: %v", all)
	}
	a := w.want(200, "GET", path+"/versions/"+first+"/content", value, "")
	if z, err := zip.NewReader(bytes.NewReader(a.body), int64(len(a.body))); err != nil || len(z.File) != 2 || z.File[0].Name != "brief/SKILL.md" {
		t.Errorf("content: %v", err)
	}
	if got := w.want(200, "GET", path+"/versions/"+first, value, "").json(t); got["skill_id"] != id || got["name"] != "brief" {
		t.Errorf("version: %v", got)
	}
	if all := list(t, w.want(200, "GET", "/v1/skills?source=custom", value, "")); len(all) != 1 {
		t.Errorf("custom skills: %v", all)
	}
	if all := list(t, w.want(200, "GET", "/v1/skills", foreign, "")); len(all) != 4 {
		t.Errorf("skills of another workspace: %v", all)
	}
	with := func(kind, id string) string {
		return strings.Replace(hello, "{", `{"container":{"skills":[{"type":"`+kind+`","skill_id":"`+id+`","version":"latest"}]},"tools":[{"type":"code_execution_20250825","name":"code_execution"}],`, 1)
	}
	if got := w.want(200, "POST", "/v1/messages", value, with("custom", id)).json(t); len(got["container"].(map[string]any)["skills"].([]any)) != 1 {
		t.Errorf("message: %v", got)
	}
	w.want(200, "POST", "/v1/messages", foreign, with("anthropic", "pdf"))
	w.want(404, "POST", "/v1/messages", foreign, with("custom", id))
	w.want(400, "POST", "/v1/messages", value, with("anthropic", id))
	w.want(400, "DELETE", "/v1/skills/pdf", value, "")
	w.want(200, "DELETE", path+"/versions/"+first, value, "")
	w.want(400, "DELETE", path+"/versions/"+second, value, "")
	w.want(404, "GET", path+"/versions/"+first, value, "")
	w.want(200, "DELETE", path, value, "")
	w.want(404, "GET", path, value, "")
	body, kind = multi(t, "files[]=brief/other.md", "x")
	w.want(400, "POST", "/v1/skills", value, body, kind)
	body, kind = multi(t, "files[]=brief/SKILL.md", "x", "files[]=brief/../../x", "x")
	w.want(400, "POST", "/v1/skills", value, body, kind)
}

func TestLargestAnswer(t *testing.T) {
	w := start(t, simulator.Options{})
	_, value := w.key(simulator.CreateKey{})
	for model, most := range map[string]int{"claude-opus-5-5": 128_000, "claude-haiku-5-5": 64_000} {
		body := func(n int) string {
			return fmt.Sprintf(`{"model":%q,"max_tokens":%d,"messages":[{"role":"user","content":"hello"}]}`, model, n)
		}
		w.want(200, "POST", "/v1/messages", value, body(most))
		w.want(400, "POST", "/v1/messages", value, body(most+1))
	}
}
