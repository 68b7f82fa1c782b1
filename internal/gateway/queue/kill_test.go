package queue

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/gateway/ledger"
)

// The child of TestKill: its directory, and how many of its requests are acknowledged before the parent kills it.
const (
	killDir  = "KEYWRIGHT_TEST_QUEUE_DIR"
	killSize = "KEYWRIGHT_TEST_QUEUE_KILL"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		fill(dir)
		return
	}
	os.Exit(m.Run())
}

// fill adds requests from many goroutines without an end, and prints the id of each that was acknowledged.
func fill(dir string) {
	ctx := context.Background()
	l, err := ledger.Open(ctx, dir)
	if err == nil {
		var q *Queue
		if q, err = Open(ctx, l, Options{Master: theMaster, Entries: 1 << 30, PerApp: 1 << 30, Bytes: 1 << 50}); err == nil {
			var mu sync.Mutex
			for g := range 64 {
				go func() {
					for i := 0; ; i++ {
						body := fmt.Sprintf("%d/%d %s", g, i, strings.Repeat("x", 2000))
						t, _, err := q.Add(ctx, "", request("app", body))
						if err != nil {
							fmt.Fprintln(os.Stderr, err)
							os.Exit(1)
						}
						mu.Lock()
						_, _ = fmt.Fprintf(os.Stdout, "%s %d/%d\n", t.ID, g, i) // a pipe: it is not buffered in the process
						mu.Unlock()
					}
				}()
			}
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill: a process that is killed while it acknowledges requests loses none of them. KEYWRIGHT_TEST_QUEUE_KILL=10000 is the size of the
// issue's target.
func TestKill(t *testing.T) {
	size := 300
	if n, err := strconv.Atoi(os.Getenv(killSize)); err == nil {
		size = n
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		id, body, _ := strings.Cut(lines.Text(), " ")
		acknowledged[id] = body
		if len(acknowledged) == size {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // it was killed
	if len(acknowledged) < size {
		t.Fatalf("only %d were acknowledged", len(acknowledged))
	}
	l, err := ledger.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q, err := Open(t.Context(), l, Options{Master: theMaster})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range acknowledged {
		r, err := q.Request(t.Context(), id)
		if got, _, _ := strings.Cut(string(r.Body), " "); err != nil || got != want {
			t.Fatalf("%s: %q, want %q (%v)", id, got, want, err)
		}
	}
	t.Logf("%d acknowledged, 0 lost, %d kept", len(acknowledged), q.Depth().Waiting)
}

// BenchmarkAdd keeps requests of 2 KB from 1 and from 64 callers at a time, each on the disk before it is acknowledged.
func BenchmarkAdd(b *testing.B) {
	body := strings.Repeat("x", 2000)
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			w := start(b, Options{Entries: 1 << 30, PerApp: 1 << 30, Bytes: 1 << 50})
			var wg sync.WaitGroup
			todo := make(chan struct{}, b.N)
			for range b.N {
				todo <- struct{}{}
			}
			close(todo)
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for range todo {
						if _, _, err := w.Add(context.Background(), "", request("app", body)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
