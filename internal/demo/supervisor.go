package demo

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
)

// supervisor keeps one worker process of an application running, and replaces it without a gap: the new worker is ready before the old one drains. It
// serves a small address on loopback by which Keywright reloads, confirms and probes the application.
type supervisor struct {
	name    string
	command func() *exec.Cmd // a new worker, with nothing set but argv and environment

	url    string
	server *http.Server

	restarting sync.Mutex
	last       string // the change that was taken up last

	mu      sync.Mutex
	workers []*worker // those that run; the newest last
	ended   tally     // of those that have ended
	closed  bool
	asked   chan struct{} // closed when a restart is asked for; nil when nobody wants to know
}

// worker is one running process of an application.
type worker struct {
	program *program
	stdin   io.WriteCloser
	ready   chan struct{} // closed by the first line
	answers chan string   // fingerprints that were asked for

	mu    sync.Mutex
	state report
	since time.Time // when state changed
}

const (
	readyWithin  = 15 * time.Second
	drainWithin  = 12 * time.Second
	answerWithin = 2 * time.Second
	// recent is how long a failed request counts in the probe.
	recent = 2 * time.Second
)

// newSupervisor starts the first worker and listens.
func newSupervisor(ctx context.Context, name string, command func() *exec.Cmd) (*supervisor, error) {
	s := &supervisor{name: name, command: command}
	if err := s.restart(ctx); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		s.close()
		return nil, fault.Wrap(fault.Unavailable, err, "listen for "+name)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /restart", s.serveRestart)
	mux.HandleFunc("GET /fingerprint", s.serveFingerprint)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	s.url = "http://" + l.Addr().String()
	s.server = &http.Server{Handler: http.NewCrossOriginProtection().Handler(mux), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.server.Serve(l) }() // ends with close
	return s, nil
}

// serveRestart replaces the worker. A change that was taken up already is not taken up twice.
func (s *supervisor) serveRestart(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.asked != nil {
		close(s.asked)
		s.asked = nil
	}
	s.mu.Unlock()
	s.restarting.Lock()
	defer s.restarting.Unlock()
	change := r.Header.Get("Keywright-Change-Id")
	if change == "" || change != s.last {
		// A caller that dies must not leave two workers, so the work is not bound to its connection.
		if err := s.restart(context.WithoutCancel(r.Context())); err != nil {
			http.Error(w, "the new worker did not become ready; the old one goes on", http.StatusServiceUnavailable)
			return
		}
		s.last = change
	}
	w.WriteHeader(http.StatusNoContent)
}

// nextRestart gives a channel that is closed as soon as somebody asks for a restart. One caller at a time.
func (s *supervisor) nextRestart() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = make(chan struct{})
	return s.asked
}

// serveFingerprint asks every running worker which key it uses.
func (s *supervisor) serveFingerprint(w http.ResponseWriter, r *http.Request) {
	running := []string{}
	for _, k := range s.running() {
		fp, err := k.ask(r.Context())
		if err != nil {
			http.Error(w, "a worker does not answer", http.StatusServiceUnavailable)
			return
		}
		running = append(running, fp)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"application": s.name, "running": running})
}

// serveHealth says whether the application works: a worker runs, and none of its requests failed of late.
func (s *supervisor) serveHealth(w http.ResponseWriter, _ *http.Request) {
	running := s.running()
	if len(running) == 0 {
		http.Error(w, "no worker is running", http.StatusServiceUnavailable)
		return
	}
	for _, k := range running {
		state, said := k.seen()
		if time.Since(said) > recent || !state.Tally.Last.IsZero() && time.Since(state.Tally.Last) < recent {
			http.Error(w, "requests fail, or a worker is silent", http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = io.WriteString(w, "ok\n")
}

func (s *supervisor) running() []*worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.workers), func(k *worker) bool {
		select {
		case <-k.program.done:
			return true
		default:
			return false
		}
	})
}

