package script

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // the driver that the product uses

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// session is what a script has: the simulation, and every value that was made in it.
type session struct {
	sim    *simulator.Simulator
	server *httptest.Server
	values []secret.Value
	output bytes.Buffer
	// running are the processes that were begun and have not been waited for.
	running map[string]*process
	// caller makes requests through a gateway, or is nil.
	caller *caller
}

type sessionKey struct{}

func (s *session) stop() {
	if s.server != nil {
		s.server.CloseClientConnections()
		s.server.Close()
	}
}

// in gives the session of a script.
func in(ts *testscript.TestScript) *session {
	s, ok := ts.Value(sessionKey{}).(*session)
	if !ok {
		ts.Fatalf("the script has no session")
	}
	return s
}

// commands are what the scripts can do besides running the program.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"sim": sim, "put": put, "simkey": simKey, "simset": simSet, "simuse": simUse, "simfault": simFault, "exits": exits, "json": jsonPath, "noleak": noLeak,
		"holds": holds, "accepted": accepted, "modes": modes, "mine": mine, "as": as, "fakekey": fakeKey, "sql": sqlRun,
		"begin": begin, "says": says, "signal": sendSignal, "ends": ends, "eventually": eventually, "document": document,
		"call": call, "calling": calling, "called": called, "take": take, "keep": keep, "ownprogram": ownProgram,
		"plantkey": plantKey, "oddindex": oddIndex, "plantrepo": plantRepo,
	}
}

// sim starts the simulation of the provider inside this process: sim [usage-lag]. $SIM is its address, admin.key its admin key.
func sim(ts *testscript.TestScript, neg bool, args []string) {
	s := in(ts)
	if neg || s.sim != nil || len(args) > 1 {
		ts.Fatalf("usage: sim [usage-lag], once")
	}
	o := simulator.Options{}
	if len(args) == 1 {
		lag, err := time.ParseDuration(args[0])
		ts.Check(err)
		o.UsageLag = lag
	}
	s.sim = simulator.New(o)
	s.server = httptest.NewServer(s.sim.Handler())
	ts.Setenv("SIM", s.server.URL)
	admin := secret.New([]byte(s.sim.AdminKey()))
	s.values = append(s.values, admin)
	write(ts, "admin.key", s.sim.AdminKey()+"\n")
	// Configurations of the script name the simulation as SIM_URL.
	files, err := filepath.Glob(ts.MkAbs("*.yaml"))
	ts.Check(err)
	for _, f := range files {
		text := strings.ReplaceAll(ts.ReadFile(f), "SIM_URL", s.server.URL)
		ts.Check(os.WriteFile(f, []byte(text), 0o600))
	}
}

// write writes a private file that belongs to the user that the program runs as.
func write(ts *testscript.TestScript, name, text string) {
	path := ts.MkAbs(name)
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
	if os.Getuid() == 0 {
		ts.Check(os.Lchown(path, ownUID, ownUID))
	}
}

// simKey is the person in the Console: simkey NAME FILE [personal] [in=DURATION] makes a key and writes its value into a file.
func simKey(ts *testscript.TestScript, neg bool, args []string) {
	s := in(ts)
	if neg || s.sim == nil || len(args) < 2 {
		ts.Fatalf("usage: simkey NAME FILE [personal] [workspace=NAME] [expires=DURATION], after sim")
	}
	c := simulator.CreateKey{Name: args[0]}
	for _, a := range args[2:] {
		switch name, value, _ := strings.Cut(a, "="); name {
		case "personal":
			c.Principal.Kind = simulator.PrincipalUser
		case "workspace":
			c.Workspace = s.workspace(value)
		case "expires":
			d, err := time.ParseDuration(value)
			ts.Check(err)
			c.ExpiresAt = s.sim.Now().Add(d)
		default:
			ts.Fatalf("simkey: unknown word %q", a)
		}
	}
	id, value, err := s.sim.CreateKey(c)
	ts.Check(err)
	v := secret.New([]byte(value))
	s.values = append(s.values, v)
	write(ts, args[1], value+"\n")
	ts.Setenv("ID_"+variable(args[1]), id)
	ts.Setenv("KF_"+variable(args[1]), string(v.Fingerprint()))
}

// variable makes the part of a variable's name from a file's.
func variable(file string) string {
	return strings.ToUpper(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.TrimSuffix(filepath.Base(file), ".key")))
}

func (s *session) workspace(name string) string {
	for _, w := range s.sim.Workspaces() {
		if w.Name == name {
			return w.ID
		}
	}
	return s.sim.AddWorkspace(name).ID
}

// fakeKey writes a value that the simulation never made: fakekey FILE SORT, where sort is such as api03, admin01 or oat01.
func fakeKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fakekey FILE SORT")
	}
	s := in(ts)
	body := "fake-example-" + rand.Text() + rand.Text() + rand.Text() + rand.Text()
	text := strings.Join([]string{"sk", "ant", args[1], body[:93] + "AA"}, "-")
	s.values = append(s.values, secret.New([]byte(text)))
	write(ts, args[0], text+"\n")
}

