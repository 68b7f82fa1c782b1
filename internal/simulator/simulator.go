package simulator

import (
	"cmp"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Header is the reply header that marks every answer as simulated. Its value
// is always "true".
const Header = "x-keywright-simulator"

// Options configures a Simulator. The zero value is usable.
type Options struct {
	// Organization is the UUID of the organization; empty makes a random one.
	Organization string
	// OrganizationName is shown by organizations/me. Default "Simulated organization".
	OrganizationName string
	// Clock tells the simulated time. Default time.Now, which inside a
	// testing/synctest bubble is the bubble's time.
	Clock func() time.Time
	// UsageLag is how far the usage reports are behind the clock.
	UsageLag time.Duration
	// ActivityLag is how far the activity feed is behind the clock.
	ActivityLag time.Duration
	// StatusDelay is the time between a status change being visible in the
	// Admin API and the key's value being accepted or refused accordingly.
	StatusDelay time.Duration
	// Latency delays every API reply, in real (or bubble) time.
	Latency time.Duration
	// StreamPause is the pause between two text deltas of a stream.
	StreamPause time.Duration
	// BatchDuration is how long a batch stays in_progress, by Clock.
	BatchDuration time.Duration
	// WorkspaceKeyLimit and OrganizationKeyLimit cap the number of active keys;
	// zero means no cap. See SetKeyLimits.
	WorkspaceKeyLimit, OrganizationKeyLimit int
	// Reply makes the text of an answer. Default is one fixed sentence. It is
	// called without a lock and may be called concurrently.
	Reply func(Prompt) string
	// Hosts lists names besides the loopback ones that the Console accepts in
	// the Host header, without port.
	Hosts []string
	// LogLimit is how many requests the provider log keeps; the oldest are
	// dropped first. Default 100000.
	LogLimit int
	// Seed makes values and ids reproducible when it is not zero. Such values
	// can be guessed: use it in tests only.
	Seed uint64
	// Log receives value-free diagnostics. Default: none.
	Log *slog.Logger
}

// Prompt is what a reply is made for.
type Prompt struct {
	// Model is the model id of the request.
	Model string
	// Text is the concatenated text of the last user turn.
	Text string
}

// Simulator is the state of one simulated organization. All methods are safe
// for concurrent use. Create one with New or Open.
type Simulator struct {
	opts   Options
	log    *slog.Logger
	routes http.Handler

	models     []model // newest first
	modelIndex map[string]model

	mu         sync.Mutex
	rng        io.Reader
	offset     time.Duration
	usageLag   time.Duration
	frozenAt   time.Time
	orgID      string
	orgName    string
	defaultWS  string
	consoleBy  string
	keyLimits  [2]int // workspace, organization
	workspaces []*workspace
	users      []*user
	keys       []*key
	byDigest   map[digest]*key
	admins     []*adminKey
	adminBy    map[digest]*adminKey
	batches    []*batch
	files      []*file
	skills     []*skill
	containers []*container
	usage      map[usageKey]usageSum
	activities []activity
	limits     map[string]int // workspace id or "" -> requests per minute
	windows    map[string]*window
	faults     []*Armed
	requests   []Request
	statePath  string
	saveErr    error
}

// New returns a simulator with one member, one default workspace and no keys.
// It opens no listener; mount Handler.
func New(o Options) *Simulator {
	s := newEmpty(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.orgID = cmp.Or(o.Organization, s.uuid())
	s.orgName = cmp.Or(o.OrganizationName, "Simulated organization")
	s.defaultWS = s.newWorkspace("Default", now).ID
	u := &user{ID: s.id("user_"), Email: "console@simulation.invalid", Name: "Simulated Person", Role: "admin", AddedAt: now}
	s.users = append(s.users, u)
	s.consoleBy = u.ID
	return s
}

func newEmpty(o Options) *Simulator {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Reply == nil {
		o.Reply = func(p Prompt) string {
			return "This is a simulated reply from " + p.Model + ". No model was asked."
		}
	}
	if o.LogLimit <= 0 {
		o.LogLimit = 100_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Simulator{
		opts:      o,
		log:       o.Log,
		rng:       crand.Reader,
		usageLag:  o.UsageLag,
		keyLimits: [2]int{o.WorkspaceKeyLimit, o.OrganizationKeyLimit},
		byDigest:  map[digest]*key{},
		adminBy:   map[digest]*adminKey{},
		usage:     map[usageKey]usageSum{},
		limits:    map[string]int{},
		windows:   map[string]*window{},
		models:    catalogue(),
		skills:    published(),
	}
	s.modelIndex = index(s.models)
	if o.Seed != 0 {
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], o.Seed)
		s.rng = rand.NewChaCha8(seed)
	}
	s.routes = s.routing()
	return s
}

// now is the simulated time in UTC. The caller holds the lock.
func (s *Simulator) now() time.Time { return s.opts.Clock().Add(s.offset).UTC() }

// Now returns the simulated time in UTC.
func (s *Simulator) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

// Advance moves the simulated clock by d, which may be negative, against the
// clock of the options.
func (s *Simulator) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

// Organization returns the UUID of the organization.
func (s *Simulator) Organization() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.orgID
}

const (
	base62   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	urlChars = base62 + "_-"
)

// random returns n characters of alphabet. The caller holds the lock.
func (s *Simulator) random(n int, alphabet string) string {
	out := make([]byte, 0, n)
	limit := 256 - 256%len(alphabet)
	buf := make([]byte, n)
	for len(out) < n {
		if _, err := io.ReadFull(s.rng, buf); err != nil {
			// crypto/rand does not fail and ChaCha8 cannot.
			panic(fmt.Sprintf("read random bytes: %v", err))
		}
		for _, b := range buf {
			if int(b) < limit && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

func (s *Simulator) id(prefix string) string { return prefix + "01" + s.random(22, base62) }

func (s *Simulator) uuid() string {
	const hex = "0123456789abcdef"
	return s.random(8, hex) + "-" + s.random(4, hex) + "-4" + s.random(3, hex) + "-a" + s.random(3, hex) + "-" + s.random(12, hex)
}