// restart starts a worker, waits until it is ready, and drains the one before it. When the new one does not become ready, the old one goes on.
func (s *supervisor) restart(ctx context.Context) error {
	fresh, err := s.start()
	if err != nil {
		return err
	}
	patience := time.NewTimer(readyWithin)
	defer patience.Stop()
	select {
	case <-fresh.ready:
	case <-fresh.program.done:
		err = fault.Newf(fault.Unavailable, "start %s: the worker ended before it was ready", s.name)
	case <-patience.C:
		err = fault.Newf(fault.Unavailable, "start %s: the worker was not ready after %s", s.name, readyWithin)
	case <-ctx.Done():
		err = fault.Wrap(fault.Canceled, context.Cause(ctx), "start "+s.name)
	}
	if err != nil {
		fresh.program.stop(0)
		return err
	}
	s.mu.Lock()
	closed := s.closed
	old := s.workers
	if !closed {
		s.workers = append(slices.Clone(old), fresh)
	}
	s.mu.Unlock()
	if closed {
		fresh.program.stop(0)
		return fault.Newf(fault.Canceled, "start %s: it is being stopped", s.name)
	}
	go s.reap(fresh)
	for _, k := range old {
		k.drain()
	}
	return nil
}

// reap adds a worker's last count to the sum once it has ended, for whatever reason.
func (s *supervisor) reap(k *worker) {
	<-k.program.done
	state, _ := k.seen()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = s.ended.plus(state.Tally)
	s.workers = slices.DeleteFunc(slices.Clone(s.workers), func(other *worker) bool { return other == k })
}

func (s *supervisor) start() (*worker, error) {
	cmd := s.command()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "start "+s.name)
	}
	k := &worker{stdin: stdin, ready: make(chan struct{}), answers: make(chan string, 1)}
	cmd.Stdout = &lines{each: k.heard}
	if k.program, err = launch(s.name, cmd); err != nil {
		return nil, err
	}
	return k, nil
}

// heard takes a line of the worker.
func (k *worker) heard(line string) {
	var r report
	if json.Unmarshal([]byte(line), &r) != nil {
		return
	}
	k.mu.Lock()
	k.state, k.since = r, time.Now()
	k.mu.Unlock()
	if r.Ready {
		close(k.ready)
	}
	select {
	case k.answers <- r.Fingerprint:
	default:
	}
}

func (k *worker) seen() (report, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state, k.since
}

// ask has the worker say which key it uses.
func (k *worker) ask(ctx context.Context) (string, error) {
	select {
	case <-k.answers: // what was said before the question
	default:
	}
	if _, err := io.WriteString(k.stdin, "which\n"); err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "ask worker")
	}
	patience := time.NewTimer(answerWithin)
	defer patience.Stop()
	select {
	case fp := <-k.answers:
		return fp, nil
	case <-k.program.done:
		return "", fault.New(fault.Unavailable, "ask worker: it has ended")
	case <-patience.C:
		return "", fault.New(fault.Unavailable, "ask worker: no answer")
	case <-ctx.Done():
		return "", fault.Wrap(fault.Canceled, context.Cause(ctx), "ask worker")
	}
}

// drain lets the worker finish what it began, and waits for its end.
func (k *worker) drain() {
	_ = k.stdin.Close() // an error means that it has ended
	if !k.program.ended(drainWithin) {
		k.program.stop(0)
	}
}

// total is the tally of all workers, past and present. The counts of running ones are as old as their last line.
func (s *supervisor) total() tally {
	s.mu.Lock()
	sum := s.ended
	workers := s.workers
	s.mu.Unlock()
	for _, k := range workers {
		state, _ := k.seen()
		sum = sum.plus(state.Tally)
	}
	return sum
}

// close drains the workers and stops listening. It may be called twice.
func (s *supervisor) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if s.server != nil {
		_ = s.server.Close()
	}
	var all sync.WaitGroup
	for _, k := range s.running() {
		all.Go(k.drain)
	}
	all.Wait()
}

// fingerprint gives the key that the newest worker uses, or nothing when none is running.
func (s *supervisor) fingerprint() apikey.Fingerprint {
	running := s.running()
	if len(running) == 0 {
		return ""
	}
	state, _ := running[len(running)-1].seen()
	return apikey.Fingerprint(state.Fingerprint)
}