// put writes a variable with the value of a key file into a file, as a person would who deploys by hand: put KEYFILE VARIABLE FILE.
func put(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: put KEYFILE VARIABLE FILE")
	}
	write(ts, args[2], "# written by hand\nPORT=8080\n"+args[1]+"="+ts.ReadFile(args[0])+"LAST=1\n")
}

// simSet changes a key in the simulation as a person in the Console would: simset FILE STATUS.
func simSet(ts *testscript.TestScript, neg bool, args []string) {
	s := in(ts)
	if neg || len(args) != 2 {
		ts.Fatalf("usage: simset FILE STATUS")
	}
	ts.Check(s.sim.SetStatus(ts.Getenv("ID_"+variable(args[0])), args[1]))
}

// simFault arms a documented error: simfault NAME, or simfault none.
func simFault(ts *testscript.TestScript, neg bool, args []string) {
	s := in(ts)
	if neg || len(args) != 1 {
		ts.Fatalf("usage: simfault NAME")
	}
	if args[0] == "none" {
		s.sim.ClearFaults()
		return
	}
	var names []string
	for _, e := range simulator.DocumentedErrors() {
		if e.Name == args[0] {
			s.sim.Fail(e.Fault)
			return
		}
		names = append(names, e.Name)
	}
	ts.Fatalf("simfault: no %q in %q", args[0], names)
}

// exits runs the program and compares its exit code: exits CODE ARGUMENTS. A stdin command before it gives the input.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE [ARGUMENTS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("keywright", args[1:]...)
	s := in(ts)
	s.output.WriteString(ts.ReadFile("stdout"))
	s.output.WriteString(ts.ReadFile("stderr"))
	if got := code(ts, err); got != want {
		ts.Fatalf("keywright %s ended with exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// code gives the exit code that an error of a command stands for.
func code(ts *testscript.TestScript, err error) int {
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		ts.Fatalf("run keywright: %v", err)
	}
	return exit.ExitCode()
}

// as runs the program as another user of this host: as CODE ARGUMENTS. It needs root.
func as(ts *testscript.TestScript, neg bool, args []string) {
	old := ts.Getenv(uidVar)
	ts.Setenv(uidVar, strconv.Itoa(otherUID))
	defer ts.Setenv(uidVar, old)
	exits(ts, neg, args)
}

// process is a run of the program beside the script.
type process struct {
	cmd      *exec.Cmd
	out, err lockedBuffer
	done     chan struct{}
	failed   error
}

// lockedBuffer is read while the program still writes into it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// command is a run of the program in the script's directory.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath("keywright")
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"HOME", "USER", "TZ", "NO_PROXY", "PATH", "GOCOVERDIR", uidVar} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd
}

// begin starts the program beside the script: begin NAME ARGUMENTS. It is killed when the script ends before it.
func begin(ts *testscript.TestScript, neg bool, args []string) {
	s := in(ts)
	if neg || len(args) < 2 || s.running[args[0]] != nil {
		ts.Fatalf("usage: begin NAME ARGUMENTS, with a name of its own")
	}
	p := &process{cmd: command(ts, args[1:]), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	ts.Check(p.cmd.Start())
	go func() {
		p.failed = p.cmd.Wait()
		close(p.done)
	}()
	if s.running == nil {
		s.running = map[string]*process{}
	}
	s.running[args[0]] = p
	ts.Defer(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
}

func running(ts *testscript.TestScript, name string) *process {
	p := in(ts).running[name]
	if p == nil {
		ts.Fatalf("no process %q was begun", name)
	}
	return p
}

// says waits until a process has written a line that fits: says NAME REGEXP.
func says(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: says NAME REGEXP")
	}
	p, re := running(ts, args[0]), regexp.MustCompile("(?m)"+args[1])
	wait(ts, "process "+args[0]+" to say "+args[1], func() bool {
		if re.MatchString(p.out.String() + p.err.String()) {
			return true
		}
		select {
		case <-p.done:
			ts.Fatalf("process %s ended without saying %q: %v\n%s%s", args[0], args[1], p.failed, p.out.String(), p.err.String())
		default:
		}
		return false
	})
}

// patience bounds every wait of a script.
const patience = 2 * time.Minute

// wait asks again and again until something is true.
func wait(ts *testscript.TestScript, what string, is func() bool) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("waited %s in vain for %s", patience, what)
		}
	}
}

