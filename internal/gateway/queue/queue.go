// Package queue keeps requests that callers do not wait for, until the provider has answered them, and then the answers, for a time. What was
// acknowledged survives a crash; contents are encrypted at rest; order is kept for each application; entries and bytes are bounded.
//
// It never sends anything, never keeps what identifies a caller to anybody, and never says who may read an entry: the gateway dispatches,
// identifies and decides. An entry may be dispatched twice, when a crash comes between the answer and its keeping.
package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/ledger"
)

// Defaults of Options.
const (
	DefaultEntries = 20_000
	DefaultPerApp  = 10_000
	DefaultBytes   = 1 << 30
	DefaultKeep    = 24 * time.Hour
	DefaultWait    = 24 * time.Hour
)

// Options configures a Queue. Master is required.
type Options struct {
	Master Master
	// Entries bounds what waits in all, PerApp what waits of one application, Bytes what all entries take, answers included.
	Entries, PerApp int
	Bytes           int64
	// Keep is how long an answer is kept, Wait how long a request may wait for one.
	Keep, Wait time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// State says where an entry stands.
type State string

// The states of an entry.
const (
	// Waiting: acknowledged, not answered. Entered by Add, and from Running by Again or a crash.
	Waiting State = "waiting"
	// Running: being dispatched. Entered by Take; a crash makes it Waiting.
	Running State = "running"
	// Done: it has an answer, good or bad. Entered by Finish; the entry is erased when Keep has passed.
	Done State = "done"
)

// Caller is who asked, as far as that has to be checked again.
type Caller struct {
	App    string   `json:"app"`
	Proof  string   `json:"proof"` // names the identity without proving it to anybody, such as the id of a token
	Routes []string `json:"routes,omitempty"`
	Models []string `json:"models,omitempty"`
}

// Request is what is sent when its turn comes.
type Request struct {
	Caller Caller      `json:"caller"`
	Path   string      `json:"path"`
	Query  string      `json:"query,omitempty"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"-"`
}

// Answer is what came back.
type Answer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"-"`
}

// Ticket is what may be shown of an entry. It holds no content.
type Ticket struct {
	ID       string    `json:"id"`
	App      string    `json:"app"`
	State    State     `json:"state"`
	Created  time.Time `json:"created"`
	Ended    time.Time `json:"ended,omitzero"`
	Next     time.Time `json:"next,omitzero"` // the next attempt, when one failed
	Expires  time.Time `json:"expires"`       // when waiting is given up, or the answer erased
	Attempts int       `json:"attempts"`      // that the provider answered
	Status   int       `json:"status,omitempty"`
	Bytes    int64     `json:"bytes"`
}

// Depth counts entries by state, and all their bytes.
type Depth struct {
	Waiting int   `json:"waiting"`
	Running int   `json:"running"`
	Done    int   `json:"done"`
	Bytes   int64 `json:"bytes"`
}

// entry is one row, without its content. Queue.mu guards it.
type entry struct {
	seq      int64
	id, app  string
	once     string
	state    State
	created  time.Time
	ended    time.Time
	wake     time.Time
	attempts int
	status   int
	size     int64
}

// Queue is an open queue. All methods may be called from several goroutines.
type Queue struct {
	o    Options
	l    *ledger.Ledger
	seal *seal
	wake chan struct{}

	mu     sync.Mutex
	seq    int64
	by     map[string]*entry
	once   map[string]*addition
	lines  map[string][]*entry // what waits, by application, in order
	ring   []string            // the applications of lines, in the order of their turns
	held   map[string]int      // places taken by an application, with those of additions under way
	total  int
	bytes  int64
	counts map[State]int
}

// addition is an entry with an idempotency key, or one that is on its way to the disk.
type addition struct {
	id    string
	ended chan struct{}
	err   error
}

// Open reads what is kept. Kinds: those of the ledger and the master, and Corrupt when what is kept cannot be opened.
func Open(ctx context.Context, l *ledger.Ledger, o Options) (*Queue, error) {
	o.Entries = cmp.Or(o.Entries, DefaultEntries)
	o.PerApp = cmp.Or(o.PerApp, DefaultPerApp)
	o.Bytes = cmp.Or(o.Bytes, DefaultBytes)
	o.Keep = cmp.Or(o.Keep, DefaultKeep)
	o.Wait = cmp.Or(o.Wait, DefaultWait)
	if o.Now == nil {
		o.Now = time.Now
	}
	q := &Queue{o: o, l: l, wake: make(chan struct{}, 1), by: map[string]*entry{}, once: map[string]*addition{}, lines: map[string][]*entry{}, held: map[string]int{}, counts: map[State]int{}}
	var err error
	if q.seal, err = openSeal(ctx, l, o.Master); err != nil {
		return nil, err
	}
	err = l.Each(ctx, "read queue", `SELECT seq, id, app, once, state, created, ended, wake, attempts, size, status FROM queue ORDER BY seq`, nil, func(scan func(...any) error) error {
		e := &entry{}
		var once []byte
		var state string
		var created, ended, wake int64
		if err := scan(&e.seq, &e.id, &e.app, &once, &state, &created, &ended, &wake, &e.attempts, &e.size, &e.status); err != nil {
			return err
		}
		e.once, e.created, e.ended, e.wake = string(once), at(created), at(ended), at(wake)
		if e.state = Waiting; State(state) == Done {
			e.state = Done
		}
		q.seq = e.seq
		if e.once != "" {
			a := &addition{id: e.id, ended: make(chan struct{})}
			close(a.ended)
			q.once[e.once] = a
		}
		q.bytes += e.size
		q.enter(e)
		if e.state == Waiting {
			q.total++
			q.held[e.app]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return q, nil
}

func at(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// enter puts an entry into the lists, in the order of its number. The caller holds mu, or is Open.
func (q *Queue) enter(e *entry) {
	q.by[e.id] = e
	q.counts[e.state]++
	if e.state != Waiting {
		return
	}
	line, known := q.lines[e.app]
	if !known {
		q.ring = append(q.ring, e.app)
	}
	i := len(line)
	for i > 0 && line[i-1].seq > e.seq {
		i--
	}
	q.lines[e.app] = slices.Insert(line, i, e)
	q.nudge()
}

func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Wake receives when there may be something new to take.
func (q *Queue) Wake() <-chan struct{} { return q.wake }

// newID gives 128 random bits, in lower-case letters and digits.
func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// Add keeps a request and returns when it is on the disk. A key that is not empty makes it idempotent: the same application, key and content
// give the entry that is there, with again = true, as long as that is kept. Kinds: RateLimited (the application has no place left),
// Unavailable (nobody has, or the disk refuses); both with a time to wait. Those of the ledger.
func (q *Queue) Add(ctx context.Context, key string, r Request) (t Ticket, again bool, err error) {
	app := r.Caller.App
	once := ""
	if key != "" {
		once = string(q.seal.once(app, key, r))
	}
	now := q.o.Now()
	e := &entry{id: newID(), app: app, once: once, state: Waiting, created: now.UTC()}
	sealed, err := q.seal.close(e.id, app, forRequest, r, r.Body)
	if err != nil {
		return Ticket{}, false, err
	}
	e.size = int64(len(sealed))
	mine := &addition{id: e.id, ended: make(chan struct{})}
	for {
		other, err := q.reserve(e, mine, now)
		if err != nil {
			return Ticket{}, false, err
		}
		if other == nil {
			break
		}
		select {
		case <-other.ended:
		case <-ctx.Done():
			return Ticket{}, false, fault.In(ctx.Err(), "keep request")
		}
		if other.err != nil {
			continue // the one that came first was not kept: it is this one's turn
		}
		if t, ok := q.Get(other.id); ok {
			return t, true, nil
		}
	}
	var onceColumn any
	if once != "" {
		onceColumn = []byte(once)
	}
	// From here on the change is under way, and its result counts, whether the caller waits or not.
	err = q.l.Update(context.WithoutCancel(ctx), "keep request", func(tx *ledger.Tx) error {
		_, err := tx.Exec(`INSERT INTO queue (seq, id, app, once, state, created, size, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			e.seq, e.id, e.app, onceColumn, string(Waiting), nanos(e.created), e.size, sealed)
		return err
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	mine.err = err
	close(mine.ended)
	if err != nil {
		q.release(e)
		q.bytes -= e.size
		if once != "" {
			delete(q.once, once)
		}
		return Ticket{}, false, err
	}
	q.enter(e)
	return q.ticket(e), false, nil
}

