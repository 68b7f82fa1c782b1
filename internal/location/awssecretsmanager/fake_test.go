package awssecretsmanager

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a Secrets Manager in memory that speaks the service's JSON protocol: the calls that the driver makes and those
// with which tests set a scene. Labels move as the service's reference says.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	secrets map[string]*fakeSecret
	clock   time.Time
	made    int
	calls   []string
	faults  map[string][]trouble
	once    *trouble // hits the next call that when picks
	when    func(action string, in map[string]any) bool
}

type fakeSecret struct {
	versions map[string]*fakeVersion
	changed  time.Time
	deleted  bool
	rotates  bool
}

type fakeVersion struct {
	text   *string
	binary []byte
	labels []string
}

// trouble makes one call go wrong.
type trouble struct {
	status     int
	code       string
	retryAfter string
	cut        bool   // no reply at all
	applied    bool   // the call takes effect before it goes wrong
	body       string // instead of an error document
	before     func() // runs before the call takes effect
	hang       bool   // no reply until the caller gives up
}

// serviceError is an answer of the service itself.
type serviceError struct{ code, message string }

func (e serviceError) Error() string { return e.code }

func newFake(t testing.TB) *fake {
	f := &fake{secrets: map[string]*fakeSecret{}, faults: map[string][]trouble{}, clock: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// fail lets the next calls of an action go wrong, one after the other.
func (f *fake) fail(action string, troubles ...trouble) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[action] = append(f.faults[action], troubles...)
}

func (f *fake) count(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == action {
			n++
		}
	}
	return n
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var in map[string]any
	if err != nil || json.Unmarshal(body, &in) != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager.")
	var t trouble
	f.mu.Lock()
	f.calls = append(f.calls, action)
	if queue := f.faults[action]; len(queue) > 0 {
		t, f.faults[action] = queue[0], queue[1:]
	} else if f.once != nil && f.when(action, in) {
		t, f.once = *f.once, nil
	}
	f.mu.Unlock()
	if t.before != nil {
		t.before()
	}
	if t.hang {
		<-r.Context().Done()
		return
	}
	var out map[string]any
	if bad := t.cut || t.status != 0; !bad || t.applied {
		f.mu.Lock()
		f.clock = f.clock.Add(time.Second)
		out, err = f.serve(action, in)
		f.mu.Unlock()
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if t.retryAfter != "" {
		w.Header().Set("Retry-After", t.retryAfter)
	}
	failed, _ := errors.AsType[serviceError](err)
	switch {
	case t.cut:
		panic(http.ErrAbortHandler)
	case t.status != 0:
		w.WriteHeader(t.status)
		if t.code == "" {
			fmt.Fprint(w, t.body)
			return
		}
		// Messages of the service may quote what was sent; ours always does, so that the leak check has something to find.
		_ = json.NewEncoder(w).Encode(map[string]any{"__type": t.code, "message": "you sent " + string(body)})
	case failed.code != "":
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{"__type": failed.code, "message": failed.message + string(body)})
	default:
		_ = json.NewEncoder(w).Encode(out)
	}
}

func (f *fake) serve(action string, in map[string]any) (map[string]any, error) {
	str := func(name string) string { s, _ := in[name].(string); return s }
	if action == "CreateSecret" {
		s := &fakeSecret{versions: map[string]*fakeVersion{}, changed: f.clock}
		f.secrets[str("Name")] = s
		if in["SecretString"] == nil && in["SecretBinary"] == nil {
			return map[string]any{"Name": str("Name")}, nil
		}
		return f.put(s, str("Name"), in)
	}
	name := str("SecretId")
	s := f.secrets[name]
	if s == nil {
		return nil, serviceError{"ResourceNotFoundException", "no such secret"}
	}
	if s.deleted && action != "DescribeSecret" {
		return nil, serviceError{"InvalidRequestException", "marked for deletion"}
	}
	switch action {
	case "DescribeSecret":
		labels := map[string][]string{}
		for id, v := range s.versions {
			if len(v.labels) > 0 {
				labels[id] = v.labels
			}
		}
		out := map[string]any{"ARN": f.arn(name), "Name": name, "LastChangedDate": s.changed.Unix(), "VersionIdsToStages": labels}
		if s.rotates {
			out["RotationEnabled"] = true
		}
		if s.deleted {
			out["DeletedDate"] = f.clock.Unix()
		}
		return out, nil
	case "GetSecretValue":
		id, label := str("VersionId"), str("VersionStage")
		if id == "" {
			id = s.labelled(label)
		}
		v := s.versions[id]
		if v == nil || v.text == nil && v.binary == nil {
			return nil, serviceError{"ResourceNotFoundException", "no such version"}
		}
		out := map[string]any{"ARN": f.arn(name), "Name": name, "VersionId": id, "VersionStages": v.labels, "CreatedDate": f.clock.Unix()}
		if v.text != nil {
			out["SecretString"] = *v.text
		} else {
			out["SecretBinary"] = base64.StdEncoding.EncodeToString(v.binary)
		}
		return out, nil
	case "PutSecretValue":
		return f.put(s, name, in)
	case "UpdateSecretVersionStage":
		return map[string]any{"ARN": f.arn(name), "Name": name}, f.move(s, str("VersionStage"), str("RemoveFromVersionId"), str("MoveToVersionId"))
	case "DeleteSecret":
		s.deleted = true
	case "RotateSecret":
		s.rotates = true
	default:
		return nil, serviceError{"UnknownOperationException", action}
	}
	return map[string]any{"Name": name}, nil
}