// sendSignal sends a signal to a process: signal NAME INT|TERM|KILL|HUP.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME INT|TERM|KILL|HUP")
	}
	ts.Check(running(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

// ends waits for a process and compares its exit code: ends CODE NAME. Its output can be asked for with stdout and stderr.
func ends(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ends CODE NAME")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	p := running(ts, args[1])
	wait(ts, "the end of "+args[1], func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
	s := in(ts)
	delete(s.running, args[1])
	s.output.WriteString(p.out.String() + p.err.String())
	fmt.Fprint(ts.Stdout(), p.out.String())
	fmt.Fprint(ts.Stderr(), p.err.String())
	if got := code(ts, p.failed); got != want {
		ts.Fatalf("%s ended with exit code %d, want %d\n%s%s", args[1], got, want, p.out.String(), p.err.String())
	}
}

// eventually runs the program until it ends with a code and its output fits: eventually CODE REGEXP ARGUMENTS.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: eventually CODE REGEXP ARGUMENTS")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	re := regexp.MustCompile("(?m)" + args[1])
	last, tries := "", 0
	defer func() { ts.Logf("%d runs, the last said:\n%s", tries, last) }()
	wait(ts, strings.Join(args[2:], " "), func() bool {
		out, err := command(ts, args[2:]).CombinedOutput()
		last, tries = string(out), tries+1
		in(ts).output.Write(out)
		return code(ts, err) == want && re.Match(out)
	})
}

// jsonPath asks the last output for a member: json PATH [REGEXP], where PATH has dots between names and positions, and ends in # for a count. With
// "!" the member must not be there, or not fit.
func jsonPath(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: [!] json PATH [REGEXP]")
	}
	var doc any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &doc); err != nil {
		ts.Fatalf("stdout is no JSON document: %v", err)
	}
	got, ok := member(doc, args[0])
	fits := ok && (len(args) == 1 || regexp.MustCompile(args[1]).MatchString(got))
	if fits == neg {
		ts.Fatalf("%s is %q (there: %v)", args[0], got, ok)
	}
}

// member gives what stands at a path of a JSON document, as text.
func member(doc any, path string) (string, bool) {
	for _, name := range strings.Split(path, ".") {
		switch v := doc.(type) {
		case map[string]any:
			next, ok := v[name]
			if !ok {
				return "", false
			}
			doc = next
		case []any:
			if name == "#" {
				return strconv.Itoa(len(v)), true
			}
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(v) {
				return "", false
			}
			doc = v[i]
		default:
			return "", false
		}
	}
	if text, ok := doc.(string); ok {
		return text, true
	}
	text, err := json.Marshal(doc)
	return string(text), err == nil
}

// holds compares the value of a variable in a file with that of a key file: holds FILE VARIABLE KEYFILE. It never prints a value.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] holds FILE VARIABLE KEYFILE")
	}
	want := strings.TrimSpace(ts.ReadFile(args[2]))
	found := false
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		found = found || ok && name == args[1] && strings.Trim(value, `"'`) == want
	}
	if found == neg {
		ts.Fatalf("%s in %s holds the value of %s: %v", args[1], args[0], args[2], found)
	}
}

// accepted asks the simulation whether the key of a file is accepted: [!] accepted FILE.
func accepted(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] accepted FILE")
	}
	s := in(ts)
	if s.sim.Accepts(s.sim.KeyID(strings.TrimSpace(ts.ReadFile(args[0])))) == neg {
		ts.Fatalf("the provider accepts the key of %s: %v", args[0], !neg)
	}
}

// noLeak searches everything below the script's directory, and all output, for every value of the script: noleak [FILE...]. The named files and
// *.key may hold values.
func noLeak(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: noleak [FILE...]")
	}
	s := in(ts)
	if len(s.values) == 0 {
		ts.Fatalf("noleak: the script made no value")
	}
	may := map[string]bool{}
	for _, a := range args {
		may[ts.MkAbs(a)] = true
	}
	leak := func(where string, data []byte) {
		for _, v := range s.values {
			for i, form := range secrettest.Forms(v) {
				if bytes.Contains(data, form) {
					ts.Fatalf("%s leaks %v (form %d)", where, v.Fingerprint(), i)
				}
			}
		}
	}
	leak("the output", s.output.Bytes())
	searched := 0
	ts.Check(filepath.WalkDir(ts.Getenv("WORK"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || may[path] || strings.HasSuffix(path, ".key") && !strings.Contains(path, ts.Getenv("STATE")) {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			leak(path, data)
			searched++
		}
		return err
	}))
	ts.Logf("searched %d files", searched)
}

// modes compares the permissions of files: modes 0600 FILE...
func modes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: modes MODE FILE...")
	}
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := info.Mode().Perm(); got != os.FileMode(want) {
			ts.Fatalf("%s has mode %o, want %o", name, got, want)
		}
	}
}

// mine gives files that the script made to the user that the program runs as: mine FILE...
func mine(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		ts.Check(own(ts.MkAbs(name)))
	}
}

// sqlRun changes the database behind the program's back: sql DATABASE STATEMENT.
func sqlRun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql DATABASE STATEMENT")
	}
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	_, err = db.Exec(args[1])
	ts.Check(err)
	ts.Check(db.Close())
	ts.Check(own(filepath.Dir(ts.MkAbs(args[0]))))
}
