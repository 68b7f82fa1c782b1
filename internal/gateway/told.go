package gateway

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/keywright/keywright/internal/event"
)

// Told are events that a gateway told, oldest first.
type Told struct {
	// Next is what to ask for next.
	Next string `json:"next"`
	// Lost counts events that nobody fetched in time. It is zero after a restart, of which nothing is known.
	Lost   uint64        `json:"lost,omitempty"`
	Events []event.Event `json:"events"`
}

// mostTold bounds how many events are kept for those who fetch them.
const mostTold = 1024

// teller keeps the newest events for the status socket.
type teller struct {
	mu    sync.Mutex
	boot  string
	first uint64 // the number of list[0]
	list  []event.Event
}

func (t *teller) add(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) == mostTold {
		t.list = append(t.list[:0], t.list[1:]...)
		t.first++
	}
	t.list = append(t.list, e)
}

// after gives what was told since a Told, whose Next is given. Of another process, or with an empty text, that is everything.
func (t *teller) after(next string) Told {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.boot == "" {
		t.boot = rand.Text()
	}
	from := t.first
	out := Told{Next: fmt.Sprintf("%s-%d", t.boot, t.first+uint64(len(t.list))), Events: []event.Event{}}
	if boot, number, ok := strings.Cut(next, "-"); ok && boot == t.boot {
		if n, err := strconv.ParseUint(number, 10, 64); err == nil {
			if n < t.first {
				out.Lost = t.first - n
			}
			from = min(max(n, t.first), t.first+uint64(len(t.list)))
		}
	}
	out.Events = append(out.Events, t.list[from-t.first:]...)
	return out
}
