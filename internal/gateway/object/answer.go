package object

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// Found is an object that an answer names.
type Found struct {
	Name
	// Created and Expires are as the answer says; zero where it does not say, or not in RFC 3339.
	Created, Expires time.Time
}

// Made reads the answer to a request that made an object, of whatever kind. ok is false when it has no id.
func Made(answer []byte) (f Found, ok bool) {
	var made struct {
		ID        string `json:"id"`
		CreatedAt string `json:"created_at"`
		ExpiresAt string `json:"expires_at"`
	}
	if json.Unmarshal(answer, &made) != nil || !PlainID(made.ID) {
		return Found{}, false
	}
	return Found{Name: Name{ID: made.ID}, Created: stamp(made.CreatedAt), Expires: stamp(made.ExpiresAt)}, true
}

// stamp reads a time of the provider; one that is missing or odd is zero.
func stamp(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// In lists what a message, the data of an event of its stream, or a line of the results of a batch names as new: containers, files that tools of the
// provider made, and, where thread says that the provider keeps the conversation, the conversation. A text of another form names nothing.
func In(text []byte, thread bool) []Found {
	if !thread && !bytes.Contains(text, []byte(`"file_id"`)) && !bytes.Contains(text, []byte(`"container"`)) {
		return nil
	}
	var a answered
	if json.Unmarshal(text, &a) != nil {
		return nil // parts of another form hold nothing that is known to be an object
	}
	return a.add(nil, thread)
}

// answered is what a message, an event of its stream, or a line of a batch's results has that may become an application's own. Of the content
// only what tools of the provider have made counts: the rest a caller can have a model write.
type answered struct {
	ID        string `json:"id"`
	Container *struct {
		ID        string `json:"id"`
		ExpiresAt string `json:"expires_at"`
	} `json:"container"`
	Content      []answeredBlock `json:"content"`
	Message      *answered       `json:"message"`
	Delta        *answered       `json:"delta"`
	ContentBlock *answeredBlock  `json:"content_block"`
	Result       *answered       `json:"result"`
}

type answeredBlock struct {
	Type    string          `json:"type"`
	Content json.RawMessage `json:"content"`
}

// add puts what an answer names behind all.
func (a *answered) add(all []Found, thread bool) []Found {
	if c := a.Container; c != nil && PlainID(c.ID) {
		all = append(all, Found{Name: Name{Container, c.ID}, Expires: stamp(c.ExpiresAt)})
	}
	if thread && PlainID(a.ID) {
		all = append(all, Found{Name: Name{Thread, a.ID}})
	}
	blocks := a.Content
	if a.ContentBlock != nil {
		blocks = append(blocks, *a.ContentBlock)
	}
	for _, b := range blocks {
		var made struct {
			Content []struct {
				FileID string `json:"file_id"`
			} `json:"content"`
		}
		if !strings.HasSuffix(b.Type, "code_execution_tool_result") || json.Unmarshal(b.Content, &made) != nil {
			continue
		}
		for _, f := range made.Content {
			if PlainID(f.FileID) {
				all = append(all, Found{Name: Name{File, f.FileID}})
			}
		}
	}
	for _, inner := range []*answered{a.Message, a.Delta, a.Result} {
		if inner != nil {
			all = inner.add(all, thread)
		}
	}
	return all
}

// Readdress gives a batch with the address of its results at origin, such as "https://host", in place of the provider's. Nothing else of it is changed, and
// what is no batch comes back as it is.
func Readdress(batch []byte, origin string) []byte {
	d := json.NewDecoder(bytes.NewReader(batch))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return batch
	}
	id := ""
	type span struct{ from, to int64 }
	var spans []span
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return batch
		}
		switch to := d.InputOffset(); name {
		case "id":
			_ = json.Unmarshal(value, &id) // one that is no text is no id
		case "results_url":
			if value[0] == '"' {
				spans = append(spans, span{to - int64(len(value)), to})
			}
		}
	}
	if len(spans) == 0 || !PlainID(id) {
		return batch
	}
	url, err := json.Marshal(origin + "/v1/messages/batches/" + id + "/results")
	if err != nil {
		return batch
	}
	out, from := make([]byte, 0, len(batch)+len(url)), int64(0)
	for _, s := range spans {
		out = append(append(out, batch[from:s.from]...), url...)
		from = s.to
	}
	return append(out, batch[from:]...)
}
