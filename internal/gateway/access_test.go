package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/gateway/wire"
)

// TestAccessLine: every line is one JSON object with the same members, whatever stands in them.
func TestAccessLine(t *testing.T) {
	b := &buffer{}
	g := &Gateway{o: Options{Access: b}}
	r, err := http.NewRequestWithContext(t.Context(), "BREW", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 9, 0, 0, 1500, time.UTC)
	odd := "a\"b\\c\nd\u2028\xff"
	for _, x := range []*exchange{
		{began: now},
		{began: now.Add(-time.Second), app: &appState{name: odd}, route: &route{name: "messages"}, model: "claude-haiku-5-5", status: 200, row: "ok", key: "kf_0", role: "primary",
			attempts: 2, stream: true, usage: wire.Usage{Input: 3, Output: 4}, upstream: time.Millisecond, requestID: "req_1"},
		{began: now, requestID: "something else"},
	} {
		g.writeAccess(r, x, true, now)
	}
	lines := strings.Split(strings.TrimSuffix(string(b.Bytes()), "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	var names [][]string
	var got []map[string]any
	for _, line := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var list []string
		for name := range m {
			list = append(list, name)
		}
		slices.Sort(list)
		names, got = append(names, list), append(got, m)
	}
	if !slices.Equal(names[0], names[1]) || len(names[0]) != 21 {
		t.Errorf("members %v and %v", names[0], names[1])
	}
	for name, want := range map[string]any{
		"time": "2026-11-22T09:00:00.000001Z", "app": strings.ToValidUTF8(odd, "\ufffd"), "route": "messages", "method": "other", "model": "haiku", "status": 200.0, "row": "ok", "fingerprint": "kf_0",
		"role": "primary", "attempts": 2.0, "stream": true, "cut": false, "aborted": true, "input_tokens": 3.0, "output_tokens": 4.0, "upstream_us": 1000.0, "total_us": 1e6, "request_id": "req_1",
	} {
		if got[1][name] != want {
			t.Errorf("%s is %v, want %v", name, got[1][name], want)
		}
	}
	if got[2]["request_id"] != "" {
		t.Error("a foreign text is in the log")
	}
}

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &buffer{}
		l := NewLines(b)
		_, _ = l.Write([]byte("a\n"))
		_, _ = l.Write([]byte("b\n"))
		if len(b.Bytes()) != 0 {
			t.Error("written at once")
		}
		time.Sleep(linesWait + time.Millisecond)
		synctest.Wait()
		if string(b.Bytes()) != "a\nb\n" {
			t.Errorf("%q", string(b.Bytes()))
		}
		_, _ = l.Write([]byte("c\n"))
		if err := l.Close(); err != nil || string(b.Bytes()) != "a\nb\nc\n" {
			t.Errorf("%v %q", err, string(b.Bytes()))
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.Write([]byte("d\n")); err == nil {
			t.Error("written after the end")
		}
	})
}
