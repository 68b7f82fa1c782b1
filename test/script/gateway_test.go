package script

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// call makes a request through a gateway's Unix socket: call CODE SOCKET TOKEN METHOD PATH [BODY [NAME=VALUE...]], with further headers at
// the end. TOKEN is a file that holds one, the token itself, or - for none. The answer is
// waited for until it has the code, since a key or a token that was taken away is noticed within a second.
func call(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: call CODE SOCKET TOKEN METHOD PATH [BODY [NAME=VALUE...]]")
	}
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	socket, body, token := ts.MkAbs(args[1]), "", ""
	if len(args) >= 6 {
		body = args[5]
	}
	if token = args[2]; token == "-" {
		token = ""
	} else if !strings.HasPrefix(token, "kwt_") {
		token = strings.TrimSpace(ts.ReadFile(token))
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	last := ""
	wait(ts, args[3]+" "+args[4]+" to be answered with "+args[0], func() bool {
		req, err := http.NewRequest(args[3], "http://gateway"+args[4], strings.NewReader(body))
		ts.Check(err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Anthropic-Version", "2023-06-01")
		if token != "" {
			req.Header.Set("X-Api-Key", token)
		}
		for _, h := range args[min(6, len(args)):] {
			name, value, _ := strings.Cut(h, "=")
			req.Header.Set(name, value)
		}
		res, err := client.Do(req)
		ts.Check(err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		ts.Check(err)
		in(ts).output.Write(text)
		if now := res.Status + " " + string(text); now != last {
			ts.Logf("%s", now)
			last = now
		}
		return res.StatusCode == code
	})
}

// take writes a private file of the program's own user with what another file holds: take FROM TO.
func take(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: take FROM TO")
	}
	write(ts, args[1], ts.ReadFile(args[0]))
}

// keep sets a variable of the script to what stands at a path of the JSON document on stdout: keep VARIABLE PATH.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keep VARIABLE PATH")
	}
	var doc any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &doc))
	text, ok := member(doc, args[1])
	if !ok {
		ts.Fatalf("there is no %s", args[1])
	}
	ts.Setenv(args[0], text)
}

// ownProgram puts the program into the script's directory, for the configurations that run it: its own lies where other users cannot go.
func ownProgram(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ownprogram")
	}
	path, err := exec.LookPath("keywright")
	ts.Check(err)
	from, err := os.Open(path)
	ts.Check(err)
	defer from.Close()
	to, err := os.OpenFile(ts.MkAbs("keywright"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	ts.Check(err)
	_, err = io.Copy(to, from)
	ts.Check(errors.Join(err, to.Close()))
}

// caller makes requests through a gateway's socket without a pause.
type caller struct {
	stop           chan struct{}
	done           chan struct{}
	served, failed int
	why            string
}

// calling begins to make requests, one after the other, each of a session of its own: calling SOCKET TOKEN.
func calling(ts *testscript.TestScript, neg bool, args []string) {
	s := in(ts)
	if neg || len(args) != 2 || s.caller != nil {
		ts.Fatalf("usage: calling SOCKET TOKEN, once until called")
	}
	socket, token := ts.MkAbs(args[0]), strings.TrimSpace(ts.ReadFile(args[1]))
	c := &caller{stop: make(chan struct{}), done: make(chan struct{})}
	s.caller = c
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	go func() {
		defer close(c.done)
		defer client.CloseIdleConnections()
		for n := 0; ; n++ {
			select {
			case <-c.stop:
				return
			default:
			}
			body := `{"model":"claude-haiku-5-5","max_tokens":5,"messages":[{"role":"user","content":"hello ` + strconv.Itoa(n) + `"}]}`
			if why := c.call(client, token, body); why != "" {
				c.failed, c.why = c.failed+1, why
			}
			c.served++
		}
	}()
	ts.Defer(func() { c.end() })
}

func (c *caller) call(client *http.Client, token, body string) string {
	req, err := http.NewRequest(http.MethodPost, "http://gateway/v1/messages", strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	req.Header.Set("X-Api-Key", token)
	res, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		return res.Status + " " + string(text)
	}
	return ""
}

func (c *caller) end() {
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	<-c.done
}

// called ends what calling began. None of the requests may have failed, and there must have been some.
func called(ts *testscript.TestScript, neg bool, args []string) {
	s := in(ts)
	if neg || len(args) != 0 || s.caller == nil {
		ts.Fatalf("usage: called, after calling")
	}
	c := s.caller
	c.end()
	s.caller = nil
	ts.Logf("%d requests, %d failed", c.served, c.failed)
	if c.failed > 0 || c.served == 0 {
		ts.Fatalf("%d of %d requests failed, the last: %s", c.failed, c.served, c.why)
	}
}
