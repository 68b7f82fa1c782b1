package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Headers that the gateway passes on, since it does not know them. planHeader tells the imitation what to do, idHeader which request it is, so that
// further attempts of it show.
const (
	planHeader = "X-Bench-Plan"
	idHeader   = "X-Bench-Id"
)

// sessionHeader names a session as Claude Code does.
const sessionHeader = "X-Claude-Code-Session-Id"

// post makes one message request, and reads the answer.
func post(ctx context.Context, client *http.Client, g *process, body string) (status int, answer string, err error) {
	return send(ctx, client, g, body, nil, nil)
}

// send is post with further headers. What has come so far is handed to seen, which may end the request by canceling its context; nil sees nothing.
// After an error the answer is what came before it.
func send(ctx context.Context, client *http.Client, g *process, body string, headers map[string]string, seen func(soFar []byte)) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("X-Api-Key", g.token)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(beganHeader, strconv.FormatInt(since(), 10))
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	if seen == nil {
		text, err := io.ReadAll(res.Body)
		return res.StatusCode, string(text), err
	}
	var text []byte
	part := make([]byte, 4<<10)
	for {
		n, err := res.Body.Read(part)
		text = append(text, part[:n]...)
		if errors.Is(err, io.EOF) {
			return res.StatusCode, string(text), nil
		}
		if err != nil {
			return res.StatusCode, string(text), err
		}
		seen(text)
	}
}

// streaming makes a stream of a request, of a model.
func streaming(body, model string) string {
	return strings.Replace(ofModel(body, model), `"max_tokens":256`, `"max_tokens":256,"stream":true`, 1)
}

func ofModel(body, model string) string {
	return strings.Replace(body, `"claude-haiku-5-5"`, `"`+model+`"`, 1)
}

// caller has room for so many connections. The caller of it closes the idle ones at the end.
func caller(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}}
}

// tally counts outcomes by name. It is safe for concurrent use.
type tally struct {
	mu sync.Mutex
	by map[string]int
}

func (t *tally) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[string]int{}
	}
	t.by[name]++
}

func (t *tally) of(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.by[name]
}

// without counts all outcomes but the named ones, and lists them.
func (t *tally) without(names ...string) (n int, list string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(t.by)) {
		if !slices.Contains(names, name) {
			n += t.by[name]
			texts = append(texts, strconv.Itoa(t.by[name])+" "+name)
		}
	}
	return n, strings.Join(texts, ", ")
}

// spread calls work for 0 to n-1 on so many goroutines, each of which takes the next number. It ends early with ctx.
func spread(ctx context.Context, n, workers int, work func(worker, i int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				work(worker, i)
			}
		})
	}
	group.Wait()
}
