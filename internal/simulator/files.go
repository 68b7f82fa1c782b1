package simulator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const fileLimit = 500 << 20

// The shortest and longest life of a file that is given one.
const (
	fileLifeLeast = time.Hour
	fileLifeMost  = 90 * 24 * time.Hour
)

// file belongs to one workspace. Only what the code tool made can be read back.
type file struct {
	id, workspace, name, kind string
	data                      []byte
	created, expires          time.Time
	made                      bool
}

type fileObject struct {
	ID           string  `json:"id"`
	Type         string  `json:"type"`
	Filename     string  `json:"filename"`
	MimeType     string  `json:"mime_type"`
	SizeBytes    int     `json:"size_bytes"`
	CreatedAt    string  `json:"created_at"`
	Downloadable bool    `json:"downloadable"`
	ExpiresAt    *string `json:"expires_at"`
}

func (f *file) object() fileObject {
	return fileObject{
		ID: f.id, Type: "file", Filename: f.name, MimeType: f.kind, SizeBytes: len(f.data), CreatedAt: stamp(f.created),
		Downloadable: f.made, ExpiresAt: stampOrNil(f.expires),
	}
}

// part is one part of a multipart body.
type part struct {
	name, filename, kind string
	data                 []byte
}

// parts reads a multipart body. The file name is kept with its folders.
func parts(c *call) ([]part, *apiError) {
	kind, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, invalid("content-type: must be multipart/form-data")
	}
	var all []part
	for r := multipart.NewReader(bytes.NewReader(c.body), params["boundary"]); ; {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, invalid("The request body is not valid multipart")
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return nil, invalid("The request body is not valid multipart")
		}
		_, disposition, err := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
		if err != nil {
			return nil, invalid("The request body is not valid multipart")
		}
		all = append(all, part{name: p.FormName(), filename: disposition["filename"], kind: p.Header.Get("Content-Type"), data: data})
	}
}

func (s *Simulator) uploadFile(c *call) (reply, *apiError) {
	all, fail := parts(c)
	if fail != nil {
		return reply{}, fail
	}
	f := &file{workspace: c.who.workspace, created: c.now}
	found := false
	for _, p := range all {
		switch p.name {
		case "file":
			if found {
				return reply{}, invalid("file: given more than once")
			}
			found = true
			f.name, f.kind, f.data = path.Base(p.filename), p.kind, p.data
			if p.filename == "" {
				f.name = "unnamed"
			}
			if f.kind == "" {
				f.kind = "application/octet-stream"
			}
		case "expires_in_seconds":
			n, err := strconv.ParseInt(string(p.data), 10, 64)
			life := time.Duration(n) * time.Second
			if err != nil || n > int64(fileLifeMost/time.Second) || life < fileLifeLeast {
				return reply{}, invalid("expires_in_seconds: must be between 3600 and 7776000")
			}
			f.expires = c.now.Add(life)
		default:
			return reply{}, invalid(clip(p.name) + ": Extra inputs are not permitted")
		}
	}
	if !found {
		return reply{}, invalid("file: Field required")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.id = s.id("file_")
	s.files = append(s.files, f)
	return reply{json: f.object()}, nil
}

// visible reports whether a call may see a file.
func (f *file) visible(c *call) bool {
	return f.workspace == c.who.workspace && (f.expires.IsZero() || c.now.Before(f.expires))
}

// file finds a file of the caller's workspace. The caller holds the lock.
func (s *Simulator) file(c *call, id string) (*file, *apiError) {
	i := slices.IndexFunc(s.files, func(f *file) bool { return f.id == id && f.workspace == c.who.workspace })
	switch {
	case i < 0:
		return nil, notFound("File not found")
	case !s.files[i].visible(c):
		return nil, notFound("File has expired").code("file_expired")
	}
	return s.files[i], nil
}

func (s *Simulator) listFiles(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "page", "ids[]", "scope_id")
	if fail != nil {
		return reply{}, fail
	}
	wanted, some := q["ids[]"]
	switch {
	case len(wanted) > 100:
		return reply{}, invalid("ids: at most 100")
	case some && (q.Has("page") || q.Has("limit")):
		return reply{}, invalid("ids cannot be combined with page or limit")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []fileObject{}
	for _, f := range slices.Backward(s.files) {
		if f.visible(c) && !q.Has("scope_id") && (!some || slices.Contains(wanted, f.id)) {
			all = append(all, f.object())
		}
	}
	if some {
		return reply{json: tokenPage[fileObject]{Data: all}}, nil
	}
	p, fail := pageOf(q, all)
	return reply{json: p}, fail
}

// tokenPage is the envelope of lists that are paged by a token.
type tokenPage[T any] struct {
	Data     []T     `json:"data"`
	NextPage *string `json:"next_page"`
}

// pageOf cuts the page that limit and page ask for.
func pageOf[T any](q url.Values, all []T) (tokenPage[T], *apiError) {
	limit, fail := limitOf(q, 20, 1000)
	if fail != nil {
		return tokenPage[T]{}, fail
	}
	from := 0
	if token := q.Get("page"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "page_"))
		n, bad := strconv.Atoi(string(raw))
		if err != nil || bad != nil || n < 0 || !strings.HasPrefix(token, "page_") {
			return tokenPage[T]{}, invalid("page: is not a page token of this list")
		}
		from = min(n, len(all))
	}
	to := min(from+limit, len(all))
	p := tokenPage[T]{Data: append([]T{}, all[from:to]...)}
	if to < len(all) {
		next := "page_" + base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(to)))
		p.NextPage = &next
	}
	return p, nil
}

