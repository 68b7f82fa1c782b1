package gateway

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// accessLines lends the buffers that lines are put together in.
var accessLines = sync.Pool{New: func() any { return new([]byte) }}

// writeAccess writes the line of an exchange: one JSON object, always with the same members, times in UTC and microseconds. It holds words of
// our own, names, counts and times, and of the provider the request id alone.
func (g *Gateway) writeAccess(r *http.Request, x *exchange, aborted bool, now time.Time) {
	app, route := "", ""
	if x.app != nil {
		app = x.app.name
	}
	if x.route != nil {
		route = x.route.name
	}
	lent := accessLines.Get().(*[]byte)
	b := append((*lent)[:0], `{"time":"`...)
	b = appendTime(b, now)
	b = append(b, `","level":"INFO","msg":"request"`...)
	b = member(b, `,"app":`, app)
	b = member(b, `,"route":`, route)
	b = member(b, `,"method":`, method(r.Method))
	b = member(b, `,"model":`, g.modelLabel(x.model))
	b = count(b, `,"status":`, int64(x.status))
	b = member(b, `,"row":`, x.row)
	b = member(b, `,"fingerprint":`, string(x.key))
	b = member(b, `,"role":`, x.role)
	b = count(b, `,"attempts":`, int64(x.attempts))
	b = truth(b, `,"stream":`, x.stream)
	b = truth(b, `,"cut":`, x.cut)
	b = truth(b, `,"aborted":`, aborted)
	b = count(b, `,"input_tokens":`, x.usage.Input)
	b = count(b, `,"output_tokens":`, x.usage.Output)
	b = count(b, `,"upstream_us":`, x.upstream.Microseconds())
	b = count(b, `,"total_us":`, now.Sub(x.began).Microseconds())
	b = member(b, `,"request_id":`, requestIDWord(x.requestID))
	b = member(b, `,"trace_id":`, x.traceID())
	b = append(b, "}\n"...)
	_, _ = g.o.Access.Write(b) // a full disk stops no request; Lines gives the error at its end
	*lent = b
	accessLines.Put(lent)
}

// appendTime adds a time in UTC, always with microseconds.
func appendTime(b []byte, t time.Time) []byte {
	b = t.UTC().AppendFormat(b, time.RFC3339) // the form that the library is fast in
	b[len(b)-1] = '.'                         // for its Z
	us := t.Nanosecond() / 1000
	for unit := 100_000; unit > 0; unit /= 10 {
		b = append(b, "0123456789"[us/unit%10])
	}
	return append(b, 'Z')
}

// member adds a text behind its name, which comes as it stands in the line. The usual text needs no quoting.
func member(b []byte, name, text string) []byte {
	b = append(b, name...)
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := json.Marshal(text)
			if err != nil {
				quoted = []byte(`""`)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"')
}

func count(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(append(b, name...), n, 10)
}

func truth(b []byte, name string, v bool) []byte { return strconv.AppendBool(append(b, name...), v) }

// Lines gathers the lines of a log and writes them together, at the latest after a fifth of a second, so that a line does not cost a system
// call. A process that is killed loses that much. It is safe for concurrent use; Close writes the rest.
type Lines struct {
	mu     sync.Mutex
	w      *bufio.Writer
	timer  *time.Timer
	armed  bool
	closed bool
}

var _ io.WriteCloser = (*Lines)(nil)

// linesWait is how long a line may wait.
const linesWait = 200 * time.Millisecond

// NewLines makes Lines in front of w.
func NewLines(w io.Writer) *Lines {
	l := &Lines{w: bufio.NewWriterSize(w, 64<<10)}
	l.timer = time.AfterFunc(time.Hour, l.flush)
	l.timer.Stop()
	return l
}

// Write takes one line. Errors of the writer behind show at the next Write or at Close.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, io.ErrClosedPipe
	}
	if !l.armed {
		l.armed = true
		l.timer.Reset(linesWait)
	}
	return l.w.Write(p)
}

func (l *Lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	_ = l.w.Flush() // bufio keeps the error for the next Write
}

// Close writes what is left. It does not close the writer behind, and may be called twice.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.timer.Stop()
	return l.w.Flush()
}
