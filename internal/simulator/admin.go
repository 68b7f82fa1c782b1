package simulator

import (
	"maps"
	"slices"
	"strings"
	"time"
)

const maxWorkspaces = 100

// Workspace is a copy of the public facts of a workspace.
type Workspace struct {
	ID, Name              string
	CreatedAt, ArchivedAt time.Time
	Tags                  map[string]string
}

type workspace struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	CreatedAt  time.Time         `json:"created_at"`
	ArchivedAt time.Time         `json:"archived_at,omitzero"`
	Color      string            `json:"display_color"`
	Tags       map[string]string `json:"tags,omitempty"`
}

type user struct {
	ID      string    `json:"id"`
	Email   string    `json:"email"`
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	AddedAt time.Time `json:"added_at"`
}

func (w *workspace) public() Workspace {
	return Workspace{ID: w.ID, Name: w.Name, CreatedAt: w.CreatedAt, ArchivedAt: w.ArchivedAt, Tags: maps.Clone(w.Tags)}
}

// AddWorkspace makes a workspace.
func (s *Simulator) AddWorkspace(name string) Workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.newWorkspace(name, s.now())
	s.persist()
	return w.public()
}

// DefaultWorkspace returns the id of the workspace that every organization has.
func (s *Simulator) DefaultWorkspace() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.defaultWS
}

// Workspaces returns copies of all workspaces, the default one first.
func (s *Simulator) Workspaces() []Workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Workspace
	for _, w := range s.workspaces {
		out = append(out, w.public())
	}
	return out
}

// AddUser makes a member and returns the user_ id. An empty role is "developer".
func (s *Simulator) AddUser(email, role string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if role == "" {
		role = "developer"
	}
	name, _, _ := strings.Cut(email, "@")
	u := &user{ID: s.id("user_"), Email: email, Name: name, Role: role, AddedAt: s.now()}
	s.users = append(s.users, u)
	s.persist()
	return u.ID
}

// RemoveUser removes a member: personal keys answer 401 and Claude Code keys
// 400 from now on. It reports whether the id was known.
func (s *Simulator) RemoveUser(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.users)
	s.users = slices.DeleteFunc(s.users, func(u *user) bool { return u.ID == id })
	s.persist()
	return len(s.users) < n
}

func (s *Simulator) newWorkspace(name string, now time.Time) *workspace {
	w := &workspace{ID: s.id("wrkspc_"), Name: name, CreatedAt: now, Color: "#6C5BB9", Tags: map[string]string{}}
	s.workspaces = append(s.workspaces, w)
	return w
}

func (s *Simulator) workspace(id string) *workspace {
	i := slices.IndexFunc(s.workspaces, func(w *workspace) bool { return w.ID == id })
	if i < 0 {
		return nil
	}
	return s.workspaces[i]
}

func (s *Simulator) getOrganization(*call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return reply{json: map[string]string{"id": s.orgID, "type": "organization", "name": s.orgName}}, nil
}

type scopeObject struct {
	Type        string `json:"type"`
	WorkspaceID string `json:"workspace_id,omitempty"`
}

type creator struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

type keyObject struct {
	Type           string            `json:"type"`
	ID             string            `json:"id"`
	Name           string            `json:"name"`
	Status         string            `json:"status"`
	PartialKeyHint string            `json:"partial_key_hint"`
	CreatedAt      string            `json:"created_at"`
	ExpiresAt      *string           `json:"expires_at"`
	CreatedBy      *creator          `json:"created_by"`
	Principal      map[string]string `json:"principal"`
	Scope          scopeObject       `json:"scope"`
}

// oldKeyObject is a key under version 2023-06-01.
type oldKeyObject struct {
	keyObject
	WorkspaceID *string `json:"workspace_id"`
}

// keyJSON is a key in the shape of the version. The caller holds the lock.
func (s *Simulator) keyJSON(k *key, c *call) any {
	o := keyObject{
		Type: "api_key", ID: k.ID, Name: k.Name, Status: k.shown(c.now), PartialKeyHint: k.Hint,
		CreatedAt: stamp(k.CreatedAt), ExpiresAt: stampOrNil(k.ExpiresAt),
		Scope: scopeObject{Type: "workspace", WorkspaceID: k.Workspace},
	}
	if k.CreatedBy != "" {
		o.CreatedBy = &creator{ID: k.CreatedBy, Type: "user"}
	}
	switch k.Principal.Kind {
	case PrincipalUser:
		o.Principal = map[string]string{"type": string(k.Principal.Kind), "user_id": k.Principal.ID}
	case PrincipalServiceAccount:
		o.Principal = map[string]string{"type": string(k.Principal.Kind), "service_account_id": k.Principal.ID}
	}
	if k.Workspace == "" {
		o.Scope = scopeObject{Type: "organization"}
	}
	if c.version != Version20230601 {
		return o
	}
	old := oldKeyObject{keyObject: o}
	if k.Workspace != s.defaultWS {
		old.WorkspaceID = textOrNil(k.Workspace)
	}
	return old
}

