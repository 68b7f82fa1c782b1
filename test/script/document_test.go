package script

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keywright/keywright/internal/secret"
)

// document runs the sessions that a page shows, and compares what the page says with what the program says: document PAGE, from the root of the
// repository. Remarks in the page tell it how, each on the line above the block that it is about:
//
//	<!-- run -->                    the block is run; <!-- run 8 --> when its last command ends with exit code 8
//	<!-- run until WORDS -->        its last command is interrupted by Ctrl-C once it has said WORDS
//	<!-- file NAME -->              the block is the content of a file
//	<!-- console NAME FILE -->      a person makes a key in the Console and puts it into the file, as ANTHROPIC_API_KEY
//	<!-- from PAGE -->              the block is a part of what another page shows
//	<!-- console NAME -->           a person makes a key and types its value where the next command asks
//
// A line of a block that begins with "$ " is a command; the lines below it are its output, in which … stands for any lines. Where none follow,
// the output is not compared.
func document(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: document PAGE")
	}
	d := &page{ts: ts, name: args[0], port: freePort(ts)}
	defer d.stop()
	ts.Defer(d.stop)
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(args[0])))
	ts.Check(err)
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		m := remark.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		words := strings.Fields(m[1])
		if words[0] == "console" {
			d.console(words[1:])
			continue
		}
		i++
		if i == len(lines) || !strings.HasPrefix(lines[i], "```") {
			ts.Fatalf("%s:%d: a block must follow", d.name, i)
		}
		var block []string
		at := i + 2
		for i++; i < len(lines) && lines[i] != "```"; i++ {
			block = append(block, lines[i])
		}
		if words[0] == "file" {
			write(ts, words[1], d.local(strings.Join(block, "\n")+"\n"))
			continue
		}
		if words[0] == "from" {
			d.from(block, at, words[1])
			continue
		}
		d.run(block, at, words[1:])
	}
	if d.ran == 0 {
		ts.Fatalf("%s: nothing was run", d.name)
	}
	ts.Logf("%s: %d commands run, %d lines of output compared", d.name, d.ran, d.compared)
}

var remark = regexp.MustCompile(`^<!-- ((?:run|file|console|from)\b.*?) -->$`)

// documentedPort is the port of the simulation on every page; a test takes a free one.
const documentedPort = "127.0.0.1:8484"

type page struct {
	ts            *testscript.TestScript
	name          string
	port          string
	typed         string // what a person types next
	behind        []*exec.Cmd
	ran, compared int
}

func freePort(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	return l.Addr().String()
}

func (d *page) local(s string) string { return strings.ReplaceAll(s, documentedPort, d.port) }

func (d *page) stop() {
	for _, cmd := range d.behind {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}
}

// console is the person at the Console of the simulation that the page started.
func (d *page) console(args []string) {
	res, err := http.PostForm("http://"+d.port+"/console/keys", url.Values{"name": {args[0]}})
	d.ts.Check(err)
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	d.ts.Check(err)
	m := shown.FindSubmatch(out)
	if m == nil {
		d.ts.Fatalf("%s: the Console showed no value", d.name)
	}
	s := in(d.ts)
	s.values = append(s.values, secret.New(bytes.Clone(m[1])))
	if len(args) == 2 {
		write(d.ts, args[1], "ANTHROPIC_API_KEY="+string(m[1])+"\n")
		return
	}
	d.typed = string(m[1]) + "\n"
}

var shown = regexp.MustCompile(`id="value"[^>]* value="([^"]+)"`)

// from compares a block with another page, line by line in its order, but for numbers.
func (d *page) from(block []string, at int, other string) {
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(other)))
	d.ts.Check(err)
	var rest []string
	for l := range strings.Lines(string(text)) {
		rest = append(rest, numberless(l))
	}
	for i, l := range block {
		if l == "…" {
			continue
		}
		n := slices.Index(rest, numberless(l))
		if n < 0 {
			d.ts.Fatalf("%s:%d: %s does not say %q, or not in this order", d.name, at+i, other, l)
		}
		rest = rest[n+1:]
	}
}

// numberless gives a line without what another run would count or time differently.
func numberless(l string) string {
	return strings.Join(strings.Fields(digits.ReplaceAllString(l, "N")), " ")
}

var digits = regexp.MustCompile(`\d+`)