func (f *fake) arn(name string) string {
	return "arn:aws:secretsmanager:us-east-1:123456789012:secret:" + name + "-AbCdEf"
}

func (f *fake) put(s *fakeSecret, name string, in map[string]any) (map[string]any, error) {
	v := &fakeVersion{}
	if text, ok := in["SecretString"].(string); ok {
		v.text = &text
	} else if b, ok := in["SecretBinary"].(string); ok {
		v.binary, _ = base64.StdEncoding.DecodeString(b)
	}
	id, _ := in["ClientRequestToken"].(string)
	if id == "" {
		f.made++
		id = fmt.Sprintf("00000000-0000-4000-8000-%012d", f.made)
	}
	if len(id) < 32 || len(id) > 64 {
		return nil, serviceError{"InvalidParameterException", "token length"}
	}
	if old := s.versions[id]; old != nil {
		if old.text == nil || v.text == nil || *old.text != *v.text {
			return nil, serviceError{"ResourceExistsException", "in use"}
		}
		return map[string]any{"Name": name, "VersionId": id, "VersionStages": old.labels}, nil
	}
	first := len(s.versions) == 0
	s.versions[id], s.changed = v, f.clock
	labels := []string{"AWSCURRENT"}
	if list, ok := in["VersionStages"].([]any); ok {
		labels = nil
		for _, l := range list {
			labels = append(labels, l.(string))
		}
		if first && !slices.Contains(labels, "AWSCURRENT") {
			labels = append(labels, "AWSCURRENT")
		}
	}
	for _, l := range labels {
		s.attach(l, id)
	}
	return map[string]any{"Name": name, "VersionId": id, "VersionStages": v.labels}, nil
}

func (f *fake) move(s *fakeSecret, label, from, to string) error {
	holder := s.labelled(label)
	switch {
	case from != "" && s.versions[from] == nil, to != "" && s.versions[to] == nil:
		return serviceError{"ResourceNotFoundException", "no such version"}
	case holder != from && !(from == "" && holder == to):
		return serviceError{"InvalidParameterException", "the label is elsewhere"}
	case to == "" && label == "AWSCURRENT":
		return serviceError{"InvalidParameterException", "AWSCURRENT must be somewhere"}
	}
	s.changed = f.clock
	if to == "" {
		s.detach(label)
		return nil
	}
	s.attach(label, to)
	return nil
}

func (s *fakeSecret) labelled(label string) string {
	for id, v := range s.versions {
		if slices.Contains(v.labels, label) {
			return id
		}
	}
	return ""
}

func (s *fakeSecret) detach(label string) {
	if v := s.versions[s.labelled(label)]; v != nil {
		v.labels = slices.DeleteFunc(slices.Clone(v.labels), func(l string) bool { return l == label })
	}
}

func (s *fakeSecret) attach(label, id string) {
	from := s.labelled(label)
	if from == id {
		return
	}
	s.detach(label)
	s.versions[id].labels = append(s.versions[id].labels, label)
	if label == "AWSCURRENT" && from != "" {
		s.detach("AWSPREVIOUS")
		s.versions[from].labels = append(s.versions[from].labels, "AWSPREVIOUS")
	}
}