func (s *Simulator) listKeys(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "after_id", "before_id", "status", "workspace_id", "created_by_user_id")
	if fail != nil {
		return reply{}, fail
	}
	status := q.Get("status")
	if q.Has("status") && !slices.Contains([]string{StatusActive, StatusInactive, StatusArchived, StatusExpired}, status) {
		return reply{}, invalid("status: must be one of active, inactive, archived, expired")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*key
	for _, k := range slices.Backward(s.keys) {
		if status != "" && k.shown(c.now) != status ||
			q.Has("workspace_id") && k.Workspace != q.Get("workspace_id") ||
			q.Has("created_by_user_id") && k.CreatedBy != q.Get("created_by_user_id") {
			continue
		}
		all = append(all, k)
	}
	page, fail := cursorPage(q, all, func(k *key) string { return k.ID }, 20, 1000)
	if fail != nil {
		return reply{}, fail
	}
	out := cursored[any]{Data: []any{}, HasMore: page.HasMore, FirstID: page.FirstID, LastID: page.LastID}
	for _, k := range page.Data {
		out.Data = append(out.Data, s.keyJSON(k, c))
	}
	return reply{json: out}, nil
}

func (s *Simulator) getKey(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(c.r.PathValue("id"))
	if k == nil {
		return reply{}, notFound("API key not found")
	}
	return reply{json: s.keyJSON(k, c)}, nil
}

func (s *Simulator) postKey(c *call) (reply, *apiError) {
	var in struct {
		Name   *string `json:"name"`
		Status *string `json:"status"`
	}
	if fail := decode(c.body, &in); fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(c.r.PathValue("id"))
	if k == nil {
		return reply{}, notFound("API key not found")
	}
	if fail := s.updateKey(k, in.Name, in.Status, actorAPI(c)); fail != nil {
		return reply{}, fail
	}
	return reply{json: s.keyJSON(k, c)}, nil
}

type residency struct {
	WorkspaceGeo         string `json:"workspace_geo"`
	AllowedInferenceGeos string `json:"allowed_inference_geos"`
	DefaultInferenceGeo  string `json:"default_inference_geo"`
}

type workspaceObject struct {
	ID            string            `json:"id"`
	Type          string            `json:"type"`
	Name          string            `json:"name"`
	CreatedAt     string            `json:"created_at"`
	ArchivedAt    *string           `json:"archived_at"`
	DisplayColor  string            `json:"display_color"`
	CompartmentID *string           `json:"compartment_id"`
	DataResidency residency         `json:"data_residency"`
	ExternalKeyID *string           `json:"external_key_id"`
	Tags          map[string]string `json:"tags"`
	UserProfileID *string           `json:"user_profile_id"`
}

