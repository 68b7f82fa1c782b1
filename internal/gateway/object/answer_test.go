package object

import (
	"slices"
	"testing"
	"time"
)

func TestReaddress(t *testing.T) {
	for in, want := range map[string]string{
		`{"id":"b","results_url":null}`: `{"id":"b","results_url":null}`, `[]`: `[]`, `{"id":7,"results_url":"u"}`: `{"id":7,"results_url":"u"}`, `{"id":"b"`: `{"id":"b"`,
		`{"results_url":"u","id":"b","results_url":"v"}`: `{"results_url":"o/v1/messages/batches/b/results","id":"b","results_url":"o/v1/messages/batches/b/results"}`,
	} {
		if got := string(Readdress([]byte(in), "o")); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestIn: what tools of the provider made counts, wherever an answer has it, and nothing that a caller can have a model write.
func TestIn(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	const tool = `{"type":"bash_code_execution_tool_result","content":{"content":[{"file_id":"file_1"},{"file_id":"a/b"},{"file_id":"file_2"}]}}`
	file1, file2 := Found{Name: Name{File, "file_1"}}, Found{Name: Name{File, "file_2"}}
	container := Found{Name: Name{Container, "c_1"}, Expires: at}
	for name, c := range map[string]struct {
		text   string
		thread bool
		want   []Found
	}{
		"nothing":           {`{"id":"msg_1","content":[]}`, false, nil},
		"a message":         {`{"id":"msg_1","container":{"id":"c_1","expires_at":"2030-01-02T03:04:05Z"},"content":[` + tool + `]}`, false, []Found{container, file1, file2}},
		"the start":         {`{"type":"message_start","message":{"id":"msg_1","container":{"id":"c_1","expires_at":"2030-01-02T03:04:05Z"}}}`, false, []Found{container}},
		"an event":          {`{"type":"content_block_start","content_block":` + tool + `}`, false, []Found{file1, file2}},
		"the end":           {`{"type":"message_delta","delta":{"container":{"id":"c_1","expires_at":"soon"}}}`, false, []Found{{Name: container.Name}}},
		"a line":            {`{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_1","content":[` + tool + `]}}}`, false, []Found{file1, file2}},
		"a conversation":    {`{"id":"msg_1","content":[]}`, true, []Found{{Name: Name{Thread, "msg_1"}}}},
		"what a model said": {`{"content":[{"type":"text","text":"x","content":{"content":[{"file_id":"file_1"}]}},{"type":"tool_use","input":{"file_id":"file_1"}}]}`, false, nil},
		"another form":      {`{"content":"file_1","file_id":"file_1"}`, false, nil},
		"no JSON":           {`"file_id"`, false, nil},
	} {
		if got := In([]byte(c.text), c.thread); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestMade(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	if f, ok := Made([]byte(`{"id":"file_1","created_at":"2030-01-02T03:04:05Z","expires_at":null}`)); !ok || f.ID != "file_1" || !f.Created.Equal(at) || !f.Expires.IsZero() {
		t.Errorf("%+v, %v", f, ok)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"id":7}`, `{"id":"a/b"}`} {
		if f, ok := Made([]byte(bad)); ok {
			t.Errorf("%s: %+v", bad, f)
		}
	}
}
