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