// reserve takes a place and a number, or gives the addition that has the idempotency key.
func (q *Queue) reserve(e *entry, mine *addition, now time.Time) (*addition, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.once != "" {
		if a := q.once[e.once]; a != nil {
			return a, nil
		}
	}
	switch {
	case q.held[e.app] >= q.o.PerApp:
		return nil, fault.New(fault.RateLimited, "keep request: too many requests of this application wait", fault.RetryAfter(q.room(now)))
	case q.total >= q.o.Entries || q.bytes+e.size > q.o.Bytes:
		return nil, fault.New(fault.Unavailable, "keep request: the queue is full", fault.RetryAfter(q.room(now)))
	}
	q.total++
	q.held[e.app]++
	q.bytes += e.size
	q.seq++
	e.seq = q.seq
	if e.once != "" {
		q.once[e.once] = mine
	}
	return nil, nil
}

// room guesses when there is a place again: soon while entries are dispatched, later while they are not.
func (q *Queue) room(time.Time) time.Duration {
	if q.counts[Running] > 0 {
		return 5 * time.Second
	}
	return time.Minute
}

// release gives the place of what waited back. The caller holds mu.
func (q *Queue) release(e *entry) {
	q.total--
	if q.held[e.app]--; q.held[e.app] == 0 {
		delete(q.held, e.app)
	}
}

func (q *Queue) ticket(e *entry) Ticket {
	t := Ticket{ID: e.id, App: e.app, State: e.state, Created: e.created, Ended: e.ended, Next: e.wake, Attempts: e.attempts, Status: e.status, Bytes: e.size}
	if t.Expires = e.created.Add(q.o.Wait); e.state == Done {
		t.Expires = e.ended.Add(q.o.Keep)
	}
	return t
}

// Get gives an entry.
func (q *Queue) Get(id string) (Ticket, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.by[id]
	if e == nil {
		return Ticket{}, false
	}
	return q.ticket(e), true
}

// List gives all entries in the order of their coming.
func (q *Queue) List() []Ticket {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]*entry, 0, len(q.by))
	for _, e := range q.by {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	list := make([]Ticket, len(all))
	for i, e := range all {
		list[i] = q.ticket(e)
	}
	return list
}

// Depth counts.
func (q *Queue) Depth() Depth {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Depth{Waiting: q.counts[Waiting], Running: q.counts[Running], Done: q.counts[Done], Bytes: q.bytes}
}

// Full reports whether nothing more is taken, whoever asks.
func (q *Queue) Full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total >= q.o.Entries || q.bytes >= q.o.Bytes
}