// run makes the commands of a block, one after the other.
func (d *page) run(block []string, at int, how []string) {
	type command struct {
		text string
		want []string
		line int
	}
	var commands []command
	for i, l := range block {
		if text, ok := strings.CutPrefix(l, "$ "); ok {
			commands = append(commands, command{text: text, line: at + i})
		} else if len(commands) == 0 {
			d.ts.Fatalf("%s:%d: output without a command", d.name, at+i)
		} else {
			c := &commands[len(commands)-1]
			c.want = append(c.want, l)
		}
	}
	for i, c := range commands {
		wantCode, until := 0, ""
		if last := i == len(commands)-1; last && len(how) > 0 {
			if how[0] == "until" {
				wantCode, until = 130, strings.Join(how[1:], " ")
			} else {
				n, err := strconv.Atoi(how[0])
				d.ts.Check(err)
				wantCode = n
			}
		}
		out := d.command(c.text, c.line, wantCode, until)
		d.ran++
		if len(c.want) == 0 {
			continue
		}
		d.compared += len(c.want)
		if err := alike(c.want, strings.Split(strings.TrimRight(out, "\n"), "\n")); err != nil {
			d.ts.Fatalf("%s:%d: %s: %v\nit said:\n%s", d.name, c.line, c.text, err, out)
		}
	}
}

// command runs one line with a shell, as the user, and gives what it wrote.
func (d *page) command(text string, line, wantCode int, until string) string {
	shell, behind := strings.CutSuffix(d.local(text), " &")
	if until != "" {
		shell = "exec " + shell
	}
	cmd := exec.Command("sh", "-c", shell)
	cmd.Dir, cmd.Env = d.ts.MkAbs("."), command(d.ts, nil).Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out lockedBuffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(d.typed), &out, &out
	d.typed = ""
	d.ts.Check(cmd.Start())
	defer func() { in(d.ts).output.WriteString(out.String()) }()
	if behind {
		d.behind = append(d.behind, cmd)
		wait(d.ts, text, func() bool { return strings.Contains(out.String(), "\nadmin key") })
		return strings.ReplaceAll(out.String(), d.port, documentedPort)
	}
	if until != "" {
		wait(d.ts, "“"+until+"”", func() bool { return strings.Contains(out.String(), until) })
		d.ts.Check(cmd.Process.Signal(syscall.SIGINT))
	}
	if got := code(d.ts, cmd.Wait()); got != wantCode {
		d.ts.Fatalf("%s:%d: %s: exit code %d, want %d\n%s", d.name, line, text, got, wantCode, out.String())
	}
	return strings.ReplaceAll(out.String(), d.port, documentedPort)
}

// varying are the parts of output that differ from run to run.
var varying = []struct {
	re *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`kf_[0-9a-f]{16}`), "kf_N"},
	{regexp.MustCompile(`kf_[0-9a-f]{4}…`), "kf_n"},
	{regexp.MustCompile(`\b(apikey|wrkspc)_[0-9A-Za-z…]+`), "${1}_N"},
	{regexp.MustCompile(`\b[vs]_[0-9a-f]{16}\b`), "v_N"},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d`), "DATE"},
	{regexp.MustCompile(`\d\d:\d\d(:\d\d)?Z?`), "TIME"},
	{regexp.MustCompile(`\b\d+(\.\d+)?s\b`), "TOOK"},
	{regexp.MustCompile(`by \S+@\S+`), "by USER"},
	{regexp.MustCompile(`\b\d{8}\b`), "DAY"},
	{regexp.MustCompile(` +`), " "},
}

func plain(l string) string {
	l = strings.TrimSpace(l)
	for _, v := range varying {
		l = v.re.ReplaceAllString(l, v.as)
	}
	// How long an effect took is shown only when it took any time.
	return strings.TrimSpace(strings.TrimSuffix(l, " TOOK"))
}

// alike compares output with what a page says; … stands for any lines.
func alike(want, got []string) error {
	for i, w := range want {
		if strings.TrimSpace(w) == "…" {
			for skip := range len(got) + 1 {
				if alike(want[i+1:], got[skip:]) == nil {
					return nil
				}
			}
			return fmt.Errorf("nothing fits what follows the …: %q", want[i+1:])
		}
		if len(got) == 0 {
			return fmt.Errorf("the page says %q, and the output has ended", w)
		}
		if plain(w) != plain(got[0]) {
			return fmt.Errorf("the page says %q, the program %q", plain(w), plain(got[0]))
		}
		got = got[1:]
	}
	if len(got) > 0 {
		return fmt.Errorf("the page ends, and the program says %q", got[0])
	}
	return nil
}
