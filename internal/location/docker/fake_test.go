package docker

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/location/locationtest"
)

type object = map[string]any

// fake is a stateful Docker engine on a Unix socket: containers with their names, states and configuration, and two tags of an image.
type fake struct {
	host     string
	mu       sync.Mutex
	made     int
	boxes    []object
	images   map[string]string // name to id
	refuse   map[string]int    // the end of a path, such as "/start": the status to answer
	once     *locationtest.Fault
	calls    []string
	on       func(call string) string // "" or "before" or "after" end the connection there
	released chan struct{}
}

func newFake(tb testing.TB) *fake {
	f := &fake{images: map[string]string{"app:1": "sha256:1111"}, refuse: map[string]int{}, released: make(chan struct{})}
	dir, err := os.MkdirTemp("", "kw-docker-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	s := httptest.NewUnstartedServer(f)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	tb.Cleanup(func() { close(f.released); s.CloseClientConnections(); s.Close() })
	f.host = "unix://" + socket
	return f
}

func (f *fake) breakOnce(_ testing.TB, b locationtest.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.once = &b
}

// at sets what happens at each call; f.mu is held while it runs.
func (f *fake) at(on func(call string) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

// hits reports whether a fault on a write is meant for this call. A refusal meets the first call of a change; a cut reply the one that puts
// the new container in force, or stages it.
func hits(b locationtest.Fault, call string, body object) bool {
	create := call == "POST /containers/create"
	if b.Cut {
		labels, _ := body["Labels"].(object)
		return call == "POST start" || create && labels[labelStaged] == "true"
	}
	return create
}

var versionRE = regexp.MustCompile(`^/v[0-9.]+`)

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var body object
	_ = json.Unmarshal(data, &body)
	path := versionRE.ReplaceAllString(r.URL.Path, "")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	call := r.Method + " " + path
	if len(parts) == 3 && parts[2] != "json" || r.Method == http.MethodDelete {
		call = r.Method + " " + parts[len(parts)-1]
	}
	if r.Method == http.MethodDelete {
		call = "DELETE"
	}

	f.mu.Lock()
	f.calls = append(f.calls, call)
	var b locationtest.Fault
	if f.once != nil && path != "/_ping" && (!f.once.OnWrite || hits(*f.once, call, body)) {
		b, f.once = *f.once, nil
	}
	cut := ""
	if f.on != nil {
		cut = f.on(call)
	}
	switch {
	case cut == "before":
		f.mu.Unlock()
		panic(http.ErrAbortHandler)
	case b.Hang:
		f.mu.Unlock()
		select {
		case <-r.Context().Done():
		case <-f.released:
		}
		return
	}
	code, answer := b.Status, []byte(nil)
	if b.Status == 0 {
		var live any
		code, live = f.do(r, path, parts, body)
		if live != nil {
			answer, _ = json.Marshal(live) // while the lock is held
		}
	}
	f.mu.Unlock()

	switch {
	case b.Cut || cut == "after":
		panic(http.ErrAbortHandler)
	case b.Garbage:
		_, _ = io.WriteString(w, "]garbage[")
		return
	case code == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", strconv.Itoa(locationtest.RetryAfterSeconds))
	}
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	switch {
	case code >= 400:
		_ = json.NewEncoder(w).Encode(object{"message": "the request was " + string(data)}) // a careless engine
	case answer != nil:
		_, _ = w.Write(answer)
	}
}

// do serves one call. The lock is held.
func (f *fake) do(r *http.Request, path string, parts []string, body object) (int, any) {
	for end, code := range f.refuse {
		if strings.HasSuffix(path, end) {
			return code, nil
		}
	}
	switch {
	case path == "/_ping":
		return 200, nil
	case path == "/containers/json":
		return 200, f.list(r.URL.Query().Get("filters"))
	case path == "/containers/create":
		return f.create(r.URL.Query().Get("name"), body)
	case parts[0] == "networks":
		b := f.find(fmt.Sprint(body["Container"]))
		if b == nil {
			return 404, nil
		}
		b["NetworkSettings"].(object)["Networks"].(object)[parts[1]] = body["EndpointConfig"]
		return 200, nil
	}
	b := f.find(parts[1])
	if b == nil {
		return 404, nil
	}
	state := b["State"].(object)
	switch {
	case r.Method == http.MethodDelete:
		if state["Running"] == true {
			return 409, nil
		}
		f.boxes = slices.DeleteFunc(f.boxes, func(o object) bool { return o["Id"] == b["Id"] })
		return 204, nil
	case parts[2] == "json":
		return 200, b
	case parts[2] == "rename":
		to := "/" + r.URL.Query().Get("name")
		switch {
		case b["Name"] == to:
			return 400, nil
		case f.find(to[1:]) != nil:
			return 409, nil
		}
		b["Name"] = to
		return 204, nil
	case parts[2] == "stop":
		if state["Running"] != true {
			return 304, nil
		}
		state["Running"], state["Status"] = false, "exited"
		return 204, nil
	case parts[2] == "start":
		if state["Running"] == true {
			return 304, nil
		}
		state["Running"], state["Status"] = true, "running"
		state["StartedAt"] = time.Unix(1_700_000_000, 0).UTC()
		return 204, nil
	case parts[2] == "update":
		b["HostConfig"].(object)["RestartPolicy"] = body["RestartPolicy"]
		return 200, object{"Warnings": nil}
	}
	return 404, nil
}

func (f *fake) list(filters string) []any {
	var filter struct{ Name map[string]bool }
	_ = json.Unmarshal([]byte(filters), &filter)
	out := []any{}
	for _, b := range f.boxes {
		matches := len(filter.Name) == 0
		for pattern := range filter.Name {
			matches = matches || regexp.MustCompile(pattern).MatchString(b["Name"].(string))
		}
		if matches {
			out = append(out, object{"Id": b["Id"], "Names": []any{b["Name"]}, "HostConfig": object{"NetworkMode": b["HostConfig"].(object)["NetworkMode"]}})
		}
	}
	return out
}

// find gives the container with this id, name or beginning of the id.
func (f *fake) find(id string) object {
	for _, b := range f.boxes {
		if b["Id"] == id || b["Name"] == "/"+id {
			return b
		}
	}
	for _, b := range f.boxes {
		if strings.HasPrefix(b["Id"].(string), id) {
			return b
		}
	}
	return nil
}

func (f *fake) create(name string, body object) (int, any) {
	if f.find(name) != nil && name != "" {
		return 409, nil
	}
	f.made++
	var random [32]byte
	_, _ = rand.Read(random[:])
	id := hex.EncodeToString(random[:])
	config := maps.Clone(body)
	delete(config, "HostConfig")
	delete(config, "NetworkingConfig")
	image := f.images[fmt.Sprint(config["Image"])]
	if image == "" {
		if !strings.HasPrefix(fmt.Sprint(config["Image"]), "sha256:") {
			return 404, nil
		}
		image = fmt.Sprint(config["Image"])
	}
	if config["Hostname"] == nil {
		config["Hostname"] = id[:12]
	}
	host, _ := body["HostConfig"].(object)
	networks := object{}
	if n, ok := body["NetworkingConfig"].(object); ok {
		for name, endpoint := range n["EndpointsConfig"].(object) {
			networks[name] = endpoint
			aliases, _ := endpoint.(object)["Aliases"].([]any)
			endpoint.(object)["Aliases"] = append(aliases, id[:12])
		}
	}
	mounts := []any{}
	volumes, _ := config["Volumes"].(object)
	binds, _ := host["Binds"].([]any)
	for destination := range volumes {
		source := fmt.Sprintf("anonymous%d", f.made)
		for _, b := range binds {
			if parts := strings.Split(b.(string), ":"); parts[1] == destination {
				source = parts[0]
			}
		}
		mounts = append(mounts, object{"Type": "volume", "Name": source, "Destination": destination, "RW": true})
	}
	f.boxes = append(f.boxes, object{
		"Id": id, "Name": "/" + name, "Created": time.Unix(int64(1_700_000_000+f.made), 0).UTC(), "Image": image, "RestartCount": 0,
		"State":  object{"Status": "created", "Running": false, "StartedAt": time.Time{}},
		"Config": config, "HostConfig": host, "NetworkSettings": object{"Networks": networks}, "Mounts": mounts,
	})
	return 201, object{"Id": id, "Warnings": nil}
}

// run makes and starts a container as a stranger would; an older one of the name is removed.
func (f *fake) run(name string, body object) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boxes = slices.DeleteFunc(f.boxes, func(o object) bool { return o["Name"] == "/"+name })
	var plain object
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(b, &plain); err != nil {
		panic(err)
	}
	code, answer := f.create(name, plain)
	if code != 201 {
		panic(code)
	}
	id := answer.(object)["Id"].(string)
	f.find(id)["State"].(object)["Running"] = true
	f.find(id)["State"].(object)["Status"] = "running"
	return id
}

// snapshot gives copies of the containers.
func (f *fake) snapshot() []object {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, err := json.Marshal(f.boxes)
	if err != nil {
		panic(err)
	}
	var out []object
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}