func (w *workspace) object() workspaceObject {
	tags := maps.Clone(w.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	return workspaceObject{
		ID: w.ID, Type: "workspace", Name: w.Name, CreatedAt: stamp(w.CreatedAt), ArchivedAt: stampOrNil(w.ArchivedAt),
		DisplayColor: w.Color, DataResidency: residency{"us", "unrestricted", "global"}, Tags: tags,
	}
}

func (s *Simulator) listWorkspaces(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "after_id", "before_id", "include_archived", "include_default", "ids[]")
	if fail != nil {
		return reply{}, fail
	}
	if len(q["ids[]"]) > 100 {
		return reply{}, invalid("ids: at most 100 entries")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []workspaceObject
	for _, w := range slices.Backward(s.workspaces) {
		if !w.ArchivedAt.IsZero() && q.Get("include_archived") != "true" ||
			w.ID == s.defaultWS && q.Get("include_default") != "true" ||
			q.Has("ids[]") && !slices.Contains(q["ids[]"], w.ID) {
			continue
		}
		all = append(all, w.object())
	}
	page, fail := cursorPage(q, all, func(w workspaceObject) string { return w.ID }, 20, 1000)
	return reply{json: page}, fail
}

func (s *Simulator) getWorkspace(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workspace(c.r.PathValue("id"))
	if w == nil {
		return reply{}, notFound("Workspace not found")
	}
	return reply{json: w.object()}, nil
}

type workspaceChange struct {
	Name         *string           `json:"name"`
	DisplayColor *string           `json:"display_color"`
	Tags         map[string]string `json:"tags"`
}

func (in workspaceChange) check() *apiError {
	if in.Name != nil && (*in.Name == "" || len(*in.Name) > 40) {
		return invalid("name: must have 1 to 40 characters")
	}
	for t := range in.Tags {
		if strings.HasPrefix(t, "anthropic") {
			return invalid("tags: keys may not begin with anthropic")
		}
	}
	return nil
}

func (in workspaceChange) apply(w *workspace) {
	if in.Name != nil {
		w.Name = *in.Name
	}
	if in.DisplayColor != nil {
		w.Color = *in.DisplayColor
	}
	if in.Tags != nil {
		w.Tags = in.Tags
	}
}

func (s *Simulator) createWorkspace(c *call) (reply, *apiError) {
	var in workspaceChange
	if fail := decode(c.body, &in); fail != nil {
		return reply{}, fail
	}
	if in.Name == nil {
		return reply{}, invalid("name: Field required")
	}
	if fail := in.check(); fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	live := 0
	for _, w := range s.workspaces {
		if w.ArchivedAt.IsZero() {
			live++
		}
	}
	if live >= maxWorkspaces {
		return reply{}, invalid("the organization has reached its limit of workspaces")
	}
	w := s.newWorkspace(*in.Name, c.now)
	in.apply(w)
	s.note(c.now, activity{Type: "platform_workspace_created", Actor: actorAPI(c), WorkspaceID: w.ID})
	s.persist()
	return reply{json: w.object()}, nil
}

func (s *Simulator) postWorkspace(c *call) (reply, *apiError) {
	var in workspaceChange
	if fail := decode(c.body, &in); fail != nil {
		return reply{}, fail
	}
	if fail := in.check(); fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workspace(c.r.PathValue("id"))
	switch {
	case w == nil:
		return reply{}, notFound("Workspace not found")
	case !w.ArchivedAt.IsZero():
		return reply{}, invalid("the workspace is archived")
	}
	in.apply(w)
	s.note(c.now, activity{Type: "platform_workspace_updated", Actor: actorAPI(c), WorkspaceID: w.ID})
	s.persist()
	return reply{json: w.object()}, nil
}

// archiveWorkspace archives every key of the workspace with it.
func (s *Simulator) archiveWorkspace(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workspace(c.r.PathValue("id"))
	switch {
	case w == nil:
		return reply{}, notFound("Workspace not found")
	case w.ID == s.defaultWS:
		return reply{}, invalid("the default workspace cannot be archived")
	case !w.ArchivedAt.IsZero():
		return reply{json: w.object()}, nil
	}
	w.ArchivedAt = c.now
	s.note(c.now, activity{Type: "platform_workspace_archived", Actor: actorAPI(c), WorkspaceID: w.ID})
	for _, k := range s.keys {
		if k.Workspace == w.ID && k.Status != StatusArchived {
			s.become(k, StatusArchived, c.now)
		}
	}
	s.persist()
	return reply{json: w.object()}, nil
}

type userObject struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Email   string `json:"email"`
	Name    string `json:"name"`
	Role    string `json:"role"`
	AddedAt string `json:"added_at"`
}

func (u *user) object() userObject {
	return userObject{ID: u.ID, Type: "user", Email: u.Email, Name: u.Name, Role: u.Role, AddedAt: stamp(u.AddedAt)}
}

func (s *Simulator) listUsers(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "after_id", "before_id", "email", "roles[]")
	if fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []userObject
	for _, u := range s.users {
		if q.Has("email") && u.Email != q.Get("email") || q.Has("roles[]") && !slices.Contains(q["roles[]"], u.Role) {
			continue
		}
		all = append(all, u.object())
	}
	page, fail := cursorPage(q, all, func(u userObject) string { return u.ID }, 20, 1000)
	return reply{json: page}, fail
}

func (s *Simulator) getUser(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.user(c.r.PathValue("id"))
	if u == nil {
		return reply{}, notFound("User not found")
	}
	return reply{json: u.object()}, nil
}

func (s *Simulator) removeUser(c *call) (reply, *apiError) {
	id := c.r.PathValue("id")
	s.mu.Lock()
	u := s.user(id)
	s.mu.Unlock()
	switch {
	case u == nil:
		return reply{}, notFound("User not found")
	case u.Role == "admin":
		return reply{}, invalid("an admin cannot be removed by API")
	}
	s.RemoveUser(id)
	return reply{json: map[string]string{"id": id, "type": "user_deleted"}}, nil
}
