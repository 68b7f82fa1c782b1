package simulator

import (
	"archive/zip"
	"bytes"
	"path"
	"slices"
	"strings"
	"time"
)

const skillLimit = 30 << 20

// skill is a custom one of a workspace, or one that the provider publishes, which has no workspace.
type skill struct {
	id, workspace, name, title, source string
	created, updated                   time.Time
	versions                           []*skillVersion // oldest first
}

type skillVersion struct {
	id, description string
	created         time.Time
	files           []part
}

type skillSource struct {
	Type string `json:"type"`
}

type skillObject struct {
	ID              string      `json:"id"`
	Type            string      `json:"type"`
	DisplayName     string      `json:"display_name"`
	LatestVersionID string      `json:"latest_version_id"`
	Source          skillSource `json:"source"`
	CreatedAt       string      `json:"created_at"`
	UpdatedAt       string      `json:"updated_at"`
}

type skillVersionObject struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	SkillID     string `json:"skill_id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	CreatedAt   string `json:"created_at"`
}

func (k *skill) object() skillObject {
	return skillObject{
		ID: k.id, Type: "skill", DisplayName: k.title, LatestVersionID: k.versions[len(k.versions)-1].id, Source: skillSource{k.source},
		CreatedAt: stamp(k.created), UpdatedAt: stamp(k.updated),
	}
}

func (k *skill) versionObject(v *skillVersion) skillVersionObject {
	return skillVersionObject{ID: v.id, Type: "skill_version", SkillID: k.id, Name: k.name, Description: v.description, CreatedAt: stamp(v.created)}
}

// published are the skills of the provider itself.
func published() []*skill {
	at := time.Date(2025, 10, 2, 0, 0, 0, 0, time.UTC)
	var all []*skill
	for _, name := range []string{"docx", "pdf", "pptx", "xlsx"} {
		all = append(all, &skill{id: name, name: name, title: name, source: "anthropic", created: at, updated: at,
			versions: []*skillVersion{{id: "skver_simulated_" + name, description: "a simulated skill of the provider", created: at}}})
	}
	return all
}

// skillParts reads an upload: files below one folder, with a SKILL.md in it.
func skillParts(c *call) (name, title string, files []part, fail *apiError) {
	all, fail := parts(c)
	if fail != nil {
		return "", "", nil, fail
	}
	root := ""
	for _, p := range all {
		switch p.name {
		case "files", "files[]":
			folder, rest, _ := strings.Cut(p.filename, "/")
			if root == "" {
				root = folder
			}
			if rest == "" || folder != root || path.Clean(p.filename) != p.filename {
				return "", "", nil, invalid("files: all must be in the same top-level directory")
			}
			files = append(files, p)
		case "display_name":
			title = string(p.data)
		default:
			return "", "", nil, invalid(clip(p.name) + ": Extra inputs are not permitted")
		}
	}
	if !slices.ContainsFunc(files, func(p part) bool { return p.filename == root+"/SKILL.md" }) {
		return "", "", nil, invalid("files: a SKILL.md is required at the root of the directory")
	}
	return root, title, files, nil
}

func (s *Simulator) createSkill(c *call) (reply, *apiError) {
	name, title, files, fail := skillParts(c)
	if fail != nil {
		return reply{}, fail
	}
	if title == "" {
		title = name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &skill{id: s.id("skill_"), workspace: c.who.workspace, name: name, title: title, source: "custom", created: c.now, updated: c.now,
		versions: []*skillVersion{{id: s.id("skver_"), description: "simulated", created: c.now, files: files}}}
	s.skills = append(s.skills, k)
	return reply{json: k.object()}, nil
}

// skill finds one of the caller's workspace or of the provider. The caller holds the lock.
func (s *Simulator) skill(c *call, id string) (*skill, *apiError) {
	i := slices.IndexFunc(s.skills, func(k *skill) bool { return k.id == id && (k.workspace == c.who.workspace || k.workspace == "") })
	if i < 0 {
		return nil, notFound("Skill not found")
	}
	return s.skills[i], nil
}

// own is skill for a change, which the provider's own do not take.
func (s *Simulator) own(c *call) (*skill, *apiError) {
	k, fail := s.skill(c, c.r.PathValue("id"))
	if fail == nil && k.workspace == "" {
		return nil, invalid("skills of the provider cannot be changed")
	}
	return k, fail
}

func (s *Simulator) listSkills(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "page", "source")
	if fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []skillObject{}
	for _, k := range slices.Backward(s.skills) {
		if (k.workspace == c.who.workspace || k.workspace == "") && (!q.Has("source") || q.Get("source") == k.source) {
			all = append(all, k.object())
		}
	}
	p, fail := pageOf(q, all)
	return reply{json: p}, fail
}

func (s *Simulator) getSkill(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, fail := s.skill(c, c.r.PathValue("id"))
	if fail != nil {
		return reply{}, fail
	}
	return reply{json: k.object()}, nil
}

func (s *Simulator) deleteSkill(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, fail := s.own(c)
	if fail != nil {
		return reply{}, fail
	}
	s.skills = slices.DeleteFunc(s.skills, func(o *skill) bool { return o == k })
	return reply{json: map[string]string{"id": k.id, "type": "skill_deleted"}}, nil
}

func (s *Simulator) createSkillVersion(c *call) (reply, *apiError) {
	name, _, files, fail := skillParts(c)
	if fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, fail := s.own(c)
	switch {
	case fail != nil:
		return reply{}, fail
	case k.name != name:
		return reply{}, invalid("files: the name of the skill cannot change")
	}
	v := &skillVersion{id: s.id("skver_"), description: "simulated", created: c.now, files: files}
	k.versions, k.updated = append(k.versions, v), c.now
	return reply{json: k.versionObject(v)}, nil
}

func (s *Simulator) listSkillVersions(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "page")
	if fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, fail := s.skill(c, c.r.PathValue("id"))
	if fail != nil {
		return reply{}, fail
	}
	all := []skillVersionObject{}
	for _, v := range slices.Backward(k.versions) {
		all = append(all, k.versionObject(v))
	}
	p, fail := pageOf(q, all)
	return reply{json: p}, fail
}

// version finds a version of a skill. The caller holds the lock.
func (s *Simulator) version(c *call) (*skill, int, *apiError) {
	k, fail := s.skill(c, c.r.PathValue("id"))
	if fail != nil {
		return nil, 0, fail
	}
	i := slices.IndexFunc(k.versions, func(v *skillVersion) bool { return v.id == c.r.PathValue("version") })
	if i < 0 {
		return nil, 0, notFound("Skill version not found")
	}
	return k, i, nil
}

func (s *Simulator) getSkillVersion(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, i, fail := s.version(c)
	if fail != nil {
		return reply{}, fail
	}
	return reply{json: k.versionObject(k.versions[i])}, nil
}

func (s *Simulator) deleteSkillVersion(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, i, fail := s.version(c)
	switch {
	case fail != nil:
		return reply{}, fail
	case k.workspace == "":
		return reply{}, invalid("skills of the provider cannot be changed")
	case len(k.versions) == 1:
		return reply{}, invalid("the only version of a skill cannot be deleted")
	}
	id := k.versions[i].id
	k.versions = slices.Delete(k.versions, i, i+1)
	return reply{json: map[string]string{"id": id, "type": "skill_version_deleted"}}, nil
}

func (s *Simulator) skillVersionContent(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, i, fail := s.version(c)
	if fail != nil {
		return reply{}, fail
	}
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range k.versions[i].files {
		w, err := z.Create(f.filename)
		if err == nil {
			_, err = w.Write(f.data)
		}
		if err != nil {
			return reply{}, &apiError{status: 500, kind: "api_error", message: "Internal server error"}
		}
	}
	if z.Close() != nil {
		return reply{}, &apiError{status: 500, kind: "api_error", message: "Internal server error"}
	}
	return reply{raw: out.Bytes(), kind: "application/zip"}, nil
}