func (s *Simulator) getFile(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, fail := s.file(c, c.r.PathValue("id"))
	if fail != nil {
		return reply{}, fail
	}
	return reply{json: f.object()}, nil
}

func (s *Simulator) fileContent(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, fail := s.file(c, c.r.PathValue("id"))
	switch {
	case fail != nil:
		return reply{}, fail
	case !f.made:
		return reply{}, invalid("This file is not downloadable").code("file_not_downloadable")
	}
	return reply{raw: f.data, kind: f.kind}, nil
}

func (s *Simulator) deleteFile(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, fail := s.file(c, c.r.PathValue("id"))
	if fail != nil {
		return reply{}, fail
	}
	s.files = slices.DeleteFunc(s.files, func(o *file) bool { return o == f })
	return reply{json: map[string]string{"id": f.id, "type": "file_deleted"}}, nil
}

// named collects the file ids of content: those of blocks, however deep, but not what stands in the input of a tool.
func named(v any) []string {
	var ids []string
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			ids = append(ids, named(e)...)
		}
	case map[string]any:
		for k, e := range v {
			if id, ok := e.(string); ok && k == "file_id" {
				ids = append(ids, id)
			}
			if k != "input" {
				ids = append(ids, named(e)...)
			}
		}
	}
	return ids
}

// containerLife is how long a container lives after its last use.
const containerLife = 30 * 24 * time.Hour

// container is where the code tool works. It belongs to one workspace.
type container struct {
	id, workspace string
	expires       time.Time
	skills        []containerSkill
}

type containerSkill struct {
	SkillID string `json:"skill_id"`
	Type    string `json:"type"`
	Version string `json:"version"`
}

type containerObject struct {
	ID        string           `json:"id"`
	ExpiresAt string           `json:"expires_at"`
	Skills    []containerSkill `json:"skills"`
}

// resources checks what a message names of the workspace: its container, its skills and its files. The container is nil when none is named.
func (s *Simulator) resources(c *call, m messageRequest) (*container, []containerSkill, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range m.Messages {
		var content any
		if json.Unmarshal(t.Content, &content) != nil {
			continue
		}
		for _, id := range named(content) {
			if _, fail := s.file(c, id); fail != nil {
				return nil, nil, fail
			}
		}
	}
	var in struct {
		ID     string           `json:"id"`
		Skills []containerSkill `json:"skills"`
	}
	if len(m.Container) == 0 || string(m.Container) == "null" {
		return nil, nil, nil
	}
	if json.Unmarshal(m.Container, &in.ID) != nil && json.Unmarshal(m.Container, &in) != nil {
		return nil, nil, invalid("container: must be an id or an object")
	}
	for i, k := range in.Skills {
		found, fail := s.skill(c, k.SkillID)
		if fail != nil {
			return nil, nil, fail
		}
		if found.source != k.Type {
			return nil, nil, invalid("container.skills." + strconv.Itoa(i) + ".type: does not match the skill")
		}
		in.Skills[i].Version = found.versions[len(found.versions)-1].id
	}
	if in.ID == "" {
		return nil, in.Skills, nil
	}
	i := slices.IndexFunc(s.containers, func(o *container) bool {
		return o.id == in.ID && o.workspace == c.who.workspace && c.now.Before(o.expires)
	})
	if i < 0 {
		return nil, nil, notFound("Container not found")
	}
	return s.containers[i], in.Skills, nil
}

// work uses the container of an answer, and lets its code tool make a file. The caller holds the lock.
func (s *Simulator) work(c *call, p *planned) {
	if !p.code && p.container == nil {
		return
	}
	if p.container == nil {
		p.container = &container{id: s.id("container_"), workspace: c.who.workspace}
		s.containers = append(s.containers, p.container)
	}
	p.container.expires = c.now.Add(containerLife)
	if p.skills != nil {
		p.container.skills = p.skills
	}
	p.shown = &containerObject{ID: p.container.id, ExpiresAt: stamp(p.container.expires), Skills: append([]containerSkill{}, p.container.skills...)}
	if !p.code {
		return
	}
	f := &file{id: s.id("file_"), workspace: c.who.workspace, name: "result.txt", kind: "text/plain", data: []byte("made by a simulated tool\n"), created: c.now, made: true}
	s.files = append(s.files, f)
	use := s.id("srvtoolu_")
	p.blocks = []any{
		map[string]any{"type": "server_tool_use", "id": use, "name": "bash_code_execution", "input": map[string]string{"command": "make result.txt"}, "caller": map[string]string{"type": "direct"}},
		map[string]any{"type": "bash_code_execution_tool_result", "tool_use_id": use, "content": map[string]any{
			"type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0,
			"content": []any{map[string]string{"type": "bash_code_execution_output", "file_id": f.id}},
		}},
	}
}
