package wire

import "testing"

func TestEventEnd(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int
	}{
		{"", 0}, {"data: a\n", 0}, {"data: a\n\n", 9}, {"data: a\r\n\r\n", 11}, {"data: a\r\r", 0}, {"data: a\r\rx", 9}, {"data: a\n\r\n", 10}, {"data: a\r\n\r", 0},
		{"a\nb\n\nc\n\n", 5}, {"\n\n", 2}, {"a\r\n\nb", 4},
	} {
		if got := EventEnd([]byte(c.in), 0); got != c.want {
			t.Errorf("%q: %d, want %d", c.in, got, c.want)
		}
		// In pieces the result is the same.
		from := 0
		for n := range len(c.in) + 1 {
			got := EventEnd([]byte(c.in[:n]), from)
			if got != 0 {
				if got != c.want {
					t.Errorf("%q in pieces: %d, want %d", c.in, got, c.want)
				}
				break
			}
			from = n
		}
	}
}

func TestKindAndField(t *testing.T) {
	for in, want := range map[string]Kind{
		"event: message_start\ndata: {}\n\n": EventStart, "event:message_stop\r\n\r\n": EventStop, "data: x\revent: error\r\r": EventError, "events: error\n\n": EventOther,
		"event: message_delta\n\n": EventDelta, "event: content_block_delta\n\n": EventContent, "event: ping\n\n": EventOther, "": EventOther,
	} {
		if got := KindOf([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
	if got := string(Field([]byte("event: a\ndata: {\"b\": 1}\n\n"), "data")); got != `{"b": 1}` {
		t.Errorf("data %q", got)
	}
}

func TestUsage(t *testing.T) {
	u := Usage{}
	if u.Read([]byte(`{"content":"\"usage\": {\"input_tokens\": 9}"}`)) {
		t.Errorf("a text counts: %+v", u)
	}
	if !u.Read([]byte(`{"usage":{"input_tokens": 3,"cache_read_input_tokens":4,"output_tokens":5}}`)) || u != (Usage{Input: 3, CacheRead: 4, Output: 5}) {
		t.Errorf("%+v", u)
	}
	// The last event of a stream tells the output alone.
	if !u.Read([]byte(`data: {"usage":{"output_tokens":7}}`)) || u != (Usage{Input: 3, CacheRead: 4, Output: 7}) {
		t.Errorf("%+v", u)
	}
}

func TestErrors(t *testing.T) {
	if got := string(ErrorJSON("api_error", "a \"b\"", "req_1")); got != `{"type":"error","error":{"type":"api_error","message":"a \"b\""},"request_id":"req_1"}` {
		t.Error(got)
	}
	if got := string(ErrorEvent("api_error", "m")); got != "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"m\"}}\n\n" {
		t.Error(got)
	}
}
