package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// streamWriter writes server-sent events and flushes each.
type streamWriter struct {
	w      http.ResponseWriter
	r      *http.Request
	hit    *Fault
	deltas int
	index  int // of the block that is written
}

// errFaulted ends a stream that a fault has broken.
var errFaulted = errors.New("stream broken by an armed fault")

func (w *streamWriter) event(name string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("marshal event: %w", err)
	}
	if _, err := fmt.Fprintf(w.w, "event: %s\ndata: %s\n\n", name, body); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := http.NewResponseController(w.w).Flush(); err != nil {
		return fmt.Errorf("flush event: %w", err)
	}
	return nil
}

// delta writes one text delta, unless the armed fault strikes before it.
func (w *streamWriter) delta(text string) error {
	if err := w.strike(); err != nil {
		return err
	}
	w.deltas++
	return w.event("content_block_delta", map[string]any{
		"type": "content_block_delta", "index": w.index, "delta": map[string]string{"type": "text_delta", "text": text},
	})
}

// strike applies the fault when its place in the stream is reached.
func (w *streamWriter) strike() error {
	if w.hit == nil {
		return nil
	}
	switch w.hit.Kind {
	case FaultStreamError:
		if w.deltas < w.hit.After {
			return nil
		}
		e := w.hit.apiError()
		if err := w.event("error", errorBody{Type: "error", Error: errorDetail{Type: e.kind, Message: e.message}}); err != nil {
			return err
		}
		return errFaulted
	case FaultCutBody:
		if w.deltas >= 1 {
			panic(http.ErrAbortHandler)
		}
	case FaultGarbageBody:
		if w.deltas >= 1 {
			if _, err := w.w.Write(append([]byte("event: content_block_delta\ndata: "), append(garbage(), "\n\n"...)...)); err != nil {
				return fmt.Errorf("write event: %w", err)
			}
			return errFaulted
		}
	}
	return nil
}

func (s *Simulator) runStream(w http.ResponseWriter, c *call, run func(*streamWriter) error, hit *Fault) {
	if hit != nil && hit.Kind == FaultDropAfter {
		panic(http.ErrAbortHandler)
	}
	if hit != nil && hit.Kind == FaultReplyAfter {
		fail := hit.apiError()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(fail.status)
		_, _ = w.Write(fail.body(c.requestID))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	if err := run(&streamWriter{w: w, r: c.r, hit: hit}); err != nil && !errors.Is(err, errFaulted) {
		s.log.Debug("stream ended early", "path", c.r.URL.Path, "error", err)
	}
}

// streamMessage writes the events of one message. Usage is cumulative.
func (s *Simulator) streamMessage(w *streamWriter, id string, p planned) error {
	start := p.object(id, "standard")
	start.Content, start.StopReason, start.Container, start.Usage = []any{}, nil, nil, p.usage(1, "standard")
	if err := w.event("message_start", map[string]any{"type": "message_start", "message": start}); err != nil {
		return err
	}
	for _, block := range p.blocks {
		if err := w.event("content_block_start", map[string]any{"type": "content_block_start", "index": w.index, "content_block": block}); err != nil {
			return err
		}
		if err := w.event("content_block_stop", map[string]any{"type": "content_block_stop", "index": w.index}); err != nil {
			return err
		}
		w.index++
	}
	if err := w.event("content_block_start", map[string]any{"type": "content_block_start", "index": w.index, "content_block": textBlock{"text", ""}}); err != nil {
		return err
	}
	if err := w.event("ping", map[string]string{"type": "ping"}); err != nil {
		return err
	}
	for i, piece := range p.pieces {
		if err := w.delta(piece); err != nil {
			return err
		}
		if i%50 == 49 {
			if err := w.event("ping", map[string]string{"type": "ping"}); err != nil {
				return err
			}
		}
		if !pause(w.r, s.opts.StreamPause) {
			return w.r.Context().Err()
		}
	}
	if err := w.strike(); err != nil {
		return err
	}
	if err := w.event("content_block_stop", map[string]any{"type": "content_block_stop", "index": w.index}); err != nil {
		return err
	}
	usage := p.usage(int64(len(p.pieces)), "standard")
	if err := w.event("message_delta", map[string]any{
		"type":  "message_delta",
		"delta": map[string]any{"stop_reason": p.stop, "stop_sequence": nil, "container": p.shown},
		"usage": map[string]any{
			"input_tokens": usage.InputTokens, "output_tokens": usage.OutputTokens, "cache_creation_input_tokens": 0,
			"cache_read_input_tokens": 0, "server_tool_use": nil,
		},
	}); err != nil {
		return err
	}
	return w.event("message_stop", map[string]string{"type": "message_stop"})
}
