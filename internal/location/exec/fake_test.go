package exec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/secret"
)

// The test binary is the program too: started with "program STATE" it serves one request from the file STATE.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "program" {
		if err := serve(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var err error
	if self, err = os.Executable(); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

// self is the program; raced is true in a test binary with the race detector, which takes long to start.
var (
	self  string
	raced bool
)

// run runs the tests, after it has made a program without the race detector where that is on.
func run(m *testing.M) int {
	if raced {
		dir, err := os.MkdirTemp("", "keywright-exec-")
		if err != nil {
			panic(err)
		}
		defer func() {
			if err := os.RemoveAll(dir); err != nil {
				panic(err)
			}
		}()
		self = filepath.Join(dir, "program")
		if out, err := exec.Command("go", "test", "-c", "-o", self, ".").CombinedOutput(); err != nil {
			panic(string(out))
		}
	}
	return m.Run()
}

// state is what the place behind the program holds.
type state struct {
	Held, Staged kept
	Older        []kept
	Revision     int
	Consumer     string // the value that the consumer took up
	Reloads      []string
	Fault        *locationtest.Fault
	Calls        []string
}

// kept is one copy of a value; Value is empty where there is none.
type kept struct {
	Value string
	Ours  bool // written by a request
}

// change loads the state, lets f change it and stores it, while no other process does.
func change(tb testing.TB, path string, f func(*state)) {
	tb.Helper()
	if err := changing(path, func(s *state) error { f(s); return nil }); err != nil {
		tb.Fatal(err)
	}
}

func changing(path string, f func(*state) error) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	b, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	var s state
	if len(b) > 0 {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	failed := f(&s)
	if b, err = json.Marshal(s); err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	if _, err := file.WriteAt(b, 0); err != nil {
		return err
	}
	return failed
}

func (s *state) hold(k kept) {
	if s.Held.Value != "" {
		s.Older = append(s.Older, s.Held)
	}
	s.Held = k
	s.Revision++
}

func digest(value string) apikey.Digest { return secret.New([]byte(value)).Digest() }

// serve is the program.
func serve(path string, in io.Reader, out io.Writer) error {
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var r asked
	if err := json.Unmarshal(b, &r); err != nil || r.Protocol != 1 || r.Location != "place" || bytes.Count(b, []byte("\n")) != 1 {
		return fmt.Errorf("bad request %q: %w", b, err)
	}
	writes := slices.Contains([]string{"put", "stage", "promote", "unstage", "remove", "reload"}, r.Op)
	var got map[string]any
	var broken *locationtest.Fault
	err = changing(path, func(s *state) error {
		s.Calls = append(s.Calls, r.Op)
		if s.Fault != nil && (writes || !s.Fault.OnWrite) {
			broken, s.Fault = s.Fault, nil
			if !broken.Cut && !broken.Garbage {
				return nil
			}
		}
		got = s.answer(r)
		return nil
	})
	if err != nil {
		return err
	}
	if broken != nil {
		switch {
		case broken.Hang:
			<-time.After(time.Hour)
		case broken.Cut:
			os.Exit(3)
		case broken.Garbage:
			_, err := fmt.Fprintf(out, "done: %s", b) // which holds the value
			return err
		}
		kind := map[int]string{401: "unauthenticated", 403: "forbidden", 404: "not_found", 409: "conflict", 429: "rate-limited", 500: "unavailable"}[broken.Status]
		// The message holds the value, so that the leak check has something to find.
		got = map[string]any{"ok": false, "kind": kind, "message": "got " + string(b), "hint": "look at " + r.Value}
		if broken.Status == 429 {
			got["retry_after"] = locationtest.RetryAfterSeconds
		}
	}
	return json.NewEncoder(out).Encode(got)
}

// asked is the request as the program understands it.
type asked struct {
	Protocol int
	Op       string
	Location string
	ID       string
	Digest   apikey.Digest
	Value    string
	Receipt  location.Receipt
	Expect   struct {
		Checked, Absent bool
		Revision        string
	}
}

func (s *state) answer(r asked) map[string]any {
	ok := map[string]any{"ok": true}
	conflict := map[string]any{"ok": false, "kind": "conflict", "message": "it was changed"}
	unexpected := s.Held.Value != r.Value && r.Expect.Checked && (r.Expect.Absent != (s.Held.Value == "") || r.Expect.Revision != "" && r.Expect.Revision != fmt.Sprint(s.Revision))
	receipt := func(before int, staged apikey.Digest) {
		text, _ := staged.MarshalText()
		ok["receipt"] = map[string]any{"revision": fmt.Sprint(s.Revision), "replaced": fmt.Sprint(before), "facts": map[string]string{"staged": string(text)}}
	}
	switch r.Op {
	case "inspect":
		h := map[string]any{"present": s.Held.Value != "", "how": "read back", "revision": fmt.Sprint(s.Revision)}
		if s.Held.Value != "" {
			h["digest"] = digest(s.Held.Value)
		}
		if s.Staged.Value != "" {
			h["pending"] = map[string]any{"digest": digest(s.Staged.Value), "ours": s.Staged.Ours}
		}
		ok["holding"] = h
	case "put":
		if unexpected {
			return conflict
		}
		before := s.Revision
		if r.Value != s.Held.Value {
			s.hold(kept{r.Value, true})
		}
		receipt(before, apikey.Digest{})
	case "stage":
		if unexpected {
			return conflict
		}
		s.Staged = kept{r.Value, true}
		receipt(s.Revision, digest(r.Value))
	case "promote":
		before := s.Revision
		var want apikey.Digest
		if err := want.UnmarshalText([]byte(r.Receipt.Facts["staged"])); err != nil {
			return map[string]any{"ok": false, "kind": "invalid", "message": "no receipt"}
		}
		switch {
		case digest(s.Held.Value).Same(want):
		case r.Receipt.Revision != fmt.Sprint(before) || !digest(s.Staged.Value).Same(want):
			return conflict
		default:
			s.hold(s.Staged)
			s.Staged = kept{}
		}
		receipt(before, want)
	case "unstage":
		if s.Staged.Ours {
			s.Staged = kept{}
		}
	case "read":
		ok["value"] = s.Held.Value
	case "remove":
		s.Older = slices.DeleteFunc(s.Older, func(k kept) bool { return k.Ours && digest(k.Value).Same(r.Digest) })
	case "reload":
		if !slices.Contains(s.Reloads, r.ID) {
			s.Reloads = append(s.Reloads, r.ID)
		}
		s.Consumer = s.Held.Value
	case "confirm":
		c := map[string]any{"how": "read back", "running": 1, "taken": 0, "old": 1}
		if digest(s.Consumer).Same(r.Digest) {
			c["taken"], c["old"] = 1, 0
		}
		ok["confirmation"] = c
	case "abilities":
		ok["abilities"] = []string{"read", "stage", "remove", "reload", "confirm", "probe"}
	case "check", "probe":
	default:
		return map[string]any{"ok": false, "kind": "unsupported", "message": "unknown request"}
	}
	return ok
}
